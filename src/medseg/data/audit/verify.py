"""Whether two pictures show the same: align one with the other, then correlate what is fine.

Slow shading correlates between strangers, so only details count, at three sizes one after the other; a pair that fails
at a coarse one is not looked at further. Alignment is the enhanced correlation coefficient maximisation of Evangelidis
and Psarakis (IEEE TPAMI 30 (2008) 1858-1865) with an affine map, started from the candidate's guess.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import cv2
import numpy as np

from medseg.data.audit.neighbours import Candidates
from medseg.data.audit.thumbnails import SIDE, band, lit

COARSE, MIDDLE, FINE = (3.0, 12.0), (1.5, 6.0), (1.0, 5.0)
"""Bands (fine, wide) in thumbnail pixels; the first two are kept smaller."""

LEVELS = (("coarse", 4, 20, 0.7), ("middle", 2, 15, 0.62), ("middle", 2, 40, 0.7))
"""Band, by how much it is shrunk, steps of the alignment and least correlation, one after the other: most strangers end
at the first or second."""

FINE_ROUNDS, FINE_STEPS, HOPELESS = 4, 15, 0.45
STRONG, ZOOM = 0.85, 1.06
"""Coarse correlation from which the next level is also started this much smaller and larger."""

OVERLAP_FLOOR = 0.5
SMALLEST = 400
"""Lit pixels of a thumbnail below which nothing is said."""
STRETCH = 1.3
SCALES = (0.5, 2.0)


@dataclass(frozen=True)
class Match:
    """How one picture maps on another.

    Attributes:
        correlation: of the fine details where both are lit, -1 to 1.
        overlap: share of the smaller lit region in which they were compared.
        angle: turn in degrees, -180 to 180.
        scale: of the first picture in units of the second (of thumbnails).
        shift: distance of the centres in shares of the thumbnail.
        mirrored: whether one is a mirror image.
        warp: (2, 3), from thumbnail coordinates of the second picture to those of the first.
    """

    correlation: float
    overlap: float
    angle: float
    scale: float
    shift: float
    mirrored: bool
    warp: np.ndarray = field(default_factory=lambda: np.eye(2, 3), compare=False, repr=False)

    @property
    def moved(self) -> bool:
        """Whether it takes a turn, a mirror, a scale or a shift to make one out of the other."""
        return self.mirrored or abs(self.angle) > 2 or abs(np.log(self.scale)) > 0.03 or self.shift > 0.02

    @property
    def words(self) -> str:
        """The transform for a reader, for instance ``mirrored, turned 12 degrees``."""
        parts = ["mirrored"] * self.mirrored
        parts += [f"turned {self.angle:.0f} degrees"] if abs(self.angle) > 2 else []
        parts += [f"scaled {self.scale:.2f}"] if abs(np.log(self.scale)) > 0.03 else []
        parts += [f"shifted {100 * self.shift:.0f} %"] if self.shift > 0.02 else []
        return ", ".join(parts) or "in place"


def shrunk_band(detail: np.ndarray, shrunk: int) -> np.ndarray:
    """Return a band of a thumbnail at a fraction of its size as int8, 32 to the unit."""
    small = cv2.resize(detail, (SIDE // shrunk, SIDE // shrunk), interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(32 * small), -127, 127).astype(np.int8)


class Verifier:
    """Aligns pairs of pictures.

    Args:
        prints: structured array with the fields ``view``, ``coarse`` and ``middle`` (see ``prints``).
    """

    def __init__(self, prints: np.ndarray) -> None:
        self.prints = prints

    def matches(self, candidates: Candidates, *, floor: float) -> dict[tuple[int, int], Match]:
        """Return the pairs whose fine details correlate at least ``floor``."""
        keys = [(first, second) for first, second in candidates.pairs.tolist()]
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:  # OpenCV leaves the interpreter free
            matches = list(pool.map(lambda key, warp: self.match(key[0], key[1], warp), keys, candidates.warps))
        return {
            key: match
            for key, match in zip(keys, matches, strict=True)
            if match is not None and match.correlation >= floor
        }

    def match(self, first: int, second: int, warp: np.ndarray) -> Match | None:
        """Return how ``second`` maps on ``first``, or None where the coarse details already disagree.

        Args:
            first: row of the prints.
            second: row of the prints.
            warp: first guess, (2, 3), from thumbnail coordinates of ``second`` to those of ``first``.
        """
        starts: tuple[float, ...] = (1.0,)
        for name, shrunk, steps, least in LEVELS:
            one, other = (self.prints[name][place].astype(np.float32) for place in (first, second))
            tried = [align(one, other, rescaled(_zoomed(warp, by), 1 / shrunk), steps) for by in starts]
            reached, found = max(tried, key=lambda answer: answer[0])
            if reached < least or not _plausible(found):
                return None
            warp = rescaled(found, shrunk)
            # Coarse details alone leave the scale open by some percent, from where finer ones do not find the way.
            starts = (1.0, 1 / ZOOM, ZOOM) if name == "coarse" and reached >= STRONG else (1.0,)
        return self._finish(first, second, warp)

    def _finish(self, first: int, second: int, warp: np.ndarray) -> Match | None:
        """Align on the common grid, repeatedly: another scale shifts the bands, which shifts the alignment."""
        one, other = self.prints["view"][first], self.prints["view"][second]
        one_lit, other_lit = (cv2.erode(lit(view).astype(np.uint8), np.ones((3, 3), np.uint8)) for view in (one, other))
        best: Match | None = None
        for _ in range(FINE_ROUNDS):
            both = (moved(one_lit, warp, cv2.INTER_NEAREST) > 0) & (other_lit > 0)
            overlap = float(both.sum() / max(1, min(int(one_lit.sum()), int(other_lit.sum()))))
            if both.sum() < SMALLEST or overlap < OVERLAP_FLOOR or not _plausible(warp):
                break
            there = moved(one, warp, cv2.INTER_LINEAR)
            details = [band(view, fine=FINE[0], wide=FINE[1], within=both) for view in (there, other)]
            found = correlation(details[0][both], details[1][both])
            if best is None or found > best.correlation:
                best = _described(found, min(1.0, overlap), warp)
            if found < HOPELESS:
                break
            _, step = align(details[0], details[1], np.eye(2, 3), FINE_STEPS)
            warp = (np.vstack([warp, [0, 0, 1]]) @ np.vstack([step, [0, 0, 1]]))[:2]
        return best


def moved(picture: np.ndarray, warp: np.ndarray, how: int) -> np.ndarray:
    """Return the first picture (S, S) on the grid of the second."""
    return cv2.warpAffine(picture, warp.astype(np.float32), picture.shape[::-1], flags=how | cv2.WARP_INVERSE_MAP)


def align(one: np.ndarray, other: np.ndarray, guess: np.ndarray, steps: int) -> tuple[float, np.ndarray]:
    """Return correlation and warp after maximising it; -1 where the pictures share too little for that."""
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, steps, 1e-4)
    try:
        found, warp = cv2.findTransformECC(  # type: ignore[call-overload]  # it takes None for no mask
            other, one, guess.astype(np.float32), cv2.MOTION_AFFINE, stop, None, 3
        )
    except cv2.error:  # it does not converge on pictures that share nothing
        return -1.0, guess
    return float(found), np.asarray(warp)


def rescaled(warp: np.ndarray, factor: float) -> np.ndarray:
    """Return a warp between pixel centres on a grid ``factor`` times as fine."""
    offset = (factor - 1) / 2
    moved = warp.astype(np.float64).copy()
    moved[:, 2] = factor * moved[:, 2] + offset - moved[:, :2] @ [offset, offset]
    return moved


def _zoomed(warp: np.ndarray, by: float) -> np.ndarray:
    """Return a warp with another scale about the centre of the second picture's thumbnail."""
    middle = np.full(2, SIDE / 2 - 0.5)
    linear = warp[:, :2].astype(np.float64) * by
    return np.column_stack([linear, warp[:, :2] @ middle + warp[:, 2] - linear @ middle])


def _plausible(warp: np.ndarray) -> bool:
    """Whether the map is near a turn, mirror, scale and shift: a true copy is not sheared."""
    large, small = np.linalg.svd(warp[:, :2].astype(np.float64), compute_uv=False)
    return bool(SCALES[0] <= small and large <= SCALES[1] and large <= STRETCH * small)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return Pearson's correlation of two arrays of one shape."""
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).sum() / np.sqrt((one * one).sum() * (other * other).sum() + 1e-6))


def _described(reached: float, overlap: float, warp: np.ndarray) -> Match:
    linear = warp[:, :2].astype(np.float64)
    determinant = float(np.linalg.det(linear))
    mirrored = determinant < 0
    upright = linear @ np.diag([1.0, -1.0]) if mirrored else linear
    angle = float(np.degrees(np.arctan2(upright[1, 0] - upright[0, 1], upright[0, 0] + upright[1, 1])))
    middle = np.full(2, SIDE / 2 - 0.5)
    shift = float(np.linalg.norm(linear @ middle + warp[:, 2] - middle) / SIDE)
    return Match(reached, overlap, angle, float(np.sqrt(abs(determinant))), shift, mirrored, warp)
