"""The critical-difference diagram: mean ranks on a line, methods that are not separated under one bar."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import ScoreError
from medseg.report.plots.sheet import NORMAL, SMALL, Drawing, finish, look, new_sheet, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEP = 0.24
"""Height of a name or a bar in inches."""


def critical_difference(
    ranks: Mapping[str, float],
    stem: Path,
    *,
    difference: float | None,
    groups: Sequence[Sequence[str]] | None = None,
    patients: int,
    title: str = "Mean ranks over patients",
    flags: Sequence[str] = (),
) -> Drawing:
    """Draw mean ranks, best at the right, and return the files.

    The drawing follows Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7 (2006), figure 1.

    Args:
        ranks: mean rank by method, 1 is best.
        stem: path without ending.
        difference: critical difference of mean ranks; None where there is none.
        groups: methods that a test does not separate; None derives them from ``difference``.
        patients: number of patients that were ranked.
        title: one line.
        flags: printed in red at the top.

    Raises:
        ScoreError: fewer than two methods, or a rank outside 1 ... number of methods.
    """
    if len(ranks) < 2 or not all(1 <= rank <= len(ranks) for rank in ranks.values()):
        raise ScoreError(f"{stem}: mean ranks {dict(ranks)} are not those of two methods or more; rank them first.")
    ordered = sorted(ranks, key=lambda name: (ranks[name], name))
    bars = _groups(ranks, ordered, difference) if groups is None else [list(group) for group in groups]
    bars = [bar for bar in bars if len(bar) > 1]
    half = (len(ordered) + 1) // 2
    first_name = 0.55 + 0.13 * len(bars) + 0.18
    sheet = new_sheet(
        8.0, first_name + STEP * half, title=title, caption=_caption(difference, patients), flags=flags, below=0.12
    )
    axes = sheet.axes(left=0.1, right=0.1)
    axes.set_axis_off()
    axes.set_xlim(0, 7.8)
    axes.set_ylim(sheet.body, 0)
    scale = _Scale(len(ordered))
    _draw_axis(axes, scale, difference)
    for number, name in enumerate(ordered):
        _draw_name(axes, scale, name, ranks[name], number, half, first_name)
    for number, bar in enumerate(bars):
        places = [scale(ranks[name]) for name in bar]
        depth = 0.64 + 0.13 * number
        axes.plot([min(places) - 0.04, max(places) + 0.04], [depth, depth], color="0.1", linewidth=3.2, zorder=4)
    return finish(sheet, stem, alt=_alt(ranks, ordered, bars, difference))


class _Scale:
    """Inches of a rank: rank 1 at the right end."""

    def __init__(self, count: int) -> None:
        self.count, self.left, self.right = count, 2.3, 5.5

    def __call__(self, rank: float) -> float:
        return self.right - (rank - 1) / (self.count - 1) * (self.right - self.left)


def _groups(ranks: Mapping[str, float], ordered: Sequence[str], difference: float | None) -> list[list[str]]:
    """Return the longest runs of methods whose ends differ by less than the critical difference."""
    if difference is None:
        return []
    found: list[list[str]] = []
    for start, name in enumerate(ordered):
        group = [other for other in ordered[start:] if ranks[other] - ranks[name] < difference]
        if not any(set(group) <= set(other) for other in found):
            found.append(group)
    return found


def _draw_axis(axes: "Axes", scale: _Scale, difference: float | None) -> None:
    axes.plot([scale.left, scale.right], [0.5, 0.5], color="0.1", linewidth=1.2)
    step = max(1, scale.count // 10)
    for rank in sorted({1, scale.count, *range(1, scale.count - step + 1, step)}):
        axes.plot([scale(rank)] * 2, [0.44, 0.5], color="0.1", linewidth=1)
        axes.text(scale(rank), 0.4, str(rank), ha="center", va="bottom", fontsize=SMALL)
    if difference is not None:
        length = difference / (scale.count - 1) * (scale.right - scale.left)
        ends = [6.0, min(7.75, 6.0 + length)] if length <= 1.75 else [5.9, 7.75]
        if length <= 1.75:
            axes.plot(ends, [0.5, 0.5], color="0.1", linewidth=1.6)
            for end in ends:
                axes.plot([end, end], [0.45, 0.55], color="0.1", linewidth=1.6)
        axes.text(sum(ends) / 2, 0.4, f"CD = {difference:.2f}", ha="center", va="bottom", fontsize=SMALL)


def _draw_name(axes: "Axes", scale: _Scale, name: str, rank: float, number: int, half: int, first: float) -> None:
    """Draw an elbow from the axis to a name; the better half stands at the right, the best on top."""
    right = number < half
    row = number if right else len(range(half, scale.count)) - 1 - (number - half)
    depth, color = first + STEP * (row + 0.5), look(number)[0]
    end = 5.75 if right else 2.05
    axes.plot([scale(rank), scale(rank), end], [0.5, depth, depth], color=color, linewidth=1.1, zorder=2)
    label = f"{rank:.2f}  {short(name, 24)}" if right else f"{short(name, 24)}  {rank:.2f}"
    side = "left" if right else "right"
    axes.text(end + (0.05 if right else -0.05), depth, label, ha=side, va="center", fontsize=NORMAL - 0.5, color=color)


def _caption(difference: float | None, patients: int) -> str:
    bar = "Thick bars join methods that the test does not separate." if difference is not None else ""
    none = "No critical difference is given: too few methods or patients." if difference is None else ""
    return f"Rank 1 is best; mean over {patients} patients, seeds averaged first. {bar}{none}"


def _alt(
    ranks: Mapping[str, float], ordered: Sequence[str], bars: Sequence[Sequence[str]], difference: float | None
) -> str:
    said = ", ".join(f"{name} {ranks[name]:.2f}" for name in ordered)
    limit = "" if difference is None else f" Critical difference {difference:.2f}."
    together = "; ".join(" and ".join(bar) for bar in bars)
    return f"Mean ranks, best first: {said}.{limit}" + (f" Not separated: {together}." if together else "")
