"""What can be wrong with a volume file, as one line each, and how large a file may be."""

import struct
import zlib
from pathlib import Path

from medseg.errors import DataError

MAX_VOXELS = 2**31
"""Voxels times channels of one file (8 GiB as float32); a header that claims more is refused before reading."""

MAX_FILE_BYTES = 8 * 2**30
"""Bytes of one volume file."""

DECODER_ERRORS: tuple[type[Exception], ...] = (
    OSError, EOFError, ValueError, TypeError, KeyError, OverflowError, MemoryError, RuntimeError, struct.error,
    zlib.error,
)  # fmt: skip
"""What the readers of volumes raise on damaged content (SimpleITK raises RuntimeError for everything)."""


def unreadable(path: Path, error: BaseException | str) -> DataError:
    """Return the error for a file whose content cannot be decoded, with the reader's reason on one line."""
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return DataError(f"{path}: file is unreadable or cut short ({reason}); copy it again from its source.")


def check_file(path: Path, *, limit: int = MAX_FILE_BYTES) -> None:
    """Check that a file is there, not empty and not larger than ``limit`` bytes.

    Raises:
        DataError: it is missing, empty or too large.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise DataError(f"{path}: file is missing; restore it or take its row out of the manifest.") from None
    if size == 0:
        raise unreadable(path, "0 bytes")
    if size > limit:
        raise DataError(f"{path}: file of {size} bytes exceeds the limit of {limit}; crop it or split it.")


def check_count(path: Path, count: int) -> None:
    """Check how many values a header announces.

    Raises:
        DataError: more than ``MAX_VOXELS``.
    """
    if count > MAX_VOXELS:
        raise DataError(
            f"{path}: header announces {count} voxels, over the limit of {MAX_VOXELS}; the file is damaged."
        )
