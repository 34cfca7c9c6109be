"""TN-SCUI 2020: thyroid nodules, 3644 training images of the MICCAI 2020 challenge (Zhou et al., zenodo.3715942).

Layout as described by public solutions of the challenge, not verified against the archive: ``TNSCUI2020_train/`` with
``image/`` and ``mask/`` (0.PNG, 1.PNG, ...) and ``train.csv`` (ID with file name, CATE: 0 benign, 1 malignant). The
test images have no public masks.
"""

from pathlib import Path

from medseg.data.prepare.layout import Layout
from medseg.data.prepare.official import (
    binary_mask,
    by_stem,
    find_folder,
    identical_files,
    maybe_file,
    partner,
    read_rows,
)

NAME = "TN-SCUI 2020"


def prepare(source: Path, layout: Layout) -> None:
    """Add every training image with its mask; ``label`` is the category of ``train.csv``.

    Raises:
        DataError: a folder or mask is missing, a mask differs in size or holds other values than two.
    """
    folder = find_folder(source, "mask", dataset=NAME)  # first: the test images have none
    images = by_stem(find_folder(folder.parent, "image", dataset=NAME), dataset=NAME)
    masks, labels = by_stem(folder, dataset=NAME), _categories(source)
    groups = identical_files(images)
    layout.note(
        "TN-SCUI 2020 publishes no patient ids: every image is a group of its own (byte-identical files share one), so "
        "a split may put one patient on two sides; run medseg data audit before trusting a score.",
    )
    for stem, image in images.items():
        mask = partner(masks, stem, of=image, dataset=NAME, folder=folder)
        layout.add(
            id=f"tnscui_{stem}",
            images=[image],
            masks=[binary_mask(mask)],
            group=f"tnscui_{groups.of(stem)}",
            label=labels.get(stem, ""),
        )


def _categories(source: Path) -> dict[str, str]:
    path = maybe_file(source, "train.csv")
    if path is None:
        return {}
    names = {"0": "benign", "1": "malignant"}
    return {Path(row["ID"]).stem: names.get(row["CATE"], row["CATE"]) for row in read_rows(path, "ID", "CATE")}
