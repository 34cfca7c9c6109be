"""Numbers needed: variance components recovered, the formula against simulated power."""

import math

import numpy as np
import pytest
from scipy import stats

from medseg.stats.crossed import crossed_draws, intervals_of
from medseg.stats.needed import DifferenceVariance, difference_variance, needed


def differences(shape, *, gap, patient, training, residual, seed=0, folds=None):
    """Return differences of the given shape (..., S, P); a training is a seed in a fold."""
    draw = np.random.default_rng(seed)
    *front, seeds, patients = shape
    effects = draw.normal(0, training, (*front, seeds, 1 if folds is None else folds.max() + 1))
    effects = effects if folds is None else effects[..., folds]
    return gap + draw.normal(0, patient, (*front, 1, patients)) + effects + draw.normal(0, residual, shape)


@pytest.mark.parametrize("folds", [None, np.arange(60) % 3])
def test_components_are_recovered_on_average(folds):
    many = differences((200, 4, 60), gap=0.1, patient=0.05, training=0.02, residual=0.04, folds=folds)
    found = [difference_variance(one, np.zeros(60) if folds is None else folds) for one in many]
    means = np.mean([(parts.patients, parts.trainings, parts.residual) for parts in found], axis=0)
    assert means == pytest.approx((0.0025, 0.0004, 0.0016), rel=0.1)
    assert found[0].concentration == pytest.approx(1 if folds is None else 1 / 3)


def test_variance_of_the_mean_is_what_repetition_shows():
    folds = np.arange(60) % 3
    many = differences((4000, 4, 60), gap=0, patient=0.05, training=0.02, residual=0.04, folds=folds)
    parts = DifferenceVariance(0.0025, 0.0004, 0.0016, 1 / 3)
    assert many.mean(axis=(1, 2)).var() == pytest.approx(parts.of_mean(60, 4), rel=0.08)


def exact(shape, *, gap, patient, training, residual):
    """Return differences whose estimated components are exactly these: orthogonal, centred effects."""
    seeds, patients = shape
    draw = np.random.default_rng(0)
    rest = draw.normal(size=shape)
    rest += rest.mean() - rest.mean(axis=0) - rest.mean(axis=1, keepdims=True)
    rest *= residual * math.sqrt((seeds - 1) * (patients - 1) / (rest**2).sum())

    def effect(number, deviation, noise):
        raw = draw.normal(size=number)
        return (raw - raw.mean()) / raw.std(ddof=1) * math.sqrt(deviation**2 + residual**2 / noise)

    return gap + effect(patients, patient, seeds) + effect(seeds, training, patients)[:, None] + rest


def interval_power(patients, seeds, *, repeats, **parts):
    many = differences((repeats, seeds, patients), seed=5, **parts)
    found = intervals_of(many, crossed_draws(np.zeros(patients), seeds, seed=1, resamples=500))
    return np.mean([one.low > 0 for one in found])


@pytest.mark.parametrize(
    "parts",
    [
        {"gap": 0.012, "patient": 0.03, "training": 0.006, "residual": 0.05},
        {"gap": 0.02, "patient": 0.05, "training": 0.002, "residual": 0.06},
    ],
)
def test_needed_numbers_reach_the_power_in_simulation(parts):
    """200 repetitions: two errors of a share of .8 are .057; that each width is estimated adds a few hundredths."""
    wanted = needed(exact((5, 100), **parts), np.zeros(100))
    assert interval_power(wanted.patients, 5, repeats=200, **parts) == pytest.approx(0.8, abs=0.1)
    assert interval_power(100, wanted.seeds, repeats=200, **parts) > 0.7
    assert interval_power(wanted.patients // 2, 5, repeats=200, **parts) < 0.7


def test_needed_is_the_smallest_number():
    values = exact((5, 100), gap=0.012, patient=0.03, training=0.006, residual=0.05)
    parts, gap = difference_variance(values, np.zeros(100)), abs(values.mean())
    number = needed(values, np.zeros(100)).patients

    def reach(patients):
        z = stats.norm.ppf([0.975, 0.8])
        return z[0] * math.sqrt(parts.of_draws(patients, 5)) + z[1] * math.sqrt(parts.of_mean(patients, 5))

    assert reach(number) <= gap < reach(number - 1)


def test_direction_does_not_matter_and_less_is_needed_for_more():
    values = exact((5, 100), gap=0.012, patient=0.03, training=0.004, residual=0.05)
    assert needed(values, np.zeros(100)) == needed(-values, np.zeros(100))
    assert needed(values + 0.01, np.zeros(100)).patients < needed(values, np.zeros(100)).patients
    assert needed(values, np.zeros(100), power=0.9).patients > needed(values, np.zeros(100)).patients


def test_never_fewer_seeds_than_the_gate_asks_for():
    clear = exact((3, 100), gap=0.2, patient=0.03, training=0.004, residual=0.05)
    assert needed(clear, np.zeros(100)).seeds == 5


def test_what_no_number_can_show_is_none():
    restless = exact((5, 100), gap=0.01, patient=0.01, training=0.05, residual=0.01)
    assert needed(restless, np.zeros(100)).patients is None
    assert needed(restless, np.zeros(100)).seeds > 100
    assert needed(restless[:1], np.zeros(100)) == needed(restless - restless.mean(), np.zeros(100))
    assert needed(restless[:1], np.zeros(100)).seeds is None
