"""The rules of the score table; a broken one is reported with file, line and column."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medseg import scores
from medseg.errors import ScoreError

SCORE_COLUMNS = (
    *("case", "patient", "domain", "split_side", "leaky", "class_index", "class_name"),
    *scores.COUNTS,
    *("reference_size", "prediction_size"),
    *scores.OVERLAPS,
    *scores.MEASURED,
    *("diagonal", "tolerance", "unit", "empty_reference", "empty_prediction"),
)
"""Columns of ``scores.csv`` in order, version 2."""

FIRST_VERSION = frozenset(("hd", "hd95_directed_voxel", "assd"))
"""Distances of the tables that were written before their names said all of their definition."""

TEXT_COLUMNS = ("case", "patient", "domain", "split_side", "class_name", "unit")
FLAG_COLUMNS = ("leaky", "empty_reference", "empty_prediction")
WHOLE_COLUMNS = (*FLAG_COLUMNS, "class_index", *scores.COUNTS, "reference_size", "prediction_size")
TOLERANCE = 1e-9

_REMEDY = "the table was changed by hand or cut short: write it anew with `medseg evaluate`."


def check_scores(frame: pd.DataFrame, *, source: str) -> None:
    """Raise on the first row that breaks a rule.

    The rules: exactly ``SCORE_COLUMNS``; at least one row; no case-class pair twice; whole numbers >= 0; flags, sizes
    and overlap scores (to 1e-9) as the counts give them; a positive diagonal and tolerance. What was measured follows
    the table of empty masks in :mod:`medseg.scores` and stays in its range: distances from 0 to the diagonal and not
    above ``hd_voxel``, shares and calibration from 0 to 1, lesions whole numbers that fit each other. A column that
    is NaN throughout was not measured.

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
    _check_scale(frame, source)
    _check_distances(frame, source)
    _check_shares(frame, source)
    _check_lesions(frame, source)
    _check_calibration(frame, source)


def is_first_version(names: Sequence[str]) -> bool:
    """Return whether a header is that of a table of version 1."""
    return set(names) >= FIRST_VERSION


def check_header(names: Sequence[str], *, source: str) -> None:
    """Raise unless ``names`` are ``SCORE_COLUMNS`` in order.

    Raises:
        ScoreError: names what is missing and what is unknown, or that the table is of an older version.
    """
    if tuple(names) == SCORE_COLUMNS:
        return
    if is_first_version(names):
        raise ScoreError(
            f"{source}: written by an older medseg (column 'hd', not 'hd_voxel'); score the run anew with "
            "`medseg evaluate run=FOLDER`, which also renews the table of a finished run."
        )
    missing = [name for name in SCORE_COLUMNS if name not in names]
    extra = [name for name in names if name not in SCORE_COLUMNS]
    raise ScoreError(
        f"{source}: columns missing: {missing}, unknown: {extra}; all must stand once and in order; {_REMEDY}"
    )


def _check_types(frame: pd.DataFrame, source: str) -> None:
    if frame.empty:
        raise ScoreError(f"{source}: no rows; {_REMEDY}")
    for name in (*WHOLE_COLUMNS, *scores.LESIONS):
        unmeasured = name in scores.LESIONS and frame[name].isna().all()
        if not unmeasured and not pd.api.types.is_integer_dtype(frame[name]):
            raise ScoreError(f"{source}, column '{name}': dtype {frame[name].dtype}, must be whole numbers; {_REMEDY}")
    real = (*scores.OVERLAPS, *scores.DISTANCES, *scores.SHARES, *scores.CALIBRATION, "diagonal", "tolerance")
    for name in real:
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
    for name in scores.OVERLAPS:
        stored, true = frame[name].to_numpy(), getattr(expected, name)
        same = np.isclose(stored, true, rtol=0, atol=TOLERANCE, equal_nan=True)
        _refuse(frame, ~same, name, "contradicts tp, fp, fn, tn", source)


def _check_scale(frame: pd.DataFrame, source: str) -> None:
    for name in ("diagonal", "tolerance"):
        values = frame[name].to_numpy()
        _refuse(frame, ~(np.isfinite(values) & (values > 0)), name, "must be finite and > 0", source)


def _empty(frame: pd.DataFrame) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which rows have exactly one empty mask, two, and no labelled pixel (which is none of the others)."""
    reference, prediction = (frame[name].to_numpy() == 1 for name in ("empty_reference", "empty_prediction"))
    unlabelled = frame[list(scores.COUNTS)].to_numpy().sum(axis=1) == 0
    return reference != prediction, reference & prediction & ~unlabelled, unlabelled


def _measured(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    return [name for name in names if not frame[name].isna().all()]


def _check_distances(frame: pd.DataFrame, source: str) -> None:
    one, both, unlabelled = _empty(frame)
    for name in _measured(frame, scores.DISTANCES):
        values = frame[name].to_numpy()
        _refuse(frame, np.isposinf(values) != one, name, "must be inf with exactly one empty mask, else not", source)
        _refuse(frame, both & (values != 0), name, "must be 0 with both masks empty", source)
        _refuse(frame, unlabelled & ~np.isnan(values), name, "must be nan without a labelled pixel", source)
        _refuse(frame, ~unlabelled & (np.isnan(values) | (values < 0)), name, "must be a distance >= 0", source)
        for limit in ("diagonal", *_measured(frame, ("hd_voxel",))):
            above = ~one & (values > frame[limit].to_numpy() * (1 + TOLERANCE))
            _refuse(frame, above, name, f"must not exceed {limit}", source)


def _check_shares(frame: pd.DataFrame, source: str) -> None:
    one, both, unlabelled = _empty(frame)
    for name in _measured(frame, scores.SHARES):
        values = frame[name].to_numpy()
        _refuse(frame, one & (values != 0), name, "must be 0 with exactly one empty mask", source)
        _refuse(frame, both & (values != 1), name, "must be 1 with both masks empty", source)
        _refuse(frame, unlabelled & ~np.isnan(values), name, "must be nan without a labelled pixel", source)
        outside = ~unlabelled & ~((values >= 0) & (values <= 1))
        _refuse(frame, outside, name, "must be a share from 0 to 1", source)


def _check_lesions(frame: pd.DataFrame, source: str) -> None:
    known = _measured(frame, scores.LESIONS)
    for name in known:
        _refuse(frame, (frame[name] < 0).to_numpy(), name, "must be >= 0", source)
    for name in ("reference", "prediction"):
        if f"{name}_lesions" in known:
            none, empty = (frame[f"{name}_lesions"] == 0).to_numpy(), frame[f"empty_{name}"].to_numpy() == 1
            _refuse(frame, none != empty, f"{name}_lesions", f"must be 0 with an empty {name}, else not", source)
    limits = {"detected_lesions": "reference_lesions", "split_lesions": "reference_lesions"}
    limits |= {"false_lesions": "prediction_lesions", "merged_lesions": "prediction_lesions"}
    for name, limit in limits.items():
        if name in known and limit in known:
            _refuse(frame, (frame[name] > frame[limit]).to_numpy(), name, f"must not exceed {limit}", source)


def _check_calibration(frame: pd.DataFrame, source: str) -> None:
    unlabelled = _empty(frame)[2]
    for name in _measured(frame, scores.CALIBRATION):
        values = frame[name].to_numpy()
        _refuse(frame, unlabelled & ~np.isnan(values), name, "must be nan without a labelled pixel", source)
        outside = ~unlabelled & ~((values >= 0) & (values <= 1))
        _refuse(frame, outside, name, "must lie from 0 to 1, or be nan in every row", source)
