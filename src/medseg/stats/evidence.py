"""From the score tables of many trainings to one array: methods x seeds x patients.

The unit is the patient: cases are averaged within the patient first, classes within the case. The k folds of one seed
are one test of every patient. What would make the numbers of two methods unequal in anything but the method is refused
here, in one line; what is only worth knowing becomes a note.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medseg import scores
from medseg.errors import ScoreError
from medseg.stats.aggregate import patient_means
from medseg.stats.flags import FLAGS
from medseg.stats.remarks import data_notes, empty_notes, flag_notes
from medseg.stats.tested import Place, check_same_tests, defined_for_all, rows_tested

SMALLEST_STRATUM = 5
"""With fewer patients in a centre, resampling within centres would make that centre's part of the spread vanish."""
ALL, COMMON = "all", "common"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Training:
    """One finished run: what it is an instance of, and what it scored.

    Attributes:
        name: how messages call it, for instance its folder.
        method: printed name of the method; equal names are one method.
        seed: of the training.
        table: its score table, as ``medseg.stats.table.read_scores`` returns it.
        data: name of the dataset.
        digest: digest of the dataset.
        split: hash of the split.
        leaky: whether the split is leaky.
        synthetic: whether the images are simulated.
    """

    name: str
    method: str
    seed: int
    table: pd.DataFrame
    data: str
    digest: str
    split: str
    leaky: bool = False
    synthetic: bool = False


@dataclass(frozen=True)
class Evidence:
    """What every statistic works on.

    Attributes:
        metric: column of ``scores.csv``.
        higher_is_better: direction of the metric.
        methods: M printed names.
        seeds: S seeds that every method was trained with.
        patients: P patients, sorted.
        folds: (P,) test fold of each patient; all 0 with one fixed test set.
        values: (M, S, P) mean over the patient's cases of the mean over classes, distances penalised.
        strata: (P,) centre of each patient; all 0 if there is one.
        notes: what a reader must know; those that begin with one of ``FLAGS`` belong into every heading.
    """

    metric: str
    higher_is_better: bool
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    patients: tuple[str, ...]
    folds: NDArray[np.int64]
    values: Floats
    strata: NDArray[np.int64]
    notes: tuple[str, ...] = ()

    @property
    def signed(self) -> Floats:
        """The values so that more is better: negated where lower is better."""
        return self.values if self.higher_is_better else -self.values

    @property
    def flags(self) -> list[str]:
        """What no heading may leave out, for instance ``["SYNTHETIC", "ONE SEED"]``."""
        return [flag for flag in FLAGS if any(note.startswith(flag) for note in self.notes)]


def gather(
    trainings: Sequence[Training],
    *,
    metric: str = "dice",
    class_name: str | None = None,
    seeds: str = ALL,
    allow_selection_side: bool = False,
) -> Evidence:
    """Return the evidence of several trainings, or refuse them.

    Args:
        trainings: every (method, seed, fold) once.
        metric: column of the score tables: an overlap, a distance, a share or a calibration error.
        class_name: the one class that counts; None averages over all foreground classes.
        seeds: ``all`` refuses seeds that a method lacks, ``common`` leaves them out and says so.
        allow_selection_side: take scores of a side that chose the checkpoint; they are labelled.

    Raises:
        ScoreError: one line: fewer than two methods, an unknown metric or class, different data, test sets, folds or
            seeds, a run given twice, a value that is NaN though the metric is defined there, scores of a side that is
            not the test side.
    """
    trainings = sorted(trainings, key=lambda training: (training.method, training.seed, training.name))
    _check_request(trainings, metric, seeds)
    _check_data(trainings)
    side = _check_sides(trainings, allow_selection_side)
    kept, notes = _paired_seeds(trainings, seeds)
    rows = {place: rows_tested(found, metric, class_name) for place, found in _by_place(kept).items()}
    check_same_tests(rows)
    rows, undefined = defined_for_all(rows, metric)
    first = next(iter(rows.values()))
    patients = sorted(first["patient"].unique())
    methods = tuple(dict.fromkeys(training.method for training in kept))
    used = tuple(sorted({training.seed for training in kept}))
    means = {place: patient_means(table, "value").reindex(patients).to_numpy() for place, table in rows.items()}
    values = np.array([[means[method, seed] for seed in used] for method in methods], dtype=np.float64)
    strata, of_strata = _strata(first, patients)
    folds = first.groupby("patient")["fold"].first().reindex(patients).to_numpy(dtype=np.int64)
    said = (*flag_notes(kept, side, used), *data_notes(kept, rows, folds, used, class_name))
    return Evidence(
        metric=metric,
        higher_is_better=metric not in scores.LOWER_IS_BETTER,
        methods=methods,
        seeds=used,
        patients=tuple(str(patient) for patient in patients),
        folds=folds,
        values=values,
        strata=strata,
        notes=(*said, *notes, *undefined, *empty_notes(rows, metric), *of_strata),
    )


def known_metrics() -> tuple[str, ...]:
    """Return the columns of a score table that can be compared."""
    return (*scores.OVERLAPS, *scores.DISTANCES, *scores.SHARES, *scores.CALIBRATION)


def _check_request(trainings: Sequence[Training], metric: str, seeds: str) -> None:
    if metric not in known_metrics():
        raise ScoreError(f"metric={metric}: no column to compare; choose one of {', '.join(known_metrics())}.")
    if seeds not in (ALL, COMMON):
        raise ScoreError(f"seeds={seeds}: choose '{ALL}' or '{COMMON}'.")
    methods = list(dict.fromkeys(training.method for training in trainings))
    if len(methods) < 2:
        found = f"only '{methods[0]}' ({len(trainings)} runs)" if methods else "no run"
        raise ScoreError(f"nothing to compare: {found}; give runs of two methods or more.")


def _check_data(trainings: Sequence[Training]) -> None:
    first = trainings[0]
    for other in trainings[1:]:
        if other.digest != first.digest:
            raise ScoreError(
                f"different datasets: {first.name} was tested on {first.data} ({first.digest[:8]}), {other.name} on "
                f"{other.data} ({other.digest[:8]}); compare runs on the same files."
            )


def _check_sides(trainings: Sequence[Training], allowed: bool) -> str:
    """Return the side that all rows are of."""
    first = trainings[0]
    side = str(first.table["split_side"].iloc[0])
    for training in trainings:
        for found in map(str, training.table["split_side"].unique()):
            if found != "test" and not allowed:
                raise ScoreError(
                    f"{training.name}: scores of the {found} side, which chose checkpoints and settings; compare test "
                    "scores, or label the comparison with allow_selection_side=true."
                )
            if found != side:
                raise ScoreError(
                    f"different sides: {first.name} was scored on {side}, {training.name} on {found}; compare one side."
                )
    return side


def _paired_seeds(trainings: Sequence[Training], seeds: str) -> tuple[list[Training], list[str]]:
    """Return the trainings whose seed every method has, and what was left out."""
    of_method: dict[str, set[int]] = {}
    for training in trainings:
        of_method.setdefault(training.method, set()).add(training.seed)
    everyone = set.union(*of_method.values())
    common = set.intersection(*of_method.values())
    lacking = [
        f"'{method}' lacks {', '.join(map(str, sorted(everyone - have)))}"
        for method, have in of_method.items()
        if have != everyone
    ]
    if not lacking:
        return list(trainings), []
    if seeds != COMMON:
        raise ScoreError(
            f"seeds are not paired: {'; '.join(lacking)}; train the missing ones, or leave seeds out that not all "
            f"methods have with seeds={COMMON}."
        )
    if not common:
        raise ScoreError(f"no seed that all methods have: {'; '.join(lacking)}; train the missing ones.")
    dropped = sum(training.seed not in common for training in trainings)
    left_out = ", ".join(map(str, sorted(everyone - common)))
    note = f"Left out: seeds {left_out} ({dropped} runs), which not all methods have ({'; '.join(lacking)})."
    return [training for training in trainings if training.seed in common], [note]


def _by_place(trainings: Sequence[Training]) -> dict[Place, list[Training]]:
    found: dict[Place, list[Training]] = {}
    for training in trainings:
        found.setdefault((training.method, training.seed), []).append(training)
    return found


def _strata(table: pd.DataFrame, patients: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Return the centre of each patient by number, and a note where centres are too small to be kept apart."""
    domains = table.groupby("patient")["domain"].agg(lambda found: "+".join(sorted(set(found)))).reindex(patients)
    names, codes = np.unique(domains.to_numpy(dtype=str), return_inverse=True)
    smallest = int(np.bincount(codes).min())
    if len(names) == 1:
        return np.zeros(len(patients), dtype=np.int64), []
    if smallest < SMALLEST_STRATUM:
        note = f"{len(names)} centres, the smallest with {smallest} patients: too few to resample within centres."
        return np.zeros(len(patients), dtype=np.int64), [note]
    return codes.astype(np.int64), [f"Patients are resampled within {len(names)} centres."]
