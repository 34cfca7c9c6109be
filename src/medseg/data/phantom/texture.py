"""The scan grid in mm, soft edges and smooth random fields."""

from dataclasses import dataclass

import numpy as np

_SPLINE_VARIANCE = 151 / 315
"""Mean of the summed squares of the four cubic B-spline weights: the variance left by one axis of interpolation."""


@dataclass(frozen=True)
class Grid:
    """Pixel centres of a scan.

    Attributes:
        shape: (rows, columns).
        pixel_mm: side of a square pixel.
        first_mm: (depth, lateral) of the first pixel's centre.
    """

    shape: tuple[int, int]
    pixel_mm: float
    first_mm: tuple[float, float]

    @classmethod
    def below_probe(cls, shape: tuple[int, int], *, pixel_mm: float) -> "Grid":
        """Return the grid of a whole scan: depth starts at the probe, lateral is 0 in its middle."""
        return cls(shape, pixel_mm, (pixel_mm / 2, (1 - shape[1]) / 2 * pixel_mm))

    def window(self, *, centre: tuple[float, float], reach: tuple[float, float]) -> tuple[slice, slice]:
        """Return the rows and columns within ``reach`` of ``centre``, both (lateral, depth) in mm."""
        return tuple(
            slice(
                min(max(int((middle - far - first) / self.pixel_mm), 0), max(count - 4, 0)),
                max(min(int((middle + far - first) / self.pixel_mm) + 2, count), min(4, count)),
            )
            for middle, far, first, count in zip(centre[::-1], reach[::-1], self.first_mm, self.shape, strict=True)
        )  # type: ignore[return-value]

    def part(self, window: tuple[slice, slice]) -> "Grid":
        """Return the grid of a window."""
        shape = tuple(edge.stop - edge.start for edge in window)
        first = tuple(start + edge.start * self.pixel_mm for start, edge in zip(self.first_mm, window, strict=True))
        return Grid(shape, self.pixel_mm, first)  # type: ignore[arg-type]

    @property
    def depth(self) -> np.ndarray:
        """Depth of each row below the probe, (rows, 1), mm."""
        return self.first_mm[0] + np.arange(self.shape[0])[:, None] * self.pixel_mm

    @property
    def lateral(self) -> np.ndarray:
        """Position of each column right of the probe's centre, (1, columns), mm."""
        return self.first_mm[1] + np.arange(self.shape[1])[None, :] * self.pixel_mm

    def noise(self, rng: np.random.Generator, *, rows_mm: float, columns_mm: float) -> np.ndarray:
        """Return a smooth Gaussian field (rows, columns) of unit variance that varies over the given lengths."""
        return smooth_noise(rng, self.shape, lengths=(rows_mm / self.pixel_mm, columns_mm / self.pixel_mm))

    def wave(self, rng: np.random.Generator, *, columns_mm: float) -> np.ndarray:
        """Return a smooth Gaussian curve (1, columns) of unit variance that varies over the given length."""
        return smooth_noise(rng, (1, self.shape[1]), lengths=(1e9, columns_mm / self.pixel_mm))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], *, lengths: tuple[float, float]) -> np.ndarray:
    """Return a Gaussian field of about unit variance: white noise on a coarse lattice, cubic B-splines between.

    Args:
        rng: source of the lattice's values and position.
        shape: (rows, columns) of the field.
        lengths: distance of lattice points along rows and columns, in pixels (at least 1 is used).
    """
    (first_row, row_weights), (first_column, column_weights) = (
        _spline(count, max(length, 1.0), rng.random()) for count, length in zip(shape, lengths, strict=True)
    )
    lattice = rng.standard_normal((first_row[-1] + 4, first_column[-1] + 4))
    wide = np.zeros((lattice.shape[0], shape[1]))
    fine = np.zeros(shape)
    for k in range(4):
        wide += column_weights[k] * lattice[:, first_column + k]
    for k in range(4):
        rows = wide[first_row + k]
        rows *= row_weights[k][:, None] / _SPLINE_VARIANCE
        fine += rows
    return fine


def _spline(count: int, length: float, start: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return for each pixel the first lattice index and the four weights of the uniform cubic B-spline."""
    position = start + np.arange(count) / length
    first = np.floor(position).astype(np.int64)
    t = position - first
    weights = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    return first, [weight / 6 for weight in weights]


def inside(distance_mm: np.ndarray, *, softness_mm: float = 0.25) -> np.ndarray:
    """Return the coverage 0-1 of a shape from its signed distance (negative inside), linear over ``softness_mm``."""
    return np.clip(0.5 - distance_mm / softness_mm, 0.0, 1.0)


def ridge(distance_mm: np.ndarray, *, width_mm: float = 0.2) -> np.ndarray:
    """Return a line of height 1 where the distance is 0, a bell across of about the given standard deviation."""
    scaled = distance_mm / (2.5 * width_mm)
    bell = np.maximum(1 - scaled * scaled, 0.0)
    return bell * bell


def facing(distance_mm: np.ndarray, pixel_mm: float, *, power: int = 3) -> np.ndarray:
    """Return how squarely a boundary meets the beam, 0-1: the vertical part of its normal to a power."""
    slope = np.abs(np.gradient(distance_mm, pixel_mm, axis=0))
    return np.minimum(slope, 1.0) ** power


def ellipse(
    lateral: np.ndarray, depth: np.ndarray, *, centre: tuple[float, float], half: tuple[float, float]
) -> np.ndarray:
    """Return about the signed distance in mm to an upright ellipse; exact for a circle, sign exact always.

    Args:
        lateral: (1, columns) or (rows, columns), mm.
        depth: (rows, 1) or (rows, columns), mm.
        centre: (lateral, depth) of the centre.
        half: (lateral, depth) half axes.
    """
    across, along = (lateral - centre[0]) / half[0], (depth - centre[1]) / half[1]
    level = np.sqrt(across**2 + along**2)
    steepness = np.sqrt((across / half[0]) ** 2 + (along / half[1]) ** 2)
    return (level - 1) * level / np.maximum(steepness, 1e-6)


def unite(first: np.ndarray, second: np.ndarray, *, blend_mm: float) -> np.ndarray:
    """Return the signed distance of two shapes melted together over ``blend_mm`` (polynomial smooth minimum)."""
    overlap = np.maximum(blend_mm - np.abs(first - second), 0.0) / blend_mm
    return np.minimum(first, second) - overlap * overlap * blend_mm / 4
