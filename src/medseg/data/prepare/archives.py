"""Archives unpacked safely: every member is checked by medseg itself, and a refusal leaves nothing behind.

The library's own extraction filters were by-passed repeatedly (CVE-2025-4138, -4330, -4517), so nothing is handed to
``extractall``: members are judged one by one, links and devices are refused, and the data are counted while they are
written, because headers may lie. Made for image archives; the limits are stated in
:class:`medseg.data.prepare.unpacked.Limits`.
"""

import bz2
import gzip
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medseg.data.prepare.progress import Progress
from medseg.data.prepare.unpacked import Budget, Limits, Writer
from medseg.errors import DataError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

_LONGEST_HEADER = 16 << 20
_NESTED = 2
_BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError,
    UnicodeError, ValueError, OverflowError,
)  # fmt: skip


@contextmanager
def opened(source: Path, *, limits: Limits | None = None, scratch: Path | None = None) -> Iterator[Path]:
    """Yield a folder with the content of ``source``; an archive lies in a temporary folder that is removed at the end.

    Archives inside an archive are unpacked too (two levels), each into a folder of its name without the suffix; so
    are those of a folder that holds archives and files but no folder (a set that is distributed in parts).
    Clutter of operating systems (``__MACOSX``, ``._*``, ``.DS_Store``, ``Thumbs.db``) is left out.

    Args:
        source: folder (else yielded as it is), or .zip, .tar, .tar.gz, .tar.bz2, .tar.xz archive.
        limits: of members, bytes and compression ratio.
        scratch: folder to make the temporary one in; None means the system's (``TMPDIR``).

    Raises:
        DataError: the source is missing or no archive; or a member leaves the folder, is a link or a device, occurs
            twice, is encrypted or damaged; or a limit is passed. Nothing of it is left.
    """
    archives = _lone_archives(source) if source.is_dir() else [source]
    if not archives:
        yield source
        return
    if not source.exists():
        raise DataError(f"{source}: source does not exist; give the archive or the folder it was unpacked to.")
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="medseg-unpacked-", dir=scratch, ignore_cleanup_errors=True) as place:
        folder = Path(place).resolve()
        if source.is_dir():
            _gather(source, archives, folder, limits or Limits())
        else:
            _unpack_all(source, folder, Budget(source, source.stat().st_size, limits or Limits()))
        yield folder


def single(folder: Path) -> Path:
    """Descend while a folder holds one folder and nothing else; archives often wrap their content so."""
    while True:
        inside = [item for item in folder.iterdir() if not item.name.startswith(".")]
        if len(inside) != 1 or not inside[0].is_dir():
            return folder
        folder = inside[0]


def is_archive(path: Path) -> bool:
    """Return whether a file is an archive by its suffix."""
    return path.is_file() and path.name.lower().endswith(SUFFIXES)


def _lone_archives(folder: Path) -> list[Path]:
    inside = [item for item in sorted(folder.iterdir()) if not item.name.startswith(".")]
    return [] if any(item.is_dir() for item in inside) else [item for item in inside if is_archive(item)]


def _gather(source: Path, archives: list[Path], folder: Path, limits: Limits) -> None:
    """Unpack each archive of a folder into a folder of its name; files beside them are copied."""
    for archive in archives:
        place = _folder_for(folder / archive.name)
        place.mkdir()
        _unpack_all(archive, place, Budget(archive, archive.stat().st_size, limits))
    for item in sorted(source.iterdir()):
        if item.is_file() and item not in archives and not item.name.startswith("."):
            shutil.copyfile(item, folder / item.name)


def _unpack_all(source: Path, folder: Path, budget: Budget) -> None:
    budget.progress = Progress(f"unpack {source.name}", unit="bytes")
    try:
        _unpack(source, folder, budget)
        waiting = [(path, 1) for path in sorted(folder.rglob("*")) if is_archive(path)]
        while waiting:
            inner, depth = waiting.pop()
            if depth > _NESTED:
                raise budget.refuse(f"'{inner.name}' is an archive in an archive in an archive")
            place = _folder_for(inner)
            place.mkdir()
            _unpack(inner, place, budget)
            inner.unlink()
            waiting += [(path, depth + 1) for path in sorted(place.rglob("*")) if is_archive(path)]
    finally:
        budget.progress.stop()


def _folder_for(archive: Path) -> Path:
    ending = max((suffix for suffix in SUFFIXES if archive.name.lower().endswith(suffix)), key=len)
    stem = archive.name[: -len(ending)] or "archive"
    place = archive.with_name(stem)
    return archive.with_name(f"{stem}_unpacked") if place.exists() else place


def _unpack(archive: Path, folder: Path, budget: Budget) -> None:
    kind = _kind(archive)
    try:
        if kind == "zip":
            _unpack_zip(archive, Writer(folder, budget))
        else:
            _unpack_tar(archive, kind, Writer(folder, budget))
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise budget.refuse(f"'{archive.name}' is damaged or of an unknown kind ({reason})") from None
    except OSError as error:
        raise DataError(
            f"{archive}: unpacking failed ({error}), nothing was kept; free space, or check the disk."
        ) from None


def _kind(archive: Path) -> str:
    """Return the kind of an archive by its first bytes, whatever its name says."""
    with archive.open("rb") as stream:
        head = stream.read(512)
    starts = {"zip": b"PK", "gz": b"\x1f\x8b", "bz2": b"BZh", "xz": b"\xfd7zXZ\x00"}
    for kind, mark in starts.items():
        if head.startswith(mark):
            return kind
    if head[257:262] == b"ustar" or (archive.name.lower().endswith(".tar") and head):
        return "tar"
    shown = head[:24].decode("ascii", "replace").split("\n")[0]
    raise DataError(
        f"{archive}: no zip or tar archive (it begins with {shown!r}); download it again, or unpack other kinds "
        "yourself and give the folder as --source."
    )


def _unpack_zip(archive: Path, writer: "Writer") -> None:
    with zipfile.ZipFile(archive) as stream:
        for member in stream.infolist():
            mode = stat.S_IFMT(member.external_attr >> 16)
            name = member.orig_filename
            if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise writer.budget.refuse(f"member {name!r} is a link or a device")
            if member.flag_bits & 1:
                raise writer.budget.refuse(f"member {name!r} is encrypted")
            if member.is_dir() or mode == stat.S_IFDIR or name.endswith("\\"):
                writer.folder(name)
                continue
            path = writer.file(name, member.file_size)
            if path is not None:
                with stream.open(member) as content:
                    writer.fill(path, content)


def _unpack_tar(archive: Path, kind: str, writer: Writer) -> None:
    with archive.open("rb") as raw:
        unpacked: Any = {"gz": gzip.GzipFile, "bz2": bz2.BZ2File, "xz": lzma.LZMAFile}.get(kind)
        content = raw if unpacked is None else unpacked(raw, "rb") if kind != "gz" else unpacked(fileobj=raw)
        guarded = _Guarded(content, writer.budget)
        with tarfile.open(fileobj=guarded, mode="r:") as stream:  # type: ignore[call-overload]
            while (member := stream.next()) is not None:
                stream.members.clear()  # type: ignore[attr-defined]  # a million headers need not be kept
                _unpack_member(stream, member, writer)
            guarded.expect_end(stream.offset)


def _unpack_member(stream: tarfile.TarFile, member: tarfile.TarInfo, writer: Writer) -> None:
    if member.isdir():
        writer.folder(member.name)
        return
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
        raise writer.budget.refuse(f"member {member.name!r} is a link, a device or no plain file")
    path = writer.file(member.name, member.size)
    if path is not None:
        content = stream.extractfile(member)
        assert content is not None, "a plain file has content"
        writer.fill(path, content, expected=member.size)


class _Guarded:
    """A seekable stream that refuses to be read in pieces that no honest header needs."""

    def __init__(self, stream: Any, budget: Budget) -> None:
        self._stream, self._budget = stream, budget

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > _LONGEST_HEADER:
            raise self._budget.refuse(f"a header of {size} bytes")
        data: bytes = self._stream.read(size)
        return data

    def expect_end(self, offset: int) -> None:
        """Read what follows the last member: an empty block, padding, and with them the checksum of the compression.

        Raises:
            EOFError: the end is missing.
        """
        self.seek(offset)
        if self.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise EOFError("its end is missing")
        if len(self.read(_LONGEST_HEADER)) == _LONGEST_HEADER:
            raise self._budget.refuse("more follows after its end")

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        return int(self._stream.tell())
