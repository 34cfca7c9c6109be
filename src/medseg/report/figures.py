"""Plots of a run: training curves, distributions of Dice over patients and sizes.

Every picture is a PNG below a megabyte and says in its corner when the images are simulated or the split leaks.
"""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medseg.errors import RunError, ScoreError
from medseg.report.canvas import FLAG, LINES, new_figure, save_figure
from medseg.report.selection import patient_means, size_groups

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def curves(
    rows: Iterable[Mapping[str, Any]],
    path: Path,
    title: str,
    *,
    monitor: str = "val/dice",
    flags: Sequence[str] = (),
) -> Path:
    """Draw losses and Dice by epoch with the best epoch marked, and return the path.

    Args:
        rows: of the journal.
        path: the PNG.
        title: usually the run's name.
        monitor: the metric whose highest value chose the epoch.
        flags: printed in red at the top, for instance ``("SYNTHETIC", "LEAKY SPLIT")``.

    Raises:
        RunError: no rows.
    """
    series = _series(rows)
    if not series:
        raise RunError(f"{path}: the journal has no metrics to draw; let the run finish an epoch first.")
    figure = new_figure(9, 3.7)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left", weight="bold")
    place = {"left": 0.07, "right": 0.985, "top": 0.87, "bottom": 0.19, "wspace": 0.2}
    left, right = figure.subplots(1, 2, gridspec_kw=place)
    _draw_lines(left, {name: line for name, line in series.items() if "loss" in name}, "loss")
    _draw_lines(right, {name: line for name, line in series.items() if "dice" in name and "loss" not in name}, "Dice")
    right.set_ylim(-0.02, 1.02)
    best = ""
    if monitor in series:
        epoch, value = max(series[monitor], key=lambda point: (point[1], -point[0]))
        best = f"best epoch {epoch} ({monitor} {value:.4f}), dotted"
        for ax in (left, right):
            ax.axvline(epoch, color="0.35", linestyle=":", linewidth=1.2, zorder=1)
        right.plot([epoch], [value], marker="*", markersize=12, color=FLAG, zorder=5)
    return save_figure(figure, path, caption=best, flags=flags)


def dice_boxes(frames: Mapping[str, Any], path: Path, *, caption: str, flags: Sequence[str] = ()) -> Path:
    """Draw Dice per patient, a box and every patient as a point for each model, and return the path.

    A patient's value is the mean over their cases of the mean over classes; box: quartiles and median, whiskers to
    the last point within 1.5 interquartile ranges; diamond: mean over patients.

    Args:
        frames: score table by model, drawn from top to bottom.
        path: the PNG.
        caption: stands below.
        flags: printed in red at the top, for instance ``("SYNTHETIC", "LEAKY SPLIT")``.

    Raises:
        ScoreError: no table, or one without a defined Dice.
    """
    values = {name: patient_means(frame) for name, frame in frames.items()}
    empty = [name for name, patients in values.items() if not len(patients)]
    if empty or not values:
        raise ScoreError(f"{path}: {empty or 'no model'} without a defined Dice; score the runs first.")
    figure = new_figure(8, 1.35 + 0.55 * len(values))
    height = figure.get_size_inches()[1]
    ax = figure.add_axes((0.27, 0.82 / height, 0.70, 1 - 1.17 / height))
    for place, patients in enumerate(values.values()):
        numbers, color = patients.to_numpy(), LINES[place % len(LINES)]
        spread = ((np.arange(len(numbers)) * 0.618034) % 1 - 0.5) * 0.42  # golden ratio: even, and the same each time
        ax.boxplot(
            numbers, positions=[place], orientation="horizontal", widths=0.6, showfliers=False,
            boxprops={"color": color}, medianprops={"color": color, "linewidth": 2},
            whiskerprops={"color": color}, capprops={"color": color},
        )  # fmt: skip
        ax.plot(numbers, place + spread, ".", color=color, alpha=0.45, markersize=5, markeredgewidth=0)
        ax.plot([numbers.mean()], [place], "D", color=color, markeredgecolor="white", markersize=7, zorder=5)
    short = [textwrap.shorten(name, 26, placeholder="...") for name in values]
    names = [f"{name}\nn = {len(patients)}" for name, patients in zip(short, values.values(), strict=True)]
    ax.set_yticks(range(len(values)), names, fontsize=8.5)
    ax.set_ylim(len(values) - 0.5, -0.5)
    ax.set_xlim(-0.02, 1.02)
    ax.set_xlabel("Dice per patient", fontsize=9)
    _bare(ax, grid="x")
    return save_figure(figure, path, caption=caption, flags=flags)


def dice_by_size(frame: Any, path: Path, *, caption: str, flags: Sequence[str] = ()) -> Path:
    """Draw Dice against the size of the structure, with each size group's median, and return the path.

    Args:
        frame: a score table.
        path: the PNG.
        caption: stands below.
        flags: printed in red at the top, for instance ``("SYNTHETIC", "LEAKY SPLIT")``.

    Raises:
        ScoreError: no row has a structure in its reference.
    """
    present = frame[(frame["reference_size"] > 0) & frame["dice"].notna()]
    figure = new_figure(7, 3.9)
    ax = figure.add_axes((0.09, 0.23, 0.885, 0.66))
    dots = {"marker": "o", "linestyle": "", "alpha": 0.45, "markersize": 4.5, "markeredgewidth": 0}
    ax.semilogx(present["reference_size"], present["dice"], color=LINES[0], **dots)
    groups = size_groups(frame)
    for place, group in enumerate(groups.itertuples()):
        ax.hlines(group.dice_median, group.smallest, group.largest, color=FLAG, linewidth=2)
        ax.axvline(group.largest, color="0.75", linewidth=0.8, zorder=0)
        text, middle = f"{group.group}: median {group.dice_median:.2f}", (place + 0.5) / len(groups)
        ax.text(middle, 1.03, text, ha="center", fontsize=8.5, transform=ax.transAxes)
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel("reference size (pixels, logarithmic)", fontsize=9)
    ax.set_ylabel("Dice", fontsize=9)
    _bare(ax, grid="y")
    return save_figure(figure, path, caption=caption, flags=flags)


def _series(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Return (epoch, value) of the finite values by metric; of an epoch logged twice the later value counts."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        for name, value in row["metrics"].items():
            if math.isfinite(value):
                found.setdefault(name, {})[int(row["epoch"])] = float(value)
    return {name: sorted(points.items()) for name, points in sorted(found.items())}


def _draw_lines(ax: "Axes", series: Mapping[str, Sequence[tuple[int, float]]], label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for place, (name, points) in enumerate(series.items()):
        epochs, values = zip(*points, strict=True)
        marker = "o" if len(epochs) < 15 else None
        ax.plot(
            epochs, values, label=name, color=LINES[place % len(LINES)], marker=marker, markersize=3.5, linewidth=1.6
        )
    if series:
        ax.legend(fontsize=8, frameon=False)
    else:
        ax.text(0.5, 0.5, f"no {label} recorded", ha="center", transform=ax.transAxes, color="0.4", fontsize=9)
    ax.set_xlabel("epoch", fontsize=9)
    ax.set_ylabel(label, fontsize=9)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _bare(ax, grid="y")


def _bare(ax: "Axes", *, grid: Literal["x", "y"]) -> None:
    ax.grid(axis=grid, color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8.5)
    ax.spines[["top", "right"]].set_visible(False)
