"""Paired tests of two methods on the same patients: one number per patient, the mean over seeds.

Seeds count as fixed here: averaged seeds make no test safe against their scatter (``medseg.stats.gate`` asks for more).
Differences are rounded to 1e-9 before anything is ranked or flipped, because the last digits of a floating-point
difference break ties that the scores have.
"""

from math import copysign, inf, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from medseg.errors import ScoreError
from medseg.rng import generator

Floats = NDArray[np.float64]
DECIMALS = 9
"""Digits to which differences are rounded."""

EXACT_PATIENTS = 16
"""Up to this many patients all sign patterns are tried."""


def rounded(differences: ArrayLike) -> Floats:
    """Return (P,) finite differences rounded to ``DECIMALS``.

    Raises:
        ScoreError: no difference, more than one axis, or a value that is not finite.
    """
    numbers = np.asarray(differences, dtype=np.float64)
    if numbers.ndim != 1 or not numbers.size:
        raise ScoreError(f"paired test: differences of shape {numbers.shape}; give one number per patient.")
    broken = np.flatnonzero(~np.isfinite(numbers))
    if broken.size:
        raise ScoreError(
            f"paired test: difference {broken[0] + 1} of {numbers.size} is {numbers[broken[0]]}; penalise infinite "
            "distances and drop (and count) undefined values first."
        )
    return np.round(numbers, DECIMALS) + 0.0


def wilcoxon_pratt(differences: ArrayLike) -> float:
    """Return the two-sided p of the signed-rank test with zeros ranked (Pratt 1959); 1 if all are zero.

    All sign patterns of the ranks up to ``EXACT_PATIENTS`` patients, which is exact with ties and zeros too (SciPy's
    search of the same patterns takes seconds a pair); beyond, SciPy's choice: exact up to 50 patients without ties
    or zeros, else the normal limit.
    """
    numbers = rounded(differences)
    if not numbers.any():
        return 1.0
    if len(numbers) <= EXACT_PATIENTS:
        ranks = stats.rankdata(np.abs(numbers)) * np.sign(numbers)
        return float(sign_flips(ranks[None], seed=0)[0])
    return float(stats.wilcoxon(numbers, zero_method="pratt").pvalue)


def sign_flip(differences: ArrayLike, *, seed: int, resamples: int = 10_000) -> float:
    """Return the two-sided p of the permutation test that flips signs (see :func:`sign_flips`)."""
    return float(sign_flips(rounded(differences)[None], seed=seed, resamples=resamples)[0])


def sign_flips(differences: Floats, *, seed: int, resamples: int = 10_000) -> Floats:
    """Return the (K,) p-values of (K, P) differences: how often signs at random give a mean as far from 0.

    All 2^P patterns up to ``EXACT_PATIENTS`` patients, else ``resamples`` random ones and the observed one counted in
    (Phipson and Smyth 2010). Patterns are shared, and laid on sizes in ascending order, so that neither the order of
    patients nor which method is first matters.
    """
    numbers = np.round(differences, DECIMALS)
    observed = np.abs(numbers.sum(axis=1)) - 10.0**-DECIMALS / 2
    sizes = np.sort(np.abs(numbers), axis=1).T
    patients = len(sizes)
    exact = patients <= EXACT_PATIENTS
    total = 2**patients if exact else resamples
    draw = generator(seed, "sign flip")
    extreme = np.zeros(len(numbers), dtype=np.int64)
    for start in range(0, total, 1000):
        height = min(1000, total - start)
        if exact:
            bits = np.arange(start, start + height)[:, None] >> np.arange(patients) & 1
        else:
            bits = draw.integers(0, 2, (height, patients), dtype=np.int8)
        extreme += (np.abs((2.0 * bits - 1.0) @ sizes) >= observed).sum(axis=0)
    return extreme / total if exact else (extreme + 1) / (total + 1)


def paired_t(differences: ArrayLike) -> float:
    """Return the two-sided p of Student's paired test; 1 if all differences are zero, NaN for one patient."""
    numbers = rounded(differences)
    return 2 * _t_tail(-abs(_t_value(numbers, 0.0)), len(numbers))


def rank_biserial(differences: ArrayLike) -> float:
    """Return the matched-pairs rank-biserial correlation in [-1, 1], positive if positive ranks prevail.

    (R+ - R-) / (R+ + R-) after Kerby (2014), on Pratt's ranks as the test beside it; 0 if all differences are zero.
    """
    numbers = rounded(differences)
    ranks = stats.rankdata(np.abs(numbers)) * np.sign(numbers)
    total = float(np.abs(ranks).sum())
    return float(ranks.sum()) / total if total else 0.0


def holm(p_values: ArrayLike) -> Floats:
    """Return Holm's (1979) adjusted p-values in the order given.

    Written out: statsmodels' function collects garbage at every call, which costs more than the whole comparison where
    rankings are resampled.

    Raises:
        ScoreError: a value outside 0 to 1, or NaN.
    """
    numbers = np.asarray(p_values, dtype=np.float64)
    if numbers.ndim != 1 or not ((numbers >= 0) & (numbers <= 1)).all():
        raise ScoreError(f"Holm: p-values {numbers.tolist()}; give a list of numbers between 0 and 1.")
    order = np.argsort(numbers, kind="stable")
    steps = np.maximum.accumulate(numbers[order] * (len(numbers) - np.arange(len(numbers))))
    adjusted = np.empty_like(numbers)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def equivalence(differences: ArrayLike, *, margin: float) -> float:
    """Return the p of two one-sided t tests that the mean lies within +- margin (Schuirmann 1987), NaN for one patient.

    Raises:
        ScoreError: a margin that is not positive.
    """
    numbers = rounded(differences)
    if not margin > 0:
        raise ScoreError(f"equivalence: margin {margin}; it must be positive.")
    return max(_t_tail(-_t_value(numbers, -margin), len(numbers)), _t_tail(_t_value(numbers, margin), len(numbers)))


def false_claim(first: ArrayLike, second: ArrayLike) -> float:
    """Return the probability that the claim "first is better" is false ("False Promises", arXiv 2505.04720).

    t_{n-1}( sqrt(n) (mB - mA) / sqrt(sA^2 + sB^2 - 2 sA sB r) ): under a flat prior the posterior probability that the
    true mean of ``second`` is the higher one. The root is the standard deviation of the paired differences. The claim
    "second is better" has one minus this. NaN for one patient.

    Args:
        first: (P,) values, higher is better.
        second: (P,) values of the same patients.

    Raises:
        ScoreError: lengths that differ or values that are not finite.
    """
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != two.shape:
        raise ScoreError(f"false claim: {one.shape} values against {two.shape}; give the same patients.")
    numbers = rounded(one - two)
    return _t_tail(-_t_value(numbers, 0.0), len(numbers))


def _t_value(numbers: Floats, centre: float) -> float:
    """Return Student's t of a mean against ``centre``; differences that all agree give 0 or an infinity."""
    gap = float(numbers.mean()) - centre
    if len(numbers) < 2:
        return float("nan")
    if np.ptp(numbers) > 0:
        return gap * sqrt(len(numbers)) / float(numbers.std(ddof=1))
    return 0.0 if abs(gap) < 10.0**-DECIMALS / 2 else copysign(inf, gap)


def _t_tail(value: float, patients: int) -> float:
    """Return the probability of Student's t below ``value``; NaN stays NaN."""
    return float(stats.t.cdf(value, patients - 1)) if patients > 1 else value
