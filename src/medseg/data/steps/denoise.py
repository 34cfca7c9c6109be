"""Steps that take noise and speckle off a picture and move nothing."""

from dataclasses import dataclass

import cv2
import numpy as np

from medseg.errors import ConfigError


@dataclass(frozen=True)
class Median:
    """Replace each pixel by the median of the ``kernel`` x ``kernel`` pixels around it, channel by channel."""

    kernel: int = 3

    def __post_init__(self) -> None:
        """Refuse kernels without a middle.

        Raises:
            ConfigError: ``kernel`` is not odd or below 3.
        """
        _check(self.kernel >= 3 and self.kernel % 2 == 1, f"Median: kernel={self.kernel}; give an odd number from 3 on")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the smoothed uint8 image (H, W, C)."""
        return cv2.medianBlur(image, self.kernel).reshape(image.shape)


@dataclass(frozen=True)
class Bilateral:
    """Average neighbours that are near in place and in grey (Tomasi and Manduchi, ICCV 1998).

    Attributes:
        diameter: of the neighbourhood, pixels.
        sigma_grey: deviation of the weight over grey levels.
        sigma_space: deviation of the weight over distance, pixels.
    """

    diameter: int = 7
    sigma_grey: float = 30.0
    sigma_space: float = 3.0

    def __post_init__(self) -> None:
        """Refuse what would smooth nothing.

        Raises:
            ConfigError: a value is not positive.
        """
        _check(min(self.diameter, self.sigma_grey, self.sigma_space) > 0, f"{self!r}: every value must be positive")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the smoothed uint8 image (H, W, C), C 1 or 3."""
        return cv2.bilateralFilter(image, self.diameter, self.sigma_grey, self.sigma_space).reshape(image.shape)


@dataclass(frozen=True)
class NonLocalMeans:
    """Average pixels whose patches look alike (Buades, Coll and Morel, CVPR 2005); channels are compared together.

    Attributes:
        strength: deviation of the weight over the difference of patches, grey levels.
        patch: side of a patch, pixels.
        search: side of the window in which patches are sought, pixels.
    """

    strength: float = 10.0
    patch: int = 5
    search: int = 15

    def __post_init__(self) -> None:
        """Refuse sides without a middle.

        Raises:
            ConfigError: a side is even or the strength not positive.
        """
        odd = self.patch % 2 == 1 and self.search % 2 == 1 and self.search > self.patch > 0
        _check(odd and self.strength > 0, f"{self!r}: patch < search, both odd, and a positive strength")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the smoothed uint8 image (H, W, C)."""
        smooth = cv2.fastNlMeansDenoising(
            image, h=self.strength, templateWindowSize=self.patch, searchWindowSize=self.search
        )
        return smooth.reshape(image.shape)


@dataclass(frozen=True)
class Srad:
    """Speckle reducing anisotropic diffusion (Yu and Acton, IEEE Trans. Image Processing 11(11), 2002, 1260-1270).

    Diffuses where the instantaneous coefficient of variation ``q`` is about that of fully developed speckle, ``q0``,
    and stops at edges, where it is larger: ``c = 1 / (1 + (q^2 - q0^2) / (q0^2 (1 + q0^2)))``. The speckle scale falls
    as ``q0 exp(-decay t)``. Flux leaves one pixel into its neighbour, so that the mean is kept up to rounding.

    The publication assumes multiplicative speckle, while exported pictures are compressed logarithmically; the step
    works on the grey values as they are, which is our reading, as is the estimate of ``q0``.

    Attributes:
        iterations: steps of the diffusion; 0 changes nothing.
        step: time step, at most 1 for stability.
        decay: ``rho`` of the speckle scale.
        q0: coefficient of variation (deviation over mean) of speckle; None takes the median over 15 x 15 windows.
    """

    iterations: int = 40
    step: float = 0.2
    decay: float = 1 / 6
    q0: float | None = None

    def __post_init__(self) -> None:
        """Refuse what diverges.

        Raises:
            ConfigError: a value is out of range.
        """
        fits = self.iterations >= 0 and 0 < self.step <= 1 and self.decay >= 0 and (self.q0 is None or self.q0 > 0)
        _check(fits, f"{self!r}: iterations >= 0, 0 < step <= 1, decay >= 0 and q0 > 0 are needed")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the smoothed uint8 image (H, W, C), channel by channel."""
        if self.iterations == 0:
            return image.copy()
        parts = [self._diffused(image[..., channel].astype(np.float32)) for channel in range(image.shape[2])]
        return np.clip(np.rint(np.stack(parts, axis=2)), 0, 255).astype(np.uint8)

    def _diffused(self, grey: np.ndarray) -> np.ndarray:
        level = grey + 1.0  # q divides by the grey value
        start = self.q0 if self.q0 is not None else _variation(level)
        for number in range(self.iterations):
            scale = (start * np.exp(-self.decay * number * self.step)) ** 2
            north, south, west, east = _differences(level)
            gradient = (north**2 + south**2 + west**2 + east**2) / level**2
            laplacian = (north + south + west + east) / level
            q = np.maximum(0.5 * gradient - laplacian**2 / 16, 0) / (1 + 0.25 * laplacian) ** 2
            spread = np.clip(1 / (1 + (q - scale) / (scale * (1 + scale) + 1e-12)), 0, 1)
            below = np.vstack([spread[1:], spread[-1:]])
            right = np.hstack([spread[:, 1:], spread[:, -1:]])
            level += self.step / 4 * (below * south + spread * north + right * east + spread * west)
        return level - 1.0


def _differences(level: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the neighbour minus the pixel, towards north, south, west and east; 0 across the border."""
    down, right = np.diff(level, axis=0), np.diff(level, axis=1)
    row, column = np.zeros((1, level.shape[1]), np.float32), np.zeros((level.shape[0], 1), np.float32)
    return np.vstack([row, -down]), np.vstack([down, row]), np.hstack([column, -right]), np.hstack([right, column])


def _variation(level: np.ndarray) -> float:
    """Return the median coefficient of variation over 15 x 15 windows, at least 0.01."""
    mean = cv2.blur(level, (15, 15))
    variance = np.maximum(cv2.blur(level * level, (15, 15)) - mean * mean, 0)
    return max(0.01, float(np.median(np.sqrt(variance) / mean)))


def _check(fits: bool, message: str) -> None:
    if not fits:
        raise ConfigError(f"preprocess step {message}.")
