"""Kvasir-SEG: polyps in 1000 colonoscopy images (Jha et al., MultiMedia Modeling 2020).

Layout as described by the data page and public loaders, not verified against the archive: ``Kvasir-SEG/`` with
``images/*.jpg`` and ``masks/*.jpg`` of the same names, and ``kavsir_bboxes.json`` (sic). The masks are JPEG files with
grey levels around 0 and 255 and are thresholded at 127.
"""

from pathlib import Path

from medseg.data.prepare.layout import Layout
from medseg.data.prepare.official import binary_mask, by_stem, find_folder, identical_files, partner

NAME = "Kvasir-SEG"


def prepare(source: Path, layout: Layout) -> None:
    """Add every image with its mask, stored without loss as 0 and 255.

    Raises:
        DataError: a folder or mask is missing, or a mask differs in size.
    """
    folder = find_folder(source, "masks", dataset=NAME)
    images = by_stem(find_folder(folder.parent, "images", dataset=NAME), dataset=NAME)
    masks = by_stem(folder, dataset=NAME)
    groups = identical_files(images)
    layout.expect(len(images))
    for stem, image in images.items():
        mask = partner(masks, stem, of=image, dataset=NAME, folder=folder)
        layout.add(id=stem, images=[image], masks=[binary_mask(mask)], group=groups.of(stem))
    layout.note(
        "Kvasir-SEG publishes no patient ids: every image is a group of its own (byte-identical files share one), so "
        "images of one polyp may be on two sides of a split; run medseg data audit before trusting a score.",
    )
