"""Outlines to masks.

Coordinates are (x, y) in pixels, with pixel (row i, column j) covering the square from (j, i) to (j + 1, i + 1), as in
COCO and LabelMe. A pixel belongs to an outline if its centre (j + 0.5, i + 0.5) lies inside it or on its edge,
whichever way round it runs; where an outline crosses itself the even-odd rule decides. What lies outside the image is
cut off.
"""

from collections.abc import Sequence

import numpy as np

from medseg.errors import DataError


def fill(
    rings: Sequence[Sequence[Sequence[float]] | np.ndarray],
    *,
    size: tuple[int, int],
    even_odd: bool = False,
    where: str = "outline",
) -> np.ndarray:
    """Return the mask (H, W), bool, of several outlines.

    Args:
        rings: outlines, each a sequence of (x, y); closed by itself.
        size: (H, W).
        even_odd: a ring inside another is a hole; else rings are united.
        where: names the file or shape in an error.

    Raises:
        DataError: an outline has fewer than three points or a coordinate that is no number.
    """
    from skimage.draw import polygon

    mask = np.zeros(size, bool)
    for ring in rings:
        points = _points(ring, where)
        rows, columns = polygon(points[:, 1] - 0.5, points[:, 0] - 0.5, shape=size)
        if even_odd:
            mask[rows, columns] ^= True
        else:
            mask[rows, columns] = True
    return mask


def _points(ring: Sequence[Sequence[float]] | np.ndarray, where: str) -> np.ndarray:
    try:
        points = np.asarray(ring, float)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
        raise DataError(f"{where}: an outline needs three or more points (x, y) of finite numbers; correct it.")
    return points


def rectangle(points: Sequence[Sequence[float]], *, size: tuple[int, int], where: str = "rectangle") -> np.ndarray:
    """Return the mask of the rectangle between two opposite corners (or around four).

    Raises:
        DataError: there are fewer than two points.
    """
    corners = _some(points, 2, where)
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    return fill([[(left, top), (right, top), (right, bottom), (left, bottom)]], size=size, where=where)


def circle(points: Sequence[Sequence[float]], *, size: tuple[int, int], where: str = "circle") -> np.ndarray:
    """Return the mask of a circle given by its centre and a point on its edge.

    Raises:
        DataError: there are not exactly two points.
    """
    centre, edge = _some(points, 2, where)[:2]
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    inside: np.ndarray = np.hypot(columns - centre[0], rows - centre[1]) <= np.hypot(*(edge - centre))
    return inside


def _some(points: Sequence[Sequence[float]], count: int, where: str) -> np.ndarray:
    try:
        found = np.asarray(points, float)
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.ndim != 2 or found.shape[1] != 2 or len(found) < count or not np.isfinite(found).all():
        raise DataError(f"{where}: {count} points (x, y) of finite numbers are needed; correct it.")
    return found


def run_lengths(
    counts: Sequence[int] | str | bytes, *, size: tuple[int, int], where: str = "run lengths"
) -> np.ndarray:
    """Return the mask (H, W), bool, of COCO run lengths: column by column, background first.

    Args:
        counts: the plain list, or COCO's compressed text.
        size: (H, W) that the runs fill.
        where: names the annotation in an error.

    Raises:
        DataError: the runs are damaged or do not fill the image.
    """
    runs = _decompress(counts, where) if isinstance(counts, str | bytes) else list(counts)
    whole = all(isinstance(run, int) and run >= 0 for run in runs)
    if not whole or sum(runs) != size[0] * size[1]:
        raise DataError(f"{where}: run lengths do not fill the image of {size[0]}x{size[1]} pixels; export it again.")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(size, order="F")


def _decompress(text: str | bytes, where: str) -> list[int]:
    """Read COCO's text form: numbers in groups of 5 bits, low first, offset 48; from the third on, differences."""
    codes = [ord(sign) - 48 for sign in text] if isinstance(text, str) else [sign - 48 for sign in text]
    if any(not 0 <= code < 64 for code in codes) or (codes and codes[-1] & 0x20):
        raise DataError(f"{where}: compressed run lengths are damaged; export them again.")
    runs: list[int] = []
    value = shift = 0
    for code in codes:
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs


def paint(regions: Sequence[tuple[np.ndarray, int]], *, size: tuple[int, int]) -> np.ndarray:
    """Return the label map uint8 (H, W) of (mask, value) regions; larger ones first, so that small ones stay visible.

    Of two regions with the same area the later one lies on top.
    """
    labels = np.zeros(size, np.uint8)
    for mask, value in sorted(regions, key=lambda region: -int(region[0].sum())):
        labels[mask] = value
    return labels
