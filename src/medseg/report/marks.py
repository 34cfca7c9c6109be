"""The robustness curve of an interactive system: mean Dice against the error of its user's marks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from medseg.report.canvas import FLAG, LINES, new_figure, save_figure
from medseg.stats.aggregate import case_interval

CAPTION = (
    "Mean over cases, band: 95 % interval over patients. Errors are Gaussian in rows and in columns, in pixels at a "
    "longer side of 256; an image's errors point the same way at every size."
)


def marks_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per deviation, smallest first, then the one without marks.

    Args:
        frame: score tables below each other, with ``deviation`` (nan without marks) and ``marked`` (1 or 0).

    Returns:
        ``deviation``, ``marked``, mean ``dice`` over the cases in which it is defined, the interval ``low`` to ``high``
        over patients, number of ``cases``.
    """
    rows = []
    for (marked, deviation), part in frame.groupby(["marked", "deviation"], dropna=False, sort=True):
        found = case_interval([part], column="dice")
        rows.append((deviation, int(marked), found.mean, found.low, found.high, found.n_cases))
    summary = pd.DataFrame(rows, columns=["deviation", "marked", "dice", "low", "high", "cases"])
    return summary.sort_values(["marked", "deviation"], ascending=[False, True], ignore_index=True)


def draw_marks(
    rows: pd.DataFrame, path: Path, *, title: str, trained: float | None = None, flags: Sequence[str] = ()
) -> Path:
    """Draw the curve and the line without marks, and return the path.

    Args:
        rows: of :func:`marks_summary`.
        path: the PNG.
        title: usually the run's name.
        trained: deviation of the user in training, or None.
        flags: printed in red at the top, for instance ``("SYNTHETIC",)``.
    """
    figure = new_figure(8, 4.6)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left", weight="bold")
    axes = figure.add_axes((0.09, 0.22, 0.88, 0.68))
    marked, unmarked = rows[rows["marked"] == 1], rows[rows["marked"] == 0]
    place = marked["deviation"].to_numpy(dtype=float)
    axes.fill_between(place, marked["low"], marked["high"], color=LINES[0], alpha=0.18, linewidth=0)
    axes.plot(place, marked["dice"], "o-", color=LINES[0], label="with marks")
    for row in unmarked.itertuples():
        axes.axhline(row.dice, color=LINES[1], linestyle="--", label="without marks")  # type: ignore[arg-type]
        if np.isfinite([row.low, row.high]).all():  # type: ignore[list-item]
            axes.axhspan(row.low, row.high, color=LINES[1], alpha=0.12, linewidth=0)  # type: ignore[arg-type]
    if trained is not None:
        axes.axvline(trained, color=FLAG, linestyle=":", linewidth=1.2, label="the user's error in training")
    axes.set_xlabel("error of the marks (standard deviation, px at 256)")
    axes.set_ylabel("Dice per case")
    axes.set_ylim(-0.02, 1.02)
    axes.grid(color="0.9", linewidth=0.6)
    axes.legend(loc="lower left", fontsize=9)
    return save_figure(figure, path, caption=CAPTION, flags=flags)
