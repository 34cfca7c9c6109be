"""The rules of the score table; a broken one is reported with file, line and column."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medseg import scores
from medseg.errors import ScoreError

OVERLAP_COLUMNS = ("dice", "iou", "sensitivity", "specificity", "precision")
SCORE_COLUMNS = (
    *("case", "patient", "domain", "split_side", "leaky", "class_index", "class_name"),
    *scores.COUNTS,
    *("reference_size", "prediction_size"),
    *OVERLAP_COLUMNS,
    *scores.DISTANCES,
    *("diagonal", "unit", "empty_reference", "empty_prediction"),
)
"""Columns of ``scores.csv`` in order."""

TEXT_COLUMNS = ("case", "patient", "domain", "split_side", "class_name", "unit")
FLAG_COLUMNS = ("leaky", "empty_reference", "empty_prediction")
WHOLE_COLUMNS = (*FLAG_COLUMNS, "class_index", *scores.COUNTS, "reference_size", "prediction_size")
TOLERANCE = 1e-9

_REMEDY = "the table was changed by hand or cut short: write it anew with `medseg evaluate`."


def check_scores(frame: pd.DataFrame, *, source: str) -> None:
    """Raise on the first row that breaks a rule.

    The rules: exactly ``SCORE_COLUMNS``; at least one row; no case-class pair twice; whole numbers >= 0; flags, sizes
    and overlap scores (to 1e-9) as the counts give them; distances 0 with both masks empty, inf with exactly one, else
    finite and >= 0, unless the whole column is NaN (not measured); a positive diagonal.

    Args:
        frame: a score table, one run.
        source: what to call it in the message: the file, or what made it.

    Raises:
        ScoreError: one line with source, line, case, class, column, value, rule and remedy.
    """
    check_header(tuple(frame.columns), source=source)
    _check_types(frame, source)
    _check_names(frame, source)
    _check_counts(frame, source)
    _check_overlap(frame, source)
    _check_distances(frame, source)


def check_header(names: Sequence[str], *, source: str) -> None:
    """Raise unless ``names`` are ``SCORE_COLUMNS`` in order.

    Raises:
        ScoreError: names what is missing and what is unknown.
    """
    if tuple(names) != SCORE_COLUMNS:
        missing = [name for name in SCORE_COLUMNS if name not in names]
        extra = [name for name in names if name not in SCORE_COLUMNS]
        raise ScoreError(
            f"{source}: columns missing: {missing}, unknown: {extra}; all must stand once and in order; {_REMEDY}"
        )


def _check_types(frame: pd.DataFrame, source: str) -> None:
    if frame.empty:
        raise ScoreError(f"{source}: no rows; {_REMEDY}")
    for name in WHOLE_COLUMNS:
        if not pd.api.types.is_integer_dtype(frame[name]):
            raise ScoreError(f"{source}, column '{name}': dtype {frame[name].dtype}, must be whole numbers; {_REMEDY}")
    for name in (*OVERLAP_COLUMNS, *scores.DISTANCES, "diagonal"):
        if not pd.api.types.is_float_dtype(frame[name]):
            raise ScoreError(f"{source}, column '{name}': dtype {frame[name].dtype}, must be float; {_REMEDY}")


def _refuse(frame: pd.DataFrame, broken: NDArray[np.bool_], column: str, rule: str, source: str) -> None:
    """Raise for the first row where ``broken``, naming line (the header is line 1), case and class."""
    if not broken.any():
        return
    row = int(np.flatnonzero(broken)[0])
    found = frame.iloc[row]
    raise ScoreError(
        f"{source}, line {row + 2} (case '{found['case']}', class '{found['class_name']}'), column '{column}': "
        f"{found[column]!s} {rule}; {_REMEDY}"
    )


def _check_names(frame: pd.DataFrame, source: str) -> None:
    for name in ("case", "patient", "class_name", "split_side", "unit"):
        _refuse(frame, (frame[name] == "").to_numpy(), name, "must not be empty", source)
    _refuse(frame, frame.duplicated(["case", "class_index"]).to_numpy(), "case", "stands twice for one class", source)
    first = frame.groupby("case")["patient"].transform("first")
    _refuse(frame, (first != frame["patient"]).to_numpy(), "patient", "differs from the case's first row", source)


def _check_counts(frame: pd.DataFrame, source: str) -> None:
    for name in WHOLE_COLUMNS:
        _refuse(frame, (frame[name] < 0).to_numpy(), name, "must be >= 0", source)
    _refuse(frame, (frame["class_index"] < 1).to_numpy(), "class_index", "must be >= 1 (0 is background)", source)
    expected = {
        "reference_size": frame["tp"] + frame["fn"],
        "prediction_size": frame["tp"] + frame["fp"],
        "empty_reference": (frame["tp"] + frame["fn"] == 0).astype(np.int64),
        "empty_prediction": (frame["tp"] + frame["fp"] == 0).astype(np.int64),
    }
    for name, values in expected.items():
        _refuse(frame, (frame[name] != values).to_numpy(), name, "contradicts tp, fp, fn", source)
    _refuse(frame, (frame["leaky"] > 1).to_numpy(), "leaky", "must be 0 or 1", source)


def _check_overlap(frame: pd.DataFrame, source: str) -> None:
    expected = scores.overlap(frame[list(scores.COUNTS)].to_numpy())
    for name in OVERLAP_COLUMNS:
        stored, true = frame[name].to_numpy(), getattr(expected, name)
        same = np.isclose(stored, true, rtol=0, atol=TOLERANCE, equal_nan=True)
        _refuse(frame, ~same, name, "contradicts tp, fp, fn, tn", source)


def _check_distances(frame: pd.DataFrame, source: str) -> None:
    diagonal = frame["diagonal"].to_numpy()
    _refuse(frame, ~(np.isfinite(diagonal) & (diagonal > 0)), "diagonal", "must be finite and > 0", source)
    reference, prediction = (frame[name].to_numpy() == 1 for name in ("empty_reference", "empty_prediction"))
    for name in scores.DISTANCES:
        values = frame[name].to_numpy()
        if np.isnan(values).all():
            continue
        one, both = reference != prediction, reference & prediction
        _refuse(frame, np.isposinf(values) != one, name, "must be inf with exactly one empty mask, else not", source)
        _refuse(frame, both & (values != 0), name, "must be 0 with both masks empty", source)
        _refuse(frame, np.isnan(values) | (values < 0), name, "must be a distance >= 0", source)
