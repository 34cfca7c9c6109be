"""Any folder of images and masks: pairs by name, several masks or modalities a case, patients as the user states."""

import glob
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.prepare import options
from medseg.data.prepare.copies import DETACHED, PICTURES, VOLUMES, is_volume_file, suffix_of
from medseg.data.prepare.layout import Layout
from medseg.data.prepare.masks import read_label_picture
from medseg.errors import ConfigError, DataError

_KNOWN = (*PICTURES, ".gif", *VOLUMES, *DETACHED)


def prepare(
    source: Path,
    layout: Layout,
    *,
    images: str = "",
    masks: str = "",
    mask: str = "{stem}",
    modalities: str | None = None,
    patient: str | None = None,
    patients: str | None = None,
    one_image_per_patient: bool = False,
    values: str | None = None,
    domain: str = "",
    spacing: str = "",
) -> None:
    """Lay out a folder of images and masks.

    Args:
        source: the folder.
        layout: takes the cases.
        images: folder of the images below ``source``; default ``images`` if it is there, else ``source`` itself.
        masks: folder of the masks; default ``masks`` if it is there, else that of the images.
        mask: name of an image's mask without suffix; ``*`` stands for anything, several that fit are united:
            ``{stem}_mask``, ``{stem}_mask*``.
        modalities: endings of the image files of one case in the order of the channels: ``_0000,_0001``; one that is
            not there is a missing modality.
        patient: regular expression whose first (group) is the patient in the stem.
        patients: CSV table with the columns image,patient.
        one_image_per_patient: every image is a patient of its own.
        values: value in the mask file to stored value: ``0:0,1:255``; without it values are kept.
        domain: scanner or site of all of them.
        spacing: ``ROWxCOLUMN`` in millimetres of all of them.

    Raises:
        DataError: a folder or file is missing, or an image has no mask.
        ConfigError: an option cannot be used.
    """
    find = options.patient_finder(patient=patient, patients=patients, one_image_per_patient=one_image_per_patient)
    mapping = options.value_map(values)
    endings = options.names(modalities, option="modalities") or [""]
    if "{stem}" not in mask:
        raise ConfigError(f"mask={mask}: write how a mask's name follows from its image's, for instance {{stem}}_mask.")
    pictures = _files(_below(source, images, "images"))
    outlines = _files(_below(source, masks, "masks")) if masks or (source / "masks").is_dir() else pictures
    if outlines is pictures and mask == "{stem}":
        raise ConfigError(
            f"{source}: images and masks lie in one folder; say how masks are named, for instance mask={{stem}}_mask."
        )
    cases = _cases(pictures, endings, mask if outlines is pictures else None)
    layout.expect(len(cases))
    extra: dict[str, Any] = {"spacing": spacing} if spacing else {}
    for stem, parts in cases.items():
        found = _masks(outlines, stem, mask)
        if not found:
            raise DataError(
                f"{next(path for path in parts if path)}: no mask named '{mask.format(stem=stem)}' was found; add it "
                "or say how masks are named (mask={stem}_mask)."
            )
        stored = [path if mapping is None else _mapped(path, mapping) for path in found]
        layout.add(id=stem, images=parts, masks=stored, group=find(stem), domain=domain, **extra)


def _below(source: Path, name: str, usual: str) -> Path:
    folder = source / name if name else source / usual if (source / usual).is_dir() else source
    if not folder.is_dir():
        raise DataError(f"{folder}: folder is missing below the source; name it with {usual}=FOLDER.")
    return folder


def _files(folder: Path) -> dict[str, Path]:
    """Return the image files of a folder under their stems."""
    found: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        suffix = suffix_of(path)
        if not path.is_file() or suffix not in _KNOWN:
            continue
        stem = path.name[: -len(suffix)]
        if stem in found:
            raise DataError(f"{path}: same stem as {found[stem].name}; a stem names one case, rename one of them.")
        found[stem] = path
    if not found:
        raise DataError(f"{folder}: no image file found; known are {', '.join(_KNOWN)}.")
    return found


def _cases(files: dict[str, Path], endings: Sequence[str], mask: str | None) -> dict[str, list[Path | None]]:
    """Return the image files of each case, None for a missing modality; masks between them are no cases."""
    drawn = {name for stem in files for name in _masks_named(files, stem, mask)} if mask else set()
    cases: dict[str, list[Path | None]] = {}
    for name, path in files.items():
        fitting = [number for number, ending in enumerate(endings) if name.endswith(ending) and name != ending]
        if name in drawn:
            continue
        if not fitting:
            raise DataError(f"{path}: name ends with none of modalities={','.join(endings)}; rename or add one.")
        number = max(fitting, key=lambda index: len(endings[index]))
        stem = name[: len(name) - len(endings[number])]
        cases.setdefault(stem, [None] * len(endings))[number] = path
    return cases


def _masks_named(files: dict[str, Path], stem: str, mask: str) -> list[str]:
    pattern = mask.format(stem=glob.escape(stem))
    if "*" not in mask:
        name = mask.format(stem=stem)
        return [name] if name in files else []
    return [name for name in files if fnmatchcase(name, pattern)]


def _masks(files: dict[str, Path], stem: str, mask: str) -> list[Path]:
    return [files[name] for name in _masks_named(files, stem, mask)]


def _mapped(path: Path, mapping: dict[int, int]) -> np.ndarray:
    if is_volume_file(path):
        raise ConfigError(f"values: {path.name} is a volume and keeps its values; map them in the config (labels).")
    return read_label_picture(path, values=mapping)[0]
