"""Where a nodule may be when nobody points at it: the strongest blob that looks as usual."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medseg.errors import DataError
from medseg.nets.classical.basics import grey_of
from medseg.types import IGNORE

_NEARLY_BLACK = 0.02
"""Share of an image's grey range within which a pixel joined to the frame counts as outside the scan."""


@dataclass(frozen=True)
class Look:
    """How the regions of a class look.

    Attributes:
        radius: median over images, of a disc of the largest region's area, as a share of the longer image side.
        spread: mean over images of the standard deviation of grey within the class.
        grey: mean over images of the class's grey, in standard deviations of the scan above its mean.
        dark: whether the class is darker than a ring of its radius around it in at least half of the images.
    """

    radius: float
    spread: float
    grey: float
    dark: bool


def scan_area(grey: np.ndarray) -> np.ndarray:
    """Return the part of a screen that shows the scan, (H, W) bool.

    Outside is what lies within 2 % of the image's grey range of its minimum and is joined to the frame; lettering is
    taken away by keeping the largest region after an opening. Where nothing would be left, all of the image is scan.
    """
    lowest, highest = float(grey.min()), float(grey.max())
    black = grey <= lowest + _NEARLY_BLACK * (highest - lowest)
    numbered, _ = ndimage.label(black)
    frame = np.unique(np.concatenate([numbered[0], numbered[-1], numbered[:, 0], numbered[:, -1]]))
    outside = np.isin(numbered, frame[frame > 0])
    opened = ndimage.binary_opening(np.pad(~outside, 3, mode="edge"), iterations=3)[3:-3, 3:-3]
    numbered, count = ndimage.label(opened)
    if count == 0:
        return np.ones(grey.shape, dtype=bool)
    return numbered == 1 + np.bincount(numbered.ravel())[1:].argmax()


def in_scan_units(values: np.ndarray, grey: np.ndarray, scan: np.ndarray) -> np.ndarray:
    """Return grey values as standard deviations of the scan's grey (H, W) above its mean."""
    inside = grey[scan]
    return (values - inside.mean(dtype=np.float64)) / max(float(inside.std(dtype=np.float64)), 1e-6)


def blob_centre(grey: np.ndarray, look: Look) -> tuple[int, int]:
    """Return the (row, column) of the strongest blob of the usual radius and grey.

    The strength is the Laplacian of a Gaussian of sigma = radius / sqrt(2), times sigma^2, which answers most in the
    middle of a dark disc of that radius (Lindeberg 1998), with its sign turned for bright ones. From it the distance
    between the grey there and the class's usual grey is taken off, both in deviations of the scan's grey (our reading):
    the darkest blob of an ultrasound picture is a vessel or a shadow. What lies outside the scan cannot be chosen.

    Args:
        grey: (H, W).
        look: how the class usually looks.
    """
    scan = scan_area(grey)
    filled = np.where(scan, in_scan_units(grey, grey, scan), 0.0)
    radius = look.radius * max(grey.shape)
    sigma = max(radius, 1.0) / np.sqrt(2)
    strength = ndimage.gaussian_laplace(filled, sigma, mode="nearest") * sigma**2
    there = ndimage.gaussian_filter(filled, sigma / 2, mode="nearest")
    answer = (strength if look.dark else -strength) - np.abs(there - look.grey)
    inner = ndimage.binary_erosion(scan, iterations=max(1, int(radius / 2)), border_value=1)
    answer = np.where(inner if inner.any() else scan, answer, -np.inf)
    row, column = np.unravel_index(int(answer.argmax()), answer.shape)
    return int(row), int(column)


def disc(size: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    """Return the pixels (H, W) bool within ``radius`` pixels of a (row, column)."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def typical(images: list[np.ndarray], masks: list[np.ndarray], label: int) -> Look:
    """Return how the regions of a class look on the training side.

    Args:
        images: (H, W, C) float32.
        masks: (H, W) uint8; IGNORE pixels do not count.
        label: the class.

    Raises:
        DataError: no mask has the class.
    """
    looks = [
        _look(grey_of(image), mask, label) for image, mask in zip(images, masks, strict=True) if (mask == label).any()
    ]
    if not looks:
        raise DataError(f"none of {len(masks)} training masks has class {label}; there is nothing to learn from.")
    radius, spread, grey, dark = (np.array(values) for values in zip(*looks, strict=True))
    return Look(float(np.median(radius)), float(spread.mean()), float(grey.mean()), bool(dark.mean() >= 0.5))


def _look(grey: np.ndarray, mask: np.ndarray, label: int) -> tuple[float, float, float, bool]:
    wanted = mask == label
    numbered, _ = ndimage.label(wanted)
    radius = float(np.sqrt(np.bincount(numbered.ravel())[1:].max() / np.pi))
    around = ndimage.distance_transform_edt(~wanted) <= max(radius, 2.0)
    ring = around & ~wanted & (mask != IGNORE)
    mean = float(grey[wanted].mean())
    usual = float(in_scan_units(np.array(mean), grey, scan_area(grey)))
    beside = float(grey[ring].mean()) if ring.any() else float(grey.mean())
    return radius / max(mask.shape), float(grey[wanted].std()), usual, mean <= beside
