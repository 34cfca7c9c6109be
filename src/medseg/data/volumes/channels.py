"""What the steps share: each channel of a volume alone, with or without its zeros."""

from collections.abc import Callable

import numpy as np


def each(image: np.ndarray, change: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
    """Apply ``change(channel (D, H, W), index)`` to every channel."""
    return np.stack([np.asarray(change(channel, index), np.float32) for index, channel in enumerate(image)])


def counted(channel: np.ndarray, nonzero: bool) -> np.ndarray:
    """Return the values that statistics are made of; all of them where none is nonzero."""
    inside = channel[channel != 0] if nonzero else channel.ravel()
    return inside if inside.size else channel.ravel()


def keep_zeros(changed: np.ndarray, channel: np.ndarray, nonzero: bool) -> np.ndarray:
    """Return the changed channel, with 0 where the channel was 0 if ``nonzero``."""
    return np.where(channel != 0, changed, 0) if nonzero else changed
