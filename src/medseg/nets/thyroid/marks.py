"""The marks of an interactive user: where they are put, how they are drawn into an image.

A user of MGU-Net sets the two end points of a nodule's long axis and the two of its short axis, as with callipers.
Points are (row, column) in pixels of the network's grid. Sizes that are given "at 256" grow with the longer image side.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from medseg.errors import ConfigError
from medseg.types import IGNORE

REFERENCE_SIDE = 256
"""Longer image side for which mark sizes are stated."""

MARKS_PER_NODULE = 4
"""Both ends of the long axis, then both ends of the short axis."""

# A connected region that crosses a line has a pixel within half a pixel's diagonal (0.71) of it.
_BAND = 0.75


def scale_of(size: tuple[int, int] | torch.Size) -> float:
    """Return the longer side of a grid (H, W) relative to 256 pixels."""
    return max(size) / REFERENCE_SIDE


def axis_end_points(region: np.ndarray) -> np.ndarray:
    """Return where the principal axes of a region leave it.

    The axes run through the centroid along the eigenvectors of the covariance of the pixel positions. Of the region's
    pixels within 0.75 px of an axis the two outermost along it are returned; in a connected region these lie on its
    boundary.

    Args:
        region: (H, W) bool, connected, with at least one pixel.

    Returns:
        (4, 2) float64 (row, column): both ends of the long axis, both ends of the short axis.
    """
    pixels = np.argwhere(region).astype(np.float64)
    offsets = pixels - pixels.mean(axis=0)
    _, axes = np.linalg.eigh(offsets.T @ offsets)  # in columns, the short axis first
    ends = []
    for axis, normal in ((axes[:, 1], axes[:, 0]), (axes[:, 0], axes[:, 1])):
        # An eigenvector's sign is the linear algebra library's whim; fix it, so that marks do not depend on it.
        direction = axis if tuple(axis) > (0.0, 0.0) else -axis
        near = np.flatnonzero(np.abs(offsets @ normal) <= _BAND)
        along = offsets[near] @ direction
        ends += [pixels[near[along.argmin()]], pixels[near[along.argmax()]]]
    return np.array(ends)


def _regions(mask: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the connected regions (diagonal neighbours included) of every class but background and IGNORE."""
    for label in np.unique(mask):
        if label in (0, IGNORE):
            continue
        numbered, count = ndimage.label(mask == label, structure=np.ones((3, 3)))
        for number in range(1, count + 1):
            yield numbered == number


@dataclass(frozen=True)
class AxisMarks:
    """A simulated user who marks the ends of each nodule's long and short axis, knowing the truth.

    That four axis end points are marked is published; how they are simulated, and how precise the user is, is our
    reading.

    Attributes:
        deviation: standard deviation of the user's error in rows and in columns while training, in pixels at 256.
        dropout: probability that an image gets no marks at all while training, which keeps an automatic mode alive.
    """

    deviation: float = 2.0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.deviation < 0 or not 0 <= self.dropout <= 1:
            raise ConfigError(
                f"net.prompt: deviation={self.deviation} must be >= 0 and dropout={self.dropout} within 0..1."
            )

    def prompt(self, mask: np.ndarray, rng: np.random.Generator, *, jitter: bool) -> np.ndarray:
        """Return the points that the user sets, four for each connected region of each class.

        Args:
            mask: (H, W) uint8 label map.
            rng: where the user's errors come from.
            jitter: whether the user errs and forgets (training), or marks exactly (evaluation).

        Returns:
            (4 N, 2) float64 (row, column) within the image; (0, 2) for an empty mask.
        """
        regions = [axis_end_points(region) for region in _regions(mask)]
        if not regions or (jitter and rng.random() < self.dropout):
            return np.zeros((0, 2))
        points = np.concatenate(regions)
        if jitter:
            points = points + rng.normal(0.0, self.deviation * scale_of(mask.shape), points.shape)
        return points.clip(0, np.array(mask.shape) - 1)

    __call__ = prompt


def squared_distances(points: np.ndarray, image: Tensor) -> Tensor:
    """Return the squared distance (N, H, W) of each pixel of a grid to each point, on the image's device.

    Args:
        points: (N, 2) float (row, column).
        image: (..., H, W), for its grid and device.
    """
    height, width = image.shape[-2:]
    where = torch.as_tensor(np.asarray(points, dtype=np.float32).reshape(-1, 2), device=image.device)
    rows = torch.arange(height, device=image.device, dtype=torch.float32)
    columns = torch.arange(width, device=image.device, dtype=torch.float32)
    return (rows - where[:, :1]).square()[:, :, None] + (columns - where[:, 1:]).square()[:, None, :]


def discs(points: np.ndarray, image: Tensor, *, radius: float) -> Tensor:
    """Return the pixels (H, W) bool within ``radius`` pixels at 256, or half a pixel's diagonal, of any point."""
    reach = max(radius * scale_of(image.shape[-2:]), 0.71)
    return (squared_distances(points, image) <= reach**2).any(dim=0)


def distances(points: np.ndarray, image: Tensor) -> Tensor:
    """Return (H, W) distances to the nearest point in longer image sides, 1 at most and everywhere without a point."""
    if len(points) == 0:
        return image.new_ones(image.shape[-2:])
    apart = squared_distances(points, image).amin(dim=0).sqrt() / max(image.shape[-2:])
    return apart.clamp(max=1).to(image.dtype)


def bells(points: np.ndarray, image: Tensor, *, sigma: float) -> Tensor:
    """Return (H, W) Gaussian bells of height 1 and deviation ``sigma`` pixels at 256; the highest one counts."""
    if len(points) == 0:
        return image.new_zeros(image.shape[-2:])
    deviation = sigma * scale_of(image.shape[-2:])
    return torch.exp(-squared_distances(points, image).amin(dim=0) / (2 * deviation**2)).to(image.dtype)
