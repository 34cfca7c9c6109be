"""The score table ``scores.csv``: one row per case and foreground class, raw values, checked when read.

Every number reported anywhere is computed from these rows. Undefined values are written ``nan``, distances with exactly
one empty mask ``inf``; nothing is averaged or penalised before the table. With two classes the foreground's counts hold
the background's (``medseg.scores.with_background``); with more they do not, since a foreground class mistaken for
another cannot be told from one mistaken for background.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from medseg import scores
from medseg.errors import ScoreError
from medseg.stats.check import SCORE_COLUMNS, TEXT_COLUMNS, WHOLE_COLUMNS, check_header, check_scores
from medseg.stats.csv_file import read_lines, write_csv

REMEDY = "cut short or edited: write it anew with `medseg evaluate`."


def score_rows(
    counts: ArrayLike,
    measured: Mapping[str, ArrayLike] | None,
    *,
    cases: Sequence[Mapping[str, str]],
    diagonals: ArrayLike,
    classes: Sequence[str],
    unit: str,
    split_side: str,
    leaky: bool,
    tolerances: ArrayLike = 1.0,
) -> pd.DataFrame:
    """Return the score table of one run on one side of a split: by case in the order given, then by class.

    Args:
        counts: (N, K, 4) confusion counts, background included.
        measured: (N, K-1) raw values of any of ``medseg.scores.MEASURED`` by name, distances in ``unit``; what was not
            measured becomes NaN.
        cases: ``case``, ``patient`` and ``domain`` of each of the N cases.
        diagonals: (N,) physical diagonal of each case's grid in ``unit``.
        classes: K class names, background first.
        unit: unit of distances, ``px`` or ``mm``.
        split_side: the side that was scored, for instance ``test``.
        leaky: whether images of one patient or twins of one image stand on several sides.
        tolerances: of ``nsd_voxel`` in ``unit``, one for all cases or (N,).

    Raises:
        ScoreError: the shapes do not fit each other, a column is unknown, or a value contradicts the counts.
    """
    number, foreground = len(cases), len(classes) - 1
    table = _shaped(counts, (number, foreground + 1, 4), np.int64, "counts")[:, 1:].reshape(-1, 4)
    values = scores.overlap(table)
    columns: dict[str, Any] = {
        name: [str(case[name]) for case in cases for _ in range(foreground)] for name in ("case", "patient", "domain")
    }
    columns |= {
        "split_side": split_side,
        "leaky": int(leaky),
        "class_index": np.tile(np.arange(1, foreground + 1), number),
        "class_name": list(classes[1:]) * number,
        "reference_size": table[:, 0] + table[:, 2],
        "prediction_size": table[:, 0] + table[:, 1],
        "diagonal": _shaped(diagonals, (number,), np.float64, "diagonals").repeat(foreground),
        "tolerance": _shaped(np.broadcast_to(tolerances, (number,)), (number,), np.float64, "").repeat(foreground),
        "unit": unit,
    }
    columns |= {name: table[:, place] for place, name in enumerate(scores.COUNTS)}
    columns |= {name: getattr(values, name) for name in scores.OVERLAPS}
    columns |= _measured_columns(measured or {}, (number, foreground))
    for name in ("reference", "prediction"):
        columns[f"empty_{name}"] = (columns[f"{name}_size"] == 0).astype(np.int64)
    frame = pd.DataFrame(columns, index=pd.RangeIndex(len(table)))[list(SCORE_COLUMNS)]
    check_scores(frame, source="score rows")
    return frame


def _measured_columns(measured: Mapping[str, ArrayLike], shape: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """Return every column of ``MEASURED``, lesions as whole numbers; NaN where it was not measured."""
    if unknown := sorted(set(measured) - set(scores.MEASURED)):
        raise ScoreError(f"score rows: unknown column {unknown[0]}; there are {', '.join(scores.MEASURED)}.")
    nothing = np.full(shape, np.nan)
    columns = {name: _shaped(measured.get(name, nothing), shape, np.float64, name).ravel() for name in scores.MEASURED}
    for name in scores.LESIONS:
        values = columns[name]
        if np.isfinite(values).all() and (values == np.floor(values)).all():
            columns[name] = values.astype(np.int64)
    return columns


def _shaped(values: ArrayLike, shape: tuple[int, ...], dtype: type, name: str) -> NDArray[Any]:
    array: NDArray[Any] = np.asarray(values, dtype=dtype)
    if array.shape != shape:
        raise ScoreError(f"score rows: {name} has shape {array.shape}, but cases and classes ask for {shape}.")
    return array


def write_scores(frame: pd.DataFrame, path: Path) -> None:
    """Check the table and write it, whole or not at all; floats come back bit for bit.

    Raises:
        ScoreError: a row breaks a rule of the table.
    """
    check_scores(frame, source=str(path))
    write_csv(frame, path)


def read_scores(path: Path) -> pd.DataFrame:
    """Return a checked score table; text stays text (case ``007`` keeps its zeros, a patient ``NA`` its name).

    Raises:
        ScoreError: the file is missing, is not a score table, or a row breaks a rule.
    """
    header, rows = read_lines(path, kind="score table", remedy=REMEDY)
    check_header(header, source=str(path))
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    frame = pd.DataFrame({name: _typed(name, texts, path) for name, texts in zip(header, columns, strict=True)})
    check_scores(frame, source=str(path))
    return frame


def _typed(name: str, texts: Sequence[str], path: Path) -> list[str] | NDArray[Any]:
    """Return a column in its type; a field that does not parse is named by line."""
    if name in TEXT_COLUMNS:
        return list(texts)
    whole = name in WHOLE_COLUMNS or (name in scores.LESIONS and set(texts) != {"nan"})
    kind, words = (int, "a whole number") if whole else (float, "a number, inf or nan")
    values = []
    for number, text in enumerate(texts, start=2):
        try:
            values.append(kind(text))
        except ValueError as error:
            raise ScoreError(
                f"{path}, line {number}, column '{name}': '{text}' is not {words}; write the table "
                "anew with `medseg evaluate`."
            ) from error
    return np.array(values, dtype=np.int64 if kind is int else np.float64)
