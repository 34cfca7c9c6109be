"""Grey levels: gamma, gain, brightness, contrast and noise in one pass.

A uint8 picture has 256 grey levels, so whatever happens to them is one table. A float32 slice is changed relative to
its own mean and deviation, because after normalisation its values have no scale of their own.
"""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np

from medseg.data.augment.ranges import Range, checked_chances, checked_range, drawn, drawn_factor
from medseg.rng import generator

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
from albumentations import ImageOnlyTransform

PARTS = ("gamma", "gain", "brightness", "contrast", "noise")
POOL = 1 << 20


@dataclass(frozen=True)
class Drawn:
    """One sample's tone, see :class:`Tone`."""

    gamma: float = 1.0
    gain: float = 1.0
    brightness: float = 0.0
    contrast: float = 1.0
    noise: float = 0.0


class Tone(ImageOnlyTransform):
    """Change grey levels, in this order: gamma, gain, brightness, contrast, noise. All but noise keep their order.

    Args:
        gamma: exponent on the scale from 0 to 1 (float32: from smallest to largest value), uniform in its logarithm.
        gain: factor, uniform in its logarithm.
        brightness: added, in shares of full scale (float32: of the standard deviation).
        contrast: factor of the distance to the mean, uniform in its logarithm.
        noise: deviation of Gaussian noise, independent in each pixel and channel, in shares of full scale (float32: of
            the standard deviation).
        chance: probability of each part, by name; 1 where none is stated.
        inverted: apply the gamma to the negative image.
        keep_statistics: give the image its mean and deviation back after the gamma.
        p: probability of the whole transform.

    Raises:
        ConfigError: a range is out of its limits.
    """

    def __init__(
        self,
        *,
        gamma: Range = 1.0,
        gain: Range = 1.0,
        brightness: Range = 0.0,
        contrast: Range = 1.0,
        noise: Range = 0.0,
        chance: Mapping[str, float] | None = None,
        inverted: bool = False,
        keep_statistics: bool = False,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self.gamma = checked_range(gamma, "gamma", self, low=0.05, high=20)
        self.gain = checked_range(gain, "gain", self, low=0.01, high=100)
        self.brightness = checked_range(brightness, "brightness", self)
        self.contrast = checked_range(contrast, "contrast", self, low=0.01, high=100)
        self.noise = checked_range(noise, "noise", self, low=0)
        self.chance = checked_chances(chance, PARTS, self)
        self.inverted, self.keep_statistics = inverted, keep_statistics

    def get_params(self) -> dict[str, Any]:
        """Return this sample's tone."""
        chosen, chance = self.py_random, self.chance
        return {
            "tone": Drawn(
                gamma=drawn_factor(chosen, self.gamma, chance["gamma"]),
                gain=drawn_factor(chosen, self.gain, chance["gain"]),
                brightness=drawn(chosen, self.brightness, chance["brightness"]),
                contrast=drawn_factor(chosen, self.contrast, chance["contrast"]),
                noise=drawn(chosen, self.noise, chance["noise"]),
            )
        }

    def apply(self, img: np.ndarray, *, tone: Drawn, **params: Any) -> np.ndarray:
        """Return the changed image (H, W, C), of its own type."""
        if tone == Drawn():
            return img
        change = _levels if img.dtype == np.uint8 else _values
        return change(img, self._curve(tone), tone, self.random_generator, keep=self.keep_statistics)

    def _curve(self, tone: Drawn) -> Callable[[np.ndarray], np.ndarray]:
        def curve(values: np.ndarray) -> np.ndarray:
            if self.inverted:
                return 1 - (1 - values) ** np.float32(tone.gamma)
            return values ** np.float32(tone.gamma)

        return curve


def _levels(
    image: np.ndarray, curve: Callable[..., np.ndarray], tone: Drawn, rng: np.random.Generator, *, keep: bool
) -> np.ndarray:
    """Change a uint8 image through a table of its 256 levels; noise is added before rounding."""
    table = np.arange(256, dtype=np.float32)
    # The mean of the changed picture follows from how often each level occurs.
    counts = _shares(image) if keep or tone.contrast != 1 else table
    if tone.gamma != 1:
        changed = 255 * curve(table / 255)
        table = _restored(changed, table, counts) if keep else changed
    table = table * np.float32(tone.gain) + np.float32(255 * tone.brightness)
    if tone.contrast != 1:
        mean = np.float32(counts @ table)
        table = mean + np.float32(tone.contrast) * (table - mean)
    # OpenCV is faster on two axes than on three, and knows no limit to columns as it does to channels.
    rows = image.reshape(image.shape[0], -1)
    if tone.noise == 0:
        return cv2.LUT(rows, np.clip(np.rint(table), 0, 255).astype(np.uint8)).reshape(image.shape)
    values, noise = cv2.LUT(rows, table.astype(np.float32)), gaussian_rows(rng, *rows.shape)
    return cv2.addWeighted(values, 1.0, noise, 255 * tone.noise, 0.0, dtype=cv2.CV_8U).reshape(image.shape)


def _shares(image: np.ndarray) -> np.ndarray:
    """Return how often each of the 256 levels occurs, as float32 shares."""
    rows = image.reshape(image.shape[0], -1)
    return cv2.calcHist([rows], [0], None, [256], [0, 256]).ravel() * np.float32(1 / image.size)


def _restored(changed: np.ndarray, original: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return levels with the mean and deviation of the original ones."""
    before, after = float(counts @ original), float(counts @ changed)
    spread = float(counts @ (original - np.float32(before)) ** 2)
    found = float(counts @ (changed - np.float32(after)) ** 2)
    return before + (changed - np.float32(after)) * np.float32(math.sqrt(spread / max(found, 1e-9)))


def _values(
    image: np.ndarray, curve: Callable[..., np.ndarray], tone: Drawn, rng: np.random.Generator, *, keep: bool
) -> np.ndarray:
    """Change a float32 image (H, W, C), each channel by its own statistics."""
    values = np.array(image, np.float32)
    axes = (0, 1)
    low, high = values.min(axes), values.max(axes)
    mean, spread = values.mean(axes), values.std(axes)
    if tone.gamma != 1:
        span = np.where(high > low, high - low, 1)
        # Rounding can leave the scale from 0 to 1 by a hair, and a root of a negative number is none.
        values = curve(np.clip((values - low) / span, 0, 1)) * span + low
        if keep:
            values = mean + (values - values.mean(axes)) * (spread / np.maximum(values.std(axes), 1e-12))
    values = values * np.float32(tone.gain) + (tone.brightness * spread).astype(np.float32)
    if tone.contrast != 1:
        centre = values.mean(axes)
        values = centre + np.float32(tone.contrast) * (values - centre)
    if tone.noise > 0:
        height, width, channels = values.shape
        noise = gaussian_rows(rng, height, width * channels).reshape(values.shape)
        values = values + noise * (tone.noise * spread).astype(np.float32)
    return values.astype(image.dtype, copy=False)


def gaussian_rows(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return float32 (height, width) of standard normal noise, each row cut from a pool at a place of its own.

    Drawing afresh takes longer than the rest of the augmentation together. No two rows of a picture are neighbours in
    the pool, so no pattern repeats; see ``tests/data/test_augment.py`` for its moments and autocorrelation.
    """
    pool = _pool()
    if width > POOL // 64:
        return rng.standard_normal((height, width), dtype=np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(pool, width)
    return windows[rng.integers(0, len(windows), height)]


@cache
def _pool() -> np.ndarray:
    """Return the numbers, the same in every process; a loader process draws them again in a few milliseconds."""
    return generator(0, "augment", "noise pool").standard_normal(POOL, dtype=np.float32)
