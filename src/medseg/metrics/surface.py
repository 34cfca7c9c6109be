"""Distances between the borders of two masks, found once, read as HD, both HD95, ASSD, MASD and NSD.

The border is made of pixels: those of the mask with a 4-neighbour (6-neighbour in 3D) outside it; beyond the image edge
is outside. Distances run between pixel centres in the unit of ``spacing``. This is the voxel-centre family of
definitions; tools that put the surface between pixels or weight it by area give other numbers for HD95 and NSD, hence
the full names ``hd95_directed_voxel`` and ``hd95_pooled_voxel``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from medseg.errors import ScoreError
from medseg.metrics.nearest import between_clouds

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))

_PAIRS = 200_000
"""Up to this many pairs of border pixels the full table of integer distances is quicker than a tree (2 MB)."""

_TABLE_SIDE = 20_000
"""Above this side the squared distances of the table could leave int32."""


@dataclass(frozen=True)
class BorderDistances:
    """Distance from each border pixel of one mask to the nearest border pixel of the other.

    Empty masks: with both empty the distances are 0 and the share within a tolerance is 1; with exactly one empty
    the distances are inf and the share is 0. What a mean takes for inf is ``medseg.scores.penalised``'s affair.

    Attributes:
        to_truth: one distance for each border pixel of the prediction.
        to_prediction: one distance for each border pixel of the truth.
    """

    to_truth: NDArray[np.float64]
    to_prediction: NDArray[np.float64]

    @property
    def _directed(self) -> list[NDArray[np.float64]]:
        return [side for side in (self.to_truth, self.to_prediction) if side.size]

    @property
    def hd(self) -> float:
        """Hausdorff distance: the largest of all distances."""
        return float(max((side.max() for side in self._directed), default=0.0))

    @property
    def hd95_directed_voxel(self) -> float:
        """The larger of the two directed 95th percentiles (linear interpolation); not the pooled percentile."""
        return max((percentile(side, 95) for side in self._directed), default=0.0)

    @property
    def hd95_pooled_voxel(self) -> float:
        """The 95th percentile of both borders' distances thrown together, as medpy's ``hd95`` defines it."""
        pooled = np.concatenate([self.to_truth, self.to_prediction])
        return percentile(pooled, 95) if pooled.size else 0.0

    @property
    def assd(self) -> float:
        """Average symmetric surface distance: the mean over the pixels of both borders."""
        size = self.to_truth.size + self.to_prediction.size
        return float((self.to_truth.sum() + self.to_prediction.sum()) / size) if size else 0.0

    @property
    def masd(self) -> float:
        """Mean average surface distance: the mean of the two directed means."""
        means = [side.mean() for side in self._directed]
        return float(sum(means) / len(means)) if means else 0.0

    def nsd(self, tolerance: float) -> float:
        """Return the share of both borders' pixels that lie within ``tolerance`` of the other border."""
        size = self.to_truth.size + self.to_prediction.size
        near = np.count_nonzero(self.to_truth <= tolerance) + np.count_nonzero(self.to_prediction <= tolerance)
        return near / size if size else 1.0


def percentile(values: NDArray[np.float64], percent: float) -> float:
    """Return the linearly interpolated percentile; ``np.percentile`` at a tenth of its price for short arrays."""
    position = (values.size - 1) * percent / 100
    low = int(position)
    high = min(low + 1, values.size - 1)
    ordered = np.partition(values, (low, high))
    if ordered[low] == ordered[high]:  # also keeps inf - inf out
        return float(ordered[low])
    return float(ordered[low] + (position - low) * (ordered[high] - ordered[low]))


def diagonal(shape: Sequence[int], spacing: Sequence[float] | None = None) -> float:
    """Return the physical diagonal sqrt(sum (n_i s_i)^2), the penalty for a distance that does not exist."""
    steps = _checked_spacing(spacing, len(shape))
    return sqrt(sum((size * step) ** 2 for size, step in zip(shape, steps, strict=True)))


def border_distances(
    prediction: NDArray[Any], truth: NDArray[Any], *, spacing: Sequence[float] | None = None
) -> BorderDistances:
    """Return the distances between the borders of two masks.

    Args:
        prediction: (H, W) or (D, H, W) mask, bool or uint8 with 0 and 1.
        truth: mask of the same shape.
        spacing: size of a pixel along each axis; 1 each if not given.

    Raises:
        ScoreError: shapes differ, masks are not 2D or 3D, not binary, or a spacing is not positive.
    """
    first, second = mask_pair(prediction, truth)
    steps = _checked_spacing(spacing, first.ndim)
    box = bounding_box(first | second)
    if box is None:
        return BorderDistances(np.empty(0), np.empty(0))
    points, others = _border(first[box]), _border(second[box])
    if not len(points) or not len(others):
        return BorderDistances(np.full(len(points), np.inf), np.full(len(others), np.inf))
    return _nearest(points, others, steps, side=max(span.stop - span.start for span in box))


def mask_pair(prediction: NDArray[Any], truth: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return both masks as uint8 with 0 and 1, without copying them.

    Raises:
        ScoreError: shapes differ, masks are not 2D or 3D, or not binary.
    """
    first, second = _binary(prediction, "prediction"), _binary(truth, "truth")
    if first.shape != second.shape or first.ndim not in (2, 3):
        raise ScoreError(f"masks are {first.shape} and {second.shape}; give two 2D or two 3D masks of one shape.")
    return first, second


def _binary(mask: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if mask.dtype == np.bool_:
        return mask.view(np.uint8)
    if mask.dtype == np.uint8 and (not mask.size or mask.max() <= 1):
        return mask
    raise ScoreError(f"{name} of dtype {mask.dtype} is not a mask of 0 and 1; compare the labels with one class first.")


def _checked_spacing(spacing: Sequence[float] | None, dimensions: int) -> tuple[float, ...]:
    steps = (1.0,) * dimensions if spacing is None else tuple(float(step) for step in spacing)
    if len(steps) != dimensions or not all(0 < step < float("inf") for step in steps):
        raise ScoreError(f"spacing {steps} does not fit {dimensions} axes; give one positive number for each.")
    return steps


def bounding_box(mask: NDArray[np.uint8]) -> tuple[slice, ...] | None:
    """Return the slices that hold all non-zero pixels of a (H, W) or (D, H, W) mask, None if there are none."""
    if mask.ndim == 2:
        left, top, width, height = cv2.boundingRect(mask)
        return (slice(top, top + height), slice(left, left + width)) if width else None
    plane = np.bitwise_or.reduce(mask, axis=0)
    line = np.bitwise_or.reduce(mask.reshape(len(mask), -1), axis=1)
    sides = (line, np.bitwise_or.reduce(plane, axis=1), np.bitwise_or.reduce(plane, axis=0))
    spans = []
    for filled in sides:
        where = np.flatnonzero(filled)
        if not where.size:
            return None
        spans.append(slice(int(where[0]), int(where[-1]) + 1))
    return tuple(spans)


def _border(mask: NDArray[np.uint8]) -> NDArray[Any]:
    """Return the (N, axes) positions of the border pixels, in array order of the axes."""
    if mask.ndim == 3:
        return np.argwhere(_border_of_volume(mask)).astype(np.int32)
    inner = cv2.erode(mask, _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    found = cv2.findNonZero(cv2.subtract(mask, inner))
    return np.empty((0, 2), np.int32) if found is None else found.reshape(-1, 2)[:, ::-1]


def _border_of_volume(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    inner = np.zeros_like(mask)
    core = inner[1:-1, 1:-1, 1:-1]
    core[...] = mask[1:-1, 1:-1, 1:-1]
    core &= mask[2:, 1:-1, 1:-1]
    core &= mask[:-2, 1:-1, 1:-1]
    core &= mask[1:-1, 2:, 1:-1]
    core &= mask[1:-1, :-2, 1:-1]
    core &= mask[1:-1, 1:-1, 2:]
    core &= mask[1:-1, 1:-1, :-2]
    return mask - inner


def _nearest(
    points: NDArray[np.int32], others: NDArray[np.int32], steps: tuple[float, ...], *, side: int
) -> BorderDistances:
    """Return both directed distances: few points on a square grid by an integer table, others by k-d trees."""
    if len(set(steps)) == 1 and len(points) * len(others) <= _PAIRS and side <= _TABLE_SIDE:
        table = _squares(points[:, 0], others[:, 0])
        for axis in range(1, len(steps)):
            table += _squares(points[:, axis], others[:, axis])
        return BorderDistances(np.sqrt(table.min(axis=1)) * steps[0], np.sqrt(table.min(axis=0)) * steps[0])
    if len(steps) == 3:
        return BorderDistances(*between_clouds(points, others, steps))
    first, second = points * np.array(steps), others * np.array(steps)
    # Border pixels come in scan order: sliding-midpoint splits cost less to build than medians and search as fast.
    trees = [cKDTree(cloud, leafsize=16, balanced_tree=False, compact_nodes=False) for cloud in (first, second)]
    return BorderDistances(trees[1].query(first)[0], trees[0].query(second)[0])


def _squares(points: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Return the (N, M) squared differences of two coordinates."""
    difference = np.subtract.outer(np.ascontiguousarray(points), np.ascontiguousarray(others))
    difference *= difference
    return difference
