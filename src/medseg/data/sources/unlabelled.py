"""Images without masks: the cases of a folder that somebody wants predicted."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from medseg.data.cases import Case, by_id
from medseg.data.files import PICTURE_SUFFIXES
from medseg.data.volumes.files import SUFFIXES, is_volume
from medseg.errors import DataError

_CHANNEL = re.compile(r"(.+)_(\d{4})")


def find_images(folder: Path, *, channels: int, spatial_dims: int) -> list[Case]:
    """Return the images of a folder as cases without mask and patient, in order of their ids.

    A ``manifest.csv`` with the columns ``id`` and ``image`` decides where there is one (files of several modalities
    separated by ``;``, nothing where one is missing). Otherwise every picture, volume file or folder with a DICOM
    series is a case, and files whose names end in ``_0000``, ``_0001``, ... are the channels of one case. Pictures of
    one or three channels are never joined that way, because their channels come in one file.

    Args:
        folder: of the images; of DICOM slices, it is one case itself.
        channels: image channels C that the network expects.
        spatial_dims: 2 for pictures, 3 for volumes.

    Raises:
        DataError: nothing is there, two images have one id, or the manifest is no such table.
    """
    if (folder / "manifest.csv").is_file():
        cases = _listed(folder)
    else:
        found = _volumes(folder) if spatial_dims == 3 else _pictures(folder)
        joined = channels > 1 if spatial_dims == 3 else channels not in (1, 3)
        cases = _cases(found, channels if joined else 1)
    if not cases:
        kinds = ", ".join(PICTURE_SUFFIXES if spatial_dims == 2 else (*SUFFIXES[:-1], "folders of DICOM slices"))
        raise DataError(f"{folder}: no image there ({kinds}); give a folder with images as input=...")
    return list(by_id(cases).values())


def stem_of(path: Path) -> str:
    """Return a file's name without its ending, ``.nii.gz`` included; a folder's name."""
    if path.is_dir():
        return path.name
    name = path.name
    for ending in sorted((*SUFFIXES, *PICTURE_SUFFIXES), key=len, reverse=True):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return path.stem


def _pictures(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_file() and path.suffix.lower() in PICTURE_SUFFIXES]


def _volumes(folder: Path) -> list[Path]:
    """Return volume files and series folders; a folder of slices is itself the only one."""
    inside = _visible(folder)
    files = [path for path in inside if path.is_file() and is_volume(path) and path.suffix.lower() != ".dcm"]
    series = [path for path in inside if path.is_dir() and any(part.is_file() for part in _visible(path))]
    if not files and not series and any(path.suffix.lower() == ".dcm" for path in inside):
        return [folder]
    return files + series


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def _cases(paths: Sequence[Path], channels: int) -> list[Case]:
    matches = [_CHANNEL.fullmatch(stem_of(path)) for path in paths]
    if channels == 1 or not paths or not all(match and int(match[2]) < channels for match in matches):
        return [Case(id=stem_of(path), patient="", images=(path,)) for path in paths]
    grouped: dict[str, list[Path | None]] = {}
    for path, match in zip(paths, matches, strict=True):
        assert match is not None
        files = grouped.setdefault(match[1], [None] * channels)
        if files[int(match[2])] is not None:
            raise DataError(f"{path}: case '{match[1]}' has this channel twice; keep one file of it.")
        files[int(match[2])] = path
    return [Case(id=name, patient="", images=tuple(files)) for name, files in grouped.items()]


def _listed(folder: Path) -> list[Case]:
    path = folder / "manifest.csv"
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: manifest is not readable as UTF-8 comma-separated text ({error}).") from None
    cases = []
    for number, row in enumerate(rows, start=2):
        names = (row.get("image") or "").split(";")
        if not row.get("id") or not any(name.strip() for name in names):
            raise DataError(f"{path} line {number}: columns 'id' and 'image' need a value; fill them or drop the row.")
        images = tuple(folder / name.strip() if name.strip() else None for name in names)
        for image in images:
            if image is not None and not image.exists():
                raise DataError(f"{image}: file of case '{row['id']}' is missing; restore it or correct {path.name}.")
        cases.append(Case(id=str(row["id"]), patient="", images=images))
    return cases
