"""Every patient of every method: half a violin, a box, the raw points, and a thin line through each patient."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ScoreError
from medseg.report.plots.sheet import SMALL, Drawing, bare, finish, look, new_sheet, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW = 0.85
"""Height of a method in inches."""
MANY = 150
"""Patients above which lines between methods would be a grey block."""
FEW = 8
"""Different values below which a density would be made up."""


def method_boxes(
    values: NDArray[np.float64],
    methods: Sequence[str],
    stem: Path,
    *,
    metric: str,
    title: str = "Every patient by method",
    flags: Sequence[str] = (),
) -> Drawing:
    """Draw the patients of each method, and return the files.

    Args:
        values: (M, P), a patient's mean over cases and seeds; nan where a method has none.
        methods: M names, drawn from top to bottom.
        stem: path without ending.
        metric: name of the horizontal axis.
        title: one line.
        flags: printed in red at the top, for instance ``("SYNTHETIC",)``.

    Raises:
        ScoreError: a method has no defined value, or names and rows differ in number.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or len(table) != len(methods):
        raise ScoreError(f"{stem}: {len(methods)} methods for values of shape {table.shape}; give one row a method.")
    empty = [name for name, row in zip(methods, table, strict=True) if not np.isfinite(row).any()]
    if empty or not len(methods):
        raise ScoreError(f"{stem}: {empty or 'no method'} without a defined {metric}; score the runs first.")
    sheet = new_sheet(8.0, 0.2 + ROW * len(methods), title=title, caption=_caption(table), flags=flags)
    axes = sheet.axes(left=2.05, right=0.2)
    if len(methods) > 1 and table.shape[1] <= MANY:
        _lines(axes, table)
    for place, row in enumerate(table):
        _method(axes, row[np.isfinite(row)], place)
    counts = np.isfinite(table).sum(axis=1)
    names = [f"{short(name, 30)}\nn = {count}" for name, count in zip(methods, counts, strict=True)]
    axes.set_yticks(range(len(methods)), names, fontsize=SMALL)
    axes.set_ylim(len(methods) - 0.45, -0.65)
    axes.set_xlabel(f"{metric} of a patient", fontsize=SMALL)
    bare(axes, grid="x")
    return finish(sheet, stem, alt=_alt(table, methods, metric))


def _caption(table: NDArray[np.float64]) -> str:
    lines = " A thin line joins the points of one patient." if len(table) > 1 and table.shape[1] <= MANY else ""
    return (
        "Point: a patient, averaged over cases and seeds. Box: quartiles and median, whiskers to the last point within "
        f"1.5 interquartile ranges. Diamond: mean over patients. Above: density of the points.{lines}"
    )


def _alt(table: NDArray[np.float64], methods: Sequence[str], metric: str) -> str:
    said = [
        f"{name} mean {np.nanmean(row):.3f}, median {np.nanmedian(row):.3f}, lowest {np.nanmin(row):.3f}, highest "
        f"{np.nanmax(row):.3f}, n = {np.isfinite(row).sum()}"
        for name, row in zip(methods, table, strict=True)
    ]
    return f"{metric} of every patient: {'; '.join(said)}."


def _lines(axes: "Axes", table: NDArray[np.float64]) -> None:
    from matplotlib.collections import LineCollection

    spots = np.stack([table, np.broadcast_to(np.arange(len(table))[:, None] + 0.22, table.shape)], axis=-1)
    paths = [path for path in spots.transpose(1, 0, 2) if np.isfinite(path).all()]
    shade = float(np.clip(12 / max(1, len(paths)), 0.12, 0.45))
    axes.add_collection(LineCollection(paths, colors="0.35", linewidths=0.5, alpha=shade, zorder=1))


def _method(axes: "Axes", values: NDArray[np.float64], place: int) -> None:
    color, marker = look(place)
    _density(axes, values, place, color)
    axes.boxplot(
        values, positions=[place], orientation="horizontal", widths=0.13, showfliers=False, zorder=3,
        boxprops={"color": color}, medianprops={"color": color, "linewidth": 2.2},
        whiskerprops={"color": color}, capprops={"color": color},
    )  # fmt: skip
    axes.plot(
        values, np.full(len(values), place + 0.22), marker, color=color, alpha=0.5, markersize=4, markeredgewidth=0,
        linestyle="none", zorder=2,
    )  # fmt: skip
    axes.plot([values.mean()], [place], "D", color=color, markeredgecolor="white", markersize=6.5, zorder=5)


def _density(axes: "Axes", values: NDArray[np.float64], place: int, color: str) -> None:
    """Draw a Gaussian kernel density with Scott's bandwidth above the box, within the range of the data."""
    if len(np.unique(values.round(6))) < FEW:
        return
    from scipy.stats import gaussian_kde

    grid = np.linspace(values.min(), values.max(), 120)
    height = gaussian_kde(values)(grid)
    axes.fill_between(
        grid, place - 0.1 - 0.38 * height / height.max(), place - 0.1, color=color, alpha=0.25, linewidth=0, zorder=1
    )
