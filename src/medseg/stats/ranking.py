"""Who is first, and how far that can be trusted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import stats

if TYPE_CHECKING:
    from medseg.stats.gate import Pair

DECIMALS = 9
"""Values are rounded to this before they are ranked: noise of the arithmetic must not break ties."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """The order of the methods and its stability.

    Attributes:
        order: methods, best mean first.
        p_first: share of bootstrap samples in which a method has the best mean; ties are divided.
        rank_low: best rank that the pairwise tests leave a method.
        rank_high: worst rank that they leave it.
        mean_ranks: mean over patients of the rank within the patient, 1 for the best.
        kendall_tau: mean over bootstrap samples of Kendall's tau-b between the sample's order and the full one.
        p_friedman: Iman and Davenport's form of Friedman's test that all methods rank alike; nan for two methods.
        critical_difference: of mean ranks, Nemenyi at ``alpha``; nan for two methods.
        alpha: level of the rank sets and of the critical difference.
    """

    order: tuple[str, ...]
    p_first: Mapping[str, float]
    rank_low: Mapping[str, int]
    rank_high: Mapping[str, int]
    mean_ranks: Mapping[str, float]
    kendall_tau: float
    p_friedman: float
    critical_difference: float
    alpha: float


def rank(values: Floats, methods: Sequence[str], sampled: Floats, pairs: Sequence["Pair"], *, alpha: float) -> Ranking:
    """Return the ranking of methods.

    Args:
        values: (M, S, P), more is better.
        methods: M names.
        sampled: (B, M) means of the bootstrap samples, one set of weights for all methods.
        pairs: every pair of methods, with Holm's p-values and the direction of its effect.
        alpha: level.
    """
    means = values.mean(axis=(1, 2))
    per_patient = values.mean(axis=1).round(DECIMALS)
    mean_ranks = stats.rankdata(-per_patient, axis=0).mean(axis=1)
    p_friedman = iman_davenport(per_patient)
    low, high = rank_sets(methods, pairs, alpha=alpha, p_friedman=p_friedman)
    return Ranking(
        order=tuple(methods[place] for place in np.argsort(-means, kind="stable")),
        p_first=dict(zip(methods, map(float, first_shares(sampled)), strict=True)),
        rank_low=low,
        rank_high=high,
        mean_ranks=dict(zip(methods, map(float, mean_ranks), strict=True)),
        kendall_tau=float(np.mean(kendall_taus(sampled, means))),
        p_friedman=p_friedman,
        critical_difference=critical_difference(len(methods), per_patient.shape[1], alpha=alpha),
        alpha=alpha,
    )


def first_shares(sampled: Floats) -> Floats:
    """Return (M,) how often each column of (B, M) is the greatest; equal ones share a row."""
    rounded = sampled.round(DECIMALS)
    best = rounded == rounded.max(axis=1, keepdims=True)
    shares: Floats = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares


def rank_sets(
    methods: Sequence[str], pairs: Sequence["Pair"], *, alpha: float, p_friedman: float = float("nan")
) -> tuple[dict[str, int], dict[str, int]]:
    """Return the best and the worst rank of each method that the tests leave (Foucart, ESANN 2025).

    A method's rank lies between 1 + the number of methods that are significantly better and M - the number that are
    significantly worse, by Wilcoxon tests with Holm's correction. If the test over all methods finds nothing, no
    pair is told apart.
    """
    low = dict.fromkeys(methods, 1)
    high = dict.fromkeys(methods, len(methods))
    if p_friedman >= alpha:
        return low, high
    for pair in pairs:
        if pair.p_holm < alpha and pair.rank_biserial != 0:
            better, worse = (pair.first, pair.second) if pair.rank_biserial > 0 else (pair.second, pair.first)
            low[worse] += 1
            high[better] -= 1
    return low, high


def kendall_taus(sampled: Floats, full: Floats) -> Floats:
    """Return (B,) Kendall's tau-b between each row of (B, M) and ``full`` (M,); nan where a row is one tie."""
    first, second = np.triu_indices(sampled.shape[1], k=1)
    rounded = sampled.round(DECIMALS)
    signs = np.sign(rounded[:, first] - rounded[:, second])
    reference = np.sign(full.round(DECIMALS)[first] - full.round(DECIMALS)[second])
    untied = np.sqrt(np.abs(signs).sum(axis=1) * np.abs(reference).sum())
    taus: Floats = np.divide(signs @ reference, untied, out=np.full(len(sampled), np.nan), where=untied > 0)
    return taus


def iman_davenport(per_patient: Floats) -> float:
    """Return the p-value that all methods rank alike, of (M, P) values; nan below three methods or two patients.

    Iman and Davenport (1980): F = (P - 1) chi2 / (P (M - 1) - chi2) of Friedman's chi2, with M - 1 and
    (M - 1)(P - 1) degrees of freedom; less conservative than chi2 itself.
    """
    count, patients = per_patient.shape
    if count < 3 or patients < 2:
        return float("nan")
    if (np.ptp(per_patient, axis=0) == 0).all():
        return 1.0
    chi2 = float(stats.friedmanchisquare(*per_patient).statistic)
    rest = patients * (count - 1) - chi2
    if rest <= 1e-9:
        return 0.0  # every patient ranks the methods the same way
    return float(stats.f.sf((patients - 1) * chi2 / rest, count - 1, (count - 1) * (patients - 1)))


def critical_difference(count: int, patients: int, *, alpha: float) -> float:
    """Return Nemenyi's critical difference of mean ranks (Demsar, JMLR 2006); nan below three methods.

    q sqrt(M (M + 1) / (6 P)), with q the upper point of the studentised range for infinitely many degrees of freedom
    over the square root of 2.
    """
    if count < 3:
        return float("nan")
    q = stats.studentized_range.ppf(1 - alpha, count, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(count * (count + 1) / (6 * patients)))
