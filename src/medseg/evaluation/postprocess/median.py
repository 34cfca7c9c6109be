"""A median filter on the probabilities: smoother borders, no speckle."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.evaluation.postprocess.contract import Probabilities


@dataclass(frozen=True)
class Median:
    """Replace each class's probability by the median over a disc (a ball in volumes) and bring each sum back to 1.

    The post-processing of Ciresan et al., NIPS 2012, with its radius of 2 pixels. Beyond the edge the image is
    mirrored. With two classes the label map is that of the majority in the disc. With more, a pixel around which every
    class is rare keeps what it had. The change is one of the calibration too.

    Attributes:
        radius: in pixels or voxels, along every axis; 0 changes nothing.
        radii: those tried on validation.
    """

    name: ClassVar[str] = "median"
    needs_image: ClassVar[bool] = False

    radius: float = 2.0
    radii: Sequence[float] = (1.0, 2.0, 3.0)

    def __post_init__(self) -> None:
        values = [self.radius, *self.radii]
        if not all(np.isfinite(value) and value >= 0 for value in values):
            raise ConfigError(f"postprocess.{self.name}: radii {values}: give numbers of pixels from 0 on.")

    def __call__(
        self, probabilities: Probabilities, *, spacing: Sequence[float], image: NDArray[np.float32] | None = None
    ) -> Probabilities:
        """Return the filtered probabilities (K, *S)."""
        from scipy.ndimage import median_filter

        reach = int(self.radius)
        grid = np.indices((2 * reach + 1,) * (probabilities.ndim - 1)) - reach
        near = (grid**2).sum(axis=0) <= self.radius**2
        filtered = np.stack([median_filter(one, footprint=near, mode="reflect") for one in probabilities])
        total = filtered.sum(axis=0, keepdims=True)
        safe = np.where(total > 0, total, np.float32(1))
        return np.where(total > 0, filtered / safe, probabilities)

    def candidates(self) -> Sequence["Median"]:
        """Return the step with every radius."""
        return [replace(self, radius=float(value)) for value in self.radii]
