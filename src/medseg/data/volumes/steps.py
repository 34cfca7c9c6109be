"""Steps that change the intensities of a volume and move nothing.

Frozen dataclasses, called with float32 (C, D, H, W); each channel is treated alone. Their ``repr`` keys the cache, so
figures that belong to a dataset (a window, landmarks, a mean) stand in the configuration and never come from the files
at hand: what was learnt from the training side must not change with the test side. A channel without contrast comes
back as zeros from steps that divide by its spread, and unchanged from the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medseg.data.volumes.channels import counted, each, keep_zeros
from medseg.data.volumes.histogram import HistogramMatch, standard_landmarks
from medseg.errors import ConfigError

__all__ = ["N4", "ClipScale", "HistogramMatch", "Percentiles", "Window", "ZScore", "standard_landmarks"]


@dataclass(frozen=True)
class ZScore:
    """Subtract the mean, divide by the standard deviation.

    Attributes:
        nonzero: take both from the voxels that are not 0, and leave 0 what is 0: for images whose background was
            removed, such as skull-stripped MR.
    """

    nonzero: bool = False

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return float32 (C, D, H, W) of mean 0 and deviation 1."""
        return each(image, self._channel)

    def _channel(self, channel: np.ndarray, _: int) -> np.ndarray:
        values = counted(channel, self.nonzero)
        mean, deviation = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
        # Rounding alone gives a constant of 1e6 a deviation of its last digit.
        if deviation <= 1e-6 * max(abs(mean), 1e-30):
            return np.zeros_like(channel)
        return keep_zeros((channel - np.float32(mean)) / np.float32(deviation), channel, self.nonzero)


@dataclass(frozen=True)
class Percentiles:
    """Clip at two percentiles of the channel and bring what lies between to 0 ... 1.

    Attributes:
        low: lower percentile.
        high: upper percentile.
        nonzero: take both from the voxels that are not 0, and leave 0 what is 0.
    """

    low: float = 0.5
    high: float = 99.5
    nonzero: bool = False

    def __post_init__(self) -> None:
        """Refuse percentiles out of order.

        Raises:
            ConfigError: not 0 <= low < high <= 100.
        """
        if not 0 <= self.low < self.high <= 100:
            raise ConfigError(f"preprocess step {self}: low and high are percentiles, 0 <= low < high <= 100.")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return float32 (C, D, H, W) within 0 ... 1."""
        return each(image, self._channel)

    def _channel(self, channel: np.ndarray, _: int) -> np.ndarray:
        low, high = np.percentile(counted(channel, self.nonzero), [self.low, self.high])
        if not high > low:
            return np.zeros_like(channel)
        return keep_zeros((np.clip(channel, low, high) - low) / (high - low), channel, self.nonzero)


@dataclass(frozen=True)
class Window:
    """Bring a window of computed tomography to 0 ... 1 and clip what lies outside.

    Attributes:
        centre: of the window in Hounsfield units.
        width: of the window in Hounsfield units.
    """

    centre: float = 40.0
    width: float = 400.0

    def __post_init__(self) -> None:
        """Refuse an empty window.

        Raises:
            ConfigError: the width is not positive.
        """
        if not self.width > 0:
            raise ConfigError(f"preprocess step {self}: width must be positive.")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return float32 (C, D, H, W) within 0 ... 1."""
        return np.clip((image - np.float32(self.centre)) / np.float32(self.width) + np.float32(0.5), 0, 1)


@dataclass(frozen=True)
class ClipScale:
    """Clip at stated values, subtract a stated mean, divide by a stated deviation: the same for every image.

    This is how nnU-Net (Isensee et al., Nat Methods 18, 2021) treats CT, with figures of the training foreground.

    Attributes:
        low: lower bound.
        high: upper bound.
        mean: is subtracted.
        deviation: divides.
    """

    low: float
    high: float
    mean: float = 0.0
    deviation: float = 1.0

    def __post_init__(self) -> None:
        """Refuse empty ranges.

        Raises:
            ConfigError: not low < high, or the deviation is not positive.
        """
        if not self.low < self.high or not self.deviation > 0:
            raise ConfigError(f"preprocess step {self}: low must be below high, deviation positive.")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return float32 (C, D, H, W)."""
        return (np.clip(image, self.low, self.high).astype(np.float32) - np.float32(self.mean)) / np.float32(
            self.deviation
        )


@dataclass(frozen=True)
class N4:
    """Remove the slow bias of an MR coil with N4 (Tustison et al., IEEE TMI 29, 2010), as SimpleITK has it.

    The bias is estimated on a shrunken image from the voxels above 0 and removed from the whole one. One thread, so
    that sums, and with them the result, do not depend on the machine.

    Attributes:
        shrink: every how manyth voxel of an axis is used; axes with few voxels are shrunk less.
        iterations: at most, for each resolution level.
    """

    shrink: int = 4
    iterations: Sequence[int] = (50, 50, 50, 50)

    def __post_init__(self) -> None:
        """Make the field a tuple, whose repr is stable.

        Raises:
            ConfigError: shrink or an iteration count is below 1.
        """
        object.__setattr__(self, "iterations", tuple(int(count) for count in self.iterations))
        if self.shrink < 1 or not self.iterations or min(self.iterations) < 1:
            raise ConfigError(f"preprocess step {self}: shrink and iterations must be at least 1.")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return float32 (C, D, H, W) without the bias."""
        return each(image, self._channel)

    def _channel(self, channel: np.ndarray, _: int) -> np.ndarray:
        import SimpleITK

        from medseg.data.volumes.itk import one_thread

        inside = channel > 0
        if not inside.any() or float(channel[inside].min()) == float(channel.max()):
            return channel
        # Below eight voxels an axis has no room for the splines.
        factors = [max(1, min(self.shrink, side // 8)) for side in channel.shape[::-1]]
        whole = SimpleITK.GetImageFromArray(channel)
        mask = SimpleITK.GetImageFromArray(inside.astype(np.uint8))
        fit = SimpleITK.N4BiasFieldCorrectionImageFilter()
        fit.SetMaximumNumberOfIterations(list(self.iterations))
        with one_thread():
            fit.Execute(SimpleITK.Shrink(whole, factors), SimpleITK.Shrink(mask, factors))
            bias = SimpleITK.GetArrayFromImage(fit.GetLogBiasFieldAsImage(whole))
        return np.where(inside, channel / np.exp(bias), channel)
