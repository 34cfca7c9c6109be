"""A picture made small and rid of what all pictures of a scanner share: slow shading, contrast, the black around it."""

import cv2
import numpy as np

SIDE = 128
"""Rows and columns of a thumbnail; the frame's corners lie on the circle inside it."""

REACH = 1.9
"""Half the thumbnail in units of the frame's root mean square radius (its corners lie at 1.73)."""

DARK = 7
"""Grey levels below this, after smoothing, are taken for the black around a scan."""


def thumbnail(grey: np.ndarray, *, side: int = SIDE) -> tuple[np.ndarray, float]:
    """Return a grey picture (H, W) uint8 centred on ``side`` x ``side`` uint8 and the scale from its pixels to those.

    The scale follows from the frame's diagonal, so that it is the same for a turned picture.
    """
    height, width = grey.shape
    scale = side / 2 / (REACH * float(np.hypot(height, width)) / np.sqrt(12))
    if scale < 0.5:  # a plain warp would skip pixels
        factor = 2 * scale
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))
    high, wide = grey.shape
    across, down = scale * width / wide, scale * height / high
    values = np.asarray(grey, np.float32)
    if across < 1:
        values = np.asarray(cv2.GaussianBlur(values, (0, 0), 0.5 / across), np.float32)
    middle = side / 2 - 0.5
    matrix = np.array([[across, 0, middle - across * (wide - 1) / 2], [0, down, middle - down * (high - 1) / 2]])
    small = cv2.warpAffine(values, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=0)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8), scale


def lit(small: np.ndarray) -> np.ndarray:
    """Return where a thumbnail shows something, bool (SIDE, SIDE)."""
    return cv2.GaussianBlur(small.astype(np.float32), (0, 0), 2) >= DARK


def band(small: np.ndarray, *, fine: float, wide: float, within: np.ndarray | None = None) -> np.ndarray:
    """Return the details of a thumbnail between two sizes, divided by their local strength, float32; 0 where unlit.

    Args:
        small: uint8 (SIDE, SIDE).
        fine: standard deviation in pixels below which details are smoothed away.
        wide: above which they count as shading.
        within: bool (SIDE, SIDE), nothing outside counts; None is what is lit.
    """
    where = (lit(small) if within is None else within).astype(np.float32)
    fine_weight, wide_weight = (np.maximum(cv2.GaussianBlur(where, (0, 0), size), 0.05) for size in (fine, wide))
    values = small.astype(np.float32) * where
    detail = cv2.GaussianBlur(values, (0, 0), fine) / fine_weight - cv2.GaussianBlur(values, (0, 0), wide) / wide_weight
    detail *= where
    power = cv2.GaussianBlur(detail * detail, (0, 0), wide) / wide_weight
    return detail / np.sqrt(power + 4) * where


def lit_place(small: np.ndarray) -> tuple[float, float, float]:
    """Return centre x, y and REACH times the root mean square radius of what is lit, in thumbnail pixels.

    Brighter pixels weigh up to three times as much by their rank among the lit ones, so that a monotone grey curve
    hardly moves the place. A picture turned on a larger canvas, or shifted, keeps its place within itself.
    """
    smooth = np.clip(cv2.GaussianBlur(small.astype(np.float32), (0, 0), 1.5), 0, 255).astype(np.uint8)
    counts = np.bincount(smooth.ravel(), minlength=256).astype(np.float64)
    counts[:DARK] = 0
    if counts.sum() < 50:
        middle = SIDE / 2 - 0.5
        return middle, middle, SIDE / 2
    rank = (np.cumsum(counts) - counts / 2) / counts.sum()
    weights = np.where(np.arange(256) >= DARK, 0.5 + rank, 0)[smooth].astype(np.float32)
    moments = cv2.moments(weights)
    x, y = moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
    radius = np.sqrt((moments["mu20"] + moments["mu02"]) / moments["m00"])
    return float(x), float(y), float(REACH * radius)
