"""Simulated users of the classical interactive systems: a click inside each region, a box around each region.

Points are (row, column) in pixels of the network's grid. They come from the truth, so a system that uses them says so
in its ``interaction``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from medseg.errors import ConfigError
from medseg.nets.adapters import checked_choice
from medseg.nets.thyroid.marks import scale_of

EIGHT = np.ones((3, 3), dtype=bool)
POINTS_PER_BOX = 2
"""The upper left and the lower right corner, both inside the box."""


def regions_of(mask: np.ndarray, label: int) -> Iterator[np.ndarray]:
    """Yield the connected regions (diagonal neighbours included) of one class as (H, W) bool."""
    numbered, count = ndimage.label(mask == label, structure=EIGHT)
    for number in range(1, count + 1):
        yield numbered == number


def deepest(region: np.ndarray) -> np.ndarray:
    """Return the (row, column) inside a region that is farthest from its outline; the image's edge counts as one."""
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    return np.array(np.unravel_index(depth.argmax(), region.shape), dtype=np.float64)


def centroid(region: np.ndarray) -> np.ndarray:
    """Return the pixel (row, column) of a region that is nearest to its centroid."""
    pixels = np.argwhere(region).astype(np.float64)
    return pixels[((pixels - pixels.mean(axis=0)) ** 2).sum(axis=1).argmin()]


@dataclass(frozen=True)
class ClickMarks:
    """A simulated user who clicks once inside each region of the class, knowing the truth.

    Attributes:
        label: the class whose regions are clicked.
        place: ``deepest`` point of the region, or the pixel nearest to its ``centroid`` (an oracle, not a user).
            While training the user clicks on any pixel at least half as deep as the deepest.
    """

    label: int = 1
    place: Literal["deepest", "centroid"] = "deepest"

    def __post_init__(self) -> None:
        checked_choice(self.place, ("deepest", "centroid"), key="prompt.place")

    def __call__(self, mask: np.ndarray, rng: np.random.Generator, *, jitter: bool) -> np.ndarray:
        """Return one point for each region, (N, 2) float64; (0, 2) for a mask without the class.

        Args:
            mask: (H, W) uint8 label map.
            rng: where the place of a click comes from while training.
            jitter: whether the place is random (training), or as ``place`` says (evaluation).
        """
        points = [self._point(region, rng, jitter=jitter) for region in regions_of(mask, self.label)]
        return np.array(points).reshape(-1, 2)

    def _point(self, region: np.ndarray, rng: np.random.Generator, *, jitter: bool) -> np.ndarray:
        if not jitter:
            return deepest(region) if self.place == "deepest" else centroid(region)
        depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
        pixels = np.argwhere(depth >= depth.max() / 2)
        return pixels[rng.integers(len(pixels))].astype(np.float64)


@dataclass(frozen=True)
class BoxMarks:
    """A simulated user who draws a box around each region of the class, knowing the truth.

    Attributes:
        label: the class whose regions are boxed.
        slack: pixels at 256 between a region and its box on every side.
        deviation: standard deviation of each side's place while training, in pixels at 256.
    """

    label: int = 1
    slack: float = 2.0
    deviation: float = 2.0

    def __post_init__(self) -> None:
        if self.slack < 0 or self.deviation < 0:
            raise ConfigError(f"net.prompt: slack={self.slack} and deviation={self.deviation} must be >= 0.")

    def __call__(self, mask: np.ndarray, rng: np.random.Generator, *, jitter: bool) -> np.ndarray:
        """Return two corners for each region, (2 N, 2) float64 within the image; (0, 2) without the class.

        Args:
            mask: (H, W) uint8 label map.
            rng: where the user's errors come from.
            jitter: whether the user errs (training) or not (evaluation).
        """
        scale = scale_of(mask.shape)
        boxes = []
        for region in regions_of(mask, self.label):
            pixels = np.argwhere(region)
            corners = np.stack([pixels.min(axis=0) - self.slack * scale, pixels.max(axis=0) + self.slack * scale])
            if jitter:
                corners = np.sort(corners + rng.normal(0.0, self.deviation * scale, corners.shape), axis=0)
            boxes.append(corners.round())
        return np.array(boxes).reshape(-1, 2).clip(0, np.array(mask.shape) - 1)
