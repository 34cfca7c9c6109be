"""Learning curves: the validation score of every run by epoch, a thin line a seed, a thick one their mean."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ScoreError
from medseg.report.plots.sheet import COLORS, DASHES, SMALL, Drawing, bare, finish, look, new_sheet, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = Mapping[int, float]
"""Score by epoch, counted from 0."""


def learning_curves(
    methods: Mapping[str, Sequence[Curve]],
    stem: Path,
    *,
    metric: str,
    title: str = "Learning curves",
    flags: Sequence[str] = (),
) -> Drawing:
    """Draw the curves of all methods in one plot with a list of names beside it, and return the files.

    Args:
        methods: one curve a run (seed, fold) by method.
        stem: path without ending.
        metric: name of the vertical axis.
        title: one line.
        flags: printed in red at the top.

    Raises:
        ScoreError: no method, or one without a finite value.
    """
    empty = [name for name, curves in methods.items() if not any(_finite(curve) for curve in curves)]
    if empty or not methods:
        raise ScoreError(
            f"{stem}: {empty or 'no method'} without a finite {metric}; let the runs finish an epoch first."
        )
    rows = 0.32 * len(methods)
    caption = (
        "Thin: a run. Thick: mean over the runs of a method, as far as all of them went. The end of a line is where "
        "the run stopped; these are scores of the validation side."
    )
    sheet = new_sheet(8.6, max(3.0, rows + 0.2), title=title, caption=caption, flags=flags)
    axes = sheet.axes(left=0.65, right=2.75)
    names = sheet.axes(left=6.0, right=0.05)
    names.set_axis_off()
    names.set_xlim(0, 2.55)
    names.set_ylim(sheet.body, 0)
    for number, (name, curves) in enumerate(methods.items()):
        _draw(axes, curves, number)
        depth, dash = 0.15 + 0.32 * number, DASHES[number % len(DASHES)]
        names.plot([0.0, 0.35], [depth] * 2, color=look(number)[0], linestyle=dash, linewidth=2.2)
        names.text(0.42, depth, f"{short(name, 24)} ({len(curves)})", fontsize=SMALL, va="center")
    _finish_axes(axes, metric)
    return finish(sheet, stem, alt=_alt(methods, metric))


def _finite(curve: Curve) -> dict[int, float]:
    return {epoch: curve[epoch] for epoch in sorted(curve) if np.isfinite(curve[epoch])}


def mean_curve(curves: Sequence[Curve]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the epochs that every curve has, and the mean of the curves there."""
    finite = [_finite(curve) for curve in curves]
    shared = sorted(set.intersection(*(set(curve) for curve in finite))) if finite else []
    means = [float(np.mean([curve[epoch] for curve in finite])) for epoch in shared]
    return np.array(shared, dtype=np.int64), np.array(means, dtype=np.float64)


def _draw(axes: "Axes", curves: Sequence[Curve], number: int) -> None:
    color, dash = COLORS[number % len(COLORS)], DASHES[number % len(DASHES)]
    for curve in curves:
        line = _finite(curve)
        marker = "o" if len(line) == 1 else None
        axes.plot(list(line), list(line.values()), color=color, linewidth=0.8, alpha=0.5, marker=marker, markersize=3)
    epochs, means = mean_curve(curves)
    if len(epochs):
        marker = "o" if len(epochs) == 1 else None
        axes.plot(epochs, means, color=color, linewidth=2.0, linestyle=dash, marker=marker)


def _finish_axes(axes: "Axes", metric: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch", fontsize=SMALL)
    axes.set_ylabel(metric, fontsize=SMALL)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    bare(axes, grid="both")


def _alt(methods: Mapping[str, Sequence[Curve]], metric: str) -> str:
    said = []
    for name, curves in methods.items():
        best = [max(_finite(curve).values()) for curve in curves if _finite(curve)]
        said.append(f"{name} reaches {np.mean(best):.3f} on average of {len(best)} runs")
    return f"{metric} by epoch: {'; '.join(said)}."
