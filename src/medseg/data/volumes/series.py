"""DICOM series as volumes.

One folder is one series. Headers are checked with pydicom before any pixel is decoded; no DICOMDIR is ever followed,
files have size limits, and deflated files, whose size nobody knows beforehand, are refused. What the positions of the
slices cannot tell is a slice missing at the first or last end.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.volumes.faults import DECODER_ERRORS, check_count, check_file, unreadable
from medseg.data.volumes.grid import LPS_TO_RAS, Grid, grid_of
from medseg.errors import DataError

LOG = logging.getLogger(__name__)
MAX_SLICE_BYTES = 256 * 2**20
"""Bytes of one file of a series."""
MAX_SLICES = 10_000
"""Files of one series."""
UNEQUAL_GAP = 0.02
"""How far the distance between two slices may lie from the series' usual one, as a share of it."""

DICOM_ERRORS: tuple[type[Exception], ...] = (*DECODER_ERRORS, AttributeError, IndexError, NotImplementedError)
_DEFLATED = "1.2.840.10008.1.2.1.99"
_BESIDES = ("dicomdir", "license", "license.txt", "readme.txt", "readme.md")
_NEEDED = (
    "SeriesInstanceUID", "Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Series:
    """A checked DICOM series.

    Attributes:
        files: one a slice, in order along the normal of the slices.
        headers: of the files, without pixels.
        grid: where the voxels lie; the file's own axes are (column, row, slice).
    """

    files: tuple[Path, ...]
    headers: tuple[Any, ...]
    grid: Grid


def read_header(path: Path, *, pixels: bool = False, limit: int = MAX_SLICE_BYTES) -> Any:
    """Return the pydicom dataset of a file.

    Args:
        path: DICOM file.
        pixels: keep the undecoded pixel data.
        limit: of the file's size in bytes.

    Raises:
        DataError: the file is missing, too large, deflated or no DICOM.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_file_meta_info

    check_file(path, limit=limit)
    try:
        if read_file_meta_info(path).get("TransferSyntaxUID") == _DEFLATED:
            raise DataError(f"{path}: deflated DICOM files are refused; write them uncompressed.")
        return dcmread(path, stop_before_pixels=not pixels)
    except InvalidDicomError:
        raise DataError(f"{path}: file is no DICOM; a series folder holds the files of one series alone.") from None
    except DICOM_ERRORS as error:
        raise unreadable(path, error) from None


def read_series(folder: Path) -> Series:
    """Return the series of a folder from its headers.

    Raises:
        DataError: the folder holds no series or several, a file that is no single slice of grey values, slices that
            differ in size, spacing or orientation, that share a place, or that are not equally far apart.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: a folder with one DICOM series is expected; give the folder of its slices.")
    found = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    files = sorted(path for path in found if path.name.lower() not in _BESIDES)
    if len(files) < len(found):
        LOG.warning(
            "%s: %d file(s) beside the series (DICOMDIR, licence) are not read.", folder, len(found) - len(files)
        )
    if not 0 < len(files) <= MAX_SLICES:
        raise DataError(f"{folder}: folder holds {len(files)} files; a DICOM series has 1 to {MAX_SLICES}.")
    headers = [read_header(path) for path in files]
    for path, header in zip(files, headers, strict=True):
        _check_slice(path, header)
    _check_one_series(folder, files, headers)
    return _in_order(folder, files, headers)


def _check_slice(path: Path, header: Any) -> None:
    absent = [name for name in _NEEDED if header.get(name) in (None, "")]
    if absent:
        raise DataError(f"{path}: DICOM file lacks {', '.join(absent)}; only series of placed slices make a volume.")
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise DataError(f"{path}: file holds {header.NumberOfFrames} frames; convert enhanced DICOM to NIfTI first.")
    if int(header.get("SamplesPerPixel") or 1) != 1:
        raise DataError(f"{path}: slice is a colour picture; a volume has grey values.")


def _check_one_series(folder: Path, files: Sequence[Path], headers: Sequence[Any]) -> None:
    series = {str(header.SeriesInstanceUID) for header in headers}
    if len(series) > 1:
        raise DataError(f"{folder}: folder holds {len(series)} series; put each into a folder of its own.")
    first = headers[0]
    for path, header in zip(files, headers, strict=True):
        for name, tolerance in (("Rows", 0), ("Columns", 0), ("PixelSpacing", 1e-4), ("ImageOrientationPatient", 1e-4)):
            ours, theirs = np.atleast_1d(_numbers(header, name, path)), np.atleast_1d(_numbers(first, name, path))
            if ours.shape != theirs.shape or np.abs(ours - theirs).max() > tolerance:
                raise DataError(
                    f"{path}: {name} is {header.get(name)}, of {files[0].name} {first.get(name)}; a series has one "
                    "grid, so put localisers and other acquisitions elsewhere."
                )


def _numbers(header: Any, name: str, path: Path) -> np.ndarray:
    try:
        return np.asarray(header.get(name), float)
    except DICOM_ERRORS as error:
        raise unreadable(path, f"{name}: {error}") from None


def _in_order(folder: Path, files: Sequence[Path], headers: Sequence[Any]) -> Series:
    first = headers[0]
    right, down = _numbers(first, "ImageOrientationPatient", files[0]).reshape(2, 3)
    positions = np.stack(
        [_numbers(header, "ImagePositionPatient", path) for path, header in zip(files, headers, strict=True)]
    )
    normal = np.cross(right, down)
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    _check_gaps(folder, [files[index] for index in order], heights[order])
    row_size, column_size = _numbers(first, "PixelSpacing", files[0])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = right * column_size, down * row_size
    if len(files) > 1:
        affine[:3, 2] = (positions[order[-1]] - positions[order[0]]) / (len(files) - 1)
    else:
        affine[:3, 2] = normal * float(first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 1.0)
    affine[:3, 3] = positions[order[0]]
    shape = (int(first.Columns), int(first.Rows), len(files))
    check_count(folder, prod(shape))
    grid = grid_of(shape, LPS_TO_RAS @ affine, path=folder)
    return Series(tuple(files[index] for index in order), tuple(headers[index] for index in order), grid)


def _check_gaps(folder: Path, files: Sequence[Path], heights: np.ndarray) -> None:
    if len(files) == 1:
        return
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    narrow = int(np.argmin(gaps))
    if gaps[narrow] < 1e-3 or usual <= 0:
        raise DataError(
            f"{folder}: {files[narrow].name} and {files[narrow + 1].name} lie at one place; keep one of them, or one "
            "phase, echo or time point a folder."
        )
    wrong = np.flatnonzero(np.abs(gaps - usual) > UNEQUAL_GAP * usual)
    if len(wrong):
        place = int(wrong[np.argmax(gaps[wrong])])
        between = f"between {files[place].name} and {files[place + 1].name}"
        missing = round(float(gaps[place]) / usual) - 1
        found = f"{missing} slice(s) missing" if missing > 0 else "slices are not equally spaced"
        raise DataError(
            f"{folder}: {found} {between} ({gaps[place]:.4g} mm apart, usually {usual:.4g}); export the whole series."
        )


def series_header(folder: Path) -> Grid:
    """Return the grid of a folder's series from its headers."""
    return read_series(folder).grid


def series_voxels(folder: Path) -> tuple[np.ndarray, Grid]:
    """Return the voxels (column, row, slice) of a folder's series in modality units (CT: HU), float32, and the grid.

    Raises:
        DataError: see :func:`read_series`; or a file is cut short or compressed in an unknown way.
    """
    series = read_series(folder)
    stack = np.stack([_decode(path, header) for path, header in zip(series.files, series.headers, strict=True)])
    return stack.T, series.grid


def _decode(path: Path, header: Any) -> np.ndarray:
    """Return the pixels (rows, columns) of one slice with its own slope and intercept."""
    from pydicom.uid import RLELossless

    syntax = header.file_meta.TransferSyntaxUID
    try:
        plain = not syntax.is_encapsulated or syntax == RLELossless
        pixels = _decode_with_pydicom(path) if plain else _decode_with_simpleitk(path)
    except DICOM_ERRORS as error:
        raise unreadable(path, error) from None
    if pixels.shape != (int(header.Rows), int(header.Columns)):
        raise unreadable(path, f"pixels {pixels.shape}, header {header.Rows} x {header.Columns}")
    return pixels


def _decode_with_pydicom(path: Path) -> np.ndarray:
    from pydicom.pixels import apply_modality_lut

    dataset = read_header(path, pixels=True)
    return np.asarray(apply_modality_lut(dataset.pixel_array, dataset), np.float32)


def _decode_with_simpleitk(path: Path) -> np.ndarray:
    """Decode JPEG, JPEG-LS and JPEG 2000, for which pydicom needs further packages; the slope is applied too."""
    import SimpleITK

    from medseg.data.volumes.itk import kept_locale

    with kept_locale():
        return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32)).squeeze(0)
