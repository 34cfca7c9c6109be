"""Volumes to another voxel size.

Images by splines of first or third order, voxel centres aligned so that the whole field of view is kept; labels by the
nearest voxel centre, which invents no label. Where voxels are much longer along one axis, that axis is resampled apart
and by the nearest slice, because a spline across thick slices draws what was never measured: the rule and its factor 3
are those of nnU-Net (Isensee et al., Nat Methods 18, 2021).
"""

from collections.abc import Sequence
from math import prod

import numpy as np

from medseg.data.volumes.faults import MAX_VOXELS
from medseg.errors import DataError

Sides = tuple[int, int, int]


def size_at(size: Sequence[int], spacing: Sequence[float], target: Sequence[float | None]) -> Sides:
    """Return the (D, H, W) that covers the same field of view at another spacing, at least one voxel along each axis.

    Args:
        size: (D, H, W) voxels.
        spacing: (z, y, x) of them in mm.
        target: (z, y, x) wanted in mm; None keeps an axis.

    Raises:
        DataError: the result would have more than ``MAX_VOXELS`` voxels.
    """
    depth, height, width = (
        side if new is None else max(1, int(np.floor(side * old / new + 0.5)))
        for side, old, new in zip(size, spacing, target, strict=True)
    )
    if prod((depth, height, width)) > MAX_VOXELS:
        raise DataError(
            f"{tuple(size)} voxels resampled from {tuple(spacing)} to {tuple(target)} mm are {depth}x{height}x{width}; "
            "the spacing of the file or preprocess.spacing is wrong."
        )
    return depth, height, width


def thick_axis(spacing: Sequence[float], *, factor: float = 3.0) -> int | None:
    """Return the one axis whose voxels are more than ``factor`` times longer than the shortest side, or None.

    Two equally long sides are no thick axis: nothing would then be left to resample in a plane.
    """
    longest = max(spacing)
    axes = [axis for axis, side in enumerate(spacing) if side == longest]
    return axes[0] if len(axes) == 1 and longest > factor * min(spacing) else None


def nearest_indices(old: int, new: int) -> np.ndarray:
    """Return, for every voxel of a new axis, the old voxel in which its centre lies."""
    return np.minimum((2 * np.arange(new) + 1) * old // (2 * new), old - 1)


def resample_labels(labels: np.ndarray, size: Sides) -> np.ndarray:
    """Return labels (..., D, H, W) at ``size`` by the nearest voxel centre; equal sizes give equal labels."""
    if labels.shape[-3:] == tuple(size):
        return labels
    z, y, x = (nearest_indices(old, new) for old, new in zip(labels.shape[-3:], size, strict=True))
    return np.ascontiguousarray(labels[..., z[:, None, None], y[:, None], x])


def resample_image(image: np.ndarray, size: Sides, *, order: int = 3, thick: int | None = None) -> np.ndarray:
    """Return an image (C, D, H, W) float32 at ``size``, within the range of each channel.

    Args:
        image: float32 (C, D, H, W).
        size: (D, H, W) wanted.
        order: 1 trilinear, 3 cubic.
        thick: axis (0 = D) resampled by the nearest slice, see :func:`thick_axis`.
    """
    if image.shape[1:] == tuple(size):
        return image
    return np.stack([_channel(channel, size, order, thick) for channel in image])


def _channel(channel: np.ndarray, size: Sides, order: int, thick: int | None) -> np.ndarray:
    low, high = channel.min(), channel.max()
    if low == high:
        return np.full(size, low, np.float32)
    if thick is None:
        return np.clip(_zoom(channel, size, order), low, high)
    plane = [side for axis, side in enumerate(size) if axis != thick]
    indices = nearest_indices(channel.shape[thick], size[thick])
    needed, back = np.unique(indices, return_inverse=True)
    slices = [_zoom(np.take(channel, index, axis=thick), plane, order) for index in needed]
    return np.clip(np.stack([slices[index] for index in back], axis=thick), low, high)


def _zoom(values: np.ndarray, size: Sequence[int], order: int) -> np.ndarray:
    from scipy.ndimage import zoom

    if values.shape == tuple(size):
        return values
    factors = [new / old for new, old in zip(size, values.shape, strict=True)]
    return zoom(values, factors, order=order, mode="nearest", grid_mode=True).reshape(size)
