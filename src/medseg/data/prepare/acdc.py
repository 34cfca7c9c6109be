"""ACDC: cardiac cine MRI of 150 patients, end of diastole and of systole (Bernard et al., IEEE TMI 37, 2018).

Layout as described by the challenge page and public loaders, not verified against the archive: ``training/`` (patients
001-100) and ``testing/`` (101-150) with ``patientXXX/`` holding ``Info.cfg`` (ED and ES: frame numbers, Group, Height,
Weight), ``patientXXX_frameYY.nii.gz``, ``patientXXX_frameYY_gt.nii.gz`` and ``patientXXX_4d.nii.gz``. The 4D series is
not used: it has no labels beyond the two frames.
"""

from pathlib import Path

from medseg.data.prepare.layout import Layout
from medseg.data.prepare.official import check_labels, find_all
from medseg.errors import DataError

NAME = "ACDC"
VALUES = (0, 1, 2, 3)


def prepare(source: Path, layout: Layout, *, check: bool = True) -> None:
    """Add both labelled frames of every patient.

    Columns: ``split`` (train or test as published), ``phase`` (ED, ES), ``pathology``, ``height``, ``weight``.

    Args:
        source: folder of the unpacked archive.
        layout: receives the cases.
        check: read every label volume and compare its values with 0 to 3.

    Raises:
        DataError: a patient lacks ``Info.cfg``, a frame or its labels, or labels hold other values.
    """
    pattern = r"patient\d+_frame\d+\.nii(\.gz)?"
    frames = find_all(source, pattern, dataset=NAME, what="files like patient001_frame01.nii.gz")
    for folder in dict.fromkeys(path.parent for path in frames):
        info, patient = folder / "Info.cfg", folder.name
        if not info.is_file():
            raise DataError(f"{folder}: ACDC has 'Info.cfg' in it, which tells the frames apart, but it is missing.")
        facts = _facts(info)
        above = [part.lower() for part in folder.relative_to(source).parts]
        side = next((name for name in _SIDES if name in above), "")
        for phase in ("ED", "ES"):
            image, label = _frame(folder, facts, phase, info)
            if check:
                check_labels(label, VALUES, dataset=NAME)
            layout.add(
                id=f"{patient}_{phase}",
                images=[image],
                masks=[label],
                group=patient,
                split=_SIDES.get(side, ""),
                phase=phase,
                pathology=facts.get("Group", ""),
                height=facts.get("Height", ""),
                weight=facts.get("Weight", ""),
            )
    layout.note("ACDC: the group is the patient; labels 1 right ventricle, 2 myocardium, 3 left ventricle.")


_SIDES = {"training": "train", "testing": "test"}


def _facts(path: Path) -> dict[str, str]:
    pairs = [line.partition(":") for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def _frame(folder: Path, facts: dict[str, str], phase: str, info: Path) -> tuple[Path, Path]:
    if not facts.get(phase, "").isdigit():
        raise DataError(f"{info}: states no frame number for {phase} ('{phase}: N').")
    stem = f"{folder.name}_frame{int(facts[phase]):02d}"
    found = []
    for name in (stem, f"{stem}_gt"):
        path = next(
            (folder / f"{name}{end}" for end in (".nii.gz", ".nii") if (folder / f"{name}{end}").is_file()), None
        )
        if path is None:
            raise DataError(f"{folder}: {NAME} has '{name}.nii.gz' for phase {phase}, but it is missing.")
        found.append(path)
    return found[0], found[1]
