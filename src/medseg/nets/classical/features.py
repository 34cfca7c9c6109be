"""The filter bank that describes a pixel to the pixel classifiers."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medseg.errors import ConfigError

GAUSSIANS = (1.0, 2.0, 4.0, 8.0)
WINDOWS = (5, 11)
_DERIVATIVES = 2.0
_TRUNCATE = 4.0
PER_CHANNEL = 1 + len(GAUSSIANS) + 1 + 2 + 2 * len(WINDOWS)
"""Features of each channel: grey, Gaussians, gradient, two eigenvalues, mean and deviation of each window."""


def _derivative(grey: np.ndarray, order: tuple[int, int]) -> np.ndarray:
    return ndimage.gaussian_filter(grey, _DERIVATIVES, order=order, truncate=_TRUNCATE, mode="nearest")


def _window_mean(grey: np.ndarray, side: int) -> np.ndarray:
    # Not uniform_filter: its running sums let rounding depend on where the image begins.
    weights = np.full(side, 1.0 / side)
    return ndimage.correlate1d(ndimage.correlate1d(grey, weights, 0, mode="nearest"), weights, 1, mode="nearest")


def channel_features(grey: np.ndarray) -> list[np.ndarray]:
    """Return the features of one channel (H, W), each (H, W) float64; their number is ``PER_CHANNEL``.

    In order: the grey itself; Gaussians of sigma 1, 2, 4, 8; gradient magnitude, larger and smaller eigenvalue of the
    Hessian at sigma 2; mean and standard deviation of windows of 5 and 11 pixels.
    """
    grey = grey.astype(np.float64)
    features = [grey]
    features += [ndimage.gaussian_filter(grey, sigma, truncate=_TRUNCATE, mode="nearest") for sigma in GAUSSIANS]
    features.append(np.hypot(_derivative(grey, (1, 0)), _derivative(grey, (0, 1))))
    down, across, mixed = (_derivative(grey, order) for order in ((2, 0), (0, 2), (1, 1)))
    middle, half = (down + across) / 2, np.hypot((down - across) / 2, mixed)
    features += [middle + half, middle - half]
    for side in WINDOWS:
        mean = _window_mean(grey, side)
        features += [mean, np.sqrt(np.maximum(_window_mean(grey**2, side) - mean**2, 0.0))]
    return features


@dataclass(frozen=True)
class FilterBank:
    """Turns images into features.

    Attributes:
        coordinates: also give row and column as shares of the height and width. They memorise where a device and its
            user put things, so they are off by default, and with them the answer depends on how an image is cut.
    """

    coordinates: bool = False

    @property
    def margin(self) -> int:
        """Pixels around a part of an image that its features depend on."""
        return int(_TRUNCATE * max(GAUSSIANS) + 0.5)

    def size(self, channels: int) -> int:
        """Return the number of features F of images with so many channels."""
        return channels * PER_CHANNEL + 2 * self.coordinates

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the features (F, H, W) float32 of an image (H, W, C)."""
        found = [feature for channel in np.moveaxis(image, -1, 0) for feature in channel_features(channel)]
        if self.coordinates:
            height, width = image.shape[:2]
            rows, columns = np.indices((height, width))
            found += [(rows + 0.5) / height, (columns + 0.5) / width]
        return np.stack(found).astype(np.float32)


def sampled(
    features: np.ndarray, mask: np.ndarray, *, per_class: int, classes: int, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return up to ``per_class`` random pixels of each class of an image.

    Args:
        features: (F, H, W).
        mask: (H, W) uint8; labels from ``classes`` on, such as IGNORE, are not drawn.
        per_class: most pixels of a class.
        classes: number of classes.
        draw: where the choice comes from.

    Returns:
        Features (N, F) float32 and labels (N,) int64.

    Raises:
        ConfigError: ``per_class`` is not positive.
    """
    if per_class < 1:
        raise ConfigError(f"net.samples={per_class} draws no pixel; give 1 or more.")
    flat = mask.ravel()
    chosen = [draw.permutation(np.flatnonzero(flat == label))[:per_class] for label in range(classes)]
    places = np.concatenate(chosen)
    return np.ascontiguousarray(features.reshape(len(features), -1)[:, places].T), flat[places].astype(np.int64)
