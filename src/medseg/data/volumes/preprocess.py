"""Deterministic preprocessing of volumes and the way back to the native grid.

The order is that of nnU-Net (Isensee et al., Nat Methods 18, 2021): crop, intensities, normalisation, and resampling
last, so that figures such as the mean of the voxels that are not 0 come from measured values.
"""

from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from typing import Any

import numpy as np

from medseg.data.volumes.resample import Sides, resample_image, resample_labels, size_at, thick_axis
from medseg.data.volumes.steps import ZScore
from medseg.errors import ConfigError, DataError
from medseg.types import Geometry

HALF_MAX = 65504.0
"""The largest finite float16, the type of cached volumes."""

_ORDERS = {"linear": 1, "cubic": 3}


class VolumePreprocess:
    """Crop, change intensities, normalise, resample; labels only move.

    Args:
        spacing: (z, y, x) of the network's grid in mm, null for an axis that stays as it is; None resamples nothing.
        steps: in this order; frozen dataclasses that map float32 (C, D, H, W) to the same shape.
        normalise: the last such step; None leaves the values as they are.
        crop_nonzero: keep only the box around the voxels that are not 0 in any channel.
        interpolation: of images, ``cubic`` or ``linear``; labels go by the nearest voxel.
        thick: an axis whose voxels are this many times longer than the shortest side, in the file or in ``spacing``,
            is resampled apart, by the nearest slice.

    Raises:
        ConfigError: a spacing is not positive, a step is no dataclass, or the interpolation is unknown.
    """

    def __init__(
        self,
        *,
        spacing: Sequence[float | None] | None = None,
        steps: Sequence[Any] = (),
        normalise: Any = ZScore(),  # noqa: B008  frozen
        crop_nonzero: bool = False,
        interpolation: str = "cubic",
        thick: float = 3.0,
    ) -> None:
        self.spacing = None if spacing is None else tuple(None if side is None else float(side) for side in spacing)
        if self.spacing is not None and (
            len(self.spacing) != 3 or any(side is not None and not side > 0 for side in self.spacing)
        ):
            raise ConfigError(f"preprocess.spacing={spacing}: give [z, y, x] in mm, all positive, or null.")
        if interpolation not in _ORDERS:
            raise ConfigError(f"preprocess.interpolation='{interpolation}' is unknown; use cubic or linear.")
        self.steps: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
            *steps,
            *([] if normalise is None else [normalise]),
        )
        for step in self.steps:
            if not is_dataclass(step) or not callable(step):
                raise ConfigError(f"preprocess step {step!r} is no dataclass; its repr must state all its parameters.")
        self.crop_nonzero, self.interpolation, self.thick = crop_nonzero, interpolation, float(thick)

    @property
    def recipe(self) -> str:
        """Everything that decides the result, as one stable line; a part of the cache key."""
        resampling = f"resample(spacing={self.spacing}, interpolation={self.interpolation}, thick={self.thick})"
        return " > ".join([f"crop(nonzero={self.crop_nonzero})", *(repr(step) for step in self.steps), resampling])

    def do(
        self,
        image: np.ndarray,
        labels: np.ndarray | None = None,
        *,
        spacing: Sequence[float],
        available: Sequence[bool] | np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray | None, Geometry]:
        """Return image and labels on the network's grid and the geometry of the way back.

        Args:
            image: (C, D, H, W), native.
            labels: uint8 (D, H, W) on the same grid, or None.
            spacing: native (z, y, x) in mm.
            available: for each channel, whether it was measured; the others come back as exact zeros.

        Raises:
            DataError: image, labels, spacing or availability do not fit each other.
            ConfigError: the result cannot be held in float16.
        """
        image, present = _checked(image, labels, spacing, available)
        native: Sides = image.shape[1:]
        box = _nonzero_box(image) if self.crop_nonzero else tuple(slice(0, side) for side in native)
        image = np.ascontiguousarray(image[(slice(None), *box)])
        for step in self.steps:
            image = step(image).astype(np.float32, copy=False)
            image[~present] = 0
        kept: Sides = image.shape[1:]
        size, thick = kept, None
        if self.spacing is not None:
            size = size_at(kept, spacing, self.spacing)
            target = [old if new is None else new for old, new in zip(spacing, self.spacing, strict=True)]
            axes = [thick_axis(each, factor=self.thick) for each in (spacing, target)]
            thick = axes[0] if axes[0] is not None else axes[1]
        image = resample_image(image, size, order=_ORDERS[self.interpolation], thick=thick)
        _check_range(image)
        starts = tuple(part.start for part in box)
        geometry = Geometry(native, (*starts, *kept), size, tuple(float(side) for side in spacing))
        if labels is None:
            return image, None, geometry
        return image, np.ascontiguousarray(resample_labels(labels[box], size)), geometry


def _checked(
    image: np.ndarray,
    labels: np.ndarray | None,
    spacing: Sequence[float],
    available: Sequence[bool] | np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return a float32 copy with zeros in the missing channels, and which channels are present."""
    if image.ndim != 4 or len(spacing) != 3 or not all(side > 0 for side in spacing):
        raise DataError(
            f"volume of shape {image.shape} with spacing {tuple(spacing)}: give (C, D, H, W) and (z, y, x) mm."
        )
    if labels is not None and labels.shape != image.shape[1:]:
        raise DataError(
            f"image {image.shape[1:]} and labels {labels.shape} differ in size (D, H, W); export both at one."
        )
    present = np.ones(len(image), bool) if available is None else np.asarray(available, bool)
    if present.shape != (len(image),) or not present.any():
        raise DataError(f"availability {present.tolist()} of {len(image)} channels: give one flag a channel, one true.")
    image = np.array(image, np.float32)
    image[~present] = 0
    return image, present


def _nonzero_box(image: np.ndarray) -> tuple[slice, ...]:
    """Return the box around what is not 0 in any channel; everything where all is 0."""
    inside = (image != 0).any(axis=0)
    if not inside.any():
        return tuple(slice(0, side) for side in inside.shape)
    box = []
    for axis in range(3):
        places = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(box)


def _check_range(image: np.ndarray) -> None:
    largest = float(np.abs(image).max(initial=0))
    if not largest <= HALF_MAX:
        raise ConfigError(
            f"preprocess: values reach {largest:.4g}, half precision ends at {HALF_MAX:g}; set preprocess.normalise, "
            "for instance to ZScore."
        )


def undo_labels(labels: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Return labels (d, h, w) of the network's grid on the native one, uint8 (D, H, W).

    The nearest voxel centre decides; outside the box of the crop lies background (0).

    Raises:
        DataError: the labels are not of the geometry's size.
    """
    if labels.shape != geometry.size:
        raise DataError(f"labels {labels.shape} are not on the network's grid {geometry.size} (D, H, W).")
    z, y, x, depth, height, width = geometry.box
    native = np.zeros(geometry.native_size, np.uint8)
    native[z : z + depth, y : y + height, x : x + width] = resample_labels(
        labels.astype(np.uint8), (depth, height, width)
    )
    return native
