"""Accuracy against cost: every method as a labelled point with its interval, cheap ones at the left."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import ScoreError
from medseg.report.labels import place_labels
from medseg.report.plots.sheet import SMALL, Drawing, Sheet, bare, finish, log_ticks, look, new_sheet, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 7.0
"""Diameter of a point in points."""
LEADER = 11.0
"""Distance in points from which a line leads from a label to its point."""


@dataclass(frozen=True)
class Costly:
    """A method with what it costs and how good it is.

    Attributes:
        name: as printed.
        cost: above zero.
        score: mean.
        low: lower end of its interval; nan without one.
        high: upper end.
    """

    name: str
    cost: float
    score: float
    low: float = math.nan
    high: float = math.nan


def accuracy_cost(
    methods: Sequence[Costly],
    stem: Path,
    *,
    cost: str,
    metric: str,
    title: str = "Accuracy against cost",
    flags: Sequence[str] = (),
) -> Drawing:
    """Draw the methods, and return the files.

    Args:
        methods: those with a cost above zero and a defined score.
        stem: path without ending.
        cost: name of the horizontal axis, with its unit.
        metric: name of the vertical axis.
        title: one line.
        flags: printed in red at the top.

    Raises:
        ScoreError: no method, or a cost that is not above zero.
    """
    wrong = [point.name for point in methods if not point.cost > 0 or math.isnan(point.score)]
    if wrong or not methods:
        raise ScoreError(f"{stem}: {wrong or 'no method'} without a cost above zero and a score; leave such ones out.")
    caption = (
        f"Bars: 95 % interval of the mean {metric}. Ringed: no other method is at once cheaper and better. "
        "The cost axis is logarithmic."
    )
    sheet = new_sheet(8.0, 3.8, title=title, caption=caption, flags=flags)
    axes = sheet.axes(left=0.7, right=0.2)
    log_ticks(axes, count=8)
    costs = [point.cost for point in methods]
    axes.set_xlim(min(costs) / 1.6, max(costs) * 2.2)
    axes.set_xlabel(f"{cost}, logarithmic", fontsize=SMALL)
    axes.set_ylabel(metric, fontsize=SMALL)
    front = frontier(methods)
    for number, point in enumerate(methods):
        _draw(axes, point, number, ringed=point.name in front)
    axes.margins(y=0.14)
    axes.set_ylim(*axes.get_ylim())  # what is drawn for the labels must not move the points
    bare(axes, grid="both")
    _label(sheet, axes, methods)
    said = "; ".join(f"{point.name} {point.score:.3f} at {point.cost:.3g}" for point in methods)
    return finish(sheet, stem, alt=f"{metric} against {cost}: {said}. Not dominated: {', '.join(front)}.")


def frontier(methods: Sequence[Costly]) -> list[str]:
    """Return the methods that no other matches in one respect and beats in the other; cheapest first."""
    kept = [
        point
        for point in methods
        if not any(
            other.cost <= point.cost
            and other.score >= point.score
            and (other.cost < point.cost or other.score > point.score)
            for other in methods
        )
    ]
    return [point.name for point in sorted(kept, key=lambda point: (point.cost, point.name))]


def _draw(axes: "Axes", point: Costly, number: int, *, ringed: bool) -> None:
    color, marker = look(number)
    if math.isfinite(point.low) and math.isfinite(point.high):
        axes.plot([point.cost] * 2, [point.low, point.high], color=color, linewidth=1.4, alpha=0.45, zorder=2)
    axes.plot([point.cost], [point.score], marker=marker, markersize=SIZE, color=color, zorder=3)
    if ringed:
        axes.plot(
            [point.cost], [point.score], marker="o", markersize=SIZE + 5, markerfacecolor="none", color="0.3", zorder=2
        )


def _label(sheet: Sheet, axes: "Axes", methods: Sequence[Costly]) -> None:
    """Write every name where it covers no point and no other name, as far as there is room."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(sheet.figure).get_renderer()
    frame = axes.get_window_extent(renderer)
    left, bottom, right, top = (float(edge) for edge in frame.extents)
    spots = [tuple(map(float, axes.transData.transform((point.cost, point.score)))) for point in methods]
    texts = [axes.text(0, 0, short(point.name, 34), fontsize=SMALL, transform=None, zorder=4) for point in methods]
    sizes = [(box.width, box.height) for box in (text.get_window_extent(renderer) for text in texts)]
    pixel = sheet.figure.dpi / 72
    reach = (SIZE / 2 + 4) * pixel
    corners = place_labels([(x, y) for x, y in spots], sizes, bounds=(left, bottom, right, top), radius=reach)
    back = axes.transData.inverted()
    for number, (text, spot, size, corner) in enumerate(zip(texts, spots, sizes, corners, strict=True)):
        x, y = back.transform(corner)
        text.set_transform(axes.transData)
        text.set_position((float(x), float(y)))
        text.set_verticalalignment("bottom")
        nearest = [min(max(spot[i], corner[i]), corner[i] + size[i]) for i in (0, 1)]
        if math.dist(nearest, spot) > LEADER * pixel:
            ends = back.transform([spot, nearest])
            axes.plot(ends[:, 0], ends[:, 1], color=look(number)[0], linewidth=0.6, alpha=0.7, zorder=1)
