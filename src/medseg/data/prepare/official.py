"""What the preparers share: finding the parts of an official archive, reading masks, putting images into groups."""

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medseg.data.files import read_image
from medseg.errors import DataError

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif")
_DEPTH = 6  # folders that archives put around their contents


def natural(text: str) -> list[tuple[int, str]]:
    """Return a sort key by which ``slice_10`` follows ``slice_9``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name in ("__MACOSX", "Thumbs.db")


def listing(folder: Path) -> str:
    """Return the first names of a folder for a message."""
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir() if not _hidden(path))
    return ", ".join(names[:6]) + (f", ... ({len(names)} entries)" if len(names) > 6 else "") if names else "nothing"


def _missing(source: Path, wanted: str, dataset: str) -> DataError:
    return DataError(
        f"{source}: {dataset} has {wanted} in its official archive, found here: {listing(source)}; name the unpacked "
        "official archive with --source."
    )


def _folders(source: Path) -> Iterable[Path]:
    """Yield ``source`` and the folders below it, shallow ones first."""
    level = [source]
    for _ in range(_DEPTH + 1):
        yield from level
        level = sorted(path for folder in level for path in folder.iterdir() if path.is_dir() and not _hidden(path))


def find_folder(source: Path, *names: str, dataset: str) -> Path:
    """Return the shallowest folder with one of the names (upper and lower case alike), ``source`` itself included.

    Raises:
        DataError: there is none; the line says what was expected and what is there.
    """
    wanted = {name.lower() for name in names}
    for folder in _folders(source):
        if folder.name.lower() in wanted:
            return _unwrapped(folder)
    raise _missing(source, "a folder " + " or ".join(f"'{name}'" for name in names), dataset)


def _unwrapped(folder: Path) -> Path:
    """Descend into a folder of the same name, which unpacking an archive into a folder of its name leaves."""
    while (folder / folder.name).is_dir():
        folder = folder / folder.name
    return folder


def find_file(source: Path, *names: str, dataset: str) -> Path:
    """Return the shallowest file with one of the names (upper and lower case alike).

    Raises:
        DataError: there is none.
    """
    found = maybe_file(source, *names)
    if found is None:
        raise _missing(source, "a file " + " or ".join(f"'{name}'" for name in names), dataset)
    return found


def maybe_file(source: Path, *names: str) -> Path | None:
    """Return the shallowest file with one of the names, None where there is none."""
    wanted = {name.lower() for name in names}
    for folder in _folders(source):
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.name.lower() in wanted:
                return path
    return None


def find_all(source: Path, pattern: str, *, dataset: str, what: str) -> list[Path]:
    """Return every file below ``source`` whose name matches the regular expression wholly, in natural order.

    Raises:
        DataError: no file matches.
    """
    expression = re.compile(pattern)
    found = [
        path
        for path in source.rglob("*")
        if path.is_file() and not any(_hidden(part) for part in (path, *path.relative_to(source).parents))
        if expression.fullmatch(path.name)
    ]
    if not found:
        raise _missing(source, what, dataset)
    return sorted(found, key=lambda path: natural(str(path.relative_to(source))))


def by_stem(folder: Path, *suffixes: str, dataset: str) -> dict[str, Path]:
    """Return the files of a folder with one of the suffixes under their stems, in natural order.

    Raises:
        DataError: there is none, or two files share a stem.
    """
    wanted = suffixes or PICTURES
    paths = [path for path in folder.iterdir() if path.is_file() and not _hidden(path)]
    found: dict[str, Path] = {}
    for path in sorted(paths, key=lambda path: natural(path.name)):
        if path.suffix.lower() not in wanted:
            continue
        if path.stem in found:
            raise DataError(f"{path}: {dataset} has one file of this name, here is also {found[path.stem].name}.")
        found[path.stem] = path
    if not found:
        raise _missing(folder, f"files {', '.join('*' + suffix for suffix in wanted)}", dataset)
    return found


def partner(images: Mapping[str, Path], stem: str, *, of: Path, dataset: str, folder: Path) -> Path:
    """Return the mask of a stem.

    Raises:
        DataError: there is none.
    """
    if stem not in images:
        raise DataError(
            f"{of}: {dataset} has a mask for it, but {folder} holds no '{stem}'; unpack the official archive again."
        )
    return images[stem]


def binary_mask(path: Path, *, threshold: int = 127) -> np.ndarray:
    """Return a two-valued mask picture as uint8 (H, W) of 0 and 255.

    Lossless files must hold two values, 0 and 1 or 0 and 255 (grey of the palette, not its index). A JPEG holds every
    value near them, so there whatever exceeds ``threshold`` is foreground.

    Raises:
        DataError: the file is unreadable or lossless with other values.
    """
    values = read_image(path, channels=1)[..., 0]
    with Image.open(path) as picture:
        lossy = picture.format == "JPEG"
    found = np.unique(values)
    if not lossy and not (set(found.tolist()) <= {0, 1} or set(found.tolist()) <= {0, 255}):
        strange = [int(value) for value in found if value not in (0, 255)]
        raise DataError(f"{path}: mask holds value(s) {strange[:5]} beside 0 and 255; two classes are expected.")
    foreground = values > (threshold if lossy else 0)
    return foreground.astype(np.uint8) * 255


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        DataError: it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as JSON ({error}); unpack the official archive again.") from None


def read_rows(path: Path, *needed: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file; column names lose surrounding spaces.

    Raises:
        DataError: it is no CSV text or lacks a needed column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [
                {str(key).strip(): str(value or "").strip() for key, value in row.items()}
                for row in csv.DictReader(stream)
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not readable as comma-separated text ({error}).") from None
    absent = [name for name in needed if not rows or name not in rows[0]]
    if absent:
        found = ", ".join(rows[0]) if rows else "no row"
        raise DataError(f"{path}: column(s) {', '.join(absent)} are expected, found: {found}.")
    return rows


class Groups:
    """Which names belong together: names joined, directly or through others, share one group."""

    def __init__(self, names: Iterable[str]) -> None:
        self._above = {name: name for name in names}

    def join(self, first: str, second: str) -> None:
        """Put two names, and all that is already with them, into one group."""
        one, other = sorted((self.of(first), self.of(second)), key=natural)
        self._above[other] = one

    def of(self, name: str) -> str:
        """Return the group of a name: the first of its names in natural order."""
        while self._above[name] != name:
            name = self._above[name]
        return name

    @property
    def joined(self) -> int:
        """How many names are in the group of another."""
        return sum(name != above for name, above in self._above.items())


def identical_files(files: Mapping[str, Path], *, group: Callable[[str], str] = str) -> Groups:
    """Return groups in which names of byte-identical files, and of one ``group(name)``, are together."""
    groups = Groups([*files, *(group(name) for name in files)])
    seen: dict[str, str] = {}
    for name, path in files.items():
        groups.join(name, group(name))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        groups.join(name, seen.setdefault(digest, name))
    return groups


def check_labels(path: Path, allowed: Sequence[int], *, dataset: str) -> None:
    """Read a label volume and compare its values with the documented ones.

    Raises:
        DataError: the file is unreadable or holds another value.
    """
    from medseg.data.volumes.files import read_label_volume

    try:
        read_label_volume(path, labels={int(value): int(value) for value in allowed})
    except DataError as error:
        raise DataError(f"{dataset}: {error}") from None
