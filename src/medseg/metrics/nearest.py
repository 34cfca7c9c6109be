"""Nearest neighbours between two clouds of grid points in a volume: close ones by looking, the others by a k-d tree."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Points = NDArray[np.int32]
Distances = NDArray[np.float64]

_REACH = 3
"""How far neighbours are looked for one by one, in the smallest step: 123 places on a grid with equal steps."""


def between_clouds(first: Points, second: Points, steps: tuple[float, ...]) -> tuple[Distances, Distances]:
    """Return the distance from each point to the nearest point of the other cloud, both ways.

    Borders of a prediction and its truth mostly run within a few voxels of each other, where the places around a
    point, nearest first, are looked up in a map of the other cloud faster than a tree answers. Exact: every place up
    to the reach is looked at before a point is left to the tree.

    Args:
        first: (N, 3) non-negative whole positions, N >= 1.
        second: (M, 3) positions, M >= 1.
        steps: size of a voxel along each axis.
    """
    limit = _REACH * min(steps)
    margin = np.array([int(limit / step) for step in steps])
    sizes = np.maximum(first.max(axis=0), second.max(axis=0)) + 1 + 2 * margin
    strides = np.array([sizes[1] * sizes[2], sizes[2], 1])
    cells = [(points + margin) @ strides for points in (first, second)]
    places = list(_places(margin, steps, strides, limit))
    clouds, sides = (first, second), []
    for this, other in ((0, 1), (1, 0)):
        filled = np.zeros(sizes.prod(), bool)
        filled[cells[other]] = True
        distances, left = _looked_up(cells[this], filled, places)
        if left.size:
            # Border voxels come in scan order: sliding-midpoint splits cost less to build than medians.
            tree = cKDTree(clouds[other] * np.array(steps), leafsize=16, balanced_tree=False, compact_nodes=False)
            distances[left] = tree.query(clouds[this][left] * np.array(steps))[0]
        sides.append(distances)
    return sides[0], sides[1]


def _places(
    margin: NDArray[np.int64], steps: tuple[float, ...], strides: NDArray[np.int64], limit: float
) -> Iterator[tuple[float, list[int]]]:
    """Yield distances up to ``limit``, rising, each with the places at it as differences of flat positions."""
    grids = np.meshgrid(*(np.arange(-reach, reach + 1) for reach in margin), indexing="ij")
    offsets = np.stack([grid.ravel() for grid in grids], axis=1)
    distances = np.sqrt(((offsets * np.array(steps)) ** 2).sum(axis=1))
    for distance in np.unique(distances[distances <= limit]):
        yield float(distance), (offsets[distances == distance] @ strides).tolist()


def _looked_up(
    cells: NDArray[np.int64], filled: NDArray[np.bool_], places: list[tuple[float, list[int]]]
) -> tuple[Distances, NDArray[np.int64]]:
    """Return distances to the nearest filled cell, inf where there is none in reach, and which those are."""
    distances, left = np.full(len(cells), np.inf), np.arange(len(cells))
    for distance, offsets in places:
        hit = filled.take(cells + offsets[0])
        for offset in offsets[1:]:
            hit |= filled.take(cells + offset)
        distances[left[hit]] = distance
        left, cells = left[~hit], cells[~hit]
        if not left.size:
            break
    return distances, left
