"""Burnt-in text, calipers and other graphics within an ultrasound scan.

A scan is limited in bandwidth by the pulse along depth, and more so by the beam across it; graphics are drawn pixel
by pixel after the scan conversion. Vertical strokes therefore stand out in the second difference along rows, whose
mean over a window the size of two letters is compared with its median over the scan. Graphics are also drawn in one
ink: equal neighbouring pixels of one grey level, far more of them than of the levels beside it, betray ink of low
contrast and lone marks. Colour betrays ink in a grey picture. No publication states this combination or its
thresholds; ``benchmarks/deidentification.py`` measures what they catch.
"""

from dataclasses import dataclass

import cv2
import numpy as np

STRONG = 2.6
"""Window means from here on, in medians of the scan, are graphics."""
DOUBTFUL = 2.6
"""Window means from here on that remain after removal raise a doubt."""
WEAK = 1.8
"""Window means from here on are graphics where a line of text goes on."""
FAINT = 5.0
"""Grey levels by which ink must exceed nearly all of the scan around its line."""
_WINDOW = (9, 17)  # rows, columns: two letters of 12 pixels
_CLIP = 60.0  # grey levels: one sparkling pixel must not fill a window
_SPREAD = 48  # difference of the channels that is no grey
_INK_PIXELS = 24  # pixels in runs of one level that make it an ink


@dataclass(frozen=True, eq=False)
class TextFinder:
    """What a scan's own texture is like, to judge graphics in it.

    Attributes:
        scan: bool (H, W).
        level: float32 (H, W), the sharpness to be expected at each pixel: the scan's median among places as bright.
    """

    scan: np.ndarray
    level: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray, scan: np.ndarray) -> "TextFinder":
        """Return the finder for an image uint8 (H, W, C) and its scan."""
        grey = _grey(image)
        level = np.ones(scan.shape, np.float32)
        count, windows = cv2.connectedComponents(scan.astype(np.uint8))
        for number in range(1, count):
            window = windows == number
            level[window] = _expected(_sharpness(grey, window), _around(grey, window), window)[window]
        return cls(scan, level)

    def score(self, image: np.ndarray) -> np.ndarray:
        """Return how sharp each pixel's window is, float32 (H, W), in units of ``level``; 0 outside the scan."""
        return np.where(self.scan, _sharpness(_grey(image), self.scan) / self.level, 0).astype(np.float32)

    def find(self, image: np.ndarray) -> np.ndarray:
        """Return the pixels of graphics with a rim of two, bool (H, W)."""
        grey = _grey(image)
        seeds = (self.score(image) > STRONG) | _inked(grey, self.scan)
        strokes = _strokes(grey, seeds, self.scan) | _coloured(image)
        return _rimmed(strokes) & self.scan

    def follow(self, image: np.ndarray, found: np.ndarray) -> np.ndarray:
        """Return what continues found lines of text to the left and right, by weaker evidence, with a rim of two.

        Args:
            image: uint8 (H, W, C) that still shows the text.
            found: bool (H, W), what :meth:`find` gave.
        """
        grey = _grey(image)
        lines = _lines(found) & self.scan
        strokes = _strokes(grey, lines & (self.score(image) > WEAK), self.scan, join=9, reach=(5, 9))
        counts = np.bincount(grey[found], minlength=256)
        ink = int(counts.argmax())
        if counts[ink] >= _INK_PIXELS // 2 and counts[ink] > 2 * _beside(counts, ink):
            same = (lines & (grey == ink)).astype(np.uint8)
            count, labels, stats, _ = cv2.connectedComponentsWithStats(same, connectivity=8)
            runs = np.flatnonzero(stats[:count, cv2.CC_STAT_AREA] >= 3)
            strokes |= np.isin(labels, runs[runs > 0])
        return _rimmed(strokes) & self.scan

    def faint(self, image: np.ndarray, found: np.ndarray) -> bool:
        """Return whether a line of text is hardly brighter than the scan it lies on, so that letters may hide in it.

        Args:
            image: uint8 (H, W, C) that still shows the text.
            found: bool (H, W), all pixels found.
        """
        grey = _grey(image)
        score, inked = self.score(image), _inked(grey, self.scan)
        count, labels = cv2.connectedComponents(_wide(found).astype(np.uint8), connectivity=8)
        for number in range(1, count):
            group = labels == number
            if score[group].max() < 2 * WEAK and inked[group].sum() < _INK_PIXELS // 3:
                continue  # texture more likely than text
            around = cv2.dilate(group.astype(np.uint8), np.ones((3, 41), np.uint8)).astype(bool)
            bare = around & self.scan & ~found
            ink = float(np.percentile(grey[group & found], 97))
            if bare.any() and float(np.percentile(grey[bare], 97)) > ink - FAINT:
                return True
        return False


def _rimmed(strokes: np.ndarray) -> np.ndarray:
    return cv2.dilate(strokes.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)


def _lines(found: np.ndarray) -> np.ndarray:
    """Return the stretches in which found lines of text would go on: three letters to both sides of what is wide."""
    return cv2.dilate(_wide(found).astype(np.uint8), np.ones((5, 81), np.uint8)).astype(bool)


def _wide(found: np.ndarray) -> np.ndarray:
    """Return the groups of found pixels that are as wide as two letters, joined."""
    joined = cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 15), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    width, height = stats[:count, cv2.CC_STAT_WIDTH], stats[:count, cv2.CC_STAT_HEIGHT]
    wide = np.flatnonzero((width >= 24) & (width > 1.2 * height))
    return np.isin(labels, wide[wide > 0])


def _grey(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image.max(axis=2))


def _sharpness(grey: np.ndarray, scan: np.ndarray) -> np.ndarray:
    """Return the window mean of the second difference along rows, of pixels whose neighbours lie in the scan too."""
    kernel = np.array([[-0.5, 1.0, -0.5]], np.float32)
    difference = np.minimum(np.abs(cv2.filter2D(grey, cv2.CV_32F, kernel)), _CLIP)
    inner = cv2.erode(scan.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0).astype(np.float32)
    ksize = _WINDOW[::-1]
    weight = cv2.blur(inner, ksize, borderType=cv2.BORDER_CONSTANT)
    total = cv2.blur(difference * inner, ksize, borderType=cv2.BORDER_CONSTANT)
    return total / np.maximum(weight, 0.4)


def _around(grey: np.ndarray, scan: np.ndarray) -> np.ndarray:
    """Return the median grey of each pixel's surroundings within the scan, uint8 (H, W)."""
    weight = cv2.blur(scan.astype(np.float32), (31, 31), borderType=cv2.BORDER_CONSTANT)
    mean = cv2.blur(np.where(scan, grey, 0).astype(np.float32), (31, 31), borderType=cv2.BORDER_CONSTANT)
    filled = np.where(scan, grey, mean / np.maximum(weight, 1e-3)).clip(0, 255)
    return cv2.medianBlur(filled.astype(np.uint8), 31)


def _expected(sharpness: np.ndarray, around: np.ndarray, scan: np.ndarray) -> np.ndarray:
    """Return the median sharpness of the places whose surroundings are as bright; grey maps stretch bright speckle.

    A bin of brightness needs 2 % of the scan, and its median is held within half and twice that of the whole scan,
    so that a block of text cannot pass as what is usual.
    """
    if not scan.any():
        return np.ones(scan.shape, np.float32)
    values, bright = sharpness[scan], around[scan] // 8
    whole = float(np.median(values))
    known = {
        number: float(np.median(values[bright == number]))
        for number in range(32)
        if (bright == number).sum() >= max(200, 0.02 * len(values))
    } or {0: whole}
    table = np.interp(np.arange(32), list(known), list(known.values())).clip(whole / 2, 2 * whole)
    smooth = cv2.blur(table.astype(np.float32)[around // 8], (15, 15))
    return smooth + 1.0


def _strokes(
    grey: np.ndarray, seeds: np.ndarray, scan: np.ndarray, *, join: int = 33, reach: tuple[int, int] = (7, 21)
) -> np.ndarray:
    """Return the strokes around seeds: what rises (or sinks) about half as far from its surroundings as the ink does.

    Seeds on one line are joined over a gap of ``join`` pixels (two letters), ``reach`` (rows, columns) is how far
    around them strokes are sought; each group has its own ink.
    """
    strokes = np.zeros(grey.shape, bool)
    joined = cv2.morphologyEx(seeds.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, join), np.uint8))
    zone = cv2.dilate(joined, np.ones(reach, np.uint8)) & scan.astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(zone, connectivity=8)
    kernel = np.ones((13, 13), np.uint8)
    bright, dark = (cv2.morphologyEx(grey, change, kernel) for change in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT))
    for number in range(1, count):
        left, top, width, height, _ = stats[number]
        box = (slice(top, top + height), slice(left, left + width))
        part = labels[box] == number
        ink, hollow = (float(np.percentile(rise[box][part], 99)) for rise in (bright, dark))
        rise, most = (dark, hollow) if hollow > 1.3 * ink else (bright, ink)
        strokes[box] |= part & (rise[box] > max(14.0, 0.42 * most))
    return strokes


def _inked(grey: np.ndarray, scan: np.ndarray) -> np.ndarray:
    """Return pixels in runs of one level that is an ink."""
    from skimage.measure import label

    runs = label(grey.astype(np.int32) + 1, connectivity=2, background=0)
    flat = runs.ravel()
    rise = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, np.ones((13, 13), np.uint8))
    size = np.bincount(flat)
    height = np.bincount(flat, rise.ravel()) / np.maximum(size, 1)
    within = np.bincount(flat, scan.ravel()) / np.maximum(size, 1) > 0.5
    level = np.zeros(len(size), np.int64)
    level[flat] = grey.ravel()
    chosen = within & (size >= 4) & (height > 30)
    counts = np.bincount(level[chosen], size[chosen], minlength=256)
    inks = [
        value for value in range(256) if counts[value] >= _INK_PIXELS and counts[value] > 3 * _beside(counts, value)
    ]
    return (chosen & np.isin(level, inks))[runs]


def _beside(counts: np.ndarray, value: int) -> float:
    """Return the largest count of the levels that are two to six steps away."""
    near = [counts[other] for step in range(2, 7) for other in (value - step, value + step) if 0 <= other < 256]
    return float(max(near))


def _coloured(image: np.ndarray) -> np.ndarray:
    """Return thin coloured strokes; wide colour is flow, not ink."""
    if image.shape[2] < 3:
        return np.zeros(image.shape[:2], bool)
    spread = (image.max(axis=2).astype(np.int16) - image.min(axis=2) > _SPREAD).astype(np.uint8)
    wide = cv2.morphologyEx(spread, cv2.MORPH_OPEN, np.ones((9, 9), np.uint8))
    flow = cv2.dilate(wide, np.ones((5, 5), np.uint8)).astype(bool)
    return spread.astype(bool) & ~flow
