"""The last word on a pair: do the finest details agree, at three times the thumbnails' size?

Pictures of one organ taken alike (two fundi, a neck and its mirror image) agree down to details of a few percent of the
picture, and thumbnails hold no more. Speckle, texture and vessel walls do not: measured at 384 pixels, copies (JPEG
quality 50, half size, turned, cut, with noise of 10 grey levels) correlate at 0.87 or more, strangers at 0.28 or less.
"""

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from medseg.data.audit.thumbnails import DARK, SIDE, band, thumbnail
from medseg.data.audit.verify import align, correlation, moved, rescaled

TIMES = 3
"""How many times a thumbnail's side the pictures have here."""

BANDS = ((2.0, 6.0), (1.0, 3.0))
"""(fine, wide) in pixels of the enlarged thumbnail, one after the other; the last one decides."""

ROUNDS, STEPS = 2, 20
HOPELESS = 0.5
"""Correlation in the first band below which no more is tried: copies have 0.95 there,
other frames of one clip about 0.6, strangers 0.54 at most."""

MARGIN = 25
"""Pixels by which the common region is made smaller: the rim of a scan is the same in all pictures of a device."""

SMALLEST = 2000
"""Pixels in common below which nothing is said."""

KEPT = 64


class Confirmer:
    """Reads pictures again and compares them in full detail.

    Args:
        read: number of a picture to its grey values, uint8 (H, W).
    """

    def __init__(self, read: Callable[[int], np.ndarray]) -> None:
        self._enlarged = lru_cache(KEPT)(lambda number: _enlarged(read(number)))

    def correlation(self, first: int, second: int, warp: np.ndarray) -> float:
        """Return the correlation of the finest details, -1 to 1; 0 where coarser ones already disagree.

        Args:
            first: number of a picture.
            second: number of another.
            warp: (2, 3), from thumbnail coordinates of ``second`` to those of ``first``.
        """
        warp, found = rescaled(warp, TIMES), 0.0
        for number, size in enumerate(BANDS):
            for _ in range(ROUNDS):
                found, warp = _improved(self._enlarged(first), self._enlarged(second), warp, size)
                if found < HOPELESS and number + 1 < len(BANDS):
                    return 0.0
        return found


def _improved(
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    warp: np.ndarray,
    size: tuple[float, float],
) -> tuple[float, np.ndarray]:
    """Return the correlation of details of a size on the common region and the warp after one more alignment."""
    (one, one_lit), (other, other_lit) = first, second
    both = (moved(one_lit, warp, cv2.INTER_NEAREST) > 0) & (other_lit > 0)
    both = cv2.erode(both.astype(np.uint8), np.ones((MARGIN, MARGIN), np.uint8)) > 0
    if both.sum() < SMALLEST:
        return 0.0, warp

    def details(picture: np.ndarray) -> np.ndarray:
        return band(picture, fine=size[0], wide=size[1], within=both)

    still = details(other)
    now = details(moved(one, warp, cv2.INTER_LINEAR))
    _, step = align(now, still, np.eye(2, 3), STEPS)
    better = (np.vstack([warp, [0, 0, 1]]) @ np.vstack([step, [0, 0, 1]]))[:2]
    then = details(moved(one, better, cv2.INTER_LINEAR))
    answers = [(correlation(now[both], still[both]), warp), (correlation(then[both], still[both]), better)]
    return max(answers, key=lambda answer: answer[0])


def _enlarged(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture at TIMES the size of its thumbnail, and where it shows something."""
    view, _ = thumbnail(grey, side=TIMES * SIDE)
    return view, (cv2.GaussianBlur(view.astype(np.float32), (0, 0), 4) >= DARK).astype(np.uint8)
