"""Pictures made small enough to stand in a page."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.errors import RunError

WIDEST = 1000
"""Pixels beyond which a picture is made smaller."""
NARROWEST = 420
"""Pixels below which nothing would be seen."""
QUALITY = 80
"""Of JPEG."""
STEP = 0.8
"""Factor by which a picture over its budget shrinks, again and again."""


@dataclass(frozen=True)
class Picture:
    """A picture as bytes.

    Attributes:
        content: of the file.
        media: its type.
        width: in pixels.
        height: in pixels.
    """

    content: bytes
    media: str
    width: int
    height: int


def downscaled(path: Path, *, budget: int, widest: int = WIDEST) -> Picture:
    """Return a picture as JPEG within a budget; the same file gives the same bytes.

    Args:
        path: of a picture.
        budget: bytes; a picture is not made narrower than ``NARROWEST`` to meet it.
        widest: pixels.

    Raises:
        RunError: the file is missing or no picture.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise RunError(f"{path}: not readable as a picture ({error}); draw it anew with `medseg evaluate`.") from error
    width = min(widest, image.width)
    while True:
        size = (width, max(1, round(image.height * width / image.width)))
        stream = io.BytesIO()
        image.resize(size, Image.Resampling.LANCZOS).save(stream, "JPEG", quality=QUALITY, optimize=True)
        if stream.tell() <= budget or width * STEP < NARROWEST:
            return Picture(stream.getvalue(), "image/jpeg", *size)
        width = int(width * STEP)


def gallery(paths: Mapping[str, Path], *, budget: int) -> tuple[dict[str, Picture], Sequence[str]]:
    """Return the pictures that exist, each within its share of a budget, and the names of those that do not.

    Args:
        paths: file by name.
        budget: bytes for all of them.

    Raises:
        RunError: a file is no picture.
    """
    found = {name: path for name, path in paths.items() if path.is_file()}
    absent = [name for name in paths if name not in found]
    share = budget // max(1, len(found))
    return {name: downscaled(path, budget=share) for name, path in found.items()}, absent
