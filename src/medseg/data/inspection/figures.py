"""Figures of one case: what the fingerprint is summed up from. Arrays in, numbers out, memory bounded."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from medseg.types import IGNORE

LOW, HIGH = 0.5, 99.5
"""Percentiles that stand for the range of an image: robust against single voxels (the choice of nnU-Net for CT)."""


@dataclass(frozen=True, eq=False)
class ChannelFigures:
    """One channel of one case, in the units the network's normalisation gets (0-255 for pictures).

    Attributes:
        minimum: of all pixels.
        maximum: of all pixels.
        mean: of all pixels.
        std: of all pixels.
        low: 0.5th percentile, of the sample where there are many pixels.
        high: 99.5th percentile, likewise.
        sample: values at random places, float32.
        inside: values at random places of the foreground, float32; empty without one.
        inside_mean: mean of all foreground pixels, NaN without one.
        inside_std: likewise.
    """

    minimum: float
    maximum: float
    mean: float
    std: float
    low: float
    high: float
    sample: np.ndarray
    inside: np.ndarray
    inside_mean: float
    inside_std: float


@dataclass(frozen=True, eq=False)
class CaseFigures:
    """One case.

    Attributes:
        case: its id.
        patient: its group.
        size: (H, W) or (D, H, W) of the files.
        spacing: size of a pixel along the same axes in the card's unit; None where unknown.
        orientation: axis codes of the file, for instance ``LPS``; "" for pictures.
        channels: of the image, None where the modality is missing.
        dtypes: type of number in each image file.
        mask_dtype: in the mask files, "" without one.
        mask_values: value in the lossless mask files to number of pixels.
        counts: class index to number of pixels, IGNORE among them.
        components: class index (background apart) to number of connected pieces (faces and corners touch).
        files: SHA-256 of each image file's bytes.
        pixels: SHA-256 of each image file's decoded pixels.
        outline: SHA-256 of the label map, "" if it is empty or absent.
        unprotected: number of files whose bytes have no checksum, neither of their own nor a recorded one.
    """

    case: str
    patient: str
    size: tuple[int, ...]
    spacing: tuple[float, ...] | None
    orientation: str
    channels: tuple[ChannelFigures | None, ...]
    dtypes: tuple[str, ...] = ()
    mask_dtype: str = ""
    mask_values: Mapping[float, int] = field(default_factory=dict)
    counts: Mapping[int, int] = field(default_factory=dict)
    components: Mapping[int, int] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    pixels: tuple[str, ...] = ()
    outline: str = ""
    unprotected: int = 0

    @property
    def voxels(self) -> int:
        """Pixels that carry a label."""
        return sum(count for label, count in self.counts.items() if label != IGNORE)

    @property
    def foreground(self) -> float | None:
        """Share of the labelled pixels that are not background; None without any."""
        inside = sum(count for label, count in self.counts.items() if label not in (0, IGNORE))
        return inside / self.voxels if self.voxels else None


def channel_figures(
    values: np.ndarray, labels: np.ndarray | None, *, sample: int, rng: np.random.Generator
) -> ChannelFigures:
    """Return the figures of one channel (*S), finite values, with its label map (*S) if there is one.

    Args:
        values: any type of number.
        labels: class indices; foreground is neither 0 nor IGNORE.
        sample: how many values to keep, and again from the foreground.
        rng: draws their places.
    """
    flat = values.reshape(-1)
    some = flat if flat.size <= sample else flat[rng.integers(0, flat.size, sample)]
    inside = flat[:0] if labels is None else flat[((labels > 0) & (labels != IGNORE)).reshape(-1)]
    # Percentiles of a large volume would sort it whole; a million places answer to a fraction of a grey level.
    ranged = flat if flat.size <= 1_000_000 else flat[rng.integers(0, flat.size, 1_000_000)]
    low, high = np.percentile(ranged, (LOW, HIGH))
    return ChannelFigures(
        minimum=float(flat.min()),
        maximum=float(flat.max()),
        mean=float(flat.mean(dtype=np.float64)),
        std=float(flat.std(dtype=np.float64)),
        low=float(low),
        high=float(high),
        sample=some.astype(np.float32),
        inside=(inside if inside.size <= sample else inside[rng.integers(0, inside.size, sample)]).astype(np.float32),
        inside_mean=float(inside.mean(dtype=np.float64)) if inside.size else float("nan"),
        inside_std=float(inside.std(dtype=np.float64)) if inside.size else float("nan"),
    )


def label_figures(labels: np.ndarray) -> tuple[dict[int, int], dict[int, int]]:
    """Return pixels of every class index found, and connected pieces of every class but the background.

    Args:
        labels: uint8 label map (*S).
    """
    bins = np.bincount(labels.reshape(-1), minlength=IGNORE + 1)
    counts = {int(label): int(bins[label]) for label in np.flatnonzero(bins)}
    touching = np.ones((3,) * labels.ndim)
    components = {}
    for label in counts:
        if label in (0, IGNORE):
            continue
        found = labels == label
        box = ndimage.find_objects(found.view(np.uint8))[0]  # pieces are counted within the class's own box
        components[label] = int(ndimage.label(found[box], structure=touching)[1])
    return counts, components
