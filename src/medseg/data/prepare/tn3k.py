"""TN3K: thyroid nodules, 3493 ultrasound images of 2421 patients (Gong et al., ISBI 2021 and Comput Biol Med 2022).

Layout as described by the loaders and listings of the authors' public repository, not verified against the archive:
``trainval-image/``, ``trainval-mask/``, ``test-image/``, ``test-mask/`` (JPEG 0000.jpg, 0001.jpg, ...; both parts
count from 0000), ``tn3k-trainval-fold0.json`` to ``fold4.json`` with the lists ``train`` and ``val`` of positions in
the sorted trainval images, and in a later release ``label4trainval.csv`` and ``label4test.csv`` (name, 0 benign or
1 malignant, no header).
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
    read_json,
)
from medseg.errors import DataError

NAME = "TN3K"
_LABELS = {"0": "benign", "1": "malignant"}


def prepare(source: Path, layout: Layout, *, fold: int = 0) -> None:
    """Add every image with its mask, thresholded at 127 because the masks are JPEG files.

    Columns: ``split`` (train, val of the fold, test), ``val_fold`` (the fold whose validation side holds the image),
    ``label`` where the release with diagnoses is there.

    Args:
        source: folder of the unpacked archive.
        layout: receives the cases.
        fold: which of the five published divisions of trainval fills ``split``.

    Raises:
        DataError: a folder or mask is missing, a mask differs in size, or a fold names an image that is not there.
    """
    images = {side: by_stem(find_folder(source, f"{side}-image", dataset=NAME), dataset=NAME) for side in _SIDES}
    val_fold = _val_folds(source, list(images["trainval"]))
    layout.note(
        "TN3K publishes no patient ids: 3493 images show 2421 patients, so every image is a group of its own and any "
        "split drawn here may put one patient on two sides. By its authors' description the test images share no "
        "patient with trainval, so prefer split=official; its five folds divide trainval by position, not by patient.",
    )
    named = {f"{side}_{stem}": path for side in _SIDES for stem, path in images[side].items()}
    groups = identical_files(named)
    for side in _SIDES:
        folder = find_folder(source, f"{side}-mask", dataset=NAME)
        masks, labels = by_stem(folder, dataset=NAME), _diagnoses(source, side)
        for stem, image in images[side].items():
            mask = partner(masks, stem, of=image, dataset=NAME, folder=folder)
            number = val_fold.get(stem, "") if side == "trainval" else ""
            layout.add(
                id=f"{side}_{stem}",
                images=[image],
                masks=[binary_mask(mask)],
                group=groups.of(f"{side}_{stem}"),
                split="test" if side == "test" else "val" if number == str(fold) else "train",
                val_fold=number,
                label=labels.get(stem, ""),
            )


_SIDES = ("trainval", "test")


def _val_folds(source: Path, stems: list[str]) -> dict[str, str]:
    """Return for each trainval stem the fold that validates on it."""
    found: dict[str, str] = {}
    for number in range(5):
        path = maybe_file(source, f"tn3k-trainval-fold{number}.json")
        if path is None:
            continue
        content = read_json(path)
        positions = content.get("val") if isinstance(content, dict) else None
        if not isinstance(positions, list) or not all(isinstance(item, int) for item in positions):
            raise DataError(f"{path}: a list 'val' of positions in the trainval images is expected.")
        if positions and not 0 <= min(positions) <= max(positions) < len(stems):
            raise DataError(f"{path}: names position {max(positions)}, but there are {len(stems)} trainval images.")
        found.update({stems[position]: str(number) for position in positions})
    return found


def _diagnoses(source: Path, side: str) -> dict[str, str]:
    path = maybe_file(source, f"label4{side}.csv")
    if path is None:
        return {}
    found = {}
    for line in path.read_text(encoding="utf-8-sig").split():
        name, _, value = line.partition(",")
        if value not in _LABELS:
            raise DataError(f"{path}: line '{line}' is not NAME,0 or NAME,1.")
        found[Path(name).stem] = _LABELS[value]
    return found
