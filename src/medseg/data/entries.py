"""Cache entries as folders: made whole or not at all, and together no larger than a limit.

An entry is written beside its place and renamed into it under a lock. Who uses an entry holds a shared lock on its
``entry.json``, so that making room for another entry never takes it away from a running training.
"""

import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from medseg.errors import DataError

try:
    import fcntl
except ImportError:  # Windows refuses by itself to remove files that are open
    fcntl = None  # type: ignore[assignment]

LOG = logging.getLogger(__name__)
_NAME = re.compile(r".+-[0-9a-f]{20}")


class Room:
    """Watches a new entry grow and removes the least recently used others when all together exceed the limit.

    Args:
        folder: of the new entry.
        limit_gb: of all entries beside it, in 1e9 bytes; None is no limit.
    """

    def __init__(self, folder: Path, limit_gb: float | None) -> None:
        self.folder = folder
        self.limit = None if limit_gb is None else int(limit_gb * 1e9)
        found = [path for path in folder.parent.iterdir() if _NAME.fullmatch(path.name) and path != folder]
        entries = [path for path in found if (path / "entry.json").is_file()]
        self._others = sorted(entries, key=lambda path: (path / "entry.json").stat().st_mtime)
        self._sizes = {path: entry_size(path) for path in entries}

    def take(self, size: int) -> None:
        """Make room for an entry that has grown to ``size`` bytes.

        Raises:
            DataError: it exceeds the limit alone.
        """
        if self.limit is None:
            return
        if size > self.limit:
            raise DataError(
                f"{self.folder.name}: this cache entry alone exceeds data.cache_limit_gb={self.limit / 1e9:g}; raise "
                "the limit, preprocess to a smaller size, or set it to null for no limit."
            )
        while self._others and size + sum(self._sizes.values()) > self.limit:
            oldest = self._others.pop(0)
            freed = self._sizes.pop(oldest)
            if _removed(oldest):
                LOG.info("cache %s: removed, %.1f MB, to stay below %g GB", oldest, freed / 1e6, self.limit / 1e9)
            else:
                LOG.warning("cache %s: in use and therefore kept beyond the limit", oldest)


def entry_size(folder: Path) -> int:
    """Return the bytes of an entry's files."""
    return sum(path.stat().st_size for path in folder.iterdir())


def hold(folder: Path) -> IO[bytes] | None:
    """Mark an entry as used now and in use until the returned file is closed; None if the entry is not there."""
    try:
        stream = (folder / "entry.json").open("rb")
    except OSError:
        return None
    try:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.utime(folder / "entry.json")
    except OSError:  # a file system without locks, or a cache that may only be read
        LOG.debug("cache %s: use cannot be marked", folder)
    return stream


def _removed(folder: Path) -> bool:
    """Remove an entry unless somebody uses or makes it."""
    try:
        with FileLock(folder.with_name(folder.name + ".lock"), timeout=0), (folder / "entry.json").open("rb") as stream:
            if fcntl is not None:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            going = folder.with_name(f"{folder.name}.part-old-{os.getpid()}")
            os.replace(folder, going)
    except (OSError, Timeout):
        return False
    shutil.rmtree(going, ignore_errors=True)
    return True


def make_entry(folder: Path, fill: Callable[[Path, Room], None], *, limit_gb: float | None) -> None:
    """Make an entry unless it is there; several processes may ask at once.

    Args:
        folder: the entry's place.
        fill: writes the files into another folder and tells the room how many bytes there are.
        limit_gb: see :class:`Room`.

    Raises:
        DataError: what ``fill`` raised, or the cache folder cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(folder.name + ".lock")):
            if not folder.is_dir():
                _make(folder, fill, limit_gb)
    except OSError as error:
        raise DataError(
            f"{folder.parent}: cache cannot be written ({error.strerror or error}); free space or set MEDSEG_CACHE "
            "elsewhere."
        ) from None


def _make(folder: Path, fill: Callable[[Path, Room], None], limit_gb: float | None) -> None:
    """Fill and rename, under the lock; what an earlier, killed writer left is cleared away first."""
    for remains in folder.parent.glob(f"{folder.name}.part-*"):
        shutil.rmtree(remains, ignore_errors=True)
    part = folder.with_name(f"{folder.name}.part-{os.getpid()}")
    part.mkdir()
    try:
        room = Room(folder, limit_gb)
        fill(part, room)
        size = entry_size(part)
        room.take(size)
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    LOG.info("cache %s: %.1f MB", folder, size / 1e6)
