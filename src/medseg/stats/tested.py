"""What one method was tested on with one seed: the rows of its folds put together, and whether others match them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medseg import scores
from medseg.errors import ScoreError

if TYPE_CHECKING:
    from medseg.stats.evidence import Training

Place = tuple[str, int]
"""Method and seed."""
Rows = dict[Place, pd.DataFrame]
KEY = ["case", "class_name"]
SHOWN = 3
"""Names that a message lists before it only counts."""


def rows_tested(trainings: Sequence["Training"], metric: str, class_name: str | None) -> pd.DataFrame:
    """Return the rows that the folds of one method and seed were tested on.

    Args:
        trainings: its runs, one per fold.
        metric: column of the score tables.
        class_name: the one class that counts, or None for all.

    Returns:
        One row per case and class, sorted: ``case``, ``patient``, ``domain``, ``class_name``, ``fold`` (number of the
        test side, counted in the order of their first patients), ``value`` (distances penalised), ``undefined``,
        ``penalised``, ``empty_reference``, ``empty_prediction``.

    Raises:
        ScoreError: a patient is on two test sides, a class is unknown or missing in a case, a value is NaN although
            its case defines it.
    """
    ordered = sorted(trainings, key=lambda training: str(training.table["patient"].min()))
    _check_disjoint(ordered)
    parts = [_rows(training, metric, class_name).assign(fold=fold) for fold, training in enumerate(ordered)]
    return pd.concat(parts).sort_values(KEY, kind="stable").reset_index(drop=True)


def _check_disjoint(trainings: Sequence["Training"]) -> None:
    seen: dict[str, Training] = {}
    for training in trainings:
        patients = set(training.table["patient"])
        for patient in sorted(patients & set(seen)):
            other = seen[patient]
            what = f"'{training.method}' with seed {training.seed}"
            if patients == set(other.table["patient"]):
                raise ScoreError(f"{what} is there twice: {other.name} and {training.name}; give one of them.")
            raise ScoreError(
                f"{what}: patient '{patient}' is on the test side of {other.name} and of {training.name}; folds must "
                "not share test patients."
            )
        seen |= dict.fromkeys(patients, training)


def _rows(training: "Training", metric: str, class_name: str | None) -> pd.DataFrame:
    table = training.table
    known = list(dict.fromkeys(table["class_name"]))
    if class_name is not None and class_name not in known:
        raise ScoreError(f"class={class_name}: {training.name} has the classes {', '.join(known)}; choose one of them.")
    if class_name is not None:
        table = table[table["class_name"] == class_name]
    elif len(table) != table["case"].nunique() * len(known):
        raise ScoreError(
            f"{training.name}: a case lacks one of the classes {', '.join(known)}; evaluate the run again."
        )
    raw = table[metric].to_numpy(dtype=np.float64)
    undefined = undefined_by_policy(table, metric)
    _check_defined(training, table, metric, undefined)
    distance = metric in scores.DISTANCES
    return table[["case", "patient", "domain", "class_name", "empty_reference", "empty_prediction"]].assign(
        value=scores.penalised(raw, table["diagonal"].to_numpy(dtype=np.float64)) if distance else raw,
        undefined=undefined,
        penalised=np.isposinf(raw) & distance,
    )


def undefined_by_policy(table: pd.DataFrame, metric: str) -> NDArray[np.bool_]:
    """Return for each row whether the metric has no value because of what is in the case; see ``medseg.scores``."""
    tp, fp, fn, tn = (table[name].to_numpy() for name in scores.COUNTS)
    nothing = tp + fp + fn + tn == 0
    no_reference, no_background, no_mask = tp + fn == 0, tn + fp == 0, tp + fp + fn == 0
    rules = {
        "sensitivity": no_reference,
        "specificity": no_background,
        "balanced_accuracy": no_reference | no_background,
        "precision": no_mask,
    }
    undefined: NDArray[np.bool_] = np.isnan(table[metric].to_numpy(dtype=np.float64)) & (
        nothing | rules.get(metric, nothing)
    )
    return undefined


def _check_defined(training: "Training", table: pd.DataFrame, metric: str, undefined: NDArray[np.bool_]) -> None:
    values = table[metric].to_numpy(dtype=np.float64)
    if np.isnan(values).all() and not undefined.all():
        raise ScoreError(
            f"{training.name}: '{metric}' was not measured (nan in every row); evaluate the run with it or choose "
            "another metric."
        )
    allowed = np.isposinf(values) if metric in scores.DISTANCES else np.zeros(len(values), dtype=bool)
    broken = np.flatnonzero(~np.isfinite(values) & ~undefined & ~allowed)
    if broken.size:
        row = table.iloc[broken[0]]
        raise ScoreError(
            f"{training.name}, case '{row['case']}', class '{row['class_name']}': {metric} is {row[metric]} although "
            f"the case defines it ({broken.size} such rows); evaluate the run again."
        )


def check_same_tests(rows: Mapping[Place, pd.DataFrame]) -> None:
    """Raise unless all methods and seeds were tested on the same cases of the same patients in the same folds.

    Raises:
        ScoreError: says which patients or cases differ, and how many.
    """
    places = list(rows)
    first, table = places[0], rows[places[0]]
    for place in places[1:]:
        other = rows[place]
        for column, words in (("patient", "patients"), ("case", "cases"), ("class_name", "classes")):
            missing = sorted(set(table[column]) - set(other[column]))
            extra = sorted(set(other[column]) - set(table[column]))
            if missing or extra:
                raise ScoreError(
                    f"different test sets: {_told(first)} was tested on {table[column].nunique()} {words}, "
                    f"{_told(place)} on {other[column].nunique()}; {_difference(first, place, missing, extra)}; "
                    "compare runs on one split, with all of its folds."
                )
        _check_same_grouping(first, table, place, other)


def _check_same_grouping(first: Place, table: pd.DataFrame, place: Place, other: pd.DataFrame) -> None:
    for column, words in (("patient", "patient"), ("fold", "fold")):
        moved = np.flatnonzero(table[column].to_numpy() != other[column].to_numpy())
        if moved.size:
            case = table["case"].iloc[moved[0]]
            raise ScoreError(
                f"different test sets: {table['case'].iloc[moved].nunique()} cases (first: '{case}') belong to another "
                f"{words} for {_told(place)} than for {_told(first)}; compare runs on one split."
            )


def _difference(first: Place, place: Place, missing: Sequence[str], extra: Sequence[str]) -> str:
    said = [(first, missing), (place, extra)]
    return ", ".join(f"{len(names)} only for {_told(where)} ({_listed(names)})" for where, names in said if names)


def _told(place: Place) -> str:
    return f"'{place[0]}' seed {place[1]}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:SHOWN])
    return f"{shown} ..." if len(names) > SHOWN else shown


def defined_for_all(rows: Mapping[Place, pd.DataFrame], metric: str) -> tuple[Rows, list[str]]:
    """Return the rows that have a value for every method and seed, and a note on what was left out.

    A row that is undefined for one method is left out for all of them: else they would be averaged over other cases.

    Raises:
        ScoreError: no row is left.
    """
    undefined = np.any([table["undefined"].to_numpy() for table in rows.values()], axis=0)
    if not undefined.any():
        return dict(rows), []
    first = next(iter(rows.values()))
    kept = first[~undefined]
    if kept.empty:
        raise ScoreError(f"metric={metric}: undefined in every case of the test set; choose another metric.")
    counts = ", ".join(
        f"{before - after} of {before} {words}"
        for words, before, after in (
            ("rows", len(first), len(kept)),
            ("cases", first["case"].nunique(), kept["case"].nunique()),
            ("patients", first["patient"].nunique(), kept["patient"].nunique()),
        )
    )
    note = f"Left out for all methods alike, because {metric} is undefined there for at least one: {counts}."
    return {place: table[~undefined].reset_index(drop=True) for place, table in rows.items()}, [note]
