"""Where the ultrasound scan lies on an exported screen: rectangles of linear probes, sectors of convex ones.

The screen around a scan is flat, the scan is not: speckle lights nearly every pixel. What is lit is closed over
shadows, opened until no line of text is left, and each large block that remains is described by a shape with few
parameters, because a free outline would follow whatever text touches it. The order of these operations and every
threshold are our reading; no publication states them.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np

SMALLEST_SHARE = 0.08
"""A block below this share of the picture is no scan."""
SECOND_WINDOW = 0.35
"""A further block counts as a second window from this share of the largest on."""
_GROW, _SHRINK = 0.35, 0.12  # lit shares from which a row, column, ray or arc joins the scan, below which it leaves


@dataclass(frozen=True, eq=False)
class Sector:
    """The scan on a screen.

    Attributes:
        mask: bool (H, W), true within the scan.
        kinds: one for each window: ``rectangle``, ``fan`` (part of a ring) or ``outline`` (convex hull).
        fits: share of each window's shape that is covered by what was seen, and the reverse (intersection over union).
        doubts: why the result should not be trusted; empty if it may be.
    """

    mask: np.ndarray
    kinds: tuple[str, ...] = ()
    fits: tuple[float, ...] = ()
    doubts: tuple[str, ...] = field(default=())


def find_sector(image: np.ndarray) -> Sector:
    """Return where the scan is.

    Args:
        image: uint8 (H, W, C), 1 or 3 channels.
    """
    grey = np.ascontiguousarray(image.max(axis=2))
    lit = _lit(grey)
    windows = _blocks(lit)
    mask = np.zeros(grey.shape, bool)
    if not windows:
        return Sector(mask, doubts=("no clear scan",))
    kinds, fits = [], []
    for block in windows:
        shape, kind = _describe(block, lit)
        overlap = (shape & block).sum() / max(1, (shape | block).sum())
        kinds.append(kind)
        fits.append(float(overlap))
        mask |= shape
    doubts = [f"scan outline fits {kind} by {fit:.2f} only" for kind, fit in zip(kinds, fits, strict=True) if fit < 0.8]
    return Sector(mask, tuple(kinds), tuple(fits), tuple(doubts))


def _lit(grey: np.ndarray) -> np.ndarray:
    """Return what differs from the empty screen, the commonest of the dark levels on the picture's edge."""
    edge = np.concatenate([grey[:2].ravel(), grey[-2:].ravel(), grey[:, :2].ravel(), grey[:, -2:].ravel()])
    counts = np.bincount(edge, minlength=256)[:40]
    ground = int(counts.argmax()) if counts.max() > 0.15 * edge.size else 0
    difference = np.abs(grey.astype(np.int16) - ground)
    near = edge[np.abs(edge.astype(np.int16) - ground) <= 4]
    flat = len(near) > 0 and (near == ground).mean() > 0.9
    return difference >= (1 if flat and not _rings(difference) else 4)


def _rings(difference: np.ndarray) -> bool:
    """Return whether what stands alone on the screen is surrounded by faint levels, as JPEG leaves them."""
    blocks = _blocks(difference >= 4)
    scan = np.any(blocks, axis=0) if blocks else np.zeros(difference.shape, bool)
    apart = ~cv2.dilate(scan.astype(np.uint8), np.ones((31, 31), np.uint8)).astype(bool)
    around = cv2.dilate(((difference > 60) & apart).astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool) & apart
    lit = difference[around & (difference > 0)]
    return len(lit) > 50 and float((lit <= 3).mean()) > 0.1


def _blocks(lit: np.ndarray) -> list[np.ndarray]:
    """Return the large blocks of lit pixels, without the text beside them, largest first."""
    side = min(lit.shape)
    close, letters = _odd(0.035 * side), _odd(0.11 * side)
    dense = (cv2.boxFilter(lit.astype(np.float32), -1, (9, 9)) > 0.45).astype(np.uint8)
    border = letters + close
    padded = cv2.copyMakeBorder(dense, border, border, border, border, cv2.BORDER_REPLICATE)
    padded = cv2.morphologyEx(padded, cv2.MORPH_OPEN, np.ones((letters, letters), np.uint8))
    padded = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (close, close)))
    seen = np.ascontiguousarray(padded[border:-border, border:-border])
    count, labels, stats, _ = cv2.connectedComponentsWithStats(seen, connectivity=4)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if count < 2 or areas.max() < SMALLEST_SHARE * lit.size:
        return []
    order = [place for place in np.argsort(-areas) if areas[place] >= SECOND_WINDOW * areas.max()]
    return [_filled(labels == place + 1) for place in order]


def _odd(value: float) -> int:
    return max(5, round(value)) | 1


def _filled(block: np.ndarray) -> np.ndarray:
    outlines, _ = cv2.findContours(block.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros(block.shape, np.uint8), outlines, -1, 1, -1).astype(bool)


def _describe(block: np.ndarray, lit: np.ndarray) -> tuple[np.ndarray, str]:
    """Return the shape of one window and its kind; the simplest that covers the block well."""
    rectangle = _rectangle(block, lit)
    if _is_rectangle(block[rectangle]):
        shape = np.zeros(block.shape, bool)
        shape[rectangle] = True
        return shape, "rectangle"
    fan = _fan(block, lit)
    hull = cv2.convexHull(np.argwhere(block)[:, ::-1].astype(np.int32))
    outline = cv2.fillConvexPoly(np.zeros(block.shape, np.uint8), hull, 1).astype(bool)
    if fan is not None and _overlap(fan, block) >= max(0.85, _overlap(outline, block) - 0.02):
        return fan, "fan"
    return outline, "outline"


def _is_rectangle(block: np.ndarray) -> bool:
    """Return whether a block fills its box, or has lost one side or corner of it to a shadow."""
    strips = (block[:4], block[-4:], block[:, :4], block[:, -4:])
    covered = sorted(float(strip.mean()) for strip in strips)
    return bool(block.mean() > 0.9 or (block.mean() > 0.75 and covered[1] > 0.8))


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / max(1, (first | second).sum()))


def _rectangle(block: np.ndarray, lit: np.ndarray) -> tuple[slice, slice]:
    """Return the box whose sides lie where the share of lit pixels falls off."""
    rows, columns = np.flatnonzero(block.mean(axis=1) > 0), np.flatnonzero(block.mean(axis=0) > 0)
    top, bottom, left, right = int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
    for _ in range(2):
        top, bottom = _walk(lit[:, left : right + 1].mean(axis=1), top, bottom)
        left, right = _walk(lit[top : bottom + 1].mean(axis=0), left, right)
    return slice(top, bottom + 1), slice(left, right + 1)


def _walk(profile: np.ndarray, first: int, last: int) -> tuple[int, int]:
    """Return the stretch of a profile around ``first`` to ``last`` that is lit: grown, then shrunk."""
    while first > 0 and profile[first - 1] > _GROW:
        first -= 1
    while last + 1 < len(profile) and profile[last + 1] > _GROW:
        last += 1
    while first < last and profile[first] <= _SHRINK:
        first += 1
    while last > first and profile[last] <= _SHRINK:
        last -= 1
    return first, last


def _fan(block: np.ndarray, lit: np.ndarray) -> np.ndarray | None:
    """Return the part of a ring around the apex in which the two sides meet, or None where they do not meet above."""
    sides = _sides(block)
    if sides is None:
        return None
    (left_slope, left_start), (right_slope, right_start) = sides
    if right_slope - left_slope < 0.15:
        return None
    apex_row = (left_start - right_start) / (right_slope - left_slope)
    apex_column = left_start + left_slope * apex_row
    rows, columns = np.indices(block.shape, np.float32)
    radius = np.hypot(rows - apex_row, columns - apex_column)
    angle = np.arctan2(columns - apex_column, rows - apex_row)
    rings = _extent(radius, block, lit, step=1.0)
    rays = _extent(angle, block & (radius > rings[0]) & (radius < rings[1]), lit, step=1 / max(1.0, rings[1]))
    return (radius >= rings[0]) & (radius <= rings[1]) & (angle >= rays[0]) & (angle <= rays[1])


def _sides(block: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Return (columns per row, column at row 0) of the left and the right side of a block that widens downwards."""
    rows = np.flatnonzero(block.any(axis=1))
    left = block[rows].argmax(axis=1)
    right = block.shape[1] - 1 - block[rows][:, ::-1].argmax(axis=1)
    widest = int(np.argmax(right - left))
    if widest < 20:
        return None
    upper = slice(int(0.15 * widest), int(0.9 * widest))
    return _line(rows[upper], left[upper]), _line(rows[upper], right[upper])


def _line(rows: np.ndarray, columns: np.ndarray) -> tuple[float, float]:
    """Return slope and start of a line by the median of slopes over half the stretch (after Theil and Sen)."""
    half = len(rows) // 2
    slope = float(
        np.median((columns[half:] - columns[: len(columns) - half]) / (rows[half:] - rows[: len(rows) - half]))
    )
    return slope, float(np.median(columns - slope * rows))


def _extent(coordinate: np.ndarray, block: np.ndarray, lit: np.ndarray, *, step: float) -> tuple[float, float]:
    """Return the range of a polar coordinate that the block spans, moved to where the share of lit pixels falls off."""
    start = float(coordinate.min())
    bins = ((coordinate - start) / step).astype(np.int64)
    low, high = np.percentile(bins[block], (0.5, 99.5)).astype(int)
    near = cv2.dilate(block.astype(np.uint8), np.ones((15, 15), np.uint8)).astype(bool)
    size = int(bins.max()) + 1
    total = np.bincount(bins[near], minlength=size)
    share = np.bincount(bins[near & lit], minlength=size) / np.maximum(1, total)
    first, last = _walk(share, int(low), int(high))
    return start + first * step, start + (last + 1) * step
