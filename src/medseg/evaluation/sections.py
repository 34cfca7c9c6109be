"""One slice of a volume as a picture: the one with most to see, in true proportions."""

from collections.abc import Sequence

import cv2
import numpy as np

from medseg.types import IGNORE

WINDOW = (0.5, 99.5)
"""Percentiles of a slice that are shown as black and white."""


def best_slice(truth: np.ndarray) -> int:
    """Return the slice (place along D) of labels (D, H, W) with most foreground; the middle one if there is none."""
    counts = ((truth > 0) & (truth != IGNORE)).sum(axis=(1, 2))
    return int(counts.argmax()) if counts.any() else len(truth) // 2


def section(
    image: np.ndarray, maps: Sequence[np.ndarray], *, place: int, spacing: Sequence[float]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return slice ``place`` of a volume as a picture uint8 (H, W) with its label maps, pixels made square.

    Rows run from anterior to posterior, as radiologists look at axial slices; columns from left to right.

    Args:
        image: float32 (C, D, H, W); the first channel with any contrast is shown.
        maps: uint8 (D, H, W) each.
        place: along D.
        spacing: (z, y, x) size of a voxel.
    """
    channel = next((values for values in image if values.min() < values.max()), image[0])[place]
    low, high = np.percentile(channel, WINDOW)
    grey = np.clip((channel - low) / max(float(high - low), 1e-6), 0, 1) * 255
    finest = min(spacing[1:])
    size = (round(channel.shape[1] * spacing[2] / finest), round(channel.shape[0] * spacing[1] / finest))
    picture = cv2.resize(np.ascontiguousarray(grey[::-1].astype(np.uint8)), size, interpolation=cv2.INTER_LINEAR)
    flat = [np.ascontiguousarray(labels[place, ::-1]) for labels in maps]
    return picture, [cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT) for labels in flat]
