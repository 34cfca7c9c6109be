"""BUSI: breast lesions, 780 ultrasound images of 600 women (Al-Dhabyani et al., Data in Brief 28, 2020, 104863).

Layout as the article and the archive's copies show it: ``Dataset_BUSI_with_GT/`` with ``benign/``, ``malignant/`` and
``normal/``, each with ``benign (1).png``, ``benign (1)_mask.png`` and, where there are several lesions,
``benign (1)_mask_1.png`` and so on. The masks of an image are united; ``normal`` images have an empty mask.

Patients are not published, and 235 images occur more than once, 8 lesions in both classes (Pawlowska et al. 2023,
PMC10293973). Images whose small copies correlate therefore share a group; nothing is removed. On 559 images with 38
pairs of near-copies the limit 0.73 joins 33 of them and 5 of the 155 923 other pairs; copies that were cropped or
rotated much are for the audit to find.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from medseg.data.files import read_image
from medseg.data.prepare.layout import Layout
from medseg.data.prepare.official import Groups, binary_mask, by_stem, find_folder
from medseg.errors import DataError

NAME = "BUSI"
LABELS = ("benign", "malignant", "normal")


def prepare(source: Path, layout: Layout, *, similar: float = 0.73) -> None:
    """Add every image with its masks; ``label`` is benign, malignant or normal.

    Args:
        source: folder of the unpacked archive.
        layout: receives the cases.
        similar: correlation of two small copies without their slow changes, from which two images share a group.

    Raises:
        DataError: a folder or mask is missing, or a mask differs in size or holds other values than two.
    """
    cases: list[tuple[str, str, Path, list[Path]]] = []
    for label in LABELS:
        folder = find_folder(source, label, dataset=NAME)
        files = by_stem(folder, ".png", dataset=NAME)
        for stem in files:
            if "_mask" in stem:
                continue
            masks = [path for name, path in files.items() if re.fullmatch(re.escape(stem) + r"_mask(_\d+)?", name)]
            if not masks:
                raise DataError(f"{files[stem]}: {NAME} has a mask '{stem}_mask.png' beside it, but there is none.")
            number = re.sub(r"\D", "", stem)
            cases.append((f"busi_{label}_{number.zfill(3)}", label, files[stem], masks))
    groups = similar_pictures([(name, path) for name, _, path, _ in cases], limit=similar)
    layout.note(
        f"BUSI publishes no patient ids: images that correlate by {similar:g} or more share a group "
        f"({groups.joined} of {len(cases)} joined another); one woman may still be in several groups, and 'label' is "
        "no clinical truth because some lesions are filed under two labels.",
    )
    for name, label, image, masks in cases:
        layout.add(
            id=name,
            images=[image],
            masks=[binary_mask(mask) for mask in masks],
            group=groups.of(name),
            label=label,
        )


def similar_pictures(pictures: Sequence[tuple[str, Path]], *, limit: float, side: int = 32) -> Groups:
    """Return groups in which pictures are together whose small standardised copies correlate by ``limit`` or more."""
    groups = Groups(name for name, _ in pictures)
    small = np.stack([_small(path, side) for _, path in pictures])
    for row in range(len(small)):
        for column in np.flatnonzero(small[:row] @ small[row] >= limit):
            groups.join(pictures[row][0], pictures[int(column)][0])
    return groups


def _small(path: Path, side: int) -> np.ndarray:
    """Return a picture's copy of side x side pixels without its slow changes, which all ultrasound shares."""
    grey = read_image(path, channels=1)[..., 0]
    values = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA).astype(np.float64)
    values -= cv2.GaussianBlur(values, (0, 0), side / 4)
    values -= values.mean()
    return values.ravel() / max(float(np.linalg.norm(values)), 1e-9)
