"""What an archive may become, and the only hand that writes its members: checked names, counted bytes."""

import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from medseg.data.prepare.progress import Progress
from medseg.errors import DataError

WAY_OUT = "if you trust it, unpack it yourself and give the folder as --source"

_CHUNK = 1 << 20
_DEEPEST = 32
_CLUTTER = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Limits:
    """What an archive may become, archives inside it included.

    Attributes:
        members: files and folders.
        size: bytes in all.
        ratio: bytes written per byte of archive, judged once more than ``harmless`` bytes were written. Deflate
            reaches 1030; archives of medical images lie below 10, of uncompressed label maps below 200.
        harmless: bytes below which no ratio is suspicious.
    """

    members: int = 500_000
    size: int = 500 * 10**9
    ratio: float = 200.0
    harmless: int = 10**8


@dataclass
class Budget:
    """What was unpacked so far, of one archive and of those inside it."""

    archive: Path
    packed: int
    limits: Limits
    members: int = 0
    size: int = 0
    progress: Progress | None = field(default=None, repr=False)

    def refuse(self, reason: str) -> DataError:
        """Return the error that says why."""
        return DataError(f"{self.archive}: archive refused, nothing was unpacked: {reason}; {WAY_OUT}.")

    def member(self, name: str, declared: int) -> None:
        """Count a member by its header, before anything of it is written."""
        self.members += 1
        if self.members > self.limits.members:
            raise self.refuse(f"it has more than {self.limits.members} members")
        if declared < 0:
            raise self.refuse(f"member {name!r} declares a negative size")
        self._judge(self.size + declared)

    def written(self, count: int) -> None:
        """Count bytes that were written."""
        self.size += count
        self._judge(self.size)
        if self.progress is not None:
            self.progress.advance(count)

    def _judge(self, size: int) -> None:
        if size > self.limits.size:
            raise self.refuse(f"it unpacks to more than {self.limits.size:,} bytes")
        if size > self.limits.harmless and size > self.limits.ratio * self.packed:
            raise self.refuse(f"it unpacks to more than {self.limits.ratio:g} times its size, as bombs do")


class Writer:
    """Makes checked folders and files below one root, which nothing else writes to and which never holds a link."""

    def __init__(self, root: Path, budget: Budget) -> None:
        self.root, self.budget = root.resolve(), budget
        self._folders: set[Path] = {self.root}

    def folder(self, name: str) -> None:
        """Make a folder; one that is there already is fine."""
        self.budget.member(name, 0)
        parts = self._parts(name)
        if not _is_clutter(parts):
            self._make(self.root.joinpath(*parts), name)

    def file(self, name: str, size: int) -> Path | None:
        """Return the path of a file to be, its folder made; None for clutter."""
        self.budget.member(name, size)
        parts = self._parts(name)
        if not parts:
            raise self.budget.refuse(f"member {name!r} has no name")
        if _is_clutter(parts):
            return None
        path = self.root.joinpath(*parts)
        self._make(path.parent, name)
        return path

    def fill(self, path: Path, content: IO[bytes], *, expected: int | None = None) -> None:
        """Write a new file, counting."""
        count = 0
        try:
            stream = path.open("xb")
        except FileExistsError:
            raise self.budget.refuse(f"member '{path.relative_to(self.root)}' occurs twice") from None
        with stream:
            while chunk := content.read(_CHUNK):
                self.budget.written(len(chunk))
                stream.write(chunk)
                count += len(chunk)
        if expected is not None and count != expected:
            raise self.budget.refuse(f"member '{path.relative_to(self.root)}' is cut short")

    def _parts(self, name: str) -> list[str]:
        plain = name.replace("\\", "/")
        if plain.startswith("/") or (len(plain) > 1 and plain[1] == ":" and plain[0].isalpha()):
            raise self.budget.refuse(f"member {name!r} has an absolute path")
        parts = [part for part in plain.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self.budget.refuse(f"member {name!r} leaves the folder")
        if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in plain):
            raise self.budget.refuse(f"member {name!r} has unprintable signs in its name")
        if len(parts) > _DEEPEST:
            raise self.budget.refuse(f"member {name[:60]!r} lies more than {_DEEPEST} folders deep")
        return parts

    def _make(self, folder: Path, name: str) -> None:
        if folder in self._folders:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise self.budget.refuse(f"member {name!r} is a file and a folder") from None
        if not folder.resolve().is_relative_to(self.root):
            raise self.budget.refuse(f"member {name!r} leaves the folder")
        self._folders.add(folder)


def _is_clutter(parts: list[str]) -> bool:
    return any(part in _CLUTTER for part in parts) or bool(parts and parts[-1].startswith("._"))
