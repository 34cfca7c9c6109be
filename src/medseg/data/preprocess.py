"""Deterministic preprocessing and the way back to the native grid.

The steps of the 2022 thyroid preprint (crop of borders and text, histogram equalisation, smoothing) stand here as
configurable steps. The preprint names the steps but no parameter: thresholds, kernels and their order are our reading.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass
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


@dataclass(frozen=True)
class CropBorder:
    """Crop the dark frame and the text in it ("desensitise").

    Rows and columns whose mean grey is below ``threshold`` are dropped, and of what remains the largest connected
    block is kept. A gap shorter than ``bridge`` of the side, such as an acoustic shadow, does not disconnect; the
    bridge is ours, the threshold that of the TN-SCUI 2020 winner.
    """

    threshold: float = 5.0
    bridge: float = 0.05

    def box(self, image: np.ndarray) -> tuple[int, int, int, int]:
        """Return (top, left, height, width) of the kept block; the whole image if nothing is bright enough."""
        grey = image.mean(axis=2)
        top, bottom = self._longest_run(grey.mean(axis=1) >= self.threshold)
        left, right = self._longest_run(grey.mean(axis=0) >= self.threshold)
        return top, left, bottom - top, right - left

    def _longest_run(self, bright: np.ndarray) -> tuple[int, int]:
        places = np.flatnonzero(bright)
        if not len(places):
            return 0, len(bright)
        breaks = np.flatnonzero(np.diff(places) > 1 + self.bridge * len(bright))
        runs = np.split(places, breaks + 1)
        longest = max(runs, key=lambda run: run[-1] - run[0])
        return int(longest[0]), int(longest[-1]) + 1


@dataclass(frozen=True)
class EqualizeHistogram:
    """Equalise the grey histogram of the whole picture; of colour pictures the luma only."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the equalised uint8 image (H, W, C)."""
        return _on_luma(image, cv2.equalizeHist)


@dataclass(frozen=True)
class Clahe:
    """Equalise locally with limited contrast (CLAHE), on ``tiles`` x ``tiles`` tiles; of colour the luma only."""

    clip_limit: float = 2.0
    tiles: int = 8

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the equalised uint8 image (H, W, C)."""
        return _on_luma(image, cv2.createCLAHE(self.clip_limit, (self.tiles, self.tiles)).apply)


@dataclass(frozen=True)
class Smooth:
    """Smooth with a 3x3 kernel: ``gaussian`` of deviation ``sigma`` pixels, or ``median``."""

    kind: str = "gaussian"
    sigma: float = 0.8

    def __post_init__(self) -> None:
        """Refuse unknown kinds.

        Raises:
            ConfigError: ``kind`` is neither gaussian nor median.
        """
        if self.kind not in ("gaussian", "median"):
            raise ConfigError(f"preprocess step Smooth: kind='{self.kind}' is unknown; use gaussian or median.")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the smoothed uint8 image (H, W, C)."""
        if self.kind == "median":
            return cv2.medianBlur(image, 3).reshape(image.shape)
        return cv2.GaussianBlur(image, (3, 3), self.sigma).reshape(image.shape)


def _on_luma(image: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    if image.shape[2] == 3:
        luma = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
        luma[..., 0] = change(np.ascontiguousarray(luma[..., 0]))
        return cv2.cvtColor(luma, cv2.COLOR_YCrCb2RGB)
    parts = [change(np.ascontiguousarray(image[..., channel])) for channel in range(image.shape[2])]
    return np.stack(parts, axis=2)


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

    def do(self, image: np.ndarray, mask: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None, Geometry]:
        """Return image and mask on the network's grid and the geometry of the way back.

        Args:
            image: uint8 (H, W, C), native.
            mask: uint8 (H, W) label map on the same grid, or None.

        Raises:
            DataError: image and mask differ in size.
        """
        native = (image.shape[0], image.shape[1])
        if mask is not None and mask.shape != native:
            raise DataError(f"image {native} and mask {mask.shape} differ in size (rows, columns); export both at one.")
        top, left, height, width = 0, 0, *native
        for step in self.steps:
            if hasattr(step, "box"):
                down, right, height, width = step.box(image)
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
    """Return logits (K, h, w) as float32 (K, H, W) on the native grid, bilinear within the box.

    Outside the box the background (class 0) gets ``+OUTSIDE_LOGIT`` and every other class the negative.
    """
    if isinstance(logits, np.ndarray):
        return native_logits(torch.from_numpy(np.ascontiguousarray(logits)), geometry).numpy()
    top, left, height, width = geometry.box
    inside = functional.interpolate(logits[None].float(), (height, width), mode="bilinear", align_corners=False)[0]
    if (height, width) == geometry.native_size:
        return inside
    native = inside.new_full((len(logits), *geometry.native_size), -OUTSIDE_LOGIT)
    if len(logits) > 1:
        native[0] = OUTSIDE_LOGIT
    native[:, top : top + height, left : left + width] = inside
    return native
