"""How many patients or seeds a study would need to show a difference that it saw."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]
LARGEST = 1_000_000
"""Numbers above this are no help to anybody and are given as none."""


@dataclass(frozen=True)
class DifferenceVariance:
    """Variance components of a paired difference; those estimated below zero are zero.

    Attributes:
        patients: between patients (the method suits some better).
        trainings: between trainings of one fold.
        residual: patient by training.
        concentration: sum over folds of the squared share of patients; 1 with one test set, 1/F with F equal folds.
            Each fold has trainings of its own, so their variance enters the mean by this factor.
    """

    patients: float
    trainings: float
    residual: float
    concentration: float

    def of_mean(self, patients: int, seeds: int) -> float:
        """Return the variance of the mean difference over this many patients and seeds."""
        cells = patients * seeds
        return self.patients / patients + self.concentration * self.trainings / seeds + self.residual / cells

    def of_draws(self, patients: int, seeds: int) -> float:
        """Return the expected variance of the crossed bootstrap's means.

        Multinomial weights have variance 1 - 1/n, and the square of a product of two has the mean (2 - 1/P)(2 - 1/S);
        the residual is therefore counted (2 - 1/P)(2 - 1/S) - 1 times (Owen 2007, Ann. Appl. Stat. 1:386).
        """
        left, right = 1 - 1 / patients, 1 - 1 / seeds
        residual = ((1 + left) * (1 + right) - 1) * self.residual / (patients * seeds)
        return left * self.patients / patients + right * self.concentration * self.trainings / seeds + residual


@dataclass(frozen=True)
class Needed:
    """Numbers for the power asked for; None where not estimable or no number up to ``LARGEST`` is enough.

    Attributes:
        patients: with the seeds there are (but at least those the gate asks for).
        seeds: with the patients there are.
    """

    patients: int | None
    seeds: int | None


def difference_variance(differences: Floats, folds: ArrayLike) -> DifferenceVariance | None:
    """Return the variance components of (S, P) differences, None where not estimable (one seed, one patient a fold).

    Two-way analysis of variance with one value per cell (Searle, Casella and McCulloch 1992, chapter 4), sums of
    squares pooled over folds: E[MS_training] = P_f v_training + v_residual, E[MS_patient] = S v_patient + v_residual.
    """
    seeds, patients = differences.shape
    names, fold = np.unique(np.asarray(folds), return_inverse=True)
    freedom = patients - len(names)
    if seeds < 2 or freedom < 1:
        return None
    by_patient = by_training = residual = 0.0
    sizes = np.bincount(fold)
    for name in range(len(names)):
        block = differences[:, fold == name]
        rows, columns, mean = block.mean(axis=1, keepdims=True), block.mean(axis=0, keepdims=True), block.mean()
        by_training += block.shape[1] * float(((rows - mean) ** 2).sum())
        by_patient += seeds * float(((columns - mean) ** 2).sum())
        residual += float(((block - rows - columns + mean) ** 2).sum())
    noise = residual / (freedom * (seeds - 1))
    training = (by_training - len(names) * (seeds - 1) * noise) / ((seeds - 1) * patients)
    patient = (by_patient / freedom - noise) / seeds
    return DifferenceVariance(max(patient, 0.0), max(training, 0.0), noise, float(((sizes / patients) ** 2).sum()))


def needed(
    differences: Floats, folds: ArrayLike, *, confidence: float = 0.95, power: float = 0.8, enough_seeds: int = 5
) -> Needed:
    """Return how many patients, or seeds, would show the observed difference with the power asked for.

    The smallest number with |difference| >= z_{(1+confidence)/2} sqrt(V*) + z_power sqrt(V), where V is the variance of
    the mean for crossed patients and seeds (normal approximation as in Westfall, Kenny and Judd 2014, J. Exp. Psychol.
    Gen. 143:2020) and V* what the crossed bootstrap takes it for (``of_draws``; this second variance is our addition:
    the interval is wider than V says). It counts the gate's condition on the interval, with the observed difference
    taken for the true one, which is optimistic where that difference was picked because it is large.

    Args:
        differences: (S, P) of two methods.
        folds: (P,) test fold of each patient; seeds are then whole cross-validations.
        confidence: of the interval.
        power: probability wanted that the interval excludes 0.
        enough_seeds: the gate's least number of seeds, below which no number is given.
    """
    parts = difference_variance(differences, folds)
    gap = abs(float(differences.mean()))
    if parts is None or gap < 1e-9:
        return Needed(None, None)
    there, have = differences.shape
    limit, wanted = stats.norm.ppf((1 + confidence) / 2), stats.norm.ppf(power)

    def enough(patients: int, seeds: int) -> bool:
        return bool(
            gap >= limit * sqrt(parts.of_draws(patients, seeds)) + wanted * sqrt(parts.of_mean(patients, seeds))
        )

    return Needed(
        _smallest(lambda count: enough(count, max(there, enough_seeds)), 2),
        _smallest(lambda count: enough(have, count), max(2, enough_seeds)),
    )


def _smallest(enough: Callable[[int], bool], least: int) -> int | None:
    """Return the smallest count that is enough; more is never worse from there on."""
    low, high = least - 1, least
    while not enough(high):
        if high >= LARGEST:
            return None
        low, high = high, min(2 * high, LARGEST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
