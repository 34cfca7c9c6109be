"""Volume files to arrays and back: NIfTI, NRRD, MetaImage, DICOM series and DICOM segmentations.

Arrays are (D, H, W) in one orientation (RAS+), whatever the file's; the grid remembers the way back, and the writers
give a file the orientation, affine and shape of its source.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from medseg.data.volumes.grid import Grid, Volume, reorient, same_grid
from medseg.errors import DataError

__all__ = [
    "SUFFIXES", "Grid", "Volume", "is_volume", "read_label_volume", "read_volume", "same_grid", "volume_header",
    "write_label_volume", "write_volume",
]  # fmt: skip

LOG = logging.getLogger(__name__)
NIFTI = (".nii", ".nii.gz")
ITK = (".nrrd", ".mha", ".mhd")
SUFFIXES = (*NIFTI, *ITK, ".dcm")
"""Endings of volume files; a folder is one DICOM series."""

_WHOLE = 1e-4  # how far from a whole number a label may be after the header's scaling


def is_volume(path: Path) -> bool:
    """Tell by its name whether a path is a volume: a known ending, or a folder (one DICOM series)."""
    return path.name.lower().endswith(SUFFIXES) or path.is_dir()


def _unknown(path: Path) -> DataError:
    if not path.exists():
        return DataError(f"{path}: file is missing; restore it or take its row out of the manifest.")
    return DataError(f"{path}: no volume format of medseg; use {', '.join(SUFFIXES)} or a folder with a DICOM series.")


def volume_header(path: Path) -> Grid:
    """Return the grid of a volume without decoding its voxels.

    Args:
        path: volume file, DICOM-SEG file or folder with one DICOM series.

    Raises:
        DataError: the path is missing, damaged or no volume.
    """
    from medseg.data.volumes import itk, nifti

    name = path.name.lower()
    if path.is_dir():
        from medseg.data.volumes.series import series_header

        return series_header(path)
    if name.endswith(NIFTI):
        return nifti.nifti_header(path)
    if name.endswith(ITK):
        return itk.itk_header(path)
    if name.endswith(".dcm"):
        from medseg.data.volumes.dicom import read_dicom_seg

        return read_dicom_seg(path).grid
    raise _unknown(path)


def _voxels(path: Path) -> tuple[np.ndarray, Grid]:
    """Return (D, H, W) or (C, D, H, W) in the file's own type, a view, and the grid."""
    from medseg.data.volumes import itk, nifti

    name = path.name.lower()
    if path.is_dir():
        from medseg.data.volumes.series import series_voxels

        values, grid = series_voxels(path)
    elif name.endswith(NIFTI):
        values, grid = nifti.nifti_voxels(path)
    elif name.endswith(ITK):
        values, grid = itk.itk_voxels(path)
    else:
        raise _unknown(path)
    return reorient(values, grid), grid


def read_volume(path: Path, *, nan: Literal["error", "zero"] = "error") -> Volume:
    """Return an image volume as float32 (C, D, H, W) in RAS+ orientation.

    Args:
        path: .nii or .nii.gz (channels as fourth axis), .nrrd, .mha, .mhd, or a folder with one DICOM series.
        nan: what happens to voxels that are not finite: ``error``, or ``zero`` with a warning.

    Raises:
        DataError: the file is missing, damaged, two-dimensional, has an impossible affine, or holds voxels that are
            not finite.
    """
    found, grid = _voxels(path)
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.array(found if found.ndim == 4 else found[None], np.float32, order="C")
    finite = np.isfinite(values)
    if not finite.all():
        count = int(values.size - np.count_nonzero(finite))
        if nan != "zero":
            raise DataError(
                f"{path}: {count} of {values.size} voxels are not finite (NaN, infinite or beyond float32); repair the "
                "file, or read them as 0 with nan='zero'."
            )
        LOG.warning("%s: %d of %d voxels are not finite and read as 0.", path, count, values.size)
        values[~finite] = 0
    return Volume(values, grid)


def read_label_volume(path: Path, *, labels: Mapping[int, int], grid: Grid | None = None) -> Volume:
    """Return a label volume as uint8 (D, H, W) in RAS+ orientation.

    Args:
        path: any format of :func:`read_volume`, or a DICOM segmentation (.dcm), whose values are segment numbers.
        labels: value in the file to class index, for instance ``{0: 0, 1: 1, 2: 1}``.
        grid: of the image; only a DICOM segmentation needs it, to place slices that it leaves out because they are
            empty.

    Raises:
        DataError: as :func:`read_volume`, and for values that are not whole or not declared.
    """
    if path.name.lower().endswith(".dcm") and not path.is_dir():
        from medseg.data.volumes.dicom import read_dicom_seg

        segmentation = read_dicom_seg(path, grid=grid)
        return Volume(_classes(segmentation.labels, labels, path), segmentation.grid)
    found, own = _voxels(path)
    if found.ndim == 4:
        if len(found) != 1:
            raise DataError(f"{path}: label volume has {len(found)} channels; give one, or one file for each.")
        found = found[0]
    return Volume(_classes(found, labels, path), own)


def _classes(found: np.ndarray, labels: Mapping[int, int], path: Path) -> np.ndarray:
    """Return file values (D, H, W) as class indices, uint8."""
    values = _whole(found, path)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        held = [int(value) for value in np.unique(values)]
    else:
        held = np.flatnonzero(np.bincount(values.astype(np.uint16).ravel())).tolist()
    strange = [value for value in held if value not in labels]
    if strange:
        shown = ", ".join(str(value) for value in strange[:5]) + (", ..." if len(strange) > 5 else "")
        raise DataError(
            f"{path}: mask holds value(s) {shown} outside the declared {sorted(labels)}; repair the mask or declare "
            "the value in data.labels (file value: class index)."
        )
    table = np.zeros(65536, np.uint8)
    for value in held:
        if value > 65535:
            raise DataError(f"{path}: mask value {value} exceeds 65535; store small class numbers.")
        table[value] = labels[value]
    return np.ascontiguousarray(table[values.astype(np.uint16)])


def _whole(found: np.ndarray, path: Path) -> np.ndarray:
    if found.dtype.kind != "f":
        return found
    if not np.isfinite(found).all():
        raise DataError(f"{path}: {int((~np.isfinite(found)).sum())} mask voxels are not finite; repair the mask.")
    rounded = np.rint(found)
    broken = int((np.abs(found - rounded) > _WHOLE).sum())
    if broken:
        raise DataError(
            f"{path}: {broken} mask voxels are no whole numbers, as after interpolation; resample masks by the nearest "
            "voxel."
        )
    return rounded


def write_volume(path: Path, values: np.ndarray, grid: Grid) -> None:
    """Write an image (C, D, H, W) as float32 .nii, .nii.gz, .nrrd, .mha or .mhd on the grid of its source file.

    One channel is written as a file of three axes.

    Raises:
        DataError: the ending is unknown or the shape does not fit the grid.
    """
    values = values.astype(np.float32, copy=False)
    _write(path, values[0] if values.ndim == 4 and len(values) == 1 else values, grid)


def write_label_volume(path: Path, labels: np.ndarray, grid: Grid) -> None:
    """Write labels (D, H, W) with values 0-255 as uint8, with the orientation, affine and shape of the source file.

    Args:
        path: .nii, .nii.gz, .nrrd, .mha or .mhd; a DICOM segmentation is written by ``dicom.write_dicom_seg``.
        labels: any integer type; nibabel would refuse the int64 of torch and numpy.
        grid: as :func:`read_volume` or :func:`volume_header` gave it.

    Raises:
        DataError: the ending is unknown, the shape does not fit the grid, or a value is no label.
    """
    if labels.dtype.kind not in "bui" or labels.min(initial=0) < 0 or labels.max(initial=0) > 255:
        raise DataError(f"{path}: a label volume holds whole numbers 0 to 255, got {labels.dtype} {labels.shape}.")
    if labels.ndim != 3:
        raise DataError(f"{path}: a label volume is (D, H, W), got shape {labels.shape}.")
    _write(path, labels.astype(np.uint8, copy=False), grid)


def _write(path: Path, values: np.ndarray, grid: Grid) -> None:
    from medseg.data.volumes import itk, nifti

    name = path.name.lower()
    if name.endswith(NIFTI):
        nifti.write_nifti(path, values, grid)
    elif name.endswith(ITK):
        itk.write_itk(path, values, grid)
    else:
        raise DataError(f"{path}: volumes are written as {', '.join((*NIFTI, *ITK))}; choose one of these endings.")
