"""One image, volume or DICOM series to one file of the layout: copied byte for byte where it is readable as it is."""

import gzip
import hashlib
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from medseg.data.files import open_picture
from medseg.data.prepare.masks import read_label_picture, write_label_picture
from medseg.errors import DataError

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
VOLUMES = (".nii.gz", ".nii", ".nrrd", ".mha", ".dcm")
DETACHED = {".mhd": ".mha", ".nhdr": ".nrrd"}
"""Headers whose pixels lie in a file of another name, and the format that holds both in one file."""

Stored = tuple[Path, tuple[int, int] | None]
"""A stored file, and (H, W) if it is a picture."""

_CHUNK = 1 << 20


def suffix_of(path: Path) -> str:
    """Return the suffix in lower case, ``.nii.gz`` as one."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def is_volume_file(path: Path) -> bool:
    """Return whether this is a volume by its suffix, or a folder (a DICOM series)."""
    return path.is_dir() or suffix_of(path) in (*VOLUMES, *DETACHED)


def sha256_of(path: Path) -> str:
    """Return the hash of a file, or of a folder's sorted file names and hashes."""
    digest = hashlib.sha256()
    if path.is_dir():
        for item in files_below(path):
            digest.update(f"{sha256_of(item)}  {item.relative_to(path).as_posix()}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def files_below(folder: Path) -> list[Path]:
    """Return every file below a folder in sorted order; linked folders are followed once."""
    found: list[Path] = []
    seen: set[Path] = set()
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        if place.resolve() in seen:
            continue
        seen.add(place.resolve())
        for item in place.iterdir():
            (waiting if item.is_dir() else found).append(item)
    return sorted(path for path in found if path.is_file())


def store_file(source: Path, stem: Path) -> Stored:
    """Copy an image or volume to ``stem`` plus its suffix.

    Pictures and gzipped volumes are decoded once to the end, so that a cut file is found now. A detached header
    (``.mhd``, ``.nhdr``) and its pixels become one file with the same values and geometry; a GIF becomes a PNG.

    Returns:
        the new file and (H, W) of a picture, None of a volume.

    Raises:
        DataError: the file is missing, cut short or of a kind that cannot be read later.
    """
    if source.is_dir():
        return _copy_series(source, _with(stem, "")), None
    suffix = suffix_of(source)
    if suffix in PICTURES or suffix == ".gif":
        return _store_picture(source, stem, suffix)
    if not source.is_file():
        raise DataError(f"{source}: file is missing; restore it or leave its case out of the source.")
    if suffix in DETACHED:
        return _join(source, _with(stem, DETACHED[suffix])), None
    if suffix not in VOLUMES:
        known = ", ".join((*PICTURES, *VOLUMES, *DETACHED))
        raise DataError(f"{source}: files of the kind '{suffix or 'without suffix'}' are not read; known are {known}.")
    _check_volume(source, suffix)
    target = _with(stem, suffix)
    shutil.copyfile(source, target)
    return target, None


def _with(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)


def _store_picture(source: Path, stem: Path, suffix: str) -> tuple[Path, tuple[int, int]]:
    picture = open_picture(source)
    if picture.mode == "F":
        raise DataError(f"{source}: pixels are floating point and have no known range; export 8 or 16 bit.")
    if suffix == ".gif":
        target = _with(stem, ".png")
        (picture if picture.mode == "L" else picture.convert("RGB")).save(target, format="PNG")
    else:
        target = _with(stem, suffix)
        shutil.copyfile(source, target)
    return target, (picture.height, picture.width)


def _check_volume(source: Path, suffix: str) -> None:
    if source.stat().st_size == 0:
        raise DataError(f"{source}: file is empty; copy it again from its source.")
    if suffix != ".nii.gz":
        return
    try:
        with gzip.open(source) as stream:
            while stream.read(_CHUNK):
                pass
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{source}: file is unreadable or cut short ({error}); copy it again from its source."
        ) from None


def _join(source: Path, target: Path) -> Path:
    import SimpleITK

    try:
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(source)), str(target), useCompression=True)
    except RuntimeError:
        raise DataError(
            f"{source}: volume cannot be read; the file of pixels that the header names must lie beside it, complete."
        ) from None
    return target


def _copy_series(source: Path, target: Path) -> Path:
    items = list(_plain_files(source))
    if not items:
        raise DataError(f"{source}: folder holds no file; a folder as an image is one DICOM series.")
    target.mkdir()
    for item in items:
        shutil.copyfile(item, target / item.name)
    return target


def _plain_files(folder: Path) -> Iterator[Path]:
    for item in sorted(folder.iterdir()):
        if item.is_file() and not item.name.startswith("."):
            yield item


def store_array(values: np.ndarray, stem: Path, *, affine: np.ndarray | None) -> Stored:
    """Write an image array: (H, W) or (H, W, 3) of 8 bit and (H, W) of 16 bit as PNG, (D, H, W) as NIfTI.

    Args:
        values: the pixels.
        stem: file without suffix.
        affine: 4 x 4, index (x, y, z) of (W, H, D) to millimetres, axes right, anterior, superior; makes a volume of
            the array; None makes a picture.

    Raises:
        DataError: neither of them.
    """
    if affine is not None:
        return store_volume(values, _with(stem, ".nii.gz"), affine=affine), None
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    grey = values.ndim == 2 and values.dtype in (np.uint8, np.uint16)
    colour = values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8
    if not (grey or colour) or values.size == 0:
        raise DataError(
            f"{stem.name}: an image is uint8 (H, W) or (H, W, 3), uint16 (H, W), or a volume (D, H, W) with affine; "
            f"got {values.dtype} {values.shape}."
        )
    target = _with(stem, ".png")
    Image.fromarray(np.ascontiguousarray(values)).save(target, format="PNG")
    return target, (values.shape[0], values.shape[1])


def store_mask_array(labels: np.ndarray, stem: Path, *, affine: np.ndarray | None) -> Stored:
    """Write a label map: (H, W) as PNG, truth values as 0 and 255; (D, H, W) as NIfTI, truth values as 0 and 1.

    Raises:
        DataError: neither of them.
    """
    if affine is not None:
        return store_volume(labels, _with(stem, ".nii.gz"), affine=affine), None
    target = _with(stem, ".png")
    write_label_picture(target, labels)
    return target, (labels.shape[0], labels.shape[1])


def store_mask_picture(source: Path, stem: Path) -> tuple[Path, tuple[int, int], bool]:
    """Store a mask file as grey PNG with its values; a grey PNG is copied byte for byte.

    Returns:
        the new file, its (H, W), and whether it was thresholded because it is a JPEG.

    Raises:
        DataError: the file is unreadable or no label map.
    """
    picture, target = open_picture(source), _with(stem, ".png")
    if picture.format == "PNG" and picture.mode == "L":
        shutil.copyfile(source, target)
        return target, (picture.height, picture.width), False
    labels, thresholded = read_label_picture(source)
    write_label_picture(target, labels)
    return target, (labels.shape[0], labels.shape[1]), thresholded


def store_volume(values: np.ndarray, target: Path, *, affine: np.ndarray) -> Path:
    """Write an array (D, H, W) as compressed NIfTI with the given 4 x 4 affine of (x, y, z) = (W, H, D) in RAS mm.

    The file is the same whenever it is written: gzip's time stamp and name are left out.

    Raises:
        DataError: shape, type or affine do not fit.
    """
    import nibabel

    matrix = np.asarray(affine, float)
    if values.ndim != 3 or values.size == 0 or matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise DataError(f"{target.name}: a volume is (D, H, W) with a finite 4 x 4 affine, got {values.shape}.")
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.dtype.name not in ("uint8", "int16", "uint16", "int32", "float32", "float64"):
        raise DataError(f"{target.name}: a volume of {values.dtype} is not stored; use int16, uint8 or float32.")
    image = nibabel.Nifti1Image(np.ascontiguousarray(values.transpose(2, 1, 0)), matrix)
    image.header.set_xyzt_units("mm")
    with target.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as stream:
        stream.write(image.to_bytes())
    return target
