"""Everything that is said about a set of methods on one metric."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medseg.errors import ScoreError
from medseg.stats.crossed import CrossedInterval, check_finite, crossed_draws, crossed_means, intervals_of
from medseg.stats.evidence import Evidence
from medseg.stats.gate import Pair, Settings, compare_pairs
from medseg.stats.mixed import VarianceShares, variance_shares, why_not
from medseg.stats.ranking import Ranking, rank


@dataclass(frozen=True)
class Comparison:
    """The evidence and what follows from it.

    Attributes:
        evidence: the values.
        settings: of the gate.
        means: by method, best first: the metric as it is, whatever its direction.
        pairs: every pair, the one with the better mean first; a positive difference means that the first is better.
        variance: variance shares, None where they are not estimable.
        ranking: order and stability.
        notes: what could not be estimated and why.
    """

    evidence: Evidence
    settings: Settings
    means: Mapping[str, CrossedInterval]
    pairs: tuple[Pair, ...]
    variance: VarianceShares | None
    ranking: Ranking
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> str:
        """The method with the best mean."""
        return self.ranking.order[0]

    def pair(self, first: str, second: str) -> Pair:
        """Return the pair of two methods, whichever stands first in it."""
        (found,) = [pair for pair in self.pairs if {pair.first, pair.second} == {first, second}]
        return found


def compare(evidence: Evidence, settings: Settings | None = None) -> Comparison:
    """Return the comparison of all methods of the evidence.

    One set of bootstrap weights is behind the intervals and the ranking, so that methods meet the same resamples.

    Raises:
        ScoreError: fewer than two methods, or a value that is not finite.
    """
    chosen = settings or Settings()
    if len(evidence.methods) < 2:
        raise ScoreError(f"nothing to compare: only {list(evidence.methods)}; give two methods or more.")
    check_finite(evidence.values, methods=evidence.methods, seeds=evidence.seeds, patients=evidence.patients)
    order = np.argsort(-evidence.signed.mean(axis=(1, 2)), kind="stable")
    methods = tuple(evidence.methods[place] for place in order)
    values, signed = evidence.values[order], evidence.signed[order]
    strata = evidence.strata if np.ptp(evidence.strata) else None
    weights = crossed_draws(
        evidence.folds, values.shape[1], seed=chosen.seed, resamples=chosen.resamples, strata=strata
    )
    intervals = intervals_of(values, weights, confidence=chosen.confidence)
    pairs = tuple(
        compare_pairs(
            signed,
            methods,
            evidence.folds,
            settings=chosen,
            strata=strata,
            seeds=evidence.seeds,
            patients=evidence.patients,
        )
    )
    variance = variance_shares(values, evidence.folds)
    reason = "" if variance else why_not(values, evidence.folds)
    return Comparison(
        evidence=evidence,
        settings=chosen,
        means=dict(zip(methods, intervals, strict=True)),
        pairs=pairs,
        variance=variance,
        ranking=rank(signed, methods, crossed_means(signed, weights), pairs, alpha=chosen.alpha),
        notes=(reason,) if reason else (),
    )


def as_record(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as containers for strict JSON: arrays as lists, what is not finite as None."""
    evidence = comparison.evidence
    return _plain(
        {
            "evidence": {**vars(evidence), "flags": evidence.flags},
            "settings": asdict(comparison.settings),
            "means": {method: asdict(interval) for method, interval in comparison.means.items()},
            "pairs": [asdict(pair) for pair in comparison.pairs],
            "variance": asdict(comparison.variance) if comparison.variance else None,
            "ranking": asdict(comparison.ranking),
            "notes": list(comparison.notes),
        }
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
