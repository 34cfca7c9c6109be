"""ISIC 2018 task 1: skin lesions, 2594 training, 100 validation, 1000 test images (Codella et al., arXiv:1902.03368).

Layout as the challenge's archives hold it, by their listings: ``ISIC2018_Task1-2_Training_Input/ISIC_0000000.jpg`` and
``ISIC2018_Task1_Training_GroundTruth/ISIC_0000000_segmentation.png``, likewise Validation and Test; six archives in one
folder, or their content. Patients are not in them; a table of the ISIC archive (``metadata.csv`` with ``isic_id`` and
``patient_id`` or ``lesion_id``) beside them is used where it is there.
"""

from pathlib import Path

from medseg.data.prepare.layout import Layout
from medseg.data.prepare.official import (
    Groups,
    binary_mask,
    by_stem,
    find_folder,
    identical_files,
    maybe_file,
    partner,
    read_rows,
)
from medseg.errors import DataError

NAME = "ISIC 2018"
SIDES = {"Training": "train", "Validation": "val", "Test": "test"}
_KEYS = ("patient_id", "lesion_id")


def prepare(source: Path, layout: Layout) -> None:
    """Add every image with its mask; ``split`` is train, val or test as published.

    Validation and test are left out where their folders are absent.

    Raises:
        DataError: the training folders or a mask are missing, or a mask holds other values than two.
    """
    images: dict[str, dict[str, Path]] = {}
    for side in SIDES:
        if side == "Training" or any(path.is_dir() for path in source.rglob(f"ISIC2018_Task1-2_{side}_Input")):
            folder = find_folder(source, f"ISIC2018_Task1-2_{side}_Input", dataset=NAME)
            images[side] = by_stem(folder, ".jpg", ".jpeg", ".png", dataset=NAME)
        else:
            layout.leave_out(f"ISIC2018_Task1-2_{side}_Input", "folder or archive is not in the source")
    groups = _groups({stem: path for found in images.values() for stem, path in found.items()}, source, layout)
    layout.expect(sum(map(len, images.values())))
    for side, found in images.items():
        folder = find_folder(source, f"ISIC2018_Task1_{side}_GroundTruth", dataset=NAME)
        masks = by_stem(folder, ".png", dataset=NAME)
        for stem, image in found.items():
            mask = partner(masks, f"{stem}_segmentation", of=image, dataset=NAME, folder=folder)
            layout.add(id=stem, images=[image], masks=[binary_mask(mask)], group=groups.of(stem), split=SIDES[side])


def _groups(images: dict[str, Path], source: Path, layout: Layout) -> Groups:
    """Return groups: by the table where it names a patient or lesion, else an image is a group of its own."""
    path = maybe_file(source, "metadata.csv")
    known: dict[str, str] = {}
    if path is not None:
        rows = read_rows(path, "isic_id")
        if not any(key in rows[0] for key in _KEYS):
            raise DataError(f"{path}: a column patient_id or lesion_id is expected beside isic_id.")
        known = {row["isic_id"]: next((row[key] for key in _KEYS if row.get(key)), "") for row in rows}
    unknown = [stem for stem in images if not known.get(stem)]
    if unknown:
        layout.note(
            f"ISIC 2018: for {len(unknown)} of {len(images)} images neither patient nor lesion is known; each is a "
            "group of its own (byte-identical files share one), so one lesion may be on two sides of a split.",
        )
    return identical_files(images, group=lambda stem: known.get(stem) or stem)
