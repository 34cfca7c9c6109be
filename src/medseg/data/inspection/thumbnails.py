"""Small pictures of cases and samples: the slice that shows most of the masks, in grey levels or colours."""

from collections.abc import Sequence

import numpy as np

from medseg.data.cases import Case
from medseg.data.inspection.examine import Expected
from medseg.data.inspection.figures import HIGH, LOW
from medseg.data.inspection.findings import Collector
from medseg.data.inspection.pictures import look_at_image, look_at_mask
from medseg.data.inspection.volumes import look_at_label_volume, look_at_volume
from medseg.types import IGNORE

Shown = tuple[np.ndarray, np.ndarray]
"""Picture uint8 (H, W) or (H, W, 3), and its label map uint8 (H, W)."""


def thumbnail(case: Case, expected: Expected) -> Shown | None:
    """Return the first image of a case with its labels, of a volume the slice with most foreground; None if unreadable.

    Volumes are shown between their 0.5th and 99.5th percentile.
    """
    passed_by = Collector(case.id)
    path = next((path for path in case.images if path is not None), None)
    if path is None:
        return None
    parts: list[np.ndarray | None] = []
    if expected.dims == 2:
        colour = len(case.images) == 1 and expected.channels == 3
        picture = look_at_image(path, passed_by, channels=3 if colour else 1)
        if picture is None:
            return None
        for mask in case.masks:
            seen = look_at_mask(mask, passed_by, labels=expected.labels, threshold=expected.threshold)
            parts.append(None if seen is None else seen[0])
        return np.squeeze(picture[0], axis=2) if not colour else picture[0], _united(parts, picture[0].shape[:2])
    volume = look_at_volume(path, passed_by)
    if volume is None:
        return None
    for mask in case.masks:
        found = look_at_label_volume(mask, passed_by, labels=expected.labels, grid=volume[1])
        parts.append(None if found is None else found[0])
    labels = _united(parts, volume[0].shape[1:])
    place = fullest(labels)
    return grey_levels(volume[0][0])[place], labels[place]


def _united(parts: Sequence[np.ndarray | None], size: tuple[int, ...]) -> np.ndarray:
    fitting = [part for part in parts if part is not None and part.shape == size]
    return np.maximum.reduce([np.zeros(size, np.uint8), *fitting])


def fullest(labels: np.ndarray) -> int:
    """Return the place along the first axis with most foreground, the middle if there is none."""
    counts = ((labels > 0) & (labels != IGNORE)).reshape(len(labels), -1).sum(axis=1)
    return int(counts.argmax()) if counts.any() else len(labels) // 2


def grey_levels(values: np.ndarray) -> np.ndarray:
    """Return values as uint8, the 0.5th percentile black and the 99.5th white."""
    low, high = np.percentile(values, (LOW, HIGH))
    scaled = (values.astype(np.float32) - low) / max(float(high - low), 1e-12)
    return (np.clip(scaled, 0, 1) * 255).round().astype(np.uint8)


def sample_pictures(image: np.ndarray, mask: np.ndarray, *, colour: bool) -> list[Shown]:
    """Return what the network gets as pictures, one a channel.

    Args:
        image: float (C, H, W) or (C, D, H, W); of a volume the slice with most foreground is shown.
        mask: (H, W) or (D, H, W).
        colour: whether three channels are red, green and blue of one picture.
    """
    if mask.ndim == 3:
        place = fullest(mask)
        image, mask = image[:, place], mask[place]
    labels = mask.astype(np.uint8)
    if colour:
        return [(np.ascontiguousarray(np.moveaxis(grey_levels(image), 0, -1)), labels)]
    return [(grey_levels(channel), labels) for channel in image]
