"""Reliability: how often a pixel belongs to the class among those given the same probability, and how many they are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.errors import ScoreError
from medseg.report.plots.sheet import (
    SMALL,
    Drawing,
    bare,
    columns,
    finish,
    look,
    new_sheet,
    panels,
    panels_height,
    share_left,
    short,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TALL = 2.3
"""Height of a small plot in inches."""
SHARE = 0.26
"""Part of a small plot that the histogram takes."""


def pooled_ece(bins: ArrayLike) -> float:
    """Return the expected calibration error of pooled bins; nan without pixels.

    sum over bins of |positives - sum of probabilities| / number of pixels (Naeini et al., AAAI 2015), the probability
    of one class against the rest.

    Args:
        bins: (B, 3) pixels, sum of their probabilities, number that belong to the class.
    """
    table = np.asarray(bins, dtype=np.float64)
    total = table[:, 0].sum()
    return float(np.abs(table[:, 2] - table[:, 1]).sum() / total) if total else float("nan")


def calibration(
    methods: Mapping[str, ArrayLike],
    stem: Path,
    *,
    per_case: Mapping[str, float] | None = None,
    title: str = "Calibration of the predicted probabilities",
    flags: Sequence[str] = (),
) -> Drawing:
    """Draw one reliability diagram with its histogram a method, and return the files.

    Args:
        methods: (B, 3) pooled bins of equal width by method: pixels, sum of probabilities, number of positives.
        stem: path without ending.
        per_case: mean over cases of each case's ECE, printed beside the pooled one.
        title: one line.
        flags: printed in red at the top.

    Raises:
        ScoreError: no method, a table of another shape, or more positives than pixels.
    """
    tables = {name: _checked(name, bins) for name, bins in methods.items()}
    if not tables:
        raise ScoreError(f"{stem}: no reliability table to draw; runs that predict probabilities write one.")
    caption = (
        "Dots: share of the pixels of a bin that belong to the class, at the mean of their probabilities; the diagonal "
        "is perfect calibration. Bars: share of all pixels in the bin, logarithmic. ECE: mean distance from the "
        "diagonal, weighted by pixels, of all cases pooled."
    )
    wide = 4.4 if len(tables) == 1 else 9.0
    sheet = new_sheet(wide, panels_height(len(tables), TALL), title=title, caption=caption, flags=flags)
    plots = panels(sheet, len(tables), height=TALL)
    for number, (name, table) in enumerate(tables.items()):
        box = plots[number].get_position()
        lower = sheet.figure.add_axes((box.x0, box.y0, box.width, SHARE * box.height))
        plots[number].set_position(
            (box.x0, box.y0 + (SHARE + 0.04) * box.height, box.width, (0.96 - SHARE) * box.height)
        )
        _draw(plots[number], lower, table, number)
        plots[number].set_title(f"{short(name, 32)}\n{_ece(name, table, per_case)}", fontsize=SMALL, loc="left")
        if number % columns(len(tables)) == 0:
            plots[number].set_ylabel("observed share", fontsize=SMALL)
            lower.set_ylabel("pixels", fontsize=SMALL)
        else:
            lower.tick_params(labelleft=False)
    share_left(plots)
    said = "; ".join(f"{name}: {_ece(name, table, per_case)}" for name, table in tables.items())
    return finish(sheet, stem, alt=f"Reliability diagrams. {said}.")


def _ece(name: str, table: NDArray[np.float64], per_case: Mapping[str, float] | None) -> str:
    beside = per_case.get(name, float("nan")) if per_case else float("nan")
    text = f"ECE {pooled_ece(table):.4f}"
    return text if np.isnan(beside) else f"{text}, mean per case {beside:.4f}"


def _checked(name: str, bins: ArrayLike) -> NDArray[np.float64]:
    table = np.asarray(bins, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != 3 or (table < 0).any() or (table[:, 2] > table[:, 0]).any():
        raise ScoreError(
            f"reliability of '{name}': bins of shape {table.shape} are not pixels, sum of probabilities and positives; "
            "score the run again."
        )
    return table


def _draw(upper: "Axes", lower: "Axes", table: NDArray[np.float64], number: int) -> None:
    color, marker = look(number)
    filled = table[table[:, 0] > 0]
    upper.plot([0, 1], [0, 1], color="0.55", linewidth=1, linestyle="--", zorder=1)
    if len(filled):
        confidence, share = filled[:, 1] / filled[:, 0], filled[:, 2] / filled[:, 0]
        upper.plot(confidence, share, marker=marker, color=color, markersize=4.5, linewidth=1.4)
    upper.set_xlim(-0.02, 1.02)
    upper.set_ylim(-0.02, 1.02)
    upper.set_xticklabels([])
    bare(upper, grid="both")
    edges = np.linspace(0, 1, len(table) + 1)
    total = table[:, 0].sum()
    shares = table[:, 0] / total if total else table[:, 0]
    lower.bar(edges[:-1], shares, width=np.diff(edges), align="edge", color=color, alpha=0.45, linewidth=0)
    if total:
        smallest = shares[shares > 0].min()
        lower.set_yscale("log")
        lower.set_ylim(min(smallest / 3, 1e-3), 2)
        lower.set_yticks([1e-3, 1] if smallest < 1e-2 else [1e-2, 1])
        lower.minorticks_off()
    lower.set_xlim(-0.02, 1.02)
    lower.set_xlabel("predicted probability", fontsize=SMALL)
    bare(lower, grid="y")
