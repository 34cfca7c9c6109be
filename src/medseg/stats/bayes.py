"""The Bayesian signed-rank test with a region of practical equivalence (ROPE).

Benavoli et al. (2014, ICML, 32:1026) put a Dirichlet process prior on the distribution of the differences; Benavoli et
al. (2017, JMLR 18:77) add the ROPE. A posterior draw is a Dirichlet weight per patient and one for a pseudo-observation
at 0 with prior strength 0.5. It shares the probability among three regions for the mean of two patients' differences:
above the ROPE, inside, below. p(better), p(equal) and p(worse) say how often each region is the largest
(regions equally large share the draw).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.errors import ScoreError
from medseg.rng import generator

Floats = NDArray[np.float64]
PRIOR_STRENGTH = 0.5
CHUNK = 500
"""Draws held at a time."""


@dataclass(frozen=True)
class Posterior:
    """Shares of the draws; they sum to 1.

    Attributes:
        better: the first method is better by more than the ROPE.
        equal: practically equal.
        worse: the first method is worse by more than the ROPE.
    """

    better: float
    equal: float
    worse: float


@dataclass(frozen=True)
class _Regions:
    """Where, among the sorted differences, each one's partners cross the edges of the ROPE.

    Attributes:
        order: (P + 1,) sorts the differences with the pseudo-observation in front.
        lower: (2, P + 1) number of partners whose sum lies below the lower edge: strictly, and with those on it.
        upper: (2, P + 1) the same at the upper edge.
        flipped: the signs were turned, so that swapping two methods gives the mirrored posterior exactly.
    """

    order: NDArray[np.int64]
    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    flipped: bool


def signed_rank(
    differences: ArrayLike, *, rope: float, seed: int, draws: int = 50_000, decimals: int | None = None
) -> Posterior:
    """Return the posterior of one pair (see :func:`signed_ranks`)."""
    return signed_ranks(
        np.asarray(differences, dtype=np.float64)[None], rope, seed=seed, draws=draws, decimals=decimals
    )[0]


def signed_ranks(
    differences: Floats, rope: float, *, seed: int, draws: int = 50_000, decimals: int | None = None
) -> list[Posterior]:
    """Return the posterior of each row of (K, P) differences, on shared Dirichlet weights.

    A sum on the edge of the ROPE counts half to either side. Scores of two decimals lie on an edge of 0.01 often, and
    the last digit of their sums then decides: with ``decimals`` sums are rounded before they are held against the edge.

    Args:
        differences: positive where the first method is better.
        rope: half width of the ROPE, in the unit of the differences.
        seed: root seed.
        draws: posterior draws; the Monte-Carlo error of a share is at most 0.5 / sqrt(draws).
        decimals: digits of the sums; none takes them as they are.

    Raises:
        ScoreError: no patient, a value that is not finite, a negative ROPE or no draw.
    """
    if differences.ndim != 2 or not differences.shape[1] or not np.isfinite(differences).all():
        raise ScoreError(f"signed rank: differences of shape {differences.shape}; give finite ones, one per patient.")
    if not rope >= 0 or draws < 1:
        raise ScoreError(f"signed rank: ROPE {rope}, {draws} draws; give a ROPE >= 0 and at least one draw.")
    regions = [_regions(row, rope, decimals) for row in differences]
    wins = np.zeros((len(regions), 3))
    draw = generator(seed, "signed rank")
    shape = np.r_[PRIOR_STRENGTH, np.ones(differences.shape[1])]
    for start in range(0, draws, CHUNK):
        weights = draw.standard_gamma(shape, (min(CHUNK, draws - start), len(shape)))
        weights /= weights.sum(axis=1, keepdims=True)
        for row, region in enumerate(regions):
            shares = _shares(weights[:, region.order], region)
            largest = shares >= shares.max(axis=1, keepdims=True) - 1e-12
            wins[row] += (largest / largest.sum(axis=1, keepdims=True)).sum(axis=0)
    return [_posterior(row / draws, region.flipped) for row, region in zip(wins, regions, strict=True)]


def _regions(differences: Floats, rope: float, decimals: int | None) -> _Regions:
    flipped = bool(differences.sum() < 0)
    numbers = np.concatenate([[0.0], np.sort(-differences if flipped else differences)])
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    edge = 2 * rope if decimals is None else round(2 * rope, decimals)
    counts = np.empty((4, len(ordered)), dtype=np.int64)
    for rows in np.array_split(np.arange(len(ordered)), -(-len(ordered) // 512)):
        sums = ordered[rows, None] + ordered
        sums = sums if decimals is None else np.round(sums, decimals)
        for place, inside in enumerate((sums < -edge, sums <= -edge, sums < edge, sums <= edge)):
            counts[place, rows] = inside.sum(axis=1)
    return _Regions(order, counts[:2], counts[2:], flipped)


def _shares(weights: Floats, region: _Regions) -> Floats:
    """Return (draws, 3) probabilities better, equal, worse of the mean of two patients drawn by the weights."""
    total = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=total[:, 1:])
    worse = _below(weights, total, region.lower)
    below = _below(weights, total, region.upper)
    return np.stack([1 - below, below - worse, worse], axis=1)


def _below(weights: Floats, total: Floats, places: NDArray[np.int64]) -> Floats:
    """Return the (draws,) probability below an edge; partners on it count half."""
    shares = np.einsum("dp,dp->d", weights, total[:, places[0]])
    if np.array_equal(places[0], places[1]):
        return shares
    return (shares + np.einsum("dp,dp->d", weights, total[:, places[1]])) / 2


def _posterior(shares: Floats, flipped: bool) -> Posterior:
    better, equal, worse = (float(share) for share in (shares[::-1] if flipped else shares))
    return Posterior(better, equal, worse)
