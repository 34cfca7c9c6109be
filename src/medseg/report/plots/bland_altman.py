"""Agreement of measured areas or volumes: the difference of each case against its mean (Bland and Altman 1986)."""

import math
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

TALL = 2.5
"""Height of a small plot in inches."""
HEAD = 0.5
"""Height of its heading."""
WITHIN = 1.96
"""Standard deviations on either side of the bias within which 95 % of normal differences lie."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the same cases by the reference and by a method.

    Attributes:
        patients: (N,) patient of each case.
        reference: (N,) size of the reference.
        prediction: (N,) size of the prediction.
    """

    patients: Sequence[str]
    reference: ArrayLike
    prediction: ArrayLike


@dataclass(frozen=True)
class Agreement:
    """Bias and 95 % limits of agreement of prediction minus reference.

    Attributes:
        bias: mean difference.
        low: bias minus 1.96 standard deviations.
        high: bias plus 1.96 standard deviations.
        n_cases: number of differences.
        n_patients: number of patients they come from.
    """

    bias: float
    low: float
    high: float
    n_cases: int
    n_patients: int


def agreement(sizes: Sizes) -> Agreement:
    """Return bias and limits of agreement; with one case there are no limits (nan).

    Raises:
        ScoreError: no case, or the three columns differ in length.
    """
    reference, prediction = _columns(sizes)
    differences = prediction - reference
    bias = float(differences.mean())
    spread = WITHIN * float(differences.std(ddof=1)) if len(differences) > 1 else math.nan
    return Agreement(bias, bias - spread, bias + spread, len(differences), len(set(sizes.patients)))


def bland_altman(
    methods: Mapping[str, Sizes],
    stem: Path,
    *,
    unit: str,
    title: str = "",
    flags: Sequence[str] = (),
) -> Drawing:
    """Draw one small plot a method on common axes, and return the files.

    Args:
        methods: sizes by method.
        stem: path without ending.
        unit: of the sizes, for instance ``mm2``, ``mm3`` or ``pixels``.
        title: one line; empty says what is measured.
        flags: printed in red at the top.

    Raises:
        ScoreError: no method, or one without cases.
    """
    if not methods:
        raise ScoreError(f"{stem}: no method to compare with its reference; score the runs first.")
    shown = unit.replace("mm2", "mm²").replace("mm3", "mm³")
    what = "volume" if unit in ("mm3", "voxels") else "area"
    title = title or f"Agreement of the predicted {what} with the reference ({shown})"
    caption = (
        f"Point: a case. Line: bias, the mean of prediction - reference; dashed: 95 % limits of agreement, bias ± "
        f"{WITHIN} standard deviations. Cases of one patient are not independent: the limits are "
        "somewhat narrow."
    )
    found = {name: agreement(sizes) for name, sizes in methods.items()}
    wide = 4.6 if len(methods) == 1 else 9.0
    body = panels_height(len(methods), TALL, head=HEAD)
    sheet = new_sheet(wide, body, title=title, caption=caption, flags=flags)
    plots = panels(sheet, len(methods), left=0.85, height=TALL, head=HEAD)
    limits = _limits(methods, found)
    for number, (name, sizes) in enumerate(methods.items()):
        _draw(plots[number], _columns(sizes), found[name], number, limits)
        plots[number].set_title(_heading(name, found[name], letters=30), fontsize=SMALL, loc="left")
        plots[number].set_xlabel(f"mean of both ({shown})", fontsize=SMALL)
    share_left(plots)
    plots[0].set_ylabel(f"prediction - reference ({shown})", fontsize=SMALL)
    said = "; ".join(_heading(name, agreed, letters=200).replace("\n", ", ") for name, agreed in found.items())
    return finish(sheet, stem, alt=f"Bland-Altman plot of the {what} in {unit}. {said}.")


def _columns(sizes: Sizes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    reference = np.asarray(sizes.reference, dtype=np.float64)
    prediction = np.asarray(sizes.prediction, dtype=np.float64)
    if not len(reference) or not len(reference) == len(prediction) == len(sizes.patients):
        raise ScoreError(
            f"sizes: {len(sizes.patients)} patients, {len(reference)} references and {len(prediction)} predictions; "
            "give one of each a case, at least one."
        )
    return reference, prediction


def _limits(methods: Mapping[str, Sizes], found: Mapping[str, Agreement]) -> tuple[float, float]:
    """Return the ends of the vertical axis: every point and every limit lies within."""
    values: list[float] = []
    for name, sizes in methods.items():
        reference, prediction = _columns(sizes)
        values += [*(prediction - reference), found[name].low, found[name].high]
    low, high = np.nanmin(values), np.nanmax(values)
    margin = 0.06 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def _heading(name: str, found: Agreement, *, letters: int) -> str:
    limits = "" if math.isnan(found.low) else f", limits {number(found.low)} to {number(found.high)}"
    return (
        f"{short(name, letters)}\nbias {number(found.bias)}{limits}\n"
        f"n = {found.n_cases} cases of {found.n_patients} patients"
    )


def number(value: float) -> str:
    """Return a signed number with three significant digits and no exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:+.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _draw(
    axes: "Axes",
    columns: tuple[NDArray[np.float64], NDArray[np.float64]],
    found: Agreement,
    place: int,
    limits: tuple[float, float],
) -> None:
    reference, prediction = columns
    color, marker = look(place)
    axes.plot(
        (reference + prediction) / 2, prediction - reference, marker, color=color, alpha=0.5, markersize=4,
        markeredgewidth=0, linestyle="none",
    )  # fmt: skip
    axes.axhline(0, color="0.6", linewidth=0.8, zorder=1)
    axes.axhline(found.bias, color="0.1", linewidth=1.5)
    for limit in (found.low, found.high):
        if math.isfinite(limit):
            axes.axhline(limit, color="0.1", linewidth=1.2, linestyle="--")
    axes.set_ylim(*limits)
    axes.locator_params(axis="x", nbins=5)
    bare(axes, grid="both")
