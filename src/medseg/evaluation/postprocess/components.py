"""Connected components of a class: only the largest, or none below a size. Diagonal neighbours are connected."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.evaluation.postprocess.contract import (
    Probabilities,
    check_unit,
    labels_of,
    least_pixels,
    relabelled,
)


def components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the numbered components of a mask, 0 outside, and their sizes in pixels (entry 0 is the outside)."""
    from scipy import ndimage

    numbered, _ = ndimage.label(mask, structure=np.ones((3,) * mask.ndim, bool))
    return numbered, np.bincount(numbered.ravel(), minlength=1)


@dataclass(frozen=True)
class LargestComponent:
    """Keep the largest component, of equal ones the first; the rest becomes background.

    Attributes:
        together: all foreground classes are one region, instead of each class by itself.
    """

    name: ClassVar[str] = "largest_component"
    needs_image: ClassVar[bool] = False

    together: bool = False

    def __call__(
        self, probabilities: Probabilities, *, spacing: Sequence[float], image: NDArray[np.float32] | None = None
    ) -> Probabilities:
        """Return the probabilities (K, *S) with the smaller components as background."""
        before = labels_of(probabilities)
        after = before.copy()
        for mask in [before > 0] if self.together else [before == label for label in _foreground(before)]:
            numbered, sizes = components(mask)
            if len(sizes) > 2:
                after[mask & (numbered != 1 + sizes[1:].argmax())] = 0
        return relabelled(probabilities, before, after)

    def candidates(self) -> Sequence["LargestComponent"]:
        """Return each class by itself and all foreground as one."""
        return [replace(self, together=together) for together in (False, True)]


@dataclass(frozen=True)
class RemoveSmall:
    """Make components of a foreground class that are smaller than a size background.

    Attributes:
        size: the least size that stays, in ``unit``; 0 removes nothing.
        unit: ``mm`` (mm2, mm3; pixels where the spacing is unknown) or ``px`` (pixels, voxels).
        sizes: those tried on validation.
    """

    name: ClassVar[str] = "remove_small"
    needs_image: ClassVar[bool] = False

    size: float = 0.0
    unit: str = "mm"
    sizes: Sequence[float] = (10, 30, 100, 300, 1000, 3000)

    def __post_init__(self) -> None:
        check_unit(self.unit, name=self.name)
        if min([self.size, *self.sizes]) < 0:
            raise ConfigError(f"postprocess.{self.name}: sizes {[self.size, *self.sizes]}: give none below 0.")

    def __call__(
        self, probabilities: Probabilities, *, spacing: Sequence[float], image: NDArray[np.float32] | None = None
    ) -> Probabilities:
        """Return the probabilities (K, *S) with components below the size as background."""
        before = labels_of(probabilities)
        after, least = before.copy(), least_pixels(self.size, unit=self.unit, spacing=spacing)
        for label in _foreground(before):
            numbered, sizes = components(before == label)
            small = sizes < least
            small[0] = False
            after[small[numbered]] = 0
        return relabelled(probabilities, before, after)

    def candidates(self) -> Sequence["RemoveSmall"]:
        """Return the step with every size."""
        return [replace(self, size=float(size)) for size in self.sizes]


def _foreground(labels: NDArray[np.uint8]) -> list[int]:
    """Return the foreground classes of a label map."""
    return [int(label) for label in np.flatnonzero(np.bincount(labels.ravel())) if label]
