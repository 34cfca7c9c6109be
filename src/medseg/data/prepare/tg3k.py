"""TG3K: thyroid gland in 3585 frames of 16 ultrasound clips (Wunderling et al. 2017, frames chosen by Gong et al.).

Layout as described by the loaders of the authors' public repository, not verified against the archive:
``thyroid-image/`` and ``thyroid-mask/`` (JPEG 0000.jpg, 0001.jpg, ...) and ``tg3k-trainval.json`` with the lists
``train`` and ``val`` of positions in the sorted images.

Neighbouring frames of a clip are near copies of one another and the archive does not say which frames make a clip. A
change of the image size ends a clip, so a run of frames of one size is taken as one group. Two clips of equal size that
follow each other become one group, which is safe; a public listing of the archive counts 15 such runs for its 16 clips.
"""

from pathlib import Path

from medseg.data.files import image_size
from medseg.data.prepare.layout import Layout
from medseg.data.prepare.official import (
    binary_mask,
    by_stem,
    find_folder,
    maybe_file,
    partner,
    read_json,
)
from medseg.errors import DataError

NAME = "TG3K"


def prepare(source: Path, layout: Layout) -> None:
    """Add every frame with its mask, thresholded at 127 because the masks are JPEG files.

    Columns: ``split`` (train or val as published), ``split_by_clip`` (train or test: every clip wholly on the side
    that holds more of its frames, for ``split=official split.column=split_by_clip``).

    Raises:
        DataError: a folder or mask is missing, a mask differs in size, or the division names a frame that is not there.
    """
    images = by_stem(find_folder(source, "thyroid-image", dataset=NAME), dataset=NAME)
    folder = find_folder(source, "thyroid-mask", dataset=NAME)
    masks = by_stem(folder, dataset=NAME)
    clips, published = _clips(images), _published(source, list(images))
    by_clip = {clip: _majority([published[stem] for stem in images if clips[stem] == clip]) for clip in clips.values()}
    cut = sorted({clip for stem, clip in clips.items() if published[stem] and published[stem] != by_clip[clip]})
    layout.note(f"TG3K groups are runs of frames of equal size ({len(by_clip)} found); clip names are not published.")
    if cut:
        layout.note(
            f"TG3K's published division cuts {', '.join(cut)} in two, so neighbouring frames are on both sides; use "
            "split.column=split_by_clip.",
        )
    for stem, image in images.items():
        mask = partner(masks, stem, of=image, dataset=NAME, folder=folder)
        layout.add(
            id=stem,
            images=[image],
            masks=[binary_mask(mask)],
            group=clips[stem],
            split=published[stem],
            split_by_clip={"val": "test"}.get(by_clip[clips[stem]], by_clip[clips[stem]]),
        )


def _clips(images: dict[str, Path]) -> dict[str, str]:
    found: dict[str, str] = {}
    last, number = None, 0
    for stem, path in images.items():
        size = image_size(path)
        number += size != last
        last = size
        found[stem] = f"clip{number:02d}"
    return found


def _majority(sides: list[str]) -> str:
    return max(sorted(set(sides), reverse=True), key=sides.count)


def _published(source: Path, stems: list[str]) -> dict[str, str]:
    path = maybe_file(source, "tg3k-trainval.json")
    found = dict.fromkeys(stems, "")
    if path is None:
        return found
    content = read_json(path)
    for side in ("train", "val"):
        positions = content.get(side) if isinstance(content, dict) else None
        if not isinstance(positions, list) or not all(
            isinstance(item, int) and 0 <= item < len(stems) for item in positions
        ):
            raise DataError(f"{path}: a list '{side}' of positions in the {len(stems)} images is expected.")
        found.update({stems[position]: side for position in positions})
    return found
