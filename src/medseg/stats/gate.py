"""The claim gate: whether a report may say that one method outperforms another.

It may only if all of these point the same way: the crossed interval of the difference excludes 0; Wilcoxon's p, after
Holm over all pairs, is below alpha; p(better) is above ``CERTAIN``; there are enough seeds, and four fifths of them
agree in sign. A seed votes by its mean difference over all patients. With k folds a seed is one whole
cross-validation, never one fold: trainings of two folds share (k - 2) / (k - 1) of their data and each is tested on
other patients, so folds are no repetitions. Five folds with three seeds are therefore three votes and no claim.

What it holds was simulated (``tests/stats/test_simulations.py``). Where trainings scatter far more than the patients
leave noise, five of them are too few for the crossed interval: with 600 patients and a residual of .045 false claims
are 6 % one-sided at a seed deviation of .006 and 8 % at .02. Above ``MANY_PATIENTS`` the gate therefore asks for
Student's t over seeds too (``Settings.seed_test``), which brings both to 3 % and at 250 patients 3.7 % to 2.2 %. Below,
it would cost power (.87 instead of .95 with 100 patients, seed deviation .006, at +0.02).
Fewer than 25 patients make intervals unreliable, but did not make false claims more frequent (.5 to 2 % at 10 to 25).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.errors import ScoreError
from medseg.stats import paired
from medseg.stats.bayes import Posterior, signed_ranks
from medseg.stats.bca import student
from medseg.stats.crossed import CrossedInterval, check_finite, crossed_draws, crossed_means, interval_from_draws
from medseg.stats.needed import needed

Floats = NDArray[np.float64]
OUTPERFORMS = "outperforms"
EQUAL = "practically equal"
NO_EVIDENCE = "no evidence of a difference"
MANY_PATIENTS = 150
"""Above this many patients it is the seeds that are few: the gate tests over them as well."""
CERTAIN = 0.95
"""Posterior probability above which a method counts as better, or two as equal."""


@dataclass(frozen=True)
class Settings:
    """What a comparison is made with.

    Attributes:
        seed: root seed of all draws.
        resamples: of the bootstrap, the permutation test and the posterior.
        rope: half width of the region of practical equivalence, in the metric's unit.
        margin: of the equivalence test.
        confidence: of the intervals.
        alpha: level of Wilcoxon's test after Holm.
        enough_seeds: least number of seeds for a claim.
        seed_test: ask also that Student's interval of the seeds' mean differences excludes 0; None: above
            ``MANY_PATIENTS``.
    """

    seed: int = 0
    resamples: int = 10_000
    rope: float = 0.01
    margin: float = 0.01
    confidence: float = 0.95
    alpha: float = 0.05
    enough_seeds: int = 5
    seed_test: bool | None = None

    def __post_init__(self) -> None:
        shares = (self.confidence, self.alpha)
        counts = (self.resamples, self.enough_seeds)
        if not (all(0 < share < 1 for share in shares) and min(counts) >= 1 and self.rope >= 0 and self.margin > 0):
            raise ScoreError(
                f"{self}: confidence and alpha lie between 0 and 1, resamples and enough_seeds are at least 1, "
                "rope is not negative and margin is positive."
            )


@dataclass(frozen=True)
class Pair:
    """First against second; a positive difference means that the first is better.

    Attributes:
        first, second: printed names.
        difference: mean difference with its crossed interval.
        p_wilcoxon: signed-rank test (Pratt) of the patients' mean differences; ``p_holm`` after Holm over all pairs.
        p_permutation, p_t: sign flips and paired t test, checks on the former.
        rank_biserial: effect size, -1 to 1.
        posterior: p(better), p(equal), p(worse) of the first.
        false_claim: probability that the claim "first is better" is false; one minus it for "second is better".
        p_equivalence: two one-sided tests within the margin.
        seeds_in_favour: seeds whose mean difference is above 0, of ``n_seeds``.
        verdict: ``OUTPERFORMS``, ``EQUAL`` or ``NO_EVIDENCE``.
        winner: who outperforms, else None.
        reasons: which conditions of the gate failed, in words; none when it holds.
        needed_patients: patients that would show the observed difference with a power of 80 % (``stats.needed``).
        needed_seeds: the same for seeds; either is None if not estimable, or out of reach.
    """

    first: str
    second: str
    difference: CrossedInterval
    p_wilcoxon: float
    p_holm: float
    p_permutation: float
    p_t: float
    rank_biserial: float
    posterior: Posterior
    false_claim: float
    p_equivalence: float
    seeds_in_favour: int
    n_seeds: int
    n_patients: int
    verdict: str
    winner: str | None
    reasons: tuple[str, ...]
    needed_patients: int | None
    needed_seeds: int | None


def compare_pairs(
    values: ArrayLike,
    methods: Sequence[str],
    folds: ArrayLike,
    *,
    settings: Settings,
    strata: ArrayLike | None = None,
    seeds: Sequence[Any] | None = None,
    patients: Sequence[str] | None = None,
) -> list[Pair]:
    """Return every pair of methods, first the one named first, with the gate's verdict.

    Args:
        values: (M, S, P) finite, higher is better (negate a distance).
        methods: M different names.
        folds: (P,) test fold of each patient.
        settings: see :class:`Settings`.
        strata: (P,) centre of each patient.
        seeds: names for messages.
        patients: names for messages.

    Raises:
        ScoreError: fewer than two methods or patients, names that do not fit, or a value that is not finite.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 3 or len(methods) != len(table) or len(set(methods)) < max(2, len(table)) or table.shape[2] < 2:
        raise ScoreError(
            f"comparison: values of shape {table.shape} for {len(methods)} methods {list(methods)}; give (methods, "
            "seeds, patients) of at least two methods with names of their own and at least two patients."
        )
    check_finite(table, methods=methods, seeds=seeds, patients=patients)
    weights = crossed_draws(folds, table.shape[1], seed=settings.seed, resamples=settings.resamples, strata=strata)
    draws = crossed_means(table, weights)
    couples = list(combinations(range(len(table)), 2))
    intervals = [
        interval_from_draws(draws[:, i] - draws[:, j], table[i] - table[j], weights, confidence=settings.confidence)
        for i, j in couples
    ]
    by_patient = table.mean(axis=1)
    gaps = np.stack([paired.rounded(by_patient[i] - by_patient[j]) for i, j in couples])
    tests = _tests(gaps, settings)
    return [
        _pair(
            (methods[i], methods[j]),
            table[[i, j]],
            folds,
            interval,
            {name: each[row] for name, each in tests.items()},
            settings,
        )
        for row, ((i, j), interval) in enumerate(zip(couples, intervals, strict=True))
    ]


def _tests(gaps: Floats, settings: Settings) -> dict[str, Sequence[Any]]:
    """Return the tests of (K, P) differences, one entry per pair."""
    raw = [paired.wilcoxon_pratt(gap) for gap in gaps]
    return {
        "p_wilcoxon": raw,
        "p_holm": [float(p) for p in paired.holm(raw)],
        "p_permutation": [float(p) for p in paired.sign_flips(gaps, seed=settings.seed, resamples=settings.resamples)],
        "p_t": [paired.paired_t(gap) for gap in gaps],
        "rank_biserial": [paired.rank_biserial(gap) for gap in gaps],
        "p_equivalence": [paired.equivalence(gap, margin=settings.margin) for gap in gaps],
        "posterior": signed_ranks(
            gaps, settings.rope, seed=settings.seed, draws=settings.resamples, decimals=paired.DECIMALS
        ),
    }


def _pair(
    names: tuple[str, str],
    values: Floats,
    folds: ArrayLike,
    interval: CrossedInterval,
    tests: dict[str, Any],
    settings: Settings,
) -> Pair:
    gaps = values[0] - values[1]
    votes = np.round(gaps.mean(axis=1), paired.DECIMALS)
    first = interval.mean >= 0
    reasons = _failed(interval, tests["p_holm"], tests["posterior"], votes, settings)
    equal = tests["posterior"].equal > CERTAIN
    wanted = needed(gaps, folds, confidence=settings.confidence, enough_seeds=settings.enough_seeds)
    return Pair(
        first=names[0],
        second=names[1],
        difference=interval,
        false_claim=paired.false_claim(values[0].mean(axis=0), values[1].mean(axis=0)),
        seeds_in_favour=int((votes > 0).sum()),
        n_seeds=interval.n_seeds,
        n_patients=interval.n_patients,
        verdict=(EQUAL if equal else NO_EVIDENCE) if reasons else OUTPERFORMS,
        winner=None if reasons else names[0 if first else 1],
        reasons=reasons,
        needed_patients=wanted.patients,
        needed_seeds=wanted.seeds,
        **tests,
    )


def _failed(
    interval: CrossedInterval, p_holm: float, posterior: Posterior, votes: Floats, settings: Settings
) -> tuple[str, ...]:
    """Return the conditions that fail for the method in front, in words."""
    first = interval.mean >= 0
    better = posterior.better if first else posterior.worse
    agreeing = int((votes > 0).sum() if first else (votes < 0).sum())
    asked = -(-4 * len(votes) // 5)
    conditions = (
        (
            interval.low > 0 if first else interval.high < 0,
            f"the {settings.confidence:.0%} interval of the difference, {interval.low:.4f} to {interval.high:.4f}, "
            "does not exclude 0",
        ),
        (
            p_holm < settings.alpha,
            f"Wilcoxon p after Holm {p_holm:.3g}; the gate asks for less than {settings.alpha:g}",
        ),
        (better > CERTAIN, f"p(better) {better:.3f}; the gate asks for more than {CERTAIN:g}"),
        (len(votes) >= settings.enough_seeds, f"{_seeds(len(votes))}; the gate asks for {settings.enough_seeds}"),
        (agreeing >= asked, f"{agreeing} of {_seeds(len(votes))} agree in sign; the gate asks for {asked}"),
    )
    reasons = tuple(words for holds, words in conditions if not holds)
    tested = interval.n_patients > MANY_PATIENTS if settings.seed_test is None else settings.seed_test
    return reasons + (_seed_test(votes, first, settings.confidence) if tested else ())


def _seed_test(votes: Floats, first: bool, confidence: float) -> tuple[str, ...]:
    low, high = student(votes, confidence=confidence)
    if low > 0 if first else high < 0:
        return ()
    return (f"Student's interval over {_seeds(len(votes))}, {low:.4f} to {high:.4f}, does not exclude 0",)


def _seeds(number: int) -> str:
    return f"{number} seed{'s' if number != 1 else ''}"
