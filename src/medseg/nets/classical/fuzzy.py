"""Fuzzy c-means on weighted points, for instance on the bins of a histogram."""

from dataclasses import dataclass

import numpy as np

_SMALLEST = 1e-12
"""Squared distance below which a point lies on a centre, relative to the spread of the points."""


@dataclass(frozen=True)
class FuzzyClusters:
    """Result of :func:`fuzzy_c_means`.

    Attributes:
        centres: (clusters, F) float64, in order of their mean.
        objectives: value of the objective after each iteration; never increasing.
    """

    centres: np.ndarray
    objectives: list[float]


def squared_distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return (N, clusters) of points (N, F) and centres (clusters, F)."""
    return ((points[:, None, :] - centres[None]) ** 2).sum(axis=-1)


def memberships(points: np.ndarray, centres: np.ndarray, *, m: float) -> np.ndarray:
    """Return u_ik = 1 / sum_j (d_ik / d_ij)^(2 / (m - 1)), (N, clusters) within 0..1, rows of sum 1 (Bezdek 1981).

    Args:
        points: (N, F).
        centres: (clusters, F).
        m: fuzziness above 1; towards 1 the memberships become those of k-means.
    """
    from scipy.special import softmax

    squared = squared_distances(points, centres)
    least = _SMALLEST * max(float(points.var()), _SMALLEST)
    return softmax(-np.log(np.maximum(squared, least)) / (m - 1), axis=1)


def spread_start(points: np.ndarray, weights: np.ndarray, clusters: int) -> np.ndarray:
    """Return centres (clusters, F) to start from: points at evenly spaced shares of the weight, by their mean."""
    order = np.argsort(points.mean(axis=1), kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    places = np.searchsorted(share, (np.arange(clusters) + 0.5) / clusters)
    centres = points[order[np.minimum(places, len(points) - 1)]].astype(np.float64)
    # Shares that fall on the same point must not start as the same centre: they would stay one for ever.
    return centres + np.arange(clusters)[:, None] * 1e-3 * max(float(points.std()), 1e-6)


def fuzzy_c_means(
    points: np.ndarray, weights: np.ndarray, *, clusters: int, m: float = 2.0, iterations: int = 200,
    tolerance: float = 1e-5,
) -> FuzzyClusters:  # fmt: skip
    """Minimise sum_i w_i sum_k u_ik^m |x_i - c_k|^2 over memberships and centres in turn (Bezdek 1981).

    Args:
        points: (N, F).
        weights: (N,) how often each point occurs.
        clusters: number of centres.
        m: fuzziness above 1.
        iterations: most of them.
        tolerance: share of the points' deviation; stops when no centre moves farther.
    """
    points = points.astype(np.float64)
    centres = spread_start(points, weights, clusters)
    enough = tolerance * max(float(points.std()), 1e-12)
    objectives: list[float] = []
    for _ in range(iterations):
        pull = memberships(points, centres, m=m) ** m * weights[:, None]
        total = pull.sum(axis=0)[:, None]
        moved = np.where(total > 0, pull.T @ points / np.maximum(total, 1e-300), centres)
        objectives.append(float((pull * squared_distances(points, moved)).sum()))
        step = float(np.abs(moved - centres).max())
        centres = moved
        if step <= enough:
            break
    return FuzzyClusters(centres=centres[np.argsort(centres.mean(axis=1), kind="stable")], objectives=objectives)
