"""The table ``reliability.csv`` beside ``scores.csv``: how often pixels of a stated probability are of the class.

One row per case, foreground class and bin of the class's probability. Sums, not means, so that cases can be added up:
what a reliability diagram shows, and the expected calibration error of any group of cases, come from these rows.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from medseg.errors import ScoreError
from medseg.stats.csv_file import write_csv

COLUMNS = ("case", "class_index", "bin", "n", "probability_sum", "positives")
ROUNDING = 1e-5
"""Relative slack of the sums: probabilities are float32."""

_REMEDY = "the table was changed by hand or cut short: write it anew with `medseg evaluate`."


def reliability_rows(tables: ArrayLike, cases: Sequence[str]) -> pd.DataFrame:
    """Return the table of one run.

    Args:
        tables: (N, K-1, bins, 3) pixels, sums of probabilities and positives; cases without labelled pixels are NaN
            and get rows of zeros.
        cases: N case ids.

    Raises:
        ScoreError: the shapes do not fit each other, or the numbers contradict each other.
    """
    array = np.asarray(tables, dtype=np.float64)
    if array.ndim != 4 or array.shape[0] != len(cases) or array.shape[3] != 3:
        raise ScoreError(f"reliability rows: {array.shape} for {len(cases)} cases; give (cases, classes, bins, 3).")
    number, classes, bins, _ = array.shape
    flat = np.nan_to_num(array.reshape(-1, 3), nan=0.0)
    frame = pd.DataFrame(
        {
            "case": [str(case) for case in cases for _ in range(classes * bins)],
            "class_index": np.tile(np.repeat(np.arange(1, classes + 1), bins), number),
            "bin": np.tile(np.arange(bins), number * classes),
            "n": flat[:, 0].astype(np.int64),
            "probability_sum": flat[:, 1],
            "positives": flat[:, 2].astype(np.int64),
        }
    )
    check_reliability(frame, source="reliability rows")
    return frame


def write_reliability(frame: pd.DataFrame, path: Path) -> None:
    """Check the table and write it, whole or not at all.

    Raises:
        ScoreError: a row breaks a rule of the table.
    """
    check_reliability(frame, source=str(path))
    write_csv(frame, path)


def read_reliability(path: Path) -> pd.DataFrame:
    """Return a checked table; case ids stay text.

    Raises:
        ScoreError: the file is missing, is no such table, or a row breaks a rule.
    """
    try:
        frame = pd.read_csv(path, dtype={"case": str, "probability_sum": str}, keep_default_na=False)
        if "probability_sum" in frame:
            frame["probability_sum"] = frame["probability_sum"].map(float)  # exact, unlike the parser
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ScoreError(
            f"{path}: cannot read the reliability table ({str(error).splitlines()[0]}); networks whose output is no "
            "probability have none, else write it with `medseg evaluate`."
        ) from error
    check_reliability(frame, source=str(path))
    return frame


def check_reliability(frame: pd.DataFrame, *, source: str) -> None:
    """Raise on the first row that breaks a rule.

    The rules: exactly ``COLUMNS``; every case has every class and every bin once; whole numbers >= 0, no more positives
    than pixels; the mean probability of a bin lies within it.

    Raises:
        ScoreError: one line with source, line, column, rule and remedy.
    """
    if tuple(frame.columns) != COLUMNS or frame.empty:
        raise ScoreError(f"{source}: needs the columns {', '.join(COLUMNS)} and at least one row; {_REMEDY}")
    for name in COLUMNS[1:]:
        right = pd.api.types.is_numeric_dtype if name == "probability_sum" else pd.api.types.is_integer_dtype
        if not right(frame[name]):
            words = "numbers" if name == "probability_sum" else "whole numbers"
            raise ScoreError(f"{source}, column '{name}': must hold {words}; {_REMEDY}")
    _refuse(frame, frame.duplicated(["case", "class_index", "bin"]).to_numpy(), "bin", "stands twice", source)
    classes, bins = int(frame["class_index"].max()), int(frame["bin"].max()) + 1
    outside = ~frame["class_index"].between(1, classes) | ~frame["bin"].between(0, bins - 1)
    _refuse(frame, outside.to_numpy(), "bin", "is none of the table's bins", source)
    if len(frame) != frame["case"].nunique() * classes * bins:
        raise ScoreError(f"{source}: not every case has {classes} classes of {bins} bins; {_REMEDY}")
    count, total = frame["n"].to_numpy(), frame["probability_sum"].to_numpy()
    _refuse(frame, count < 0, "n", "must be >= 0", source)
    wrong = (frame["positives"].to_numpy() < 0) | (frame["positives"].to_numpy() > count)
    _refuse(frame, wrong, "positives", "must lie between 0 and n", source)
    low, high = (count * (frame["bin"].to_numpy() + step) / bins for step in (0, 1))
    slack = ROUNDING * (1 + count)
    inside = (total >= low - slack) & (total <= high + slack)
    _refuse(frame, ~inside, "probability_sum", "does not fit n pixels of its bin", source)


def _refuse(frame: pd.DataFrame, broken: NDArray[np.bool_], column: str, rule: str, source: str) -> None:
    if broken.any():
        row = int(np.flatnonzero(broken)[0])
        found = frame.iloc[row]
        raise ScoreError(
            f"{source}, line {row + 2} (case '{found['case']}'), column '{column}': {found[column]!s} {rule}; {_REMEDY}"
        )


def summed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the bins of all cases and classes together: what a reliability diagram draws.

    Returns:
        One row per bin that holds a pixel: ``bin``, ``n``, ``confidence`` (mean probability), ``frequency`` (share of
        its pixels that are of the class).
    """
    totals = frame.groupby("bin", as_index=False)[["n", "probability_sum", "positives"]].sum()
    filled = totals[totals["n"] > 0]
    return pd.DataFrame(
        {
            "bin": filled["bin"],
            "n": filled["n"],
            "confidence": filled["probability_sum"] / filled["n"],
            "frequency": filled["positives"] / filled["n"],
        }
    ).reset_index(drop=True)
