"""Holes: background that a region encloses."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.evaluation.postprocess.contract import (
    Labels,
    Probabilities,
    check_unit,
    labels_of,
    least_pixels,
    relabelled,
)


@dataclass(frozen=True)
class FillHoles:
    """Give background that does not reach the edge of the image to the class that borders most of it.

    Background is connected through faces, as its complement is through corners. A hole of a volume is closed on all
    sides; one that is open along the first axis is none.

    Attributes:
        largest: the largest hole that is filled, in ``unit``; None fills all.
        unit: ``mm`` (mm2, mm3; pixels where the spacing is unknown) or ``px`` (pixels, voxels).
        sizes: those tried on validation beside no limit.
    """

    name: ClassVar[str] = "fill_holes"
    needs_image: ClassVar[bool] = False

    largest: float | None = None
    unit: str = "mm"
    sizes: Sequence[float] = (30, 300)

    def __post_init__(self) -> None:
        check_unit(self.unit, name=self.name)
        if min([0 if self.largest is None else self.largest, *self.sizes], default=0) < 0:
            raise ConfigError(
                f"postprocess.{self.name}: largest={self.largest}, sizes={list(self.sizes)}: none below 0."
            )

    def __call__(
        self, probabilities: Probabilities, *, spacing: Sequence[float], image: NDArray[np.float32] | None = None
    ) -> Probabilities:
        """Return the probabilities (K, *S) with the holes filled."""
        before = labels_of(probabilities)
        limit = np.inf if self.largest is None else least_pixels(self.largest, unit=self.unit, spacing=spacing)
        return relabelled(probabilities, before, _filled(before, limit))

    def candidates(self) -> Sequence["FillHoles"]:
        """Return the step without a limit and with every size as limit."""
        return [replace(self, largest=None), *(replace(self, largest=float(size)) for size in self.sizes)]


def _filled(labels: Labels, limit: float) -> Labels:
    """Return the label map with every hole of at most ``limit`` pixels filled."""
    from scipy import ndimage

    filled = labels.copy()
    numbered, _ = ndimage.label(labels == 0)
    sizes = np.bincount(numbered.ravel(), minlength=1)
    hole = sizes <= limit
    hole[0] = False
    for axis in range(labels.ndim):
        for end in (0, -1):
            hole[numbered.take(end, axis=axis)] = False
    boxes = ndimage.find_objects(numbered) if hole.any() else []
    for number in np.flatnonzero(hole):
        # One pixel more on each side: there is one, for a hole does not touch the edge.
        box = tuple(slice(side.start - 1, side.stop + 1) for side in boxes[number - 1])
        inside = numbered[box] == number
        ring = ndimage.binary_dilation(inside) & ~inside
        filled[box][inside] = np.bincount(labels[box][ring]).argmax()
    return filled
