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
        return _on_luma(image, cv2.equalizeHist)


@dataclass(frozen=True)
class Clahe:
    """Equalise locally with limited contrast (CLAHE), on ``tiles`` x ``tiles`` tiles; of colour the luma only."""

    clip_limit: float = 2.0
    tiles: int = 8

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the equalised uint8 image (H, W, C)."""
        return _on_luma(image, cv2.createCLAHE(self.clip_limit, (self.tiles, self.tiles)).apply)


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


def _on_luma(image: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    if image.shape[2] == 3:
        luma = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
        luma[..., 0] = change(np.ascontiguousarray(luma[..., 0]))
        return cv2.cvtColor(luma, cv2.COLOR_YCrCb2RGB)
    parts = [change(np.ascontiguousarray(image[..., channel])) for channel in range(image.shape[2])]
    return np.stack(parts, axis=2)
