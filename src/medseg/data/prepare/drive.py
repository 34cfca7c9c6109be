"""DRIVE: vessels in 40 colour fundus photographs, 20 for training and 20 for testing (Staal et al., IEEE TMI 23, 2004).

Layout as described by public loaders, not verified against the archive: ``training/`` with ``images/21_training.tif``,
``1st_manual/21_manual1.gif``, ``mask/21_training_mask.gif``; ``test/`` with ``images/01_test.tif``, ``mask/`` and, in
older archives, ``1st_manual/01_manual1.gif`` and ``2nd_manual/01_manual2.gif``. The archive distributed now has no
manual outlines of the test images; those are then left out.
"""

from pathlib import Path

from medseg.data.prepare.layout import Layout
from medseg.data.prepare.official import binary_mask, by_stem, find_folder
from medseg.errors import ConfigError, DataError

NAME = "DRIVE"


def prepare(source: Path, layout: Layout, *, observer: int = 1) -> None:
    """Add every image with the outlines of one observer; ``split`` is train or test as published.

    The masks of the field of view are not carried along.

    Args:
        source: folder of the unpacked archive, or with training.zip and test.zip.
        layout: receives the cases.
        observer: 1, or 2, who outlined the test images only.

    Raises:
        ConfigError: there is no such observer.
        DataError: a folder or a training outline is missing, or a mask holds other values than two.
    """
    if observer not in (1, 2):
        raise ConfigError(f"observer={observer}: DRIVE has the observers 1 and 2.")
    for folder_name, side in (("training", "train"), ("test", "test")):
        folder = find_folder(source, folder_name, dataset=NAME)
        masks = _outlines(folder, observer)
        for stem, image in by_stem(find_folder(folder, "images", dataset=NAME), dataset=NAME).items():
            number = stem.partition("_")[0]
            if number in masks:
                layout.add(
                    id=f"drive_{number}",
                    images=[image],
                    masks=[binary_mask(masks[number])],
                    group=f"d{number}",
                    split=side,
                )
            elif side == "train" and observer == 1:
                raise DataError(f"{image}: {NAME} has '{number}_manual1.gif' in 1st_manual, but it is missing.")
            else:
                layout.leave_out(f"drive_{number}", f"no outline by observer {observer} in this archive")
    layout.note(f"DRIVE: outlines of observer {observer}; one photograph is one patient.")


def _outlines(folder: Path, observer: int) -> dict[str, Path]:
    place = folder / ("1st_manual" if observer == 1 else "2nd_manual")
    if not place.is_dir():
        return {}
    return {stem.partition("_")[0]: path for stem, path in by_stem(place, dataset=NAME).items()}
