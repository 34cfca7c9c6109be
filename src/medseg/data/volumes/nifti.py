"""NIfTI files with nibabel: content decides over the file name, and a compressed file is read to its checksum."""

import gzip
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from medseg.data.volumes.faults import DECODER_ERRORS, check_count, check_file, unreadable
from medseg.data.volumes.grid import Grid, as_stored, grid_of
from medseg.errors import DataError

LOG = logging.getLogger(__name__)
_MILLIMETRES = {1: 1000.0, 3: 0.001}  # metre and micrometre in the header field xyzt_units
_TRAILING = 2**20


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    check_file(path)
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=raw) as stream:
                    yield cast("IO[bytes]", stream)
            else:
                yield raw
    except _decoder_errors() as error:
        raise unreadable(path, error) from None


def _decoder_errors() -> tuple[type[Exception], ...]:
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError, HeaderTypeError
    from nibabel.wrapstruct import WrapStructError

    return (*DECODER_ERRORS, ImageFileError, HeaderDataError, HeaderTypeError, WrapStructError)


def _header(stream: IO[bytes]) -> Any:
    from nibabel import Nifti1Header, Nifti2Header

    size = stream.read(4)
    stream.seek(0)
    if size in ((348).to_bytes(4, "little"), (348).to_bytes(4, "big")):
        return Nifti1Header.from_fileobj(stream)
    if size in ((540).to_bytes(4, "little"), (540).to_bytes(4, "big")):
        return Nifti2Header.from_fileobj(stream)
    raise ValueError("no NIfTI header")


def _grid(header: Any, path: Path) -> Grid:
    shape = header.get_data_shape()
    if len(shape) < 3 or min(shape, default=0) < 1:
        raise DataError(f"{path}: file holds {len(shape)} axes of sizes {shape}, a volume has three; use a 2D dataset.")
    if len(shape) > 5 or (len(shape) == 5 and shape[3] != 1):
        raise DataError(f"{path}: file holds {len(shape)} axes of sizes {shape}; give x, y, z and channels at most.")
    check_count(path, prod(shape))
    codes = int(header["sform_code"]), int(header["qform_code"])
    affine = np.asarray(header.get_best_affine(), float)
    if not any(codes):
        LOG.warning("%s: header states neither sform nor qform, so the orientation is a guess.", path)
    elif all(codes):
        _compare_forms(header, affine, path)
    scale = _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    if scale != 1.0:
        LOG.warning("%s: header counts in units of %g mm; read, and later written, in mm.", path, scale)
    return grid_of(shape[:3], np.diag([scale, scale, scale, 1.0]) @ affine, path=path)


def _compare_forms(header: Any, affine: np.ndarray, path: Path) -> None:
    with np.errstate(all="ignore"):
        apart = np.abs(np.asarray(header.get_qform(), float) - affine).max()
    if not apart <= 1e-3 * max(1.0, float(np.abs(affine[:3, :3]).max())):
        LOG.warning("%s: sform and qform differ by up to %.3g; the sform is used, other software may not.", path, apart)


def nifti_header(path: Path) -> Grid:
    """Return the grid of a NIfTI file from its header.

    Raises:
        DataError: the file is missing, damaged or no volume.
    """
    with _opened(path) as stream:
        return _grid(_header(stream), path)


def nifti_voxels(path: Path) -> tuple[np.ndarray, Grid]:
    """Return the voxels along the file's own axes, (X, Y, Z) or (X, Y, Z, C), scaled by the header, and the grid.

    A compressed file is read on to its end: only there stands the checksum that tells flipped bits.

    Raises:
        DataError: the file is missing, damaged or no volume.
    """
    with _opened(path) as stream:
        header = _header(stream)
        grid = _grid(header, path)
    if header.get_data_dtype().kind not in "buif":
        raise DataError(f"{path}: voxels of type {header.get_data_dtype()} are no grey values; export one number each.")
    with _opened(path) as stream:
        values = np.asarray(header.data_from_fileobj(stream))
        if isinstance(stream, gzip.GzipFile) and len(stream.read(_TRAILING)) == _TRAILING:
            raise ValueError("more data than the header announces")
    return values.reshape(*values.shape[:3], -1) if values.ndim > 3 else values, grid


def write_nifti(path: Path, values: np.ndarray, grid: Grid) -> None:
    """Write (D, H, W) or (C, D, H, W) with the orientation, affine and shape of the grid's source file.

    Equal voxels give equal bytes: the compressed file carries no time.
    """
    from nibabel import Nifti1Image

    affine = grid.stored_affine
    image = Nifti1Image(np.asarray(as_stored(values, grid)), affine)
    image.set_sform(affine, code=1)
    # Readers that prefer the qform must find the same grid; shears only the sform can hold.
    image.set_qform(affine, code=1)
    if np.abs(image.get_qform() - affine).max() > 1e-4:
        image.set_qform(None, code=0)
    image.header.set_xyzt_units("mm")
    content = image.to_bytes()
    if path.name.endswith(".gz"):
        packed = io.BytesIO()
        with gzip.GzipFile(filename="", fileobj=packed, mode="wb", compresslevel=6, mtime=0) as stream:
            stream.write(content)
        content = packed.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
