"""ISBI 2012 EM: cell membranes in 30 serial sections (Arganda-Carreras et al., Frontiers in Neuroanatomy 9, 2015).

Layout as described by the challenge, not verified against the archive: ``train-volume.tif`` and ``train-labels.tif``,
30 frames of 512 x 512 each (labels: 255 inside cells, 0 membrane), and ``test-volume.tif`` without public labels.

The 30 frames are neighbouring sections of one piece of tissue, about 50 nm apart: one volume, so one group. No split by
group exists. ``split`` holds three blocks of neighbouring sections instead; sections at the borders of the blocks
resemble one another, so every result on them is marked as leaky.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from medseg.data.prepare.layout import Layout
from medseg.data.prepare.official import find_file, maybe_file
from medseg.errors import DataError

NAME = "ISBI 2012"
BLOCKS = (("train", 2 / 3), ("val", 4 / 5), ("test", 1.0))
"""Where each block of sections ends, as a share of the volume: 20, 4 and 6 of 30 sections."""


def prepare(source: Path, layout: Layout) -> None:
    """Add every section as a picture with its labels: 255 inside cells, 0 membrane.

    Raises:
        DataError: a file is missing or no stack of grey pictures, or sizes or label values are not as expected.
    """
    images = _stack(find_file(source, "train-volume.tif", dataset=NAME))
    path = find_file(source, "train-labels.tif", dataset=NAME)
    labels = _stack(path)
    if images.shape != labels.shape:
        raise DataError(f"{path}: labels are {labels.shape}, images {images.shape} (sections, rows, columns).")
    strange = sorted(set(np.unique(labels).tolist()) - {0, 255})
    if strange:
        raise DataError(f"{path}: labels hold value(s) {strange[:5]} beside 0 (membrane) and 255 (cell).")
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        side = next(name for name, end in BLOCKS if number < round(end * len(images)))
        layout.add(
            id=f"isbi2012_{number:02d}", images=[image], masks=[label], group="volume1", split=side, section=number
        )
    if maybe_file(source, "test-volume.tif") is not None:
        layout.leave_out("test-volume.tif", "its labels are not published")
    layout.note(
        "ISBI 2012: all sections are of one volume and share one group; split=official divides it into blocks of "
        "neighbouring sections and is flagged leaky.",
    )


def _stack(path: Path) -> np.ndarray:
    """Return the frames of a TIFF file as uint8 (N, H, W)."""
    frames = []
    try:
        with Image.open(path) as picture:
            for number in range(getattr(picture, "n_frames", 1)):
                picture.seek(number)
                frames.append(np.asarray(picture.convert("L") if picture.mode == "1" else picture))
        stack = np.stack(frames)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise DataError(f"{path}: not readable as a stack of pictures ({error}); download it again.") from None
    if stack.ndim != 3 or stack.dtype != np.uint8:
        raise DataError(f"{path}: 8-bit grey sections are expected, found {stack.dtype} {stack.shape[1:]}.")
    return stack
