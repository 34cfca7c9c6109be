"""The crossed bootstrap: patients and trainings are both random, so both are resampled.

A training is one (method, seed, fold). Patients are drawn within their stratum, seeds within each fold independently;
a draw weighs a value by the product of both. This is the pigeonhole bootstrap of two crossed factors (Owen 2007, Ann.
Appl. Stat. 1:386), which never understates the patient-by-training residual: a value with residual variance ``e``
enters the variance of the mean up to three times. The variance between trainings it understates by (S - 1) / S: with
few seeds that scatter much, and very many patients, its interval is too narrow (measured in ``medseg.stats.gate``).

Weights are made once and shared by all methods and pairs; time and memory grow with resamples x patients.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.errors import ScoreError
from medseg.rng import generator
from medseg.stats.bca import acceleration, bca, student
from medseg.stats.bootstrap import ENOUGH_PATIENTS

Floats = NDArray[np.float64]
CHUNK = 500
"""Resamples held as floating point at a time."""


@dataclass(frozen=True)
class Weights:
    """How often each draw takes each patient and each training.

    Attributes:
        patients: (B, P) counts; every stratum keeps its size.
        trainings: (B, F, S) counts; every fold keeps S.
        folds: (P,) position 0..F-1 of each patient's test fold.
        strata: (P,) position of the stratum each patient is drawn in.
    """

    patients: NDArray[np.uint16]
    trainings: NDArray[np.uint16]
    folds: NDArray[np.int64]
    strata: NDArray[np.int64]


@dataclass(frozen=True)
class CrossedInterval:
    """A mean over patients of the mean over seeds, with its uncertainty over both.

    Attributes:
        mean: mean over patients of the mean over seeds.
        low: lower bound; NaN if there is no interval (``method`` "undefined").
        high: upper bound.
        t_low: lower bound of Student's interval over patients, each the mean over its seeds; seeds count as fixed, so
            where it is much narrower, trainings scatter.
        t_high: its upper bound.
        n_patients: number of patients.
        n_seeds: number of seeds; with folds, of whole cross-validations.
        method: "BCa"; "BCa, one seed" where the scatter of trainings could not enter; "degenerate" where all draws
            agree; "undefined" for one patient, or where BCa gives no finite bound.
        reliable: at least ``ENOUGH_PATIENTS`` patients and a BCa interval.
    """

    mean: float
    low: float
    high: float
    t_low: float
    t_high: float
    n_patients: int
    n_seeds: int
    method: str
    reliable: bool


def crossed_draws(
    folds: ArrayLike, n_seeds: int, *, seed: int, resamples: int = 10_000, strata: ArrayLike | None = None
) -> Weights:
    """Return the weights of all resamples.

    A stratum of one patient cannot be resampled: such strata are joined, a last lone one with the smallest stratum.

    Args:
        folds: (P,) test fold of each patient; all equal with one test set.
        n_seeds: number of seeds S, each of which trained every fold.
        seed: root seed.
        resamples: number of draws B.
        strata: (P,) centre of each patient; none means one stratum.

    Raises:
        ScoreError: no patient, no seed, no resample, or lengths that differ.
    """
    names = np.asarray(folds)
    centres = np.zeros(len(names), dtype=np.int64) if strata is None else np.asarray(strata)
    if not names.size or names.ndim != 1 or centres.shape != names.shape:
        raise ScoreError(f"crossed bootstrap: {names.shape} folds, {centres.shape} strata; give one each per patient.")
    if n_seeds < 1 or resamples < 1:
        raise ScoreError(f"crossed bootstrap: {n_seeds} seeds, {resamples} resamples; both must be at least 1.")
    fold = np.unique(names, return_inverse=True)[1].astype(np.int64)
    stratum = _joined(np.unique(centres, return_inverse=True)[1].astype(np.int64))
    trainings = generator(seed, "crossed", "trainings").multinomial(
        n_seeds, np.full(n_seeds, 1 / n_seeds), size=(resamples, fold.max() + 1)
    )
    return Weights(_patient_counts(stratum, seed, resamples), trainings.astype(np.uint16), fold, stratum)


def crossed_means(values: Floats, weights: Weights) -> Floats:
    """Return the (B, M) resampled means of (M, S, P) values, folds weighing as their patients do.

    Raises:
        ScoreError: values and weights have different numbers of seeds or patients.
    """
    methods, seeds, patients = values.shape
    resamples, folds, drawn = weights.trainings.shape
    if (seeds, patients) != (drawn, len(weights.folds)):
        raise ScoreError(
            f"crossed bootstrap: values of {seeds} seeds and {patients} patients, weights of {drawn} and "
            f"{len(weights.folds)}; draw the weights for these values."
        )
    columns = [np.flatnonzero(weights.folds == fold) for fold in range(folds)]
    tables = [values[:, :, members].reshape(methods * seeds, -1).T for members in columns]
    means = np.zeros((resamples, methods))
    for rows in _chunks(resamples):
        counts = weights.patients[rows].astype(np.float64)
        for fold, (members, table) in enumerate(zip(columns, tables, strict=True)):
            sums = (counts[:, members] @ table).reshape(len(counts), methods, seeds)
            means[rows] += np.einsum("bms,bs->bm", sums, weights.trainings[rows, fold].astype(np.float64))
    return means / (seeds * patients)


def interval_of(
    values: ArrayLike,
    folds: ArrayLike,
    *,
    weights: Weights | None = None,
    seed: int = 0,
    resamples: int = 10_000,
    strata: ArrayLike | None = None,
    confidence: float = 0.95,
    method: str = "1",
    seeds: Sequence[Any] | None = None,
    patients: Sequence[str] | None = None,
) -> CrossedInterval:
    """Return the interval of one method's (S, P) values; draws its weights where none are given.

    Args:
        values: one finite number per seed and patient.
        folds: (P,) test fold of each patient.
        weights: of :func:`crossed_draws` for the same patients and seeds; then ``seed``, ``resamples`` and ``strata``
            are not used.
        seed: root seed of the weights drawn here.
        resamples: number of draws.
        strata: (P,) centre of each patient.
        confidence: nominal coverage.
        method: name for messages, as ``seeds`` (S) and ``patients`` (P) are.
        seeds: see ``method``.
        patients: see ``method``.

    Raises:
        ScoreError: shapes that differ, or a value that is not finite: names method, seed and patient.
    """
    table = np.asarray(values, dtype=np.float64)[None]
    check_finite(table, methods=(method,), seeds=seeds, patients=patients)
    drawn = weights or crossed_draws(folds, table.shape[1], seed=seed, resamples=resamples, strata=strata)
    if not np.array_equal(np.unique(np.asarray(folds), return_inverse=True)[1], drawn.folds):
        raise ScoreError("crossed bootstrap: the weights were drawn for other folds; draw them for these values.")
    return intervals_of(table, drawn, confidence=confidence)[0]


def intervals_of(values: Floats, weights: Weights, *, confidence: float = 0.95) -> list[CrossedInterval]:
    """Return one interval per method of finite (M, S, P) values, on shared weights."""
    means = crossed_means(values, weights)
    return [
        interval_from_draws(means[:, method], table, weights, confidence=confidence)
        for method, table in enumerate(values)
    ]


def interval_from_draws(
    draws: Floats, values: Floats, weights: Weights, *, confidence: float = 0.95
) -> CrossedInterval:
    """Return the interval from (B,) resampled means of finite (S, P) values.

    BCa and Student's interval as in ``medseg.stats.bca``.
    """
    seeds, patients = values.shape
    by_patient = values.mean(axis=0)
    mean = float(by_patient.mean())
    t_low, t_high = student(by_patient, confidence=confidence)
    low, high, method = bca(draws, mean, acceleration(values, weights.folds, weights.strata), confidence=confidence)
    if patients == 1:
        low, high, method = float("nan"), float("nan"), "undefined"
    if method == "BCa" and seeds == 1:
        method = "BCa, one seed"
    reliable = method.startswith("BCa") and patients >= ENOUGH_PATIENTS
    return CrossedInterval(mean, low, high, t_low, t_high, patients, seeds, method, reliable)


def check_finite(
    values: Floats,
    *,
    methods: Sequence[str],
    seeds: Sequence[Any] | None = None,
    patients: Sequence[str] | None = None,
) -> None:
    """Raise on the first value of (M, S, P) that is not finite, or if there is none.

    Raises:
        ScoreError: names the method, seed and patient; by position where no names are given.
    """
    if values.ndim != 3 or not values.size:
        raise ScoreError(f"crossed bootstrap: values of shape {values.shape}; give (methods, seeds, patients).")
    broken = np.argwhere(~np.isfinite(values))
    if len(broken):
        method, seed, patient = broken[0]
        seed_name = f"number {seed + 1} of {values.shape[1]}" if seeds is None else seeds[seed]
        patient_name = f"number {patient + 1} of {values.shape[2]}" if patients is None else f"'{patients[patient]}'"
        raise ScoreError(
            f"method '{methods[method]}', seed {seed_name}, patient {patient_name}: the value is "
            f"{values[method, seed, patient]}; penalise infinite distances and drop (and count) undefined values first."
        )


def _chunks(resamples: int) -> Iterator[slice]:
    return (slice(start, min(start + CHUNK, resamples)) for start in range(0, resamples, CHUNK))


def _joined(stratum: NDArray[np.int64]) -> NDArray[np.int64]:
    sizes = np.bincount(stratum)
    lone = np.flatnonzero(sizes == 1)
    if not len(lone) or len(sizes) == 1:
        return stratum
    others = np.flatnonzero(sizes > 1)
    target = lone[0] if len(lone) > 1 else others[np.argmin(sizes[others])]
    joined = np.where(np.isin(stratum, lone), target, stratum)
    return np.unique(joined, return_inverse=True)[1].astype(np.int64)


def _patient_counts(stratum: NDArray[np.int64], seed: int, resamples: int) -> NDArray[np.uint16]:
    draw = generator(seed, "crossed", "patients")
    counts = np.zeros((resamples, len(stratum)), dtype=np.uint16)
    for rows in _chunks(resamples):
        height = rows.stop - rows.start
        for name in range(stratum.max() + 1):
            members = np.flatnonzero(stratum == name)
            size = len(members)
            picks = draw.integers(0, size, (height, size)) + size * np.arange(height)[:, None]
            counts[rows, members] = np.bincount(picks.ravel(), minlength=height * size).reshape(height, size)
    return counts
