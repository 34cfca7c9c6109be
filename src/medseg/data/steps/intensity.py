"""Steps that change grey values and move nothing."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from medseg.errors import ConfigError


@dataclass(frozen=True)
class EqualizeHistogram:
    """Equalise the grey histogram of the whole picture; of colour pictures the luma only."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the equalised uint8 image (H, W, C)."""
        return on_luma(image, cv2.equalizeHist)


@dataclass(frozen=True)
class Clahe:
    """Equalise locally with limited contrast (CLAHE), on ``tiles`` x ``tiles`` tiles; of colour the luma only."""

    clip_limit: float = 2.0
    tiles: int = 8

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the equalised uint8 image (H, W, C)."""
        return on_luma(image, cv2.createCLAHE(self.clip_limit, (self.tiles, self.tiles)).apply)


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


@dataclass(frozen=True)
class GammaCorrection:
    """Bend the grey scale: 255 (v / 255) ^ ``gamma``; below 1 lights up what is dark."""

    gamma: float = 0.7

    def __post_init__(self) -> None:
        """Refuse what turns the scale round.

        Raises:
            ConfigError: ``gamma`` is not positive.
        """
        if self.gamma <= 0:
            raise ConfigError(f"preprocess step GammaCorrection: gamma={self.gamma}; give a positive number.")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the uint8 image (H, W, C) on the bent scale."""
        table = np.rint(255 * (np.arange(256) / 255) ** self.gamma).astype(np.uint8)
        return cv2.LUT(image, table).reshape(image.shape)


@dataclass(frozen=True)
class NormalisePercentiles:
    """Stretch the grey scale of each picture so that its ``low`` percentile becomes 0 and its ``high`` one 255.

    Channels are stretched together, which keeps colours. With ``skip_black`` pixels of value 0, such as those blanked
    outside a scan, are left out of the percentiles.
    """

    low: float = 1.0
    high: float = 99.0
    skip_black: bool = False

    def __post_init__(self) -> None:
        """Refuse percentiles out of order.

        Raises:
            ConfigError: not 0 <= low < high <= 100.
        """
        if not 0 <= self.low < self.high <= 100:
            raise ConfigError(
                f"preprocess step NormalisePercentiles: low={self.low}, high={self.high}; need 0 <= low < high <= 100."
            )

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the stretched uint8 image (H, W, C); one without contrast stays as it is."""
        values = image[image > 0] if self.skip_black else image
        if not values.size:
            return image.copy()
        low, high = np.percentile(values, (self.low, self.high))
        if high <= low:
            return image.copy()
        table = np.clip(np.rint((np.arange(256) - low) * (255 / (high - low))), 0, 255).astype(np.uint8)
        return cv2.LUT(image, table).reshape(image.shape)


def on_luma(image: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return an image uint8 (H, W, C) whose luma (of 3 channels, else each channel) was changed by a function."""
    if image.shape[2] == 3:
        luma = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
        luma[..., 0] = change(np.ascontiguousarray(luma[..., 0]))
        return cv2.cvtColor(luma, cv2.COLOR_YCrCb2RGB)
    parts = [change(np.ascontiguousarray(image[..., channel])) for channel in range(image.shape[2])]
    return np.stack(parts, axis=2)
