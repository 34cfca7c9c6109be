"""The numbers of one run for its card: means over patients with intervals, strata, worst cases."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medseg import scores
from medseg.report.run_facts import RunFacts
from medseg.stats.aggregate import INTERVAL_SEED, case_interval, penalised_column
from medseg.stats.bootstrap import ENOUGH_PATIENTS, Interval, mean_interval
from medseg.stats.case_table import CASE_COLUMNS

MOST_VALUES = 12
"""An attribute with more different values (an age, a free text) makes no strata."""
WORST = 5
NAMES = {"dice": "Dice", "iou": "IoU", "ece": "ECE", "brier": "Brier"}
"""How a column is printed; the rest by its own name, which says its definition."""
NOT_STATED = "not stated"
"""A stratum of cases whose attribute is empty."""


@dataclass(frozen=True)
class Result:
    """One metric over the scored side.

    Attributes:
        name: as printed.
        over_patients: mean over patients (each patient's mean first), with its interval over patients.
        over_cases: mean over cases.
        undefined: case-class pairs without a value, left out.
        penalised: case-class pairs with exactly one empty mask, whose distance counts as the diagonal.
    """

    name: str
    over_patients: Interval
    over_cases: float
    undefined: int
    penalised: int


@dataclass(frozen=True)
class Stratum:
    """Dice within one value of an attribute; ``dice`` is over patients, as in :class:`Result`."""

    attribute: str
    value: str
    cases: int
    dice: Interval


def measured(frame: pd.DataFrame) -> list[str]:
    """Return the metric columns of a score table that hold at least one number, in the table's order."""
    known = {*scores.OVERLAPS, *scores.DISTANCES, *scores.SHARES, *scores.CALIBRATION}
    return [str(name) for name in frame.columns if name in known and frame[name].notna().any()]


def results(frame: pd.DataFrame) -> list[Result]:
    """Return every measured metric of a score table."""
    return [_result(frame, column) for column in measured(frame)]


def _result(frame: pd.DataFrame, column: str) -> Result:
    distance = column in scores.DISTANCES
    values = penalised_column(frame, column) if distance else frame[column].to_numpy(dtype=np.float64)
    per_case = _per_case(frame, values)
    return Result(
        name=NAMES.get(column, column),
        over_patients=_over_patients(per_case),
        over_cases=float(per_case["value"].mean()),
        undefined=int(np.isnan(values).sum()),
        penalised=int(np.isposinf(frame[column].to_numpy()).sum()) if distance else 0,
    )


def _per_case(frame: pd.DataFrame, values: NDArray[np.float64]) -> pd.DataFrame:
    """Return ``case``, ``patient``, ``value``: the mean over a case's classes where it has one."""
    rows = frame[["case", "patient"]].assign(value=values)
    return rows.groupby(["case", "patient"], sort=True, as_index=False)["value"].mean().dropna(subset="value")


def _over_patients(per_case: pd.DataFrame) -> Interval:
    means = per_case.groupby("patient", sort=True)["value"].mean()
    return mean_interval(means.to_numpy(), means.index.to_numpy(), seed=INTERVAL_SEED)


def case_dice(frame: pd.DataFrame) -> Interval | None:
    """Return the mean Dice over cases with its interval over patients; None without a defined Dice."""
    return None if frame["dice"].isna().all() else case_interval([frame], column="dice")


def attributes(run: RunFacts) -> tuple[dict[str, pd.Series], list[str]]:
    """Return what divides the scored cases: attribute to its value by case, and the attributes that make no strata."""
    if run.scores is None:
        return {}, []
    order = run.scores["case"].unique()
    columns: dict[str, pd.Series] = {}
    domains = run.scores.groupby("case")["domain"].first().reindex(order)
    columns["domain"] = domains
    if run.cases is not None:
        known = run.cases.set_index("case")
        columns |= {str(name): known[name].reindex(order) for name in known.columns if name not in CASE_COLUMNS}
    useful = {name: values.replace("", NOT_STATED) for name, values in columns.items() if values.nunique() > 1}
    many = [name for name, values in useful.items() if values.nunique() > MOST_VALUES]
    return {name: values for name, values in useful.items() if name not in many}, many


def strata(run: RunFacts) -> list[Stratum]:
    """Return the mean Dice within every value of every attribute, in the order of the values."""
    if run.scores is None:
        return []
    per_case = _per_case(run.scores, run.scores["dice"].to_numpy(dtype=np.float64)).set_index("case")
    found = []
    for name, values in attributes(run)[0].items():
        labels = values.reindex(per_case.index)
        for value, rows in per_case.groupby(labels, sort=True):
            found.append(Stratum(name, str(value), len(rows), _over_patients(rows)))
    return found


def worst_cases(frame: pd.DataFrame) -> list[tuple[str, float]]:
    """Return the cases with the lowest Dice, lowest first, ties by name."""
    per_case = _per_case(frame, frame["dice"].to_numpy(dtype=np.float64))
    lowest = per_case.sort_values(["value", "case"]).head(WORST)
    return list(zip(lowest["case"].astype(str), lowest["value"].astype(float), strict=True))


def interval_text(found: Interval, digits: int = 3) -> str:
    """Return a mean with its interval, and why there is none or why it is not to be trusted."""
    mean = f"{found.mean:.{digits}f}"
    if math.isnan(found.low):
        return f"{mean} (no interval from {found.n_patients} patient{'s' if found.n_patients != 1 else ''})"
    text = f"{mean} [{found.low:.{digits}f}, {found.high:.{digits}f}]"
    if found.n_patients < ENOUGH_PATIENTS:
        return f"{text} (interval unreliable: {found.n_patients} patients)"
    return text if found.reliable else f"{text} ({found.method} interval)"
