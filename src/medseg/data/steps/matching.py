"""Steps that bring grey values of different machines onto one scale."""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from medseg.data.steps.intensity import on_luma
from medseg.errors import ConfigError


@dataclass(frozen=True)
class HistogramMatch:
    """Give every picture the distribution of grey values of a fixed reference; of colour pictures the luma only.

    The reference stands in the config and is the same for every picture, so that no picture of the test side decides
    anything: make it with :func:`reference_quantiles` of the training side.

    Attributes:
        reference: 2 to 256 grey values, ascending: the quantiles of the reference at equal steps of probability from
            0 to 1.
    """

    reference: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what is no distribution.

        Raises:
            ConfigError: too few or many values, not ascending, or outside 0 to 255.
        """
        values = np.asarray(self.reference, np.float64).ravel()
        object.__setattr__(self, "reference", tuple(float(value) for value in values))
        if not 2 <= len(values) <= 256 or (np.diff(values) < 0).any() or values[0] < 0 or values[-1] > 255:
            raise ConfigError(
                f"preprocess step HistogramMatch: reference has {len(values)} value(s) from {values.min(initial=0):g} "
                f"to {values.max(initial=0):g}; give 2 to 256 quantiles, ascending, within 0 to 255."
            )

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the matched uint8 image (H, W, C)."""
        return on_luma(image, self._matched)

    def _matched(self, grey: np.ndarray) -> np.ndarray:
        counts = np.bincount(grey.ravel(), minlength=256)
        # A level stands for the middle of the ranks that it holds.
        ranks = (np.cumsum(counts) - counts / 2) / grey.size
        table = np.interp(ranks, np.linspace(0, 1, len(self.reference)), self.reference)
        return cv2.LUT(grey, np.rint(table).astype(np.uint8))


def reference_quantiles(images: Iterable[np.ndarray], *, count: int = 33) -> tuple[float, ...]:
    """Return the reference for :class:`HistogramMatch` from images uint8 (H, W, C), each with the same weight.

    Use images of the training side only.
    """
    share = np.zeros(256)
    for image in images:
        grey = image if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)[..., :1]
        share += np.bincount(grey.ravel(), minlength=256) / grey.size
    below = np.concatenate([[0.0], np.cumsum(share) / share.sum()])
    values = np.interp(np.linspace(0, 1, count), below, np.arange(257) - 0.5)
    return tuple(round(float(value), 1) for value in values.clip(0, 255))
