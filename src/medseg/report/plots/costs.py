"""Accuracy against cost: every method as a labelled point with its interval, cheap ones at the left."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import ScoreError
from medseg.report.labels import Label, draw_labels
from medseg.report.plots.sheet import SMALL, Drawing, bare, finish, log_ticks, look, new_sheet, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 7.0
"""Diameter of a point in points."""


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
    labels = [
        Label(short(point.name, 34), (point.cost, point.score), look(number)[0]) for number, point in enumerate(methods)
    ]
    draw_labels(axes, labels, size=SMALL, radius=SIZE / 2 + 4, text="black")
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
