"""The print of a picture or volume: everything the audit compares, made once for each file content and kept.

Prints lie below the audit's cache folder in one small file for each content, named by its SHA-256, written beside its
place and renamed into it, so that several processes may share them. 28 kB a picture, 13 kB a volume.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from medseg.data.audit import neighbours, thumbnails, verify
from medseg.data.audit.hashes import content_box, perceptual_hashes
from medseg.data.files import read_image
from medseg.errors import DataError
from medseg.whole import whole_file

VERSION = 3
"""Raise with every change that changes a print or the verdict on a pair."""

EDGE = 256
"""Samples along a picture's left and right edge."""

SLICE = 64
_QUARTER, _HALF = thumbnails.SIDE // 4, thumbnails.SIDE // 2

PICTURE = np.dtype([
    ("pixels", "S64"), ("size", "<i4", (2,)), ("hashes", "<u8", (8,)), ("box", "<f4", (4,)),
    ("view", "u1", (thumbnails.SIDE, thumbnails.SIDE)), ("coarse", "i1", (_QUARTER, _QUARTER)),
    ("middle", "i1", (_HALF, _HALF)), ("edges", "<f4", (2, EDGE)),
    ("places", "<f4", (neighbours.PLACES, 3)),
    ("polars", "<f2", (neighbours.PLACES, neighbours.RINGS, neighbours.ANGLES)),
])  # fmt: skip
"""A picture: SHA-256 of the decoded pixels, rows and columns, eight hashes, the lit box in thumbnail pixels (centre x,
y, width, height), the thumbnail, two bands of it, edge profiles, centres and polar descriptors."""

VOLUME = np.dtype(
    [("pixels", "S64"), ("size", "<i4", (3,)), ("hashes", "<u8", (3, 8)), ("slices", "u1", (3, SLICE, SLICE))]
)
"""A volume: SHA-256 of the voxels, (D, H, W), the hashes and the picture of the central slice along each axis."""


def is_volume_file(path: Path) -> bool:
    """Whether a file is a volume by its name."""
    from medseg.data.volumes.files import is_volume

    return is_volume(path)


def picture_print(path: Path) -> np.ndarray:
    """Return the print, 0-dimensional of dtype PICTURE, of a 2D image file.

    Raises:
        DataError: the file is missing or unreadable.
    """
    return print_of(read_image(path, channels=1)[..., 0])


def print_of(grey: np.ndarray) -> np.ndarray:
    """Return the print of a grey picture uint8 (H, W)."""
    made = np.zeros((), PICTURE)
    top, left, height, width = content_box(grey)
    view, scale = thumbnails.thumbnail(grey)
    middle = thumbnails.SIDE / 2 - 0.5
    detail = thumbnails.band(view, fine=verify.COARSE[0], wide=verify.COARSE[1])
    places = [(middle, middle, thumbnails.SIDE / 2), thumbnails.lit_place(view)]
    made["pixels"] = _digest(grey)
    made["size"] = grey.shape
    made["hashes"] = perceptual_hashes(grey[top : top + height, left : left + width])
    made["box"] = (
        middle + scale * (left + (width - grey.shape[1]) / 2),
        middle + scale * (top + (height - grey.shape[0]) / 2),
        scale * width,
        scale * height,
    )
    made["view"] = view
    made["coarse"] = verify.shrunk_band(detail, 4)
    made["middle"] = verify.shrunk_band(thumbnails.band(view, fine=verify.MIDDLE[0], wide=verify.MIDDLE[1]), 2)
    made["edges"] = [_edge(grey[:, :2]), _edge(grey[:, -2:])]
    made["places"] = places
    made["polars"] = [neighbours.polar(detail, place) for place in places]
    return made


def _edge(columns: np.ndarray) -> np.ndarray:
    """Return the fine structure along an edge, float32 (EDGE,) of norm 1; zeros where the edge is dark or even."""
    profile = columns.astype(np.float32).mean(axis=1, keepdims=True)
    profile = cv2.resize(profile, (1, EDGE), interpolation=cv2.INTER_AREA)
    detail = profile - cv2.blur(profile, (1, 31))
    if profile.mean() < thumbnails.DARK or detail.std() < 2:
        return np.zeros(EDGE, np.float32)
    centred = detail[:, 0] - detail.mean()
    return centred / np.linalg.norm(centred)


def volume_print(path: Path) -> np.ndarray:
    """Return the print, 0-dimensional of dtype VOLUME, of a volume file; pictures are of its first channel.

    Raises:
        DataError: the file is missing or unreadable.
    """
    from medseg.data.volumes.files import read_volume

    values = read_volume(path).values
    made = np.zeros((), VOLUME)
    made["pixels"] = _digest(values)
    made["size"] = values.shape[-3:]
    first = values.reshape(-1, *values.shape[-3:])[0]
    low, high = np.percentile(first, (1, 99.5))
    grey = (255 * np.clip((first - low) / max(float(high - low), 1e-6), 0, 1)).astype(np.uint8)
    slices = [_middle(grey, axis) for axis in range(3)]
    made["hashes"] = [perceptual_hashes(picture) for picture in slices]
    made["slices"] = [np.rint(cv2.resize(picture, (SLICE, SLICE), interpolation=cv2.INTER_AREA)) for picture in slices]
    return made


def _middle(grey: np.ndarray, axis: int) -> np.ndarray:
    """Return the central slice; of an even number the mean of both, so that a flipped volume has the same."""
    size = grey.shape[axis]
    return np.take(grey, [(size - 1) // 2, size // 2], axis=axis).mean(axis=axis).astype(np.float32)


def _digest(values: np.ndarray) -> bytes:
    content = np.ascontiguousarray(values)
    start = f"{content.dtype.str} {content.shape}".encode()
    return hashlib.sha256(start + content.tobytes()).hexdigest().encode()


def prints_of(
    paths: Iterable[Path],
    hashes: Mapping[Path, str],
    *,
    make: Callable[[Path], np.ndarray],
    dtype: np.dtype,
    cache: Path | None,
    progress: Callable[[int], None] = lambda count: None,
) -> np.ndarray:
    """Return the prints of files as one structured array, in their order.

    Args:
        paths: the files.
        hashes: SHA-256 of each file's bytes.
        make: :func:`picture_print` or :func:`volume_print`.
        dtype: PICTURE or VOLUME.
        cache: folder of prints; None keeps nothing.
        progress: told how many more are done.

    Raises:
        DataError: a file is unreadable, or the cache cannot be written.
    """
    listed = list(paths)
    found = np.zeros(len(listed), dtype)

    def fill(place: int) -> None:
        path = listed[place]
        kept = None if cache is None else cache / hashes[path][:2] / f"{hashes[path]}-{VERSION}.npy"
        found[place] = _kept(kept, dtype) if kept is not None and kept.is_file() else _made(path, make, kept, dtype)
        progress(1)

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(fill, range(len(listed))))
    return found


def _kept(path: Path, dtype: np.dtype) -> np.ndarray:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise DataError(f"{path}: print of the audit is damaged; delete this file, it is made anew.") from None
    if found.dtype != dtype or found.shape:
        raise DataError(f"{path}: print of the audit is damaged; delete this file, it is made anew.")
    return found


def _made(path: Path, make: Callable[[Path], np.ndarray], kept: Path | None, dtype: np.dtype) -> np.ndarray:
    made = make(path)
    if kept is None:
        return made
    try:
        with whole_file(kept, durable=False) as partial, partial.open("wb") as stream:  # equal ones are read at once
            np.save(stream, made, allow_pickle=False)
    except OSError as error:
        raise DataError(
            f"{kept.parent}: prints of the audit cannot be written ({error.strerror or error}); free space or set "
            "MEDSEG_CACHE elsewhere."
        ) from None
    return made
