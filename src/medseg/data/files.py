"""Image and mask files to arrays and back.

Pillow decodes, because OpenCV fills what is missing from a cut JPEG with grey and says nothing.
"""

import logging
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from medseg.data.cases import Case
from medseg.data.twins import apply_twin
from medseg.errors import ConfigError, DataError

LOG = logging.getLogger(__name__)
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_ANY_LABEL = {value: min(value, 1) for value in range(65536)}
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def open_picture(path: Path) -> Image.Image:
    """Return the whole decoded picture of a file with one frame; ``format`` is that of the content, not of its name.

    Raises:
        DataError: the file is missing, unreadable, cut short or holds several frames.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
            frames = getattr(picture, "n_frames", 1)
    except FileNotFoundError:
        raise DataError(f"{path}: file is missing; restore it or take its row out of the manifest.") from None
    except _DECODER_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: file is unreadable or cut short ({reason}); copy it again from its source.") from None
    if frames > 1:
        raise DataError(f"{path}: file holds {frames} frames, one is expected; export one file per frame.")
    return picture


def image_size(path: Path) -> tuple[int, int]:
    """Return (H, W) from the file's header, without decoding.

    Raises:
        DataError: the file is missing or its header unreadable.
    """
    try:
        with Image.open(path) as picture:
            return picture.height, picture.width
    except FileNotFoundError:
        raise DataError(f"{path}: file is missing; restore it or take its row out of the manifest.") from None
    except _DECODER_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: file is unreadable or cut short ({reason}); copy it again from its source.") from None


def read_image(path: Path, *, channels: int) -> np.ndarray:
    """Return an image as uint8 (H, W, C).

    Colour becomes grey by the ITU-R 601 luma weights and grey becomes colour by repetition. 16-bit grey is scaled
    from its full range 0-65535, the same way for every file.

    Args:
        path: PNG, JPEG, BMP or TIFF file with one frame.
        channels: 1 (grey) or 3 (red, green, blue).

    Raises:
        DataError: the file is missing, cut short, or of a pixel type with no known range.
        ConfigError: ``channels`` is neither 1 nor 3.
    """
    if channels not in (1, 3):
        raise ConfigError(
            f"data.card.in_channels={channels}: one file gives 1 or 3 channels; list one file per modality otherwise."
        )
    picture = open_picture(path)
    if picture.mode == "F":
        raise DataError(f"{path}: pixels are floating point and have no known range; export 8 or 16 bit.")
    if picture.mode.startswith("I"):
        grey = _eight_bits(np.asarray(picture), path)
        return np.repeat(grey[..., None], channels, axis=2)
    pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], channels))


def _eight_bits(values: np.ndarray, path: Path) -> np.ndarray:
    wide = values.astype(np.int64)
    if wide.min() < 0 or wide.max() > 65535:
        raise DataError(f"{path}: grey values {wide.min()} to {wide.max()} exceed 16 bit; export 8 or 16 bit.")
    if 0 < wide.max() < 4096:
        LOG.warning(
            "%s: 16-bit image uses only 0 to %d of 65535 and will be dark; rescale the export.", path, wide.max()
        )
    return ((wide * 255 + 32767) // 65535).astype(np.uint8)


def read_mask(path: Path, *, labels: Mapping[int, int], threshold: int = 127) -> np.ndarray:
    """Return a label map as uint8 (H, W).

    Args:
        path: mask file, one channel (or equal channels); palette files are read by index.
        labels: value in the file to class index, for instance ``{0: 0, 255: 1}``.
        threshold: JPEG smears edges over all grey levels, so in a JPEG every value above this is the larger declared
            value and every other the smaller. Lossless files are never thresholded.

    Raises:
        DataError: the file is missing or cut short, holds an undeclared value, has channels that differ, or is a
            JPEG while more than two values are declared.
    """
    values, lossy = _mask_values(path)
    if lossy:
        if len(labels) != 2:
            raise DataError(
                f"{path}: a JPEG mask holds two classes at most, {len(labels)} are declared; use PNG masks."
            )
        values = np.where(values > threshold, max(labels), min(labels)).astype(np.uint8)
    found = np.flatnonzero(np.bincount(values.ravel())) if values.dtype == np.uint8 else np.unique(values)
    strange = [int(value) for value in found if int(value) not in labels]
    if strange:
        shown = ", ".join(str(value) for value in strange[:5]) + (", ..." if len(strange) > 5 else "")
        raise DataError(
            f"{path}: mask holds value(s) {shown} outside the declared {sorted(labels)}; repair the mask or declare "
            "the value in data.labels (file value: class index)."
        )
    mask = np.zeros(values.shape, np.uint8)
    for value in found:
        mask[values == value] = labels[int(value)]
    return mask


def _mask_values(path: Path) -> tuple[np.ndarray, bool]:
    """Return the file's values (H, W) and whether its compression may have changed them."""
    picture = open_picture(path)
    lossy = picture.format == "JPEG"
    values = np.asarray(picture.convert("L") if picture.mode == "1" or lossy else picture)
    if values.ndim == 2:
        return values, lossy
    colours = values[..., : 1 if picture.mode == "LA" else 3]
    if (colours != colours[..., :1]).any():
        raise DataError(f"{path}: mask is a colour picture; store one class value per pixel.")
    return np.ascontiguousarray(colours[..., 0]), lossy


def foreground_fraction(case: Case, *, threshold: int = 127) -> float:
    """Return the share of a case's pixels or voxels that are not zero in its mask file (0 without a mask).

    The manifest's ``fg_fraction`` is believed where there is one; a twin counts as its original.

    Raises:
        DataError: ``fg_fraction`` is no share in [0, 1], or the mask is unreadable.
    """
    text = case.attributes.get("fg_fraction", "")
    if text:
        try:
            fraction = float(text)
        except ValueError:
            fraction = -1.0
        if 0 <= fraction <= 1:
            return fraction
        raise DataError(f"case '{case.id}': fg_fraction '{text}' is not in [0, 1]; repair or drop the manifest column.")
    if not case.masks:
        return 0.0
    return float(np.any([_foreground(path, threshold) for path in case.masks], axis=0).mean())


def _foreground(path: Path, threshold: int) -> np.ndarray:
    """Return which pixels or voxels of a mask file are not zero."""
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        from medseg.data.volumes.files import is_volume, read_label_volume

        if is_volume(path):
            return read_label_volume(path, labels=_ANY_LABEL).values > 0
    values, lossy = _mask_values(path)
    return values > (threshold if lossy else 0)


def write_mask(path: Path, labels: np.ndarray) -> None:
    """Write a label map (H, W) with values 0-255 as an 8-bit grey PNG that holds the class indices.

    Raises:
        DataError: the array is no label map.
    """
    if labels.ndim != 2 or labels.min(initial=0) < 0 or labels.max(initial=0) > 255:
        raise DataError(f"{path}: a label map is (H, W) with values 0 to 255, got shape {labels.shape}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint8)).save(path, format="PNG")


def read_case(
    case: Case, *, channels: int, labels: Mapping[int, int], threshold: int = 127
) -> tuple[np.ndarray, np.ndarray]:
    """Return image uint8 (H, W, C) and label map uint8 (H, W) of a case on its native grid, twin transform included.

    Several image files (modalities) become one channel each.

    Raises:
        DataError: a file is missing, unreadable or inconsistent with the others.
    """
    image = read_pictures(case, channels=channels)
    if not case.masks:
        raise DataError(f"case '{case.id}' has no mask; add one or take the case out of the manifest.")
    parts = [read_mask(path, labels=labels, threshold=threshold) for path in case.masks]
    for path, part in zip(case.masks, parts, strict=True):
        if part.shape != image.shape[:2]:
            raise DataError(
                f"{path}: mask is {part.shape[0]}x{part.shape[1]} but its image {case.files[0].name} is "
                f"{image.shape[0]}x{image.shape[1]} (rows x columns); export both at one size."
            )
    mask = np.maximum.reduce(parts)
    if case.twin is None:
        return image, mask
    return apply_twin(image, mask, seed=case.twin)


def read_pictures(case: Case, *, channels: int) -> np.ndarray:
    """Return the image uint8 (H, W, C) of a case without its mask; a missing modality is a channel of zeros.

    Raises:
        DataError: a file is missing, unreadable or inconsistent with the others.
    """
    first = next((path for path in case.images if path is not None), None)
    if first is None:
        raise DataError(f"case '{case.id}' has no image at all; take its row out of the manifest.")
    if len(case.images) == 1:
        return read_image(first, channels=channels)
    if len(case.images) != channels:
        raise DataError(
            f"case '{case.id}' has {len(case.images)} image files, data.card.in_channels={channels}; make them equal."
        )
    parts = [None if path is None else read_image(path, channels=1) for path in case.images]
    size = next(part.shape for part in parts if part is not None)
    for path, part in zip(case.images, parts, strict=True):
        if part is not None and part.shape != size:
            raise DataError(f"{path}: size differs from {first.name}; modalities of a case share one grid.")
    return np.concatenate([np.zeros(size, np.uint8) if part is None else part for part in parts], axis=2)
