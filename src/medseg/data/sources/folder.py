"""Datasets that are folders of images and masks."""

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from medseg.data.cases import Case
from medseg.errors import ConfigError, DataError

_NEEDED = ("id", "image", "mask", "group")
_OWN_FIELDS = (*_NEEDED, "fold", "domain")


def _existing(root: str | Path) -> Path:
    folder = Path(root)
    if folder.is_dir():
        return folder
    raise DataError(
        f"data folder {folder} does not exist; set MEDSEG_DATA to the folder that holds it, name it with "
        "data.source.root=FOLDER, or use data=phantom."
    )


def read_manifest(root: str | Path, *, manifest: str = "manifest.csv", groups: str | Path | None = None) -> list[Case]:
    """Return the cases that a manifest lists, in its order.

    Columns: ``id``, ``image`` (files of several modalities separated by ``;``, nothing between two of them where one
    is missing), ``mask`` (several are united), ``group`` (the patient), optional ``fold`` and ``domain``; every other
    column becomes an attribute. Files are relative to ``root``.

    Args:
        root: folder of the dataset.
        manifest: name of the table in it.
        groups: table with the columns ``group`` and ``belongs_to``, as ``medseg data audit`` writes it where pictures
            of different patients turn out to be the same; the named groups become one.

    Raises:
        DataError: the folder or a table is absent, is not UTF-8 text, or lacks a column or a value.
    """
    folder = _existing(root)
    path = folder / manifest
    if not path.is_file():
        raise DataError(
            f"{path}: manifest is missing; write one with the columns {','.join(_NEEDED)},fold, or use data=folder "
            "on a folder with images/ and masks/."
        )
    cases = [_case(row, folder, f"{path} line {number}") for number, row in enumerate(_rows(path, _NEEDED), start=2)]
    if groups is None:
        return cases
    united = {str(row["group"]): str(row["belongs_to"]) for row in _rows(Path(groups), ("group", "belongs_to"))}
    strange = sorted(set(united) - {case.patient for case in cases})
    if strange:
        raise DataError(f"{groups}: group '{strange[0]}' is not in {path}; give the table of this dataset.")
    return [replace(case, patient=united.get(case.patient, case.patient)) for case in cases]


def _rows(path: Path, needed: Sequence[str]) -> list[dict[str, str | None]]:
    """Return the rows of a table that has the needed columns."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows, columns = list(reader), list(reader.fieldnames or [])
    except FileNotFoundError:
        raise DataError(f"{path}: table is missing; correct data.source.groups.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: table is not readable as UTF-8 comma-separated text ({error}).") from None
    absent = [name for name in needed if name not in columns]
    if absent:
        raise DataError(f"{path}: table lacks the column(s) {', '.join(absent)}; found {', '.join(columns) or 'none'}.")
    return rows


def _case(row: dict[str, str | None], folder: Path, where: str) -> Case:
    if None in row or None in row.values():
        raise DataError(f"{where}: row has more or fewer fields than the header; repair its commas.")
    cells = {name: (value or "").strip() for name, value in row.items()}
    for name in ("id", "image"):
        if not cells[name]:
            raise DataError(f"{where}: column '{name}' is empty; fill it or delete the row.")
    images = tuple(folder / name.strip() if name.strip() else None for name in cells["image"].split(";"))
    return Case(
        id=cells["id"],
        patient=cells["group"],
        images=images,
        masks=tuple(folder / name.strip() for name in cells["mask"].split(";") if name.strip()),
        domain=cells.get("domain", ""),
        fold=cells.get("fold", ""),
        attributes={name: value for name, value in cells.items() if name not in _OWN_FIELDS},
    )


def read_folder(
    root: str | Path,
    *,
    patient_pattern: str | None = None,
    one_image_per_patient: bool = False,
    manifest: str = "manifest.csv",
    groups: str | Path | None = None,
) -> list[Case]:
    """Return the cases of any folder: its ``manifest.csv`` if there is one, else ``images/`` and ``masks/`` by stem.

    Images of one patient on both sides of a split inflate every score, so without a manifest the patients must be
    declared.

    Args:
        root: folder of the dataset.
        patient_pattern: regular expression whose first group finds the patient in the file stem, for instance
            ``^(p[0-9]+)_``.
        one_image_per_patient: every image is a patient of its own.
        manifest: name of the manifest, where there is one.
        groups: as for :func:`read_manifest`.

    Raises:
        DataError: the folder is absent or empty, an image has no mask, or the patients are not declared.
        ConfigError: the pattern is no regular expression with a group, or both ways of declaring are used.
    """
    folder = _existing(root)
    if (folder / manifest).is_file():
        return read_manifest(folder, manifest=manifest, groups=groups)
    if groups is not None:
        raise ConfigError("data.source.groups joins groups of a manifest, and there is none; use patient_pattern.")
    images, masks = _by_stem(folder / "images"), _by_stem(folder / "masks")
    find = _patient_finder(folder, patient_pattern, one_image_per_patient)
    return [
        Case(id=stem, patient=find(stem), images=(path,), masks=(masks[stem],) if stem in masks else ())
        for stem, path in sorted(images.items())
    ]


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(
            f"{folder}: folder is missing; put images into images/ and masks of the same stems into masks/."
        )
    found: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")):
        if path.stem in found:
            raise DataError(f"{path}: same stem as {found[path.stem].name}; a stem names one case, rename one of them.")
        found[path.stem] = path
    if not found:
        raise DataError(f"{folder}: folder is empty; put the image files there or correct data.source.root.")
    return found


def _patient_finder(folder: Path, pattern: str | None, one_image_per_patient: bool) -> Callable[[str], str]:
    if one_image_per_patient and pattern is None:
        return lambda stem: stem
    if pattern is None:
        raise DataError(
            f"{folder}: which images share a patient is unknown, and a split by image would leak patients into the "
            "test side; set data.source.patient_pattern='^(REGEX)' or data.source.one_image_per_patient=true."
        )
    if one_image_per_patient:
        raise ConfigError("data.source.patient_pattern and one_image_per_patient exclude each other; keep one.")
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"data.source.patient_pattern='{pattern}' is no regular expression ({error}).") from None
    if not expression.groups:
        raise ConfigError(f"data.source.patient_pattern='{pattern}' has no (group); put the patient in parentheses.")

    def find(stem: str) -> str:
        match = expression.search(stem)
        if match is None or not match.group(1):
            raise DataError(f"{folder}: no patient found in '{stem}' by data.source.patient_pattern='{pattern}'.")
        return match.group(1)

    return find
