"""Where the names of points go in a crowded plot."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""
Pair = tuple[float, float]

DIRECTIONS = 24
RINGS = 40
NEGLIGIBLE = 1e-6
"""Square pixels that come from rounding."""
STEP = 5.0
"""Pixels between two rings around a point on which its name is tried."""
LEADER = 11.0
"""Distance in points from which a line leads from a name to its point."""


@dataclass(frozen=True)
class Label:
    """The name of a point, its place in the units of the axes, and its colour."""

    name: str
    place: Pair
    color: str


def draw_labels(axes: "Axes", labels: Sequence[Label], *, size: float, radius: float, text: str | None = None) -> None:
    """Write every name where it covers no point and no other name, as far as there is room.

    The limits of the axes must be those of the finished picture.

    Args:
        axes: where the points are drawn already.
        labels: one for each point.
        size: of the letters, in points.
        radius: of a point's marker, in points.
        text: colour of the letters; the point's own without.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = axes.get_figure(root=True)
    assert figure is not None
    renderer = FigureCanvasAgg(figure).get_renderer()
    left, bottom, right, top = (float(edge) for edge in axes.get_window_extent(renderer).extents)
    spots = [_pair(axes.transData.transform(label.place)) for label in labels]
    texts = [axes.text(0, 0, label.name, fontsize=size, transform=None, va="bottom", zorder=4) for label in labels]
    sizes = [(box.width, box.height) for box in (one.get_window_extent(renderer) for one in texts)]
    pixel = figure.dpi / 72
    corners = place_labels(spots, sizes, bounds=(left, bottom, right, top), radius=radius * pixel)
    back = axes.transData.inverted()
    for label, one, spot, extent, corner in zip(labels, texts, spots, sizes, corners, strict=True):
        one.set_transform(axes.transData)
        one.set_position(_pair(back.transform(corner)))
        one.set_color(text or label.color)
        nearest = [min(max(spot[i], corner[i]), corner[i] + extent[i]) for i in (0, 1)]
        if math.dist(nearest, spot) > LEADER * pixel:
            ends = back.transform([spot, nearest])
            axes.plot(ends[:, 0], ends[:, 1], color=label.color, linewidth=0.5, alpha=0.6, zorder=1)


def _pair(place: "np.ndarray") -> Pair:
    return float(place[0]), float(place[1])


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
