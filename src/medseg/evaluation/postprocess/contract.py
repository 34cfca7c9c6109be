"""What every step is, and how a change of labels becomes a change of probabilities."""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError

Probabilities = NDArray[np.float32]
Labels = NDArray[np.uint8]

UNITS = ("mm", "px")
"""What a size counts: the unit of the spacing (mm2 or mm3; pixels where the spacing is 1), or pixels and voxels."""


class Step(Protocol):
    """A frozen dataclass that changes the class probabilities of one case on its native grid.

    Every step takes and gives probabilities, so that steps of any kind follow each other in any order. A step that
    changes labels (components, holes) does so through :func:`relabelled`: applied twice it gives what it gives once,
    and it gives a pixel only the background or a class that is in the case already. Steps that change probabilities
    themselves (threshold, random field, median) give an image no class that has no probability in it; applied twice
    they act twice.

    Attributes:
        name: as in ``conf/postprocess`` and in ``refinement.json``.
        needs_image: whether the step looks at the image.
    """

    name: ClassVar[str]
    needs_image: ClassVar[bool]

    def __call__(
        self, probabilities: Probabilities, *, spacing: Sequence[float], image: NDArray[np.float32] | None = None
    ) -> Probabilities:
        """Return the changed probabilities (K, *S) float32; the argument stays as it is.

        Args:
            probabilities: (K, *S) float32, background first, each pixel's sum 1.
            spacing: size of a pixel along each axis of S.
            image: (*S) grey values in 0..1, for a step that ``needs_image``.
        """
        ...

    def candidates(self) -> Sequence["Step"]:
        """Return the step with every hyperparameter that is worth trying on validation."""
        ...


def labels_of(probabilities: Probabilities) -> Labels:
    """Return the label map uint8 (*S) of probabilities (K, *S): the first of the most probable classes."""
    return probabilities.argmax(axis=0).astype(np.uint8)


def relabelled(probabilities: Probabilities, before: Labels, after: Labels) -> Probabilities:
    """Return probabilities whose label map is ``after``: where it differs, the two classes swap their values.

    What the network was sure of stays as sure for the new label. A tie is broken by the smallest step of a float32, so
    that :func:`labels_of` finds ``after`` exactly.

    Args:
        probabilities: (K, *S).
        before: (*S), ``labels_of(probabilities)``.
        after: (*S).
    """
    places = np.nonzero(before != after)
    if not places[0].size:
        return probabilities
    result = probabilities.copy()
    old: tuple[NDArray[np.integer[Any]], ...] = (before[places], *places)
    new: tuple[NDArray[np.integer[Any]], ...] = (after[places], *places)
    result[old] = probabilities[new]
    result[new] = np.nextafter(probabilities[old], np.float32(2))
    return result


def least_pixels(size: float, *, unit: str, spacing: Sequence[float]) -> float:
    """Return a size in pixels.

    Args:
        size: in ``unit``.
        unit: ``mm``: an area or volume in the spacing's unit; ``px``: pixels or voxels.
        spacing: size of a pixel along each axis.
    """
    return size if unit == "px" else size / float(np.prod(np.asarray(spacing, np.float64)))


def check_unit(unit: str, *, name: str) -> None:
    """Refuse an unknown unit with a ``ConfigError``."""
    if unit not in UNITS:
        raise ConfigError(f"postprocess.{name}.unit={unit}: choose one of {', '.join(UNITS)}.")
