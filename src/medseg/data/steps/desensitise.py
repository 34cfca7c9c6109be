"""Take everything that could name a patient off an ultrasound picture, or refuse it."""

from dataclasses import dataclass

import cv2
import numpy as np

from medseg.data.steps.sector import Sector, find_sector
from medseg.data.steps.text import DOUBTFUL, TextFinder
from medseg.errors import ConfigError, DataError

PASSES = 3
"""Removals at most; what is found after the last raises a doubt."""
LARGEST_SHARE = 0.12
"""A larger share of the scan covered by graphics cannot be filled in sensibly."""
_WAYS = ("inpaint", "refuse", "keep")


@dataclass(frozen=True, eq=False)
class Cleaned:
    """What :func:`clean` made.

    Attributes:
        image: uint8 (H, W, C), 0 outside the scan.
        scan: bool (H, W).
        removed: bool (H, W), pixels within the scan that were filled in.
        kinds: shapes of the windows found.
        doubts: why a person has to look at it; empty if none.
    """

    image: np.ndarray
    scan: np.ndarray
    removed: np.ndarray
    kinds: tuple[str, ...]
    doubts: tuple[str, ...]


def clean(image: np.ndarray, *, scan: np.ndarray | None = None, text: str = "inpaint") -> Cleaned:
    """Return the picture with nothing but the scan, graphics within it filled in, and every doubt.

    Args:
        image: uint8 (H, W, C).
        scan: bool (H, W) where it is known, as from a DICOM region; None looks for it.
        text: what happens to graphics within the scan: ``inpaint``, ``refuse`` (a doubt) or ``keep``.
    """
    sector = find_sector(image) if scan is None else Sector(scan, ("region",), (1.0,))
    result = np.where(sector.mask[..., None], image, 0).astype(np.uint8)
    removed = np.zeros(sector.mask.shape, bool)
    doubts = list(sector.doubts)
    if text != "keep" and sector.mask.any():
        finder = TextFinder.of(result, sector.mask)
        for number in range(PASSES):
            found = finder.find(result)
            if number == 0 and found.any():
                found |= finder.follow(result, found)
            found &= ~removed
            if not found.any():
                break
            if number == 0 and finder.faint(result, found):
                doubts.append("faint text within the scan")
            removed |= found
            result = _filled(image, removed, sector.mask)
        doubts += _judge(finder, result, removed, text)
    return Cleaned(result, sector.mask, removed, sector.kinds, tuple(doubts))


def _filled(image: np.ndarray, removed: np.ndarray, scan: np.ndarray) -> np.ndarray:
    """Return the image with removed pixels filled from the scan around them; nothing flows in from outside."""
    blank = np.where(scan[..., None], image, 0).astype(np.uint8)
    # The screen just outside would bleed into fillings at the edge, so it is filled in as well, then blanked.
    ring = cv2.dilate(scan.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool) & ~scan
    hole = (removed | ring).astype(np.uint8)
    parts = [
        cv2.inpaint(np.ascontiguousarray(blank[..., part]), hole, 3, cv2.INPAINT_TELEA)
        for part in range(blank.shape[2])
    ]
    filled = np.stack(parts, axis=2)
    return np.where(removed[..., None], filled, blank)


def _judge(finder: TextFinder, result: np.ndarray, removed: np.ndarray, text: str) -> list[str]:
    doubts = []
    if text == "refuse" and removed.any():
        doubts.append("graphics within the scan")
    share = removed.sum() / max(1, finder.scan.sum())
    if share > LARGEST_SHARE:
        doubts.append(f"graphics cover {100 * share:.0f} % of the scan")
    if float(finder.score(result).max(initial=0)) > DOUBTFUL:
        doubts.append("text-like residue")
    return doubts


@dataclass(frozen=True)
class Desensitise:
    """Blank everything outside the ultrasound scan and fill in text and calipers within it; the shape stays.

    Fails closed: a picture without a clear scan, or with something like text left in it, is refused. Filling in
    costs image: bright point echoes as sharp as ink may go with it, so that a study of microcalcifications should use
    ``text="refuse"`` and look at what is refused.

    Attributes:
        text: ``inpaint``, ``refuse`` or ``keep``; keep only where none can be within the scan.
        doubt: ``refuse`` raises on a doubt; ``keep`` passes the picture on, for data that hold no patient's name.
    """

    text: str = "inpaint"
    doubt: str = "refuse"

    def __post_init__(self) -> None:
        """Refuse unknown ways.

        Raises:
            ConfigError: ``text`` or ``doubt`` is unknown.
        """
        if self.text not in _WAYS:
            raise ConfigError(f"preprocess step Desensitise: text='{self.text}' is unknown; use {', '.join(_WAYS)}.")
        if self.doubt not in ("refuse", "keep"):
            raise ConfigError(f"preprocess step Desensitise: doubt='{self.doubt}' is unknown; use refuse or keep.")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the uint8 image (H, W, C) with nothing but the scan.

        Raises:
            DataError: there is a doubt.
        """
        cleaned = clean(image, text=self.text)
        if cleaned.doubts and self.doubt == "refuse":
            raise DataError(
                f"picture of {image.shape[0]}x{image.shape[1]} cannot be desensitised safely "
                f"({'; '.join(cleaned.doubts)}); look at it, crop it by hand or take it out of the manifest."
            )
        return cleaned.image
