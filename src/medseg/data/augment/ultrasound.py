"""What an ultrasound scanner and its settings change in a picture; how the probe is held is in ``probe``.

B-mode pictures show the logarithm of the echo's amplitude: ``dynamic_range`` decibels from black to white. In such a
picture attenuation and amplification add grey levels, and exponential decay along depth is a straight ramp (Szabo,
Diagnostic Ultrasound Imaging: Inside Out, 2nd edition, Academic Press 2014, chapters 4 and 10). Rows are depth, the
probe is above the first row, columns are scan lines, as in pictures of a linear array; on a sector picture these
transforms are an approximation. Strengths are our reading of what scanners show, not measurements.

Grey levels: uint8 from 0 to 255, float32 from the image's smallest to its largest value. What is blanked (the smallest
level) stays so when the gain goes up: there is no signal to amplify.
"""

import math
import os
from typing import Any

import cv2
import numpy as np

from medseg.data.augment.ranges import Range, checked_range, drawn
from medseg.data.augment.tone import gaussian_rows
from medseg.errors import ConfigError

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
from albumentations import ImageOnlyTransform

DYNAMIC_RANGE = 60.0
# Below this share of full scale an amplification fades out towards nothing at black.
FLOOR = 0.12


class Shadow(ImageOnlyTransform):
    """Darken what lies behind a reflector or attenuator, for instance a calcification.

    Behind its top the echo loses ``drop`` decibels over the first twentieth of the picture, the reflector itself, and
    ``slope`` decibels more for every picture height of further depth. Across, the shadow is full in its inner half and
    fades to nothing at its border, as the beam is wider than a line.

    Args:
        top: row where it starts, as a share of the height.
        width: at its top, as a share of the picture's width.
        spread: degrees by which each side opens outwards, about 0 for linear probes and up to 15 for convex ones.
        drop: decibels lost at once.
        slope: decibels lost per picture height.
        dynamic_range: decibels from black to white.
        p: probability.

    Raises:
        ConfigError: a range is out of its limits.
    """

    def __init__(
        self,
        *,
        top: Range = (0.1, 0.6),
        width: Range = (0.04, 0.2),
        spread: Range = (0.0, 8.0),
        drop: Range = (3.0, 15.0),
        slope: Range = (10.0, 50.0),
        dynamic_range: float = DYNAMIC_RANGE,
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        self.top = checked_range(top, "top", self, low=0, high=1)
        self.width = checked_range(width, "width", self, low=0, high=1)
        self.spread = checked_range(spread, "spread", self, low=0, high=60)
        self.drop = checked_range(drop, "drop", self, low=0)
        self.slope = checked_range(slope, "slope", self, low=0)
        self.dynamic_range = _positive(dynamic_range, "dynamic_range", self)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Return the loss in decibels, float32 (H, W)."""
        height, width = params["shape"][:2]
        chosen = self.py_random
        top, half = drawn(chosen, self.top) * height, drawn(chosen, self.width) * width / 2
        opening = math.tan(math.radians(drawn(chosen, self.spread)))
        drop, slope = drawn(chosen, self.drop), drawn(chosen, self.slope)
        centre = chosen.random() * width
        depth = np.maximum(np.arange(height, dtype=np.float32)[:, None] - np.float32(top), 0)
        loss = drop * np.minimum(depth / (height / 20), 1) + slope * depth / height
        border = np.maximum(half + opening * depth, 1e-6)
        aside = np.abs(np.arange(width, dtype=np.float32) - np.float32(centre)) / border
        return {"loss": (loss * np.clip(2 - 2 * aside, 0, 1)).astype(np.float32)}

    def apply(self, img: np.ndarray, *, loss: np.ndarray, **params: Any) -> np.ndarray:
        """Return the darkened image (H, W, C)."""
        return amplified(img, -loss, self.dynamic_range)


class DepthGain(ImageOnlyTransform):
    """Change the gain over depth, as the sliders of time gain compensation do, or a wrong setting of it.

    Args:
        gain: decibels of each slider, uniform and independent; a smooth curve over depth joins them.
        overall: decibels added to the whole picture.
        sliders: how many, spread evenly over depth.
        dynamic_range: decibels from black to white.
        p: probability.

    Raises:
        ConfigError: a range is out of its limits.
    """

    def __init__(
        self,
        *,
        gain: Range = (-6.0, 6.0),
        overall: Range = (-4.0, 4.0),
        sliders: int = 6,
        dynamic_range: float = DYNAMIC_RANGE,
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        self.gain = checked_range(gain, "gain", self)
        self.overall = checked_range(overall, "overall", self)
        self.dynamic_range = _positive(dynamic_range, "dynamic_range", self)
        self.sliders = int(_positive(sliders, "sliders", self))

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Return the gain in decibels, float32 (H, 1)."""
        height = params["shape"][0]
        settings = self.random_generator.uniform(*self.gain, (min(self.sliders, height), 1)).astype(np.float32)
        curve = cv2.resize(settings, (1, height), interpolation=cv2.INTER_CUBIC).reshape(height, 1)
        return {"decibels": curve + np.float32(drawn(self.py_random, self.overall))}

    def apply(self, img: np.ndarray, *, decibels: np.ndarray, **params: Any) -> np.ndarray:
        """Return the amplified image (H, W, C)."""
        return amplified(img, np.broadcast_to(decibels, img.shape[:2]), self.dynamic_range)


class Speckle(ImageOnlyTransform):
    """Multiply the echo's amplitude by further fully developed speckle.

    The envelope of the sum of many random echoes is Rayleigh distributed (Wagner et al. 1983, IEEE Transactions on
    Sonics and Ultrasonics 30(3):156-163); its logarithm has a standard deviation of 5.57 dB everywhere (Fisher-Tippett
    distribution: pi / sqrt(24) nepers), whatever the mean. Here a complex Gaussian field is smoothed to the size of the
    resolution cell, and its level in decibels, freed of its mean, is added in proportion to ``strength``.

    Args:
        strength: share of full speckle.
        axial: deviation of the resolution cell along depth, in pixels.
        lateral: across, in pixels; scanners resolve worse across.
        dynamic_range: decibels from black to white.
        p: probability.

    Raises:
        ConfigError: a range is out of its limits.
    """

    def __init__(
        self,
        *,
        strength: Range = (0.2, 0.8),
        axial: Range = (0.5, 1.0),
        lateral: Range = (0.8, 2.0),
        dynamic_range: float = DYNAMIC_RANGE,
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        self.strength = checked_range(strength, "strength", self, low=0)
        self.axial = checked_range(axial, "axial", self, low=0.3, high=20)
        self.lateral = checked_range(lateral, "lateral", self, low=0.3, high=20)
        self.dynamic_range = _positive(dynamic_range, "dynamic_range", self)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Return the change in decibels, float32 (H, W)."""
        chosen = self.py_random
        axial, lateral = drawn(chosen, self.axial), drawn(chosen, self.lateral)
        field = speckle_decibels(self.random_generator, params["shape"][:2], axial=axial, lateral=lateral)
        return {"decibels": field * np.float32(drawn(chosen, self.strength))}

    def apply(self, img: np.ndarray, *, decibels: np.ndarray, **params: Any) -> np.ndarray:
        """Return the speckled image (H, W, C)."""
        return amplified(img, decibels, self.dynamic_range)


class Reverberation(ImageOnlyTransform):
    """Repeat the echoes of the near field at equal distances below it, each repetition weaker.

    Sound goes to and fro between the probe and a strong reflector near it; each round trip adds its depth and costs
    ``drop`` decibels. Of two echoes in one place the stronger is shown.

    Args:
        depth: of the reflector and so the distance of the repetitions, as a share of the height.
        drop: decibels lost at each repetition.
        echoes: how many repetitions.
        dynamic_range: decibels from black to white.
        p: probability.

    Raises:
        ConfigError: a range is out of its limits.
    """

    def __init__(
        self,
        *,
        depth: Range = (0.05, 0.15),
        drop: Range = (8.0, 15.0),
        echoes: int = 3,
        dynamic_range: float = DYNAMIC_RANGE,
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        self.depth = checked_range(depth, "depth", self, low=0.01, high=1)
        self.drop = checked_range(drop, "drop", self, low=0)
        self.dynamic_range = _positive(dynamic_range, "dynamic_range", self)
        self.echoes = int(_positive(echoes, "echoes", self))

    def get_params(self) -> dict[str, Any]:
        """Return the reflector's depth as a share of the height and the loss in decibels."""
        return {"distance": drawn(self.py_random, self.depth), "loss": drawn(self.py_random, self.drop)}

    def apply(self, img: np.ndarray, *, distance: float, loss: float, **params: Any) -> np.ndarray:
        """Return the image (H, W, C), nowhere darker."""
        height = img.shape[0]
        step = max(1, round(distance * height))
        # The reflector is a layer around its depth: the near field from half a step to one and a half.
        first, last = step // 2, min(height, step + (step + 1) // 2)
        reflector, changed = img[first:last], img.copy()
        for echo in range(1, self.echoes + 1):
            place = first + echo * step
            shown = reflector[: max(0, height - place)]
            weaker = np.full(shown.shape[:2], -echo * loss, np.float32)
            lower = _amplified(shown, weaker, self.dynamic_range, *grey_scale(img))
            changed[place : place + len(shown)] = np.maximum(changed[place : place + len(shown)], lower)
        return changed


def speckle_decibels(rng: np.random.Generator, size: tuple[int, int], *, axial: float, lateral: float) -> np.ndarray:
    """Return fully developed speckle of mean 0 and about 5.57 dB deviation, float32 ``size``; nulls end at -24.5 dB.

    Args:
        rng: of the sample.
        size: rows and columns.
        axial: deviation of the Gaussian resolution cell along rows' depth, in pixels.
        lateral: across.
    """
    real, imaginary = (
        cv2.GaussianBlur(gaussian_rows(rng, *size), (0, 0), sigmaX=lateral, sigmaY=axial) for _ in range(2)
    )
    power = real**2 + imaginary**2
    power /= max(float(power.mean()), 1e-12)
    # The logarithm of an exponentially distributed power of mean 1 has the mean -gamma (Euler's constant).
    nepers = np.log(np.maximum(power, np.float32(2e-3))) + np.float32(np.euler_gamma)
    return nepers * np.float32(10 / math.log(10))


def amplified(image: np.ndarray, decibels: np.ndarray, dynamic_range: float) -> np.ndarray:
    """Return an image (H, W, C) whose echoes are stronger or weaker by ``decibels`` (H, W), in its own type.

    Weaker echoes end at black. Stronger ones end at white for uint8, and black stays black.
    """
    return _amplified(image, decibels, dynamic_range, *grey_scale(image))


def _amplified(image: np.ndarray, decibels: np.ndarray, dynamic_range: float, low: float, span: float) -> np.ndarray:
    change = (decibels / np.float32(dynamic_range))[..., None].astype(np.float32)
    values = (image.astype(np.float32) - np.float32(low)) / np.float32(span)
    signal = np.minimum(values / np.float32(FLOOR), 1)
    values = np.maximum(values + np.where(change > 0, change * signal, change), 0)
    if image.dtype == np.uint8:
        return np.rint(np.minimum(values, 1) * 255).astype(np.uint8)
    return (values * np.float32(span) + np.float32(low)).astype(image.dtype)


def grey_scale(image: np.ndarray) -> tuple[float, float]:
    """Return black and the distance from black to white."""
    if image.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(image.min()), float(image.max())
    return low, (high - low) or 1.0


def _positive(value: float, name: str, owner: object) -> float:
    if not value > 0:
        raise ConfigError(f"augment transform {type(owner).__name__}: {name}={value}: give a positive number.")
    return float(value)
