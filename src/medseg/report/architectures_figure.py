"""Accuracy against cost: every system of the table as a labelled point, one plot for each kind of cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.report.architectures import CLASSICAL, DICE, GFLOPS, INTERACTIVE, KIND, MILLISECONDS, SYSTEM
from medseg.report.canvas import new_figure, save_figure
from medseg.report.labels import Label, draw_labels
from medseg.report.tables import Cell, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COSTS = {GFLOPS: "GFLOPs of an image", MILLISECONDS: "milliseconds of an image"}
DEEP_COLOR, CLASSICAL_COLOR = "#1f5fa8", "#b3541e"
SMALL = 7.0
"""Font size of the labels in points."""
SIZE = 6.0
"""Diameter of a point in points."""
TICKS = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995)
CEILING = 0.999
"""Dice at which the axis ends."""
CAPTION = (
    "Bars: 95 % interval over patients. The Dice axis is that of log(1 - Dice), the cost axis logarithmic. Classical "
    "systems have no counted operations and stand in the plot of times alone."
)


@dataclass(frozen=True)
class Point:
    """A system in one of the plots."""

    label: str
    cost: float
    dice: Cell
    classical: bool
    interactive: bool


def points_of(tables: Sequence[Table], cost: str) -> list[Point]:
    """Return the systems that have a Dice and a cost above zero, in the order of the tables.

    Args:
        tables: of :func:`~medseg.report.architectures.architecture_tables`.
        cost: name of the cost's column.
    """
    points = []
    for table in tables:
        for cells in table.rows:
            row = {column.text: cell for column, cell in zip(table.columns, cells, strict=True)}
            spent, dice = row[cost].value, row[DICE]
            if spent is None or not spent > 0 or dice.value is None:
                continue
            classical = row[KIND].text == CLASSICAL
            points.append(Point(row[SYSTEM].text, spent, dice, classical, table.name == INTERACTIVE))
    return points


def draw_costs(tables: Sequence[Table], path: Path, *, heading: str, flags: Sequence[str] = ()) -> Path:
    """Write Dice against each kind of cost as a PNG and return its path; the same tables give the same bytes.

    Args:
        tables: of :func:`~medseg.report.architectures.architecture_tables`.
        path: the picture.
        heading: line at the top.
        flags: printed in red at the top, for instance ``("SYNTHETIC",)``.
    """
    plots = {cost: points_of(tables, cost) for cost in COSTS}
    height = 6.4
    figure = new_figure(12, height * len(plots) + 0.8)
    figure.suptitle(heading, fontsize=12, x=0.01, ha="left", weight="bold")
    total = height * len(plots) + 0.8
    place = {"left": 0.06, "right": 0.985, "top": 1 - 0.65 / total, "bottom": 0.95 / total, "hspace": 0.2}
    for axes, (cost, points) in zip(figure.subplots(len(plots), 1, gridspec_kw=place), plots.items(), strict=True):
        _draw(axes, points, COSTS[cost])
    return save_figure(figure, path, caption=CAPTION, flags=flags)


def _draw(axes: "Axes", points: Sequence[Point], what: str) -> None:
    axes.set_xlabel(f"{what}, logarithmic")
    axes.set_ylabel("Dice per case")
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    if not points:
        axes.text(0.5, 0.5, "nothing measured yet", transform=axes.transAxes, ha="center", color="0.4")
        return
    axes.set_xscale("log")
    costs = [point.cost for point in points]
    axes.set_xlim(min(costs) / 1.6, max(costs) * 2.2)
    _scale_dice(axes, points)
    for point in points:
        _draw_point(axes, point)
    _draw_key(axes, points)
    labels = [Label(point.label, (point.cost, _bar(point)[1]), _color(point)) for point in points]
    draw_labels(axes, labels, size=SMALL, radius=SIZE / 2 + 1)


def _scale_dice(axes: "Axes", points: Sequence[Point]) -> None:
    """Spread the upper end of the Dice axis, where most systems lie."""
    values = [value for point in points for value in _bar(point)]
    low, high = min(values), max(values)
    axes.set_yscale(
        "function", functions=(lambda dice: -np.log(np.maximum(1 - dice, 1e-6)), lambda place: 1 - np.exp(-place))
    )
    top = min(CEILING, 1 - (1 - high) * 0.7)
    axes.set_ylim(max(0.0, low - 0.05), top)
    shown = [tick for tick in TICKS if axes.get_ylim()[0] <= tick <= top]
    axes.set_yticks(shown, [f"{tick:g}" for tick in shown])
    axes.minorticks_off()


def _bar(point: Point) -> tuple[float, float, float]:
    """Return the ends of the interval and the value, below the end of the axis."""
    assert point.dice.value is not None
    value = min(point.dice.value, CEILING)
    low = value if point.dice.low is None else min(point.dice.low, CEILING)
    high = value if point.dice.high is None else min(point.dice.high, CEILING)
    return low, value, high


def _color(point: Point) -> str:
    return CLASSICAL_COLOR if point.classical else DEEP_COLOR


def _draw_point(axes: "Axes", point: Point) -> None:
    color = _color(point)
    low, value, high = _bar(point)
    axes.plot([point.cost, point.cost], [low, high], color=color, linewidth=1.0, alpha=0.3, zorder=2)
    axes.plot(
        [point.cost], [value],
        marker="s" if point.classical else "o", markersize=SIZE, color=color, zorder=3,
        markerfacecolor="white" if point.interactive else color,
    )  # fmt: skip


def _draw_key(axes: "Axes", points: Sequence[Point]) -> None:
    """Explain the markers that occur, above the plot, where no point can lie."""
    for classical, interactive in sorted({(point.classical, point.interactive) for point in points}):
        color = CLASSICAL_COLOR if classical else DEEP_COLOR
        axes.plot(
            [], [],
            linestyle="none", marker="s" if classical else "o", markersize=SIZE, color=color,
            markerfacecolor="white" if interactive else color,
            label=("classical" if classical else "deep") + (", interactive" if interactive else ""),
        )  # fmt: skip
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, fontsize=8, frameon=False, borderaxespad=0.1)
