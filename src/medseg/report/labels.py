"""Where the names of points go in a crowded plot."""

import math
from collections.abc import Iterator, Sequence

Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""
Pair = tuple[float, float]

DIRECTIONS = 24
RINGS = 40
NEGLIGIBLE = 1e-6
"""Square pixels that come from rounding."""
STEP = 5.0
"""Pixels between two rings around a point on which its name is tried."""


def place_labels(spots: Sequence[Pair], sizes: Sequence[Pair], *, bounds: Box, radius: float) -> list[Pair]:
    """Return the lower left corner of each name: the nearest place that covers no point and no other name.

    Names are placed one after the other, those in the densest crowd first; where every place is taken, the one that
    covers least is used. All lengths are pixels.

    Args:
        spots: (x, y) of each point.
        sizes: (width, height) of each name.
        bounds: within which names lie.
        radius: of a point's marker.
    """
    markers = [(x - radius, y - radius, x + radius, y + radius) for x, y in spots]
    placed: dict[int, Box] = {}
    for number in sorted(range(len(spots)), key=lambda i: (-_crowd(spots, i, 4 * sizes[i][1]), i)):
        blocked = [*markers, *placed.values()]
        best, least = None, math.inf
        for box in _places(spots[number], sizes[number], radius):
            covered = sum(_shared(box, other) for other in blocked) + _outside(box, bounds)
            if covered < least:
                best, least = box, covered
            if covered < NEGLIGIBLE:
                break
        assert best is not None
        placed[number] = best
    return [placed[number][:2] for number in range(len(spots))]


def _crowd(spots: Sequence[Pair], number: int, reach: float) -> int:
    return sum(math.dist(spots[number], spot) < reach for spot in spots)


def _places(spot: Pair, size: Pair, radius: float) -> Iterator[Box]:
    """Yield boxes around a point, nearest first, to the right first."""
    (x, y), (width, height) = spot, size
    for ring in range(RINGS):
        reach = radius + 1 + STEP * ring
        for turn in range(DIRECTIONS):
            side = turn // 2 + turn % 2  # 0, then alternately above and below
            angle = 2 * math.pi * side / DIRECTIONS * (1 if turn % 2 else -1)
            # The box touches the ring with the side or corner that faces the point.
            cosine, sine = math.cos(angle), math.sin(angle)
            left = x + reach * cosine - width * (0.5 - 0.5 * _clipped(cosine))
            bottom = y + reach * sine - height * (0.5 - 0.5 * _clipped(sine))
            yield left, bottom, left + width, bottom + height


def _clipped(value: float) -> float:
    """Return -1, 1 or what lies between, steeper than the value itself."""
    return max(-1.0, min(1.0, 2.5 * value))


def _shared(one: Box, other: Box) -> float:
    """Return the area that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def _outside(box: Box, bounds: Box) -> float:
    """Return the area of a box beyond the bounds."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    return area - _shared(box, bounds)
