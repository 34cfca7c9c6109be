"""One picture file, looked at the way training reads it, with a finding for whatever training refuses or overlooks."""

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from medseg.data.inspection.findings import Collector

_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
_SUFFIXES = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
}
_ORIENTATION = 0x0112  # EXIF tag; 1 means as stored
_TWELVE_BITS = 4096
_SMEAR = 25  # grey levels that JPEG ringing moves a flat area by, at most, at usual qualities


def _decoded(path: Path, collector: Collector) -> Image.Image | None:
    try:
        with Image.open(path) as picture:
            picture.load()
            frames = getattr(picture, "n_frames", 1)
            turned = picture.getexif().get(_ORIENTATION, 1)
    except _DECODER_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        collector.add("unreadable", f"{path.name} is unreadable or cut short ({reason})", file=path)
        return None
    if frames > 1:
        collector.add("several-frames", f"{path.name} holds {frames} frames", file=path)
    if turned not in (0, 1):
        collector.add("exif-rotation", f"{path.name} asks to be turned (EXIF orientation {turned})", file=path)
    usual = _SUFFIXES.get(picture.format or "")
    if usual and path.suffix.lower() not in usual:
        collector.add("wrong-suffix", f"{path.name} holds {picture.format}", file=path)
    return picture if frames == 1 else None


def look_at_image(path: Path, collector: Collector, *, channels: int) -> tuple[np.ndarray, str] | None:
    """Return the image as training gets it, uint8 (H, W, C), and the file's type of number; None if it is refused.

    Args:
        path: PNG, JPEG, BMP or TIFF.
        collector: takes the findings.
        channels: 1 or 3.
    """
    picture = _decoded(path, collector)
    if picture is None:
        return None
    if picture.mode == "F":
        collector.add("float-picture", f"{path.name} holds floating point", file=path)
        return None
    if picture.mode.startswith("I"):
        grey = _sixteen_bits(np.asarray(picture), path, collector)
        return None if grey is None else (np.repeat(grey[..., None], channels, axis=2), "uint16")
    _note_mode(picture, path, collector, channels=channels)
    pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels), "bool" if picture.mode == "1" else "uint8"


def _sixteen_bits(values: np.ndarray, path: Path, collector: Collector) -> np.ndarray | None:
    wide = values.astype(np.int64)
    low, high = int(wide.min()), int(wide.max())
    if low < 0 or high > 65535:
        collector.add("wide-integers", f"{path.name} holds grey values {low} to {high}, beyond 16 bit", file=path)
        return None
    if 0 < high < _TWELVE_BITS:
        collector.add("few-levels", f"{path.name} is 16 bit and uses 0 to {high} of 65535", file=path)
    return ((wide * 255 + 32767) // 65535).astype(np.uint8)


def _note_mode(picture: Image.Image, path: Path, collector: Collector, *, channels: int) -> None:
    if picture.mode in ("P", "PA"):
        collector.add("palette-image", f"{path.name} stores palette indices", file=path)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        alpha = np.asarray(picture.convert("RGBA"))[..., 3]
        how = "and hides pixels" if alpha.min() < 255 else "that hides nothing"
        collector.add("alpha", f"{path.name} ({picture.mode}) has transparency {how}", file=path)
    if channels == 1 and picture.mode not in ("1", "L", "LA"):
        colours = np.asarray(picture.convert("RGB"))
        if (colours != colours[..., :1]).any():
            collector.add("colour-image", f"{path.name} ({picture.mode}) is coloured", file=path)


def look_at_mask(
    path: Path, collector: Collector, *, labels: Mapping[int, int], threshold: int
) -> tuple[np.ndarray | None, dict[float, int], str] | None:
    """Return label map uint8 (H, W), pixels of each value in a lossless file, and type of number; None if refused.

    The label map alone is None where a value is not declared.

    Args:
        path: mask file.
        collector: takes the findings.
        labels: value in the file to class index.
        threshold: grey level that separates the classes of a JPEG.
    """
    picture = _decoded(path, collector)
    if picture is None:
        return None
    if picture.format == "JPEG":
        return _jpeg_mask(picture, path, collector, labels=labels, threshold=threshold)
    if picture.mode == "P":
        collector.add("palette-mask", f"{path.name} stores palette indices", file=path)
    values = np.asarray(picture.convert("L") if picture.mode == "1" else picture)
    if values.ndim == 3:
        colours = values[..., : 1 if picture.mode == "LA" else 3]
        if (colours != colours[..., :1]).any():
            collector.add("colour-mask", f"{path.name} is a colour picture", file=path)
            return None
        values = colours[..., 0]
    counts = value_counts(values)
    return mapped_labels(values, counts, path, collector, labels=labels), counts, str(values.dtype)


def _jpeg_mask(
    picture: Image.Image, path: Path, collector: Collector, *, labels: Mapping[int, int], threshold: int
) -> tuple[np.ndarray | None, dict[float, int], str] | None:
    grey = np.asarray(picture.convert("L"))
    between = int(((grey > _SMEAR) & (grey < 255 - _SMEAR)).sum())
    what = f"{path.name} is a JPEG; {between} of {grey.size} pixels are neither black nor white"
    if len(labels) != 2:
        collector.add("jpeg-mask-classes", f"{what}, {len(labels)} classes are declared", file=path)
        return None
    collector.add("jpeg-mask", what, file=path)
    return np.where(grey > threshold, labels[max(labels)], labels[min(labels)]).astype(np.uint8), {}, "uint8"


def value_counts(values: np.ndarray) -> dict[float, int]:
    """Return each value of a mask and its number of pixels, whole numbers as int, in ascending order."""
    if values.dtype == np.uint8:
        bins = np.bincount(values.reshape(-1))
        return {int(value): int(bins[value]) for value in np.flatnonzero(bins)}
    found, numbers = np.unique(values, return_counts=True)
    return {
        int(value) if float(value).is_integer() else float(value): int(number)
        for value, number in zip(found.tolist(), numbers.tolist(), strict=True)
    }


def mapped_labels(
    values: np.ndarray, counts: Mapping[float, int], path: Path, collector: Collector, *, labels: Mapping[int, int]
) -> np.ndarray | None:
    """Return the class indices uint8 (*S) of a mask's values, or None with a finding if one is not declared."""
    strange = {value: number for value, number in counts.items() if value not in labels}
    if strange:
        shown = ", ".join(f"{value:g} ({number} px)" for value, number in list(strange.items())[:6])
        shown += ", ..." if len(strange) > 6 else ""
        collector.add(
            "undeclared-values",
            f"{path.name} holds {shown} outside the declared {sorted(labels)}",
            file=path,
            remedy=_label_remedy(counts, labels),
        )
        return None
    table = np.zeros(values.shape, np.uint8)
    for value in counts:
        table[values == value] = labels[int(value)]
    return table


def _label_remedy(counts: Mapping[float, int], labels: Mapping[int, int]) -> str:
    """Name the likely cause: other values for the same classes, or a mask resized as if it were an image."""
    if len(counts) > 3 * len(labels):
        return "looks interpolated: resize masks by the nearest pixel only, or export them again"
    return suggested_labels(counts, classes=len(set(labels.values())))


def suggested_labels(values: Mapping[float, int], *, classes: int) -> str:
    """Return how to declare these values, lowest first; "" if they cannot be so many classes."""
    whole = [int(value) for value in sorted(values) if float(value).is_integer()]
    if len(whole) != len(values) or not 2 <= len(whole) <= classes:
        return ""
    pairs = ", ".join(f"{value}: {index}" for index, value in enumerate(whole))
    return f"if the classes are in this order: '+data.labels={{{pairs}}}', or labels: {{{pairs}}} in the data config"
