"""CHASE_DB1: vessels in 28 fundus photographs, both eyes of 14 children (Fraz et al., IEEE TBME 59, 2012).

Layout as described by public loaders, not verified against the archive: one folder with ``Image_01L.jpg``,
``Image_01L_1stHO.png`` (first observer) and ``Image_01L_2ndHO.png`` (second), black-and-white PNG.
"""

from pathlib import Path

from medseg.data.prepare.layout import Layout
from medseg.data.prepare.official import binary_mask, find_all
from medseg.errors import ConfigError, DataError

NAME = "CHASE_DB1"


def prepare(source: Path, layout: Layout, *, observer: int = 1) -> None:
    """Add every image with the outlines of one observer; the group is the child, ``eye`` is L or R.

    Args:
        source: folder of the unpacked archive.
        layout: receives the cases.
        observer: 1 or 2.

    Raises:
        ConfigError: there is no such observer.
        DataError: no image is there, an outline is missing, or one holds other values than two.
    """
    if observer not in (1, 2):
        raise ConfigError(f"observer={observer}: CHASE_DB1 has the observers 1 and 2.")
    for image in find_all(source, r"Image_\d+[LR]\.jpg", dataset=NAME, what="files like Image_01L.jpg"):
        name = image.stem.removeprefix("Image_")
        mask = image.with_name(f"{image.stem}_{'1st' if observer == 1 else '2nd'}HO.png")
        if not mask.is_file():
            raise DataError(f"{image}: {NAME} has '{mask.name}' beside it, but it is missing.")
        layout.add(
            id=f"chase_{name}", images=[image], masks=[binary_mask(mask)], group=f"child{name[:-1]}", eye=name[-1]
        )
    layout.note(f"CHASE_DB1: outlines of observer {observer}; both eyes of a child share a group; no official split.")
