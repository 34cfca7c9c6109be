"""Deterministic preprocessing and the way back to the native grid.

The steps of the 2022 thyroid preprint (crop of borders and text, histogram equalisation, smoothing) stand in
``medseg.data.steps``. The preprint names the steps but no parameter: thresholds, kernels and order are our reading.
"""

from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import overload

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medseg.errors import ConfigError, DataError
from medseg.types import Geometry

OUTSIDE_LOGIT = 10.0
"""Magnitude of the logits given to pixels that were cropped away: certain background."""


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return uint8 (H, W, C) at ``size`` (H, W): area average when both sides shrink, else bilinear."""
    shrinks = size[0] <= image.shape[0] and size[1] <= image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (size[1], size[0]), interpolation=how).reshape(*size, image.shape[2])


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a label map (H, W) at ``size`` by the nearest pixel centre, which invents no label and shifts nothing."""
    return cv2.resize(labels, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)


class Preprocess:
    """Crop, change intensities, resize; and undo what moved pixels.

    Args:
        size: (H, W) of the grid for the network, or one number for a square.
        steps: in this order; a step with ``box(image)`` crops, any other maps a uint8 image (H, W, C) to another of
            the same shape. Steps are frozen dataclasses: their ``repr`` keys the cache.

    Raises:
        ConfigError: the size is not positive or a step is no dataclass.
    """

    def __init__(self, *, size: int | Sequence[int], steps: Sequence[object] = ()) -> None:
        sides = (size, size) if isinstance(size, int) else tuple(int(side) for side in size)
        if len(sides) != 2 or min(sides) < 1:
            raise ConfigError(f"preprocess.size={size}: give [rows, columns], both positive.")
        self.size: tuple[int, int] = (sides[0], sides[1])
        self.steps = tuple(steps)
        for step in self.steps:
            if not is_dataclass(step):
                raise ConfigError(f"preprocess step {step!r} is no dataclass; its repr must state all its parameters.")

    @property
    def recipe(self) -> str:
        """Everything that decides the result, as one stable line; a part of the cache key."""
        return " > ".join([*(repr(step) for step in self.steps), f"resize(size={self.size})"])

    def do(
        self, image: np.ndarray, mask: np.ndarray | None = None, *, case_id: str = ""
    ) -> tuple[np.ndarray, np.ndarray | None, Geometry]:
        """Return image and mask on the network's grid and the geometry of the way back.

        Args:
            image: uint8 (H, W, C), native.
            mask: uint8 (H, W) label map on the same grid, or None.
            case_id: for steps that treat every case in its own way (``needs_case``), such as ``CropToBox``.

        Raises:
            DataError: image and mask differ in size, or a step refuses the image.
        """
        native = (image.shape[0], image.shape[1])
        if mask is not None and mask.shape != native:
            raise DataError(f"image {native} and mask {mask.shape} differ in size (rows, columns); export both at one.")
        top, left, height, width = 0, 0, *native
        for step in self.steps:
            if hasattr(step, "box"):
                given = (image, case_id) if getattr(step, "needs_case", False) else (image,)
                down, right, height, width = step.box(*given)
                image = image[down : down + height, right : right + width]
                top, left = top + down, left + right
            else:
                image = step(np.ascontiguousarray(image))  # type: ignore[operator]
        geometry = Geometry(native, (top, left, height, width), self.size)
        resized = resize_image(np.ascontiguousarray(image), self.size)
        if mask is None:
            return resized, None, geometry
        return resized, resize_labels(mask[top : top + height, left : left + width], self.size), geometry

    def undo(self, labels: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Return a label map (h, w) of the network's grid on the native one, uint8 (H, W); background outside."""
        top, left, height, width = geometry.box
        native = np.zeros(geometry.native_size, np.uint8)
        native[top : top + height, left : left + width] = resize_labels(labels.astype(np.uint8), (height, width))
        return native


@overload
def native_logits(logits: Tensor, geometry: Geometry) -> Tensor: ...
@overload
def native_logits(logits: np.ndarray, geometry: Geometry) -> np.ndarray: ...
def native_logits(logits: Tensor | np.ndarray, geometry: Geometry) -> Tensor | np.ndarray:
    """Return logits (K, *size) as float32 (K, *S) on the native grid, linear within the box.

    Bilinear for pictures, trilinear for volumes. Outside the box the background (class 0) gets ``+OUTSIDE_LOGIT`` and
    every other class the negative.
    """
    if isinstance(logits, np.ndarray):
        return native_logits(torch.from_numpy(np.ascontiguousarray(logits)), geometry).numpy()
    axes = len(geometry.native_size)
    start, size = geometry.box[:axes], geometry.box[axes:]
    mode = "bilinear" if axes == 2 else "trilinear"
    inside = logits.float()
    if tuple(logits.shape[1:]) != tuple(size):
        inside = functional.interpolate(inside[None], tuple(size), mode=mode, align_corners=False)[0]
    if tuple(size) == tuple(geometry.native_size):
        return inside
    native = inside.new_full((len(logits), *geometry.native_size), -OUTSIDE_LOGIT)
    if len(logits) > 1:
        native[0] = OUTSIDE_LOGIT
    box = tuple(slice(first, first + side) for first, side in zip(start, size, strict=True))
    native[(slice(None), *box)] = inside
    return native
