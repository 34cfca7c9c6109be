"""What another seed changes against what another architecture changes, on one axis."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import ScoreError
from medseg.report.plots.sheet import SMALL, Drawing, bare, finish, look, new_sheet, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW = 0.42
"""Height of a method in inches."""


def pooled_seed_sd(means: Mapping[str, Sequence[float]]) -> float:
    """Return the standard deviation of a seed's mean around its method's, pooled over methods with several seeds.

    sqrt(sum of squared deviations / sum of (seeds - 1)); nan where every method has one seed.
    """
    several = [np.asarray(values, dtype=np.float64) for values in means.values() if len(values) > 1]
    freedom = sum(len(values) - 1 for values in several)
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in several)
    return math.sqrt(squares / freedom) if freedom else math.nan


def seed_gap(
    means: Mapping[str, Sequence[float]],
    stem: Path,
    *,
    metric: str,
    lower_is_better: bool = False,
    title: str = "Seeds against architectures",
    flags: Sequence[str] = (),
) -> Drawing:
    """Draw every seed's mean by method, best method on top, and return the files.

    Args:
        means: mean over patients of each seed, by method.
        stem: path without ending.
        metric: name of the horizontal axis.
        lower_is_better: whether the smallest mean is on top.
        title: one line.
        flags: printed in red at the top.

    Raises:
        ScoreError: no method, or one without a seed.
    """
    if not means or any(not len(values) for values in means.values()):
        raise ScoreError(f"{stem}: a method without a finished seed; leave it out.")
    sign = 1 if lower_is_better else -1
    ordered = sorted(means, key=lambda name: (sign * float(np.mean(means[name])), name))
    spread = pooled_seed_sd(means)
    body = ROW * len(ordered) + 0.25
    sheet = new_sheet(8.0, body, title=title, caption=_caption(means, ordered, spread), flags=flags)
    axes = sheet.axes(left=2.3, right=0.25)
    numbers = {name: number for number, name in enumerate(means)}
    best = float(np.mean(means[ordered[0]]))
    if math.isfinite(spread):
        axes.axvspan(best - 2 * spread, best + 2 * spread, color="0.93", zorder=0)
    for place, name in enumerate(ordered):
        _draw(axes, means[name], place, numbers[name])
    axes.set_yticks(range(len(ordered)), [f"{short(name, 30)} ({len(means[name])})" for name in ordered])
    axes.set_ylim(len(ordered) - 0.4, -0.6)
    axes.set_xlabel(f"mean {metric} of a training", fontsize=SMALL)
    axes.locator_params(axis="x", nbins=7)
    bare(axes, grid="x")
    return finish(sheet, stem, alt=_alt(means, ordered, spread, metric))


def _draw(axes: "Axes", values: Sequence[float], place: int, number: int) -> None:
    color, marker = look(number)
    axes.plot(values, [place] * len(values), marker, color=color, alpha=0.7, markersize=6, markeredgewidth=0)
    centre = float(np.mean(values))
    axes.plot([centre, centre], [place - 0.28, place + 0.28], color=color, linewidth=2)


def gaps(means: Mapping[str, Sequence[float]], ordered: Sequence[str]) -> tuple[float, float]:
    """Return how far the best method is from the second and from the last."""
    centres = [float(np.mean(means[name])) for name in ordered]
    return abs(centres[0] - centres[1]), abs(centres[0] - centres[-1])


def _facts(means: Mapping[str, Sequence[float]], ordered: Sequence[str], spread: float) -> str:
    seeds = (
        "One seed a method: what seeds change is not known."
        if math.isnan(spread)
        else f"Standard deviation over the seeds of a method, pooled: {spread:.4f}."
    )
    if len(ordered) < 2:
        return seeds
    second, last = gaps(means, ordered)
    return f"{seeds} Best to second method: {second:.4f}; best to last: {last:.4f}."


def _caption(means: Mapping[str, Sequence[float]], ordered: Sequence[str], spread: float) -> str:
    band = "" if math.isnan(spread) else " Shaded: two of these standard deviations around the best method."
    return f"Point: a training (seed). Bar: mean of the method. {_facts(means, ordered, spread)}{band}"


def _alt(means: Mapping[str, Sequence[float]], ordered: Sequence[str], spread: float, metric: str) -> str:
    said = "; ".join(f"{name} {', '.join(f'{value:.3f}' for value in means[name])}" for name in ordered)
    return f"Mean {metric} of each seed by method, best first: {said}. {_facts(means, ordered, spread)}"
