"""NRRD and MetaImage files with SimpleITK, and what it does to the process: threads, locale."""

import locale
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.volumes.faults import check_count, check_file, unreadable
from medseg.data.volumes.grid import LPS_TO_RAS, Grid, as_stored, grid_of
from medseg.errors import DataError

_HEADER_BYTES = 2**16
_REFERENCES = ("elementdatafile", "data file", "datafile")


@contextmanager
def one_thread() -> Iterator[None]:
    """Let SimpleITK work in one thread: with more, sums come in another order, and results differ in their last digits.

    The thread count of a filter does not reach the filters inside it, so the global one is set and put back.
    """
    import SimpleITK

    before = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


@contextmanager
def kept_locale() -> Iterator[None]:
    """Put the process's locale back: ITK's DICOM codecs set it to C, and Python then takes ASCII for its encoding."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


def _reader(path: Path) -> Any:
    """Return a SimpleITK reader that has read the header."""
    import SimpleITK

    check_file(path)
    _check_reference(path)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _undecodable(path, error) from None
    return reader


def _undecodable(path: Path, error: RuntimeError) -> DataError:
    """Return the error with a reason that is one: ITK ends with the last message of the operating system."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Reason:")]
    nrrd = "[nrrd]" in lines[-1] if lines else False
    return unreadable(path, lines[-1] if nrrd else "header or voxels incomplete")


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """Return the text header's fields in small letters and where it ends: after the data's name or an empty line."""
    with path.open("rb") as stream:
        text = stream.read(_HEADER_BYTES)
    fields: dict[str, str] = {}
    end = 0
    for line in text.splitlines(keepends=True):
        end += len(line)
        key, _, value = line.decode("latin-1").replace("=", ":", 1).partition(":")
        fields[key.strip().lower()] = value.strip()
        if not line.strip() or key.strip().lower() == "elementdatafile":
            break
    return fields, end


def _check_reference(path: Path) -> None:
    """Refuse headers that point to voxels outside their own folder, and packed voxels that are damaged."""
    fields, end = _fields(path)
    target = next((fields[name] for name in _REFERENCES if name in fields), "LOCAL")
    local = target.upper() == "LOCAL"
    if not local:
        if not target or Path(target).name != target or target.split()[0].upper() == "LIST" or "%" in target:
            raise DataError(f"{path}: header points to voxels in '{target}'; a file in the same folder is expected.")
        check_file(path.parent / target)
    # Neither reader compares the checksum of packed voxels, so flipped bits would be read as voxels.
    zipped = fields.get("compresseddata", "").lower() == "true"
    if zipped or fields.get("encoding", "").lower() in ("gzip", "gz"):
        data, start = (path, end) if local else (path.parent / target, 0)
        _check_packed(path, data, start, window=zlib.MAX_WBITS if zipped else zlib.MAX_WBITS | 16)


def _check_packed(path: Path, data: Path, start: int, *, window: int) -> None:
    """Unpack to the checksum at the end and forget; ``window`` tells zlib's own format from that of gzip."""
    unpacker = zlib.decompressobj(window)
    try:
        with data.open("rb") as stream:
            stream.seek(start)
            while not unpacker.eof and (chunk := stream.read(2**16)):
                while chunk:
                    unpacker.decompress(chunk, 2**24)
                    chunk = unpacker.unconsumed_tail
    except zlib.error as error:
        raise unreadable(path, error) from None
    if not unpacker.eof:
        raise unreadable(path, "packed voxels end too early")


def _grid(reader: Any, path: Path) -> Grid:
    size = reader.GetSize()
    if len(size) not in (3, 4):
        raise DataError(f"{path}: file holds {len(size)} axes of sizes {size}, a volume has three; use a 2D dataset.")
    check_count(path, prod(size) * reader.GetNumberOfComponents())
    dimension = len(size)
    direction = np.asarray(reader.GetDirection(), float).reshape(dimension, dimension)
    affine = np.eye(4)
    affine[:3, :3] = direction[:3, :3] * np.asarray(reader.GetSpacing()[:3], float)
    affine[:3, 3] = reader.GetOrigin()[:3]
    return grid_of(size[:3], LPS_TO_RAS @ affine, path=path)


def itk_header(path: Path) -> Grid:
    """Return the grid of an NRRD or MetaImage file from its header.

    Raises:
        DataError: the file is missing, damaged or no volume.
    """
    return _grid(_reader(path), path)


def itk_voxels(path: Path) -> tuple[np.ndarray, Grid]:
    """Return the voxels along the file's own axes, (X, Y, Z) or (X, Y, Z, C), and the grid.

    Raises:
        DataError: the file is missing, damaged or no volume.
    """
    import SimpleITK

    reader = _reader(path)
    grid = _grid(reader, path)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise _undecodable(path, error) from None
    values = SimpleITK.GetArrayFromImage(image)
    if values.dtype.kind not in "buif":
        raise DataError(f"{path}: voxels of type {values.dtype} are no grey values; export one number each.")
    if image.GetNumberOfComponentsPerPixel() > 1:
        if image.GetDimension() == 4:
            raise DataError(f"{path}: file holds four axes of vectors; give x, y, z and channels at most.")
        return np.moveaxis(values, -1, 0).T, grid
    return values.T, grid


def itk_image(values: np.ndarray, grid: Grid) -> Any:
    """Return (D, H, W) or (C, D, H, W) as a SimpleITK image with the axes of the grid's source file.

    Raises:
        DataError: the affine is sheared, which SimpleITK cannot hold.
    """
    import SimpleITK

    affine = LPS_TO_RAS @ grid.stored_affine
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    direction = affine[:3, :3] / sizes
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-4:
        raise DataError(f"grid {grid.shape} is sheared, which only NIfTI can hold; write .nii.gz.")
    stored = np.ascontiguousarray(np.moveaxis(as_stored(values, grid), (0, 1, 2), (2, 1, 0)))
    image = SimpleITK.GetImageFromArray(stored, isVector=values.ndim == 4)
    image.SetSpacing([float(size) for size in sizes])
    image.SetDirection([float(value) for value in direction.ravel()])
    image.SetOrigin([float(value) for value in affine[:3, 3]])
    return image


def write_itk(path: Path, values: np.ndarray, grid: Grid) -> None:
    """Write (D, H, W) or (C, D, H, W) as .nrrd, .mha or .mhd with the orientation and affine of the source file."""
    import SimpleITK

    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(itk_image(values, grid), str(path), useCompression=True)
