"""Training curves of a run.

The picture is a PNG below a megabyte and says in its corner when the images are simulated or the split leaks.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import RunError
from medseg.journal import better
from medseg.report.canvas import FLAG, LINES, new_figure, save_figure

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
        monitor: the metric whose best value chose the epoch.
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
        sign = 1 if better(monitor) == "max" else -1
        epoch, value = max(series[monitor], key=lambda point: (sign * point[1], -point[0]))
        best = f"best epoch {epoch} ({monitor} {value:.4f}), dotted"
        for ax in (left, right):
            ax.axvline(epoch, color="0.35", linestyle=":", linewidth=1.2, zorder=1)
        right.plot([epoch], [value], marker="*", markersize=12, color=FLAG, zorder=5)
    return save_figure(figure, path, caption=best, flags=flags)


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
    _bare(ax)


def _bare(ax: "Axes") -> None:
    ax.grid(axis="y", color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8.5)
    ax.spines[["top", "right"]].set_visible(False)
