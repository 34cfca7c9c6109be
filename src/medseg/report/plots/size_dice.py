"""Dice against the size of the structure: one point a case, the running median through them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    log_ticks,
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
NEIGHBOURS = 5
"""Share of the cases in the window of the running median, as a divisor."""
LEAST = 5
"""Smallest window of the running median."""


@dataclass(frozen=True)
class SizedScores:
    """Size and score of the same cases; empty references are left out by whoever fills it, and counted.

    Attributes:
        size: (N,) reference size, above zero.
        score: (N,) Dice.
        left_out: cases without a structure or without a defined score.
    """

    size: ArrayLike
    score: ArrayLike
    left_out: int = 0


def running_median(size: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the median size and the median score of windows of neighbouring sizes.

    A window holds a fifth of the cases, at least five and an odd number, and moves by one case. Fewer cases than a
    window give nothing.
    """
    order = np.argsort(np.asarray(size, dtype=np.float64), kind="stable")
    sizes, scores = np.asarray(size, dtype=np.float64)[order], np.asarray(score, dtype=np.float64)[order]
    window = max(LEAST, len(sizes) // NEIGHBOURS) | 1
    if len(sizes) < window:
        return np.empty(0), np.empty(0)
    views = [np.lib.stride_tricks.sliding_window_view(values, window) for values in (sizes, scores)]
    return np.median(views[0], axis=1), np.median(views[1], axis=1)


def size_dice(
    methods: Mapping[str, SizedScores],
    stem: Path,
    *,
    unit: str,
    title: str = "Dice against the size of the structure",
    flags: Sequence[str] = (),
) -> Drawing:
    """Draw one small plot a method on common axes, and return the files.

    Args:
        methods: sizes and scores by method.
        stem: path without ending.
        unit: of the sizes, for instance ``mm2`` or ``pixels``.
        title: one line.
        flags: printed in red at the top.

    Raises:
        ScoreError: no method, one without cases, or a size that is not above zero.
    """
    if not methods:
        raise ScoreError(f"{stem}: no method with sizes; score the runs first.")
    arrays = {name: _checked(name, sized) for name, sized in methods.items()}
    shown = unit.replace("mm2", "mm²").replace("mm3", "mm³")
    caption = (
        f"Point: a case. Line: running median over a fifth of the cases, at least {LEAST}. Cases whose reference is "
        "empty are left out and counted."
    )
    wide = 5.2 if len(methods) == 1 else 9.0
    sheet = new_sheet(wide, panels_height(len(methods), TALL), title=title, caption=caption, flags=flags)
    plots = panels(sheet, len(methods), height=TALL)
    ends = [f(np.concatenate([sizes for sizes, _ in arrays.values()])) for f in (np.min, np.max)]
    for number, (name, (sizes, scores)) in enumerate(arrays.items()):
        _draw(plots[number], sizes, scores, number)
        plots[number].set_xlim(ends[0] / 1.15, ends[1] * 1.15)
        absent = methods[name].left_out
        count = f"n = {len(sizes)} cases" + (f", {absent} left out" if absent else "")
        plots[number].set_title(f"{short(name, 32)}\n{count}", fontsize=SMALL, loc="left")
        plots[number].set_xlabel(f"reference size ({shown}, logarithmic)", fontsize=SMALL)
        if number % columns(len(arrays)) == 0:
            plots[number].set_ylabel("Dice", fontsize=SMALL)
    share_left(plots)
    return finish(sheet, stem, alt=_alt(arrays))


def _checked(name: str, sized: SizedScores) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    sizes, scores = np.asarray(sized.size, dtype=np.float64), np.asarray(sized.score, dtype=np.float64)
    if not len(sizes) or sizes.shape != scores.shape or not (sizes > 0).all():
        raise ScoreError(
            f"size and Dice of '{name}': {sizes.shape} sizes above zero for {scores.shape} scores expected."
        )
    return sizes, scores


def _draw(axes: "Axes", sizes: NDArray[np.float64], scores: NDArray[np.float64], number: int) -> None:
    color, marker = look(number)
    axes.plot(sizes, scores, marker, color=color, alpha=0.4, markersize=4, markeredgewidth=0, linestyle="none")
    axes.plot(*running_median(sizes, scores), color="white", linewidth=3.6)
    axes.plot(*running_median(sizes, scores), color="0.1", linewidth=1.8)
    log_ticks(axes, count=5)
    axes.set_ylim(-0.02, 1.02)
    bare(axes, grid="both")


def _alt(arrays: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> str:
    said = []
    for name, (sizes, scores) in arrays.items():
        small = sizes <= np.median(sizes)
        larger = scores[~small] if (~small).any() else scores
        said.append(
            f"{name} median Dice {np.median(scores[small]):.3f} of the smaller half, "
            f"{np.median(larger):.3f} of the rest"
        )
    return f"Dice against reference size: {'; '.join(said)}."
