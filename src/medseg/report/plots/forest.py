"""The forest plot of paired differences: every pair with its interval, in words what may be said about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import ScoreError
from medseg.report.plots.sheet import NORMAL, SMALL, Drawing, bare, finish, new_sheet, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW = 0.3
"""Height of a pair in inches."""
MOST = 60
"""Pairs that are drawn; those with the largest differences."""
CLAIMED, EQUAL, OPEN = "#0072b2", "#009e73", "#6b6b6b"
"""Colours of a claim, of practical equality and of no evidence; the words beside them say the same."""
MARKS = {CLAIMED: "D", EQUAL: "s", OPEN: "o"}


@dataclass(frozen=True)
class Difference:
    """A pair of methods.

    Attributes:
        first: name of the first.
        second: name of the second.
        mean: first minus second, positive where the first is better.
        low: lower end of the interval.
        high: upper end.
        verdict: what may be said, in words.
        claim: whether these words say that one is better.
        equal: whether they say that both are practically equal.
    """

    first: str
    second: str
    mean: float
    low: float
    high: float
    verdict: str
    claim: bool = False
    equal: bool = False


def forest(
    differences: Sequence[Difference],
    stem: Path,
    *,
    metric: str,
    rope: float = 0.0,
    title: str = "Paired differences over patients",
    flags: Sequence[str] = (),
) -> Drawing:
    """Draw a row a pair, and return the files.

    Args:
        differences: drawn from top to bottom.
        stem: path without ending.
        metric: whose differences these are.
        rope: half the width of the region of practical equivalence, shaded; 0 for none.
        title: one line.
        flags: printed in red at the top.

    Raises:
        ScoreError: no pair.
    """
    if not differences:
        raise ScoreError(f"{stem}: no pair of methods to compare; give at least two.")
    shown = _chosen(differences)
    sheet = new_sheet(10.6, ROW * len(shown) + 0.3, title=title, caption=_caption(differences, rope), flags=flags)
    axes = sheet.axes(left=3.0, right=4.3)
    if rope:
        axes.axvspan(-rope, rope, color="0.92", zorder=0)
    axes.axvline(0, color="0.3", linewidth=1)
    for place, pair in enumerate(shown):
        _draw(axes, pair, place)
    axes.set_yticks(range(len(shown)), [f"{short(pair.first, 21)} - {short(pair.second, 21)}" for pair in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel(f"difference of the mean {metric}", fontsize=SMALL)
    bare(axes, grid="x")
    axes.tick_params(axis="y", length=0, labelsize=SMALL)
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=5)
    said = "; ".join(f"{pair.first} against {pair.second} {_numbers(pair)}, {pair.verdict}" for pair in differences)
    return finish(sheet, stem, alt=f"Differences of the mean {metric}: {said}.")


def _chosen(differences: Sequence[Difference]) -> list[Difference]:
    order = np.argsort([-abs(pair.mean) for pair in differences], kind="stable")[:MOST]
    return [differences[place] for place in sorted(order.tolist())]


def _caption(differences: Sequence[Difference], rope: float) -> str:
    absent = len(differences) - MOST
    left_out = f" The {absent} smallest of {len(differences)} differences are not drawn." if absent > 0 else ""
    region = f" Shaded: ± {rope:g}, practically equal." if rope else ""
    return (
        "Right of zero the first method is better. Lines: 95 % interval, patients and seeds resampled together."
        f"{region}{left_out}"
    )


def _numbers(pair: Difference) -> str:
    if not np.isfinite([pair.low, pair.high]).all():
        return f"{pair.mean:+.3f} (no interval)"
    return f"{pair.mean:+.3f} [{pair.low:+.3f}, {pair.high:+.3f}]"


def _draw(axes: "Axes", pair: Difference, place: int) -> None:
    color = CLAIMED if pair.claim else EQUAL if pair.equal else OPEN
    axes.plot([pair.low, pair.high], [place, place], color=color, linewidth=2.2, solid_capstyle="round", zorder=3)
    axes.plot([pair.mean], [place], MARKS[color], color=color, markersize=6, zorder=4)
    beside = axes.get_yaxis_transform()
    axes.text(1.03, place, _numbers(pair), transform=beside, fontsize=SMALL, va="center", family="monospace")
    words = short(pair.verdict, 34)
    bold = "bold" if pair.claim else "normal"
    axes.text(1.56, place, words, transform=beside, fontsize=NORMAL - 1.5, va="center", color=color, weight=bold)
