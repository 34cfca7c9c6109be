"""ThyroidXL: thyroid nodules, more than 11 500 images of 4093 patients (Duong et al., MICCAI 2025).

Layout as described by a public benchmark that uses the gated archive, not verified against it: ``train/`` and
``test/``, each with ``images/*.png``, ``masks/*.png`` of the same names, and ``train_annotations.json`` or
``test_annotations.json`` that hold ``{"info": {PATIENT: {"images": [NAME, ...], ...}}}``.
"""

from pathlib import Path

from medseg.data.prepare.layout import Layout
from medseg.data.prepare.official import binary_mask, by_stem, find_file, find_folder, partner, read_json
from medseg.errors import DataError

NAME = "ThyroidXL"


def prepare(source: Path, layout: Layout) -> None:
    """Add every image with its mask; ``split`` is the published train or test, ``group`` the patient.

    Raises:
        DataError: a folder, mask or the patient of an image is missing, or a mask holds other values than two.
    """
    for side in ("train", "test"):
        annotations = find_file(source, f"{side}_annotations.json", dataset=NAME)
        patients = _patients(annotations)
        folder = find_folder(annotations.parent, "masks", dataset=NAME)
        masks = by_stem(folder, dataset=NAME)
        for stem, image in by_stem(find_folder(annotations.parent, "images", dataset=NAME), dataset=NAME).items():
            if image.name not in patients:
                raise DataError(f"{image}: {annotations} names no patient for it; without one splits would leak.")
            mask = partner(masks, stem, of=image, dataset=NAME, folder=folder)
            layout.add(
                id=f"{side}_{stem}", images=[image], masks=[binary_mask(mask)], group=patients[image.name], split=side
            )
    layout.note("ThyroidXL: groups are the published patients; train and test are as published.")


def _patients(path: Path) -> dict[str, str]:
    """Return the patient of each file name."""
    content = read_json(path)
    info = content.get("info") if isinstance(content, dict) else None
    if not isinstance(info, dict) or not all(isinstance(entry, dict) for entry in info.values()):
        raise DataError(f'{path}: {{"info": {{PATIENT: {{"images": [...]}}}}}} is expected.')
    return {str(name): str(patient) for patient, entry in info.items() for name in entry.get("images", [])}
