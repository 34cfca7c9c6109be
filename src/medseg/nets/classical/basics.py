"""Small steps that the classical systems share: grey, smoothing, logits, Dice."""

from collections.abc import Sequence

import numpy as np

from medseg.errors import ConfigError
from medseg.nets.adapters import CERTAIN
from medseg.types import IGNORE

LEAST_PROBABILITY = 1e-6
"""Smallest class probability whose logarithm becomes a logit; keeps the logits finite."""


def checked_label(label: int, num_classes: int) -> int:
    """Return the foreground class that a one-class system tells from all others.

    Raises:
        ConfigError: it is not within 1..K-1 (1 with K = 1).
    """
    if 1 <= label < max(num_classes, 2):
        return label
    raise ConfigError(
        f"net.label={label} is no foreground class of {num_classes}; choose 1..{max(num_classes, 2) - 1}."
    )


def grey_of(image: np.ndarray) -> np.ndarray:
    """Return the mean of the channels of (H, W, C) as (H, W) float32."""
    return image.mean(axis=-1, dtype=np.float64).astype(np.float32)


def smoothed(grey: np.ndarray, sigma: float) -> np.ndarray:
    """Return (H, W) under a Gaussian of ``sigma`` pixels; 0 leaves it as it is."""
    from scipy import ndimage

    return ndimage.gaussian_filter(grey, sigma) if sigma > 0 else grey


def hard_logits(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return logits (K, H, W) of +-10 that choose each pixel's label; with K = 1 the channel says "not 0"."""
    if num_classes == 1:
        return np.where(labels[None] > 0, CERTAIN, -CERTAIN).astype(np.float32)
    chosen = labels[None] == np.arange(num_classes)[:, None, None]
    return np.where(chosen, CERTAIN, -CERTAIN).astype(np.float32)


def log_logits(scores: np.ndarray, num_classes: int) -> np.ndarray:
    """Return logits (K, H, W) of log probabilities (max(K, 2), H, W); with K = 1 the log odds of the foreground."""
    return (scores[1:2] - scores[:1] if num_classes == 1 else scores).astype(np.float32)


def case_dice(found: np.ndarray, mask: np.ndarray, labels: Sequence[int]) -> float:
    """Return the mean Dice over those of ``labels`` that the mask has; NaN where it has none. IGNORE is left out."""
    there = mask != IGNORE
    found, mask = found[there], mask[there]
    values = [
        2 * ((found == label) & (mask == label)).sum() / ((found == label).sum() + (mask == label).sum())
        for label in labels
        if (mask == label).any()
    ]
    return float(np.mean(values)) if values else float("nan")
