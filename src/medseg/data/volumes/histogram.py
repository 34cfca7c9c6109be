"""Histogram matching to stated landmarks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from medseg.data.volumes.channels import counted, each, keep_zeros
from medseg.errors import ConfigError

DECILES = (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0)
"""Percentiles of the landmarks of histogram matching."""


@dataclass(frozen=True)
class HistogramMatch:
    """Map the landmarks of each channel's histogram onto stated ones, linearly in between and beyond.

    Nyul and Udupa, "On standardizing the MR image intensity scale", Magn Reson Med 42 (1999): landmarks are
    percentiles, the standard is learnt once from training images (:func:`standard_landmarks`).

    Attributes:
        reference: the standard values of the landmarks, for each channel one row.
        percentiles: of the landmarks.
        nonzero: take percentiles of the voxels that are not 0, and leave 0 what is 0.
    """

    reference: Sequence[Sequence[float]]
    percentiles: Sequence[float] = DECILES
    nonzero: bool = True

    def __post_init__(self) -> None:
        """Make the fields tuples, whose repr is stable, and refuse landmarks that do not grow.

        Raises:
            ConfigError: rows of other lengths than the percentiles, or values that do not grow.
        """
        rows = tuple(tuple(float(value) for value in row) for row in self.reference)
        object.__setattr__(self, "reference", rows)
        object.__setattr__(self, "percentiles", tuple(float(value) for value in self.percentiles))
        for row in (*rows, self.percentiles):
            if len(row) != len(self.percentiles) or len(row) < 2 or (np.diff(row) <= 0).any():
                raise ConfigError(
                    f"preprocess step HistogramMatch: {row} must hold one growing value for each of the "
                    f"{len(self.percentiles)} percentiles; learn them from the training side."
                )

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return float32 (C, D, H, W) on the standard scale.

        Raises:
            ConfigError: the image has another number of channels than ``reference`` has rows.
        """
        if len(image) != len(self.reference):
            raise ConfigError(
                f"preprocess step HistogramMatch: reference has {len(self.reference)} rows, the image {len(image)} "
                "channels; give one row a channel."
            )
        return each(image, self._channel)

    def _channel(self, channel: np.ndarray, index: int) -> np.ndarray:
        own = np.percentile(counted(channel, self.nonzero), self.percentiles)
        # Equal landmarks (many voxels of one value) cannot be told apart: the first stands for all.
        own, kept = np.unique(own, return_index=True)
        if len(own) < 2:
            return channel
        standard = np.asarray(self.reference[index])[kept]
        return keep_zeros(_piecewise(channel, own, standard), channel, self.nonzero)


def _piecewise(values: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Interpolate linearly, beyond the ends with the slope of the end pieces."""
    inside = np.interp(values, x, y)
    first, last = (y[1] - y[0]) / (x[1] - x[0]), (y[-1] - y[-2]) / (x[-1] - x[-2])
    return np.where(
        values < x[0], y[0] + first * (values - x[0]), np.where(values > x[-1], y[-1] + last * (values - x[-1]), inside)
    )


def standard_landmarks(
    images: Iterable[np.ndarray],
    *,
    percentiles: Sequence[float] = DECILES,
    nonzero: bool = True,
    scale: tuple[float, float] = (0.0, 100.0),
) -> list[list[float]]:
    """Learn the ``reference`` of :class:`HistogramMatch` from training images.

    The outer landmarks of every image are brought to ``scale``, then each landmark is averaged over the images
    (Nyul and Udupa 1999).

    Args:
        images: of the training side only, float (C, D, H, W).
        percentiles: of the landmarks.
        nonzero: take percentiles of the voxels that are not 0.
        scale: the standard values of the first and last landmark.

    Raises:
        ConfigError: there is no image.
    """
    rows = []
    for image in images:
        own = np.stack([np.percentile(counted(channel, nonzero), percentiles) for channel in image])
        span = np.maximum(own[:, -1:] - own[:, :1], 1e-12)
        rows.append(scale[0] + (own - own[:, :1]) / span * (scale[1] - scale[0]))
    if not rows:
        raise ConfigError("standard_landmarks: no image given; pass those of the training side.")
    return np.mean(rows, axis=0).round(4).tolist()
