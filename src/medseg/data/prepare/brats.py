"""BraTS 2020 and 2021: gliomas in four MRI sequences (Menze et al. 2015; Bakas et al. 2017; Baid et al. 2021).

Layout as described by the challenge pages and public loaders, not verified against the archives: one folder a patient,
``BraTS20_Training_001/`` or ``BraTS2021_00000/``, with files of the folder's name plus ``_t1``, ``_t1ce``, ``_t2``,
``_flair`` and ``_seg`` (``.nii`` or ``.nii.gz``); for 2020 also ``name_mapping.csv`` with grade and the earlier years'
ids. Labels 0, 1 necrosis, 2 oedema, 4 enhancing tumour. The copy of ``BraTS20_Training_355`` in circulation calls its
segmentation ``W39_1998.09.19_Segm.nii``. From 2023 on names and labels differ; those archives are refused.
"""

import re
from pathlib import Path

from medseg.data.prepare.layout import Layout
from medseg.data.prepare.official import check_labels, find_all, maybe_file, read_rows
from medseg.errors import DataError

NAME = "BraTS"
CHANNELS = ("t1", "t1ce", "t2", "flair")
VALUES = (0, 1, 2, 4)


def prepare(source: Path, layout: Layout, *, missing: bool = False, check: bool = True) -> None:
    """Add every patient with the channels T1, T1c, T2, FLAIR in this order.

    Columns: ``grade`` and ``domain`` (the collecting site in an earlier year's id) where the 2020 table is there.

    Args:
        source: folder of the unpacked training archive.
        layout: receives the cases.
        missing: accept patients who lack a sequence and record it as missing; an error otherwise.
        check: read every segmentation and compare its values with 0, 1, 2 and 4.

    Raises:
        DataError: no patient is there, one lacks a sequence or segmentation, or labels hold other values.
    """
    _refuse_later_years(source)
    pattern = r"(BraTS20_Training_\d+|BraTS2021_\d+)_(t1|t1ce|t2|flair)\.nii(\.gz)?"
    files = find_all(source, pattern, dataset=NAME, what="files like BraTS20_Training_001_flair.nii.gz")
    folders = {path.name[: path.name.rindex("_")]: path.parent for path in files}
    table = _table(source)
    layout.expect(len(folders))
    for patient, folder in folders.items():
        images = [_sequence(folder, f"{patient}_{channel}") for channel in CHANNELS]
        absent = [channel for channel, image in zip(CHANNELS, images, strict=True) if image is None]
        if absent and not missing:
            raise DataError(f"{folder}: '{patient}_{absent[0]}.nii.gz' is missing; missing=true records it as missing.")
        label = _sequence(folder, f"{patient}_seg") or _misnamed(folder)
        if label is None:
            raise DataError(f"{folder}: '{patient}_seg.nii.gz' is missing; take the training archive.")
        if check:
            check_labels(label, VALUES, dataset=NAME)
        grade, site = table.get(patient, ("", ""))
        layout.add(id=patient, images=images, masks=[label], group=patient, domain=site, grade=grade)
    layout.note(
        "BraTS: one folder is one patient. The years overlap and share patients with the LGG slices, so never train on "
        "one of them and test on another.",
    )


def _refuse_later_years(source: Path) -> None:
    later = next((path for path in source.rglob("BraTS-*-t1n.nii*")), None)
    if later is not None:
        raise DataError(f"{later}: is of BraTS 2023 or later, whose labels mean other tissues; 2020 and 2021 are read.")


def _sequence(folder: Path, name: str) -> Path | None:
    return next((folder / f"{name}{end}" for end in (".nii.gz", ".nii") if (folder / f"{name}{end}").is_file()), None)


def _misnamed(folder: Path) -> Path | None:
    found = [path for path in folder.iterdir() if re.search(r"_Segm\.nii(\.gz)?$", path.name)]
    return found[0] if len(found) == 1 else None


def _table(source: Path) -> dict[str, tuple[str, str]]:
    """Return (grade, site) of each patient of 2020."""
    path = maybe_file(source, "name_mapping.csv")
    if path is None:
        return {}
    rows = read_rows(path, "Grade", "BraTS_2020_subject_ID")
    return {row["BraTS_2020_subject_ID"]: (row["Grade"], _site(row.get("BraTS_2019_subject_ID", ""))) for row in rows}


def _site(former: str) -> str:
    match = re.fullmatch(r"BraTS19_([A-Za-z0-9]+)_.*", former)
    return match.group(1) if match else ""
