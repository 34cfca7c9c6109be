"""Mask files of any origin to label maps, and label maps to the files of the layout."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from medseg.data.files import open_picture
from medseg.errors import DataError

THRESHOLD = 127
"""JPEG smears the edges of a mask over all grey levels; above this is foreground."""


def read_label_picture(
    path: Path, *, values: Mapping[int, int] | None = None, threshold: int = THRESHOLD
) -> tuple[np.ndarray, bool]:
    """Return the label map uint8 (H, W) of a mask file, and whether it was thresholded because it is a JPEG.

    A JPEG becomes 0 and 255 by ``threshold``; a palette file gives its indices, not its colours; black-and-white files
    give 0 and 255; equal colour channels count as one.

    Args:
        path: mask file of any format that Pillow reads, one frame.
        values: value in the file to value of the result; None keeps the file's values.
        threshold: grey level of a JPEG above which a pixel is foreground.

    Raises:
        DataError: the file is unreadable, coloured, holds values beyond 0 to 255, or one that ``values`` lacks.
    """
    picture = open_picture(path)
    lossy = picture.format == "JPEG"
    labels = _plane(picture, path)
    if lossy:
        labels = np.where(labels > threshold, 255, 0).astype(np.uint8)
    if labels.min(initial=0) < 0 or labels.max(initial=0) > 255:
        raise DataError(
            f"{path}: mask holds values {labels.min()} to {labels.max()}, 0 to 255 are expected; export label values."
        )
    labels = labels.astype(np.uint8)
    return (labels if values is None else map_values(labels, values, where=str(path))), lossy


def _plane(picture: Image.Image, path: Path) -> np.ndarray:
    if picture.mode in ("1", "CMYK", "YCbCr") or (picture.format == "JPEG" and picture.mode != "L"):
        picture = picture.convert("L")
    pixels = np.asarray(picture)
    if pixels.dtype.kind == "f":
        if (pixels != np.round(pixels)).any():
            raise DataError(f"{path}: mask holds fractions; a mask holds one whole class value per pixel.")
        pixels = pixels.astype(np.int64)
    if pixels.ndim == 2:
        return pixels
    colours = pixels[..., : 1 if picture.mode in ("LA", "La") else 3]
    if (colours != colours[..., :1]).any():
        raise DataError(f"{path}: mask is a colour picture; store one class value per pixel.")
    return np.ascontiguousarray(colours[..., 0])


def map_values(labels: np.ndarray, values: Mapping[int, int], *, where: str) -> np.ndarray:
    """Return a label map of any shape with its values exchanged, uint8.

    Raises:
        DataError: a value occurs that ``values`` does not name.
    """
    found = [int(value) for value in np.unique(labels)]
    strange = [value for value in found if value not in values]
    if strange:
        shown = ", ".join(map(str, strange[:5])) + (", ..." if len(strange) > 5 else "")
        raise DataError(f"{where}: mask holds value(s) {shown} outside {sorted(values)}; repair the mask or name them.")
    mapped = np.zeros(labels.shape, np.uint8)
    for value in found:
        mapped[labels == value] = values[value]
    return mapped


def write_label_picture(path: Path, labels: np.ndarray) -> None:
    """Write a label map (H, W) as an 8-bit grey PNG: truth values as 0 and 255, numbers 0 to 255 as they are.

    Raises:
        DataError: the array is no label map.
    """
    if labels.dtype == bool:
        labels = labels.astype(np.uint8) * 255
    if labels.ndim != 2 or labels.dtype.kind not in "ui" or labels.min(initial=0) < 0 or labels.max(initial=0) > 255:
        raise DataError(
            f"{path.name}: a mask is a label map (H, W) of whole numbers 0 to 255, got {labels.dtype} {labels.shape}."
        )
    Image.fromarray(labels.astype(np.uint8)).save(path, format="PNG")
