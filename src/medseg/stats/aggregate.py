"""The headline of one run, from its score table alone."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from medseg import scores
from medseg.errors import ScoreError
from medseg.stats.bootstrap import Interval, mean_interval

INTERVAL_SEED = 0
"""Root seed of the bootstrap of a single method; fixed, so that tables, cards and pages are the same each time."""
POOLED = ("b_iou", "n_iou", "miou", "pa", "f1", "pooled_precision", "pooled_recall", "n_absent_classes")


def headline(frame: pd.DataFrame) -> dict[str, float]:
    """Return the numbers that describe one run on one side of a split, overlap as fractions.

    A key that is a column's name is the mean of that column over cases and foreground classes: of what is defined, with
    ``n_left_out_<column>`` rows left out (undefined or not measured), distances with exactly one empty mask counted as
    the image diagonal (``n_penalised`` rows). ``<column>_without_both_empty`` leaves out the rows in which both masks
    are empty and which would count as perfect. Beside these:

    - ``n`` cases, ``n_empty_reference``, ``n_empty_prediction``, ``n_both_empty``, ``n_undefined`` of
      ``medseg.scores.case_means``.
    - ``patient_dice``: the mean over patients of each patient's mean; ``n_patients``.
    - ``hd95_directed_voxel_median_finite``: the median of the finite ones, to be read beside ``n_penalised``.
    - ``lesion_f1_pooled``: 2 detected / (2 detected + missed + false) of all cases' lesions together, averaged over
      classes; ``lesion_f1_per_case``: the mean of each row's own, 1 with nothing to find and nothing found.
      ``missed_lesion_rate``: share of all reference lesions that were missed; ``false_lesions_per_case``.
    - ``false_alarm_rate``: share of empty references with a prediction; ``miss_rate``: share of the other references
      without one.
    - ``b_iou``, ``n_iou``, ``miou``, ``pa``, ``f1``, ``pooled_precision``, ``pooled_recall`` of
      ``medseg.scores.Pooled.headline``. With several foreground classes the rows lack the background's counts:
      ``n_iou``, ``pooled_precision`` and ``pooled_recall`` remain, the others are NaN
      (``medseg.metrics.epoch.CaseScores`` has them). Rows of one class alone are read as that class against all else.
    - ``prevalence``: share of pixels that are foreground; ``pa_all_background``: the pixel accuracy without any.

    Args:
        frame: a score table as ``medseg.stats.table.read_scores`` returns it.

    Raises:
        ScoreError: a case lacks a class or stands twice (rows of several runs?).
    """
    counts = foreground_counts(frame)
    values = scores.case_means(counts)
    by_patient = frame.groupby("patient", sort=True)["dice"].mean()
    values |= {"patient_dice": scores.mean_of_defined(by_patient), "n_patients": len(by_patient)}
    values |= _measured(frame) | _lesions(frame, len(counts)) | _detection(values, frame)
    return values | _pooled(counts) | _prevalence(counts)


def foreground_counts(frame: pd.DataFrame) -> NDArray[np.int64]:
    """Return (N, C, 4) counts, cases in order of appearance, classes in order of their index.

    Raises:
        ScoreError: a case lacks a class or has one twice.
    """
    classes = np.sort(frame["class_index"].unique())
    names = frame["case"].unique()
    if frame.duplicated(["case", "class_index"]).any() or len(frame) != len(names) * len(classes):
        raise ScoreError(
            f"score table: {len(frame)} rows for {len(names)} cases and {len(classes)} classes; "
            "give one run with one row per case and class."
        )
    place = pd.Series(np.arange(len(names)), index=names)
    order = np.lexsort((frame["class_index"].to_numpy(), place[frame["case"]].to_numpy()))
    return frame[list(scores.COUNTS)].to_numpy()[order].reshape(len(names), len(classes), 4)


def penalised_column(frame: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """Return a distance column with inf replaced by the row's diagonal: what enters a mean."""
    return scores.penalised(frame[column].to_numpy(), frame["diagonal"].to_numpy())


def seed_mean(frames: Sequence[pd.DataFrame], column: str) -> pd.DataFrame:
    """Return ``case``, ``patient``, ``value``: one number per case, averaged over runs that differ in the seed only.

    A case's value in one run is its mean over foreground classes, distances penalised. Averaging before the interval is
    taken makes it describe the patients; how far seeds scatter must be shown beside it.

    Raises:
        ScoreError: the runs did not score the same cases of the same patients.
    """
    tables = [_case_values(frame, column) for frame in frames]
    for number, table in enumerate(tables[1:], start=2):
        if not table[["case", "patient"]].equals(tables[0][["case", "patient"]]):
            raise ScoreError(
                f"seed mean of '{column}': run {number} scored other cases than run 1; average only runs on one split."
            )
    mean = np.mean([table["value"].to_numpy() for table in tables], axis=0)
    return tables[0].assign(value=mean)


def case_interval(*folds: Sequence[pd.DataFrame], column: str) -> Interval:
    """Return the mean over cases of a column with its interval over patients.

    Each case is averaged over runs first (:func:`seed_mean`); cases without a value are left out, ``n_cases`` says how
    many remain.

    Args:
        folds: score tables of runs that scored the same cases; of several folds one sequence each.
        column: of the score table.

    Raises:
        ScoreError: runs of a fold scored other cases, or no case has a value.
    """
    per_case = pd.concat([seed_mean(frames, column) for frames in folds]).dropna(subset="value")
    return mean_interval(per_case["value"].to_numpy(), per_case["patient"].to_numpy(), seed=INTERVAL_SEED)


def patient_means(frame: pd.DataFrame, column: str) -> pd.Series:
    """Return each patient's value: the mean over their cases of the mean over classes.

    Undefined rows are left out; a patient without a defined row is NaN.
    """
    return frame.groupby(["patient", "case"])[column].mean().groupby("patient").mean()


def _case_values(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    values = penalised_column(frame, column) if column in scores.DISTANCES else frame[column].to_numpy()
    rows = frame[["case", "patient"]].assign(value=values)
    return rows.groupby(["case", "patient"], sort=True, as_index=False)["value"].mean()


def _measured(frame: pd.DataFrame) -> dict[str, float]:
    """Return the mean of every measured column, and what entered it."""
    both = ((frame["empty_reference"] == 1) & (frame["empty_prediction"] == 1)).to_numpy()
    values: dict[str, float] = {}
    for name in scores.MEASURED:
        column = penalised_column(frame, name) if name in scores.DISTANCES else frame[name].to_numpy()
        values |= scores.means_of(name, column, both)
    raw = frame["hd95_directed_voxel"].to_numpy()
    finite = raw[np.isfinite(raw)]
    median = float(np.median(finite)) if finite.size else float("nan")
    return values | {"hd95_directed_voxel_median_finite": median, "n_penalised": int(np.isinf(raw).sum())}


def lesion_f1(detected: ArrayLike, missed: ArrayLike, false: ArrayLike) -> NDArray[np.float64]:
    """Return 2 detected / (2 detected + missed + false), 1 where all are 0; NaN where not measured."""
    hit, errors = 2 * np.asarray(detected, dtype=np.float64), np.asarray(missed, dtype=np.float64) + false
    both = hit + errors
    return np.where(both == 0, 1.0, np.divide(hit, both, out=np.full(both.shape, np.nan), where=both > 0))


def _lesions(frame: pd.DataFrame, cases: int) -> dict[str, float]:
    reference, detected, false = (frame[f"{name}_lesions"] for name in ("reference", "detected", "false"))
    if reference.isna().any():
        names = ("lesion_f1_pooled", "lesion_f1_per_case", "missed_lesion_rate", "false_lesions_per_case")
        return dict.fromkeys(names, float("nan"))
    parts = pd.DataFrame({"detected": detected, "missed": reference - detected, "false": false})
    labelled = frame[list(scores.COUNTS)].to_numpy().sum(axis=1) > 0
    sums = parts.groupby(frame["class_index"]).sum()
    total = int(reference.sum())
    return {
        "lesion_f1_pooled": float(lesion_f1(*(sums[name] for name in parts)).mean()),
        "lesion_f1_per_case": scores.mean_of_defined(lesion_f1(*(parts[name] for name in parts))[labelled]),
        "missed_lesion_rate": float(parts["missed"].sum() / total) if total else float("nan"),
        "false_lesions_per_case": float(false.sum() / cases),
    }


def _detection(values: dict[str, float], frame: pd.DataFrame) -> dict[str, float]:
    empty, both = values["n_empty_reference"], values["n_both_empty"]
    present = len(frame) - values["n_undefined"] - empty
    missed = values["n_empty_prediction"] - both
    return {
        "false_alarm_rate": (empty - both) / empty if empty else float("nan"),
        "miss_rate": missed / present if present else float("nan"),
    }


def _pooled(counts: NDArray[np.int64]) -> dict[str, float]:
    if counts.shape[1] == 1:
        return scores.pooled(scores.with_background(counts[:, 0])).headline()
    summed = scores.pooled(counts)
    return dict.fromkeys(POOLED, float("nan")) | {
        "n_iou": scores.mean_of_defined(summed.iou),
        "pooled_precision": float(np.mean(summed.precision)),
        "pooled_recall": float(np.mean(summed.recall)),
    }


def _prevalence(counts: NDArray[np.int64]) -> dict[str, float]:
    covered = counts.sum(axis=2)
    counts = counts[(covered == covered[:, :1]).all(axis=1)]  # cases that annotate every class
    total, foreground = counts[:, 0].sum(), counts[..., [0, 2]].sum()
    share = float(foreground / total) if total else float("nan")
    return {"prevalence": share, "pa_all_background": 1 - share}
