"""LGG: FLAIR abnormality in 3929 slices of 110 patients with low-grade glioma (Buda et al., Comput Biol Med 2019).

Layout as described by the data page's README, not verified against the archive: ``kaggle_3m/`` with one folder a
patient, ``TCGA_INSTITUTION_PATIENT_DATE/``, holding ``..._N.tif`` (red, green, blue = pre-contrast, FLAIR,
post-contrast; a missing sequence is replaced by FLAIR) and ``..._N_mask.tif`` (0 and 255).
"""

import re
from pathlib import Path

from medseg.data.prepare.layout import Layout
from medseg.data.prepare.official import binary_mask, find_all
from medseg.errors import DataError

NAME = "LGG"
_STEM = re.compile(r"(TCGA_([A-Z0-9]+)_[A-Z0-9]+)_\d+_(\d+)")


def prepare(source: Path, layout: Layout) -> None:
    """Add every slice; the group is the patient, ``domain`` the institution's code, ``slice`` its number.

    Raises:
        DataError: no slice is there, one has no mask, or a mask holds other values than two.
    """
    images = find_all(source, r"TCGA_\w+_\d+\.tif", dataset=NAME, what="files like TCGA_CS_4941_19960909_1.tif")
    layout.expect(len(images))
    for image in images:
        match = _STEM.fullmatch(image.stem)
        if match is None:
            raise DataError(f"{image}: the name is not TCGA_INSTITUTION_PATIENT_DATE_N.tif.")
        mask = image.with_name(f"{image.stem}_mask.tif")
        if not mask.is_file():
            raise DataError(f"{image}: {NAME} has '{mask.name}' beside it, but it is missing.")
        layout.add(
            id=image.stem,
            images=[image],
            masks=[binary_mask(mask)],
            group=match.group(1),
            domain=match.group(2),
            slice=match.group(3),
        )
    layout.note("LGG: slices of a patient share a group; a missing sequence is a copy of FLAIR and not marked as such.")
