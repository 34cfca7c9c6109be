"""What the intervals and the gate promise, by simulation with a fixed seed.

Set-up of the gate: 100 patients, 5 seeds; a method's value is the patient's own level (Dice mixture: 92 % Beta(30, 4),
8 % failures, Beta(1, 4)), plus its training's effect (sd .006), plus a residual (sd .045), nothing cut at 0 or 1.

Every bound on a simulated share states its Monte-Carlo error. Quick versions allow for a binomial quantile at 1 in
1000; slow ones have enough repetitions to hold the figure itself, or allow for a quantile at 1 in 100.

Measured (1000 resamples): power of the whole gate at +.02 .956 (4400 repetitions, +- .003; the 400 of the slow test
give .938), of Wilcoxon, interval and seeds without the Bayesian condition .954 (12 000 other and overlapping ones,
+- .002), so a true power of about .953; at +.01 .385 (400). False claims of the whole gate .0115 one-sided (2000, both
directions, +- .002). The margin over 95 % is thin.
"""

import math

import numpy as np
import pytest
from scipy import stats

from medseg.stats.bca import student
from medseg.stats.crossed import crossed_draws, intervals_of
from medseg.stats.gate import Settings, compare_pairs

TRUE_MEAN = 0.92 * 30 / 34 + 0.08 / 5


def mixture(draw, shape):
    return np.where(draw.random(shape) < 0.92, draw.beta(30, 4, shape), draw.beta(1, 4, shape))


def two_methods(draw, gap, *, patients=100, seeds=5, training=0.006, residual=0.045):
    values = mixture(draw, patients) + draw.normal(0, training, (2, seeds, 1))
    values = values + draw.normal(0, residual, (2, seeds, patients))
    values[0] += gap
    return values


def gate_claims(gap, *, repeats, resamples, seed):
    """Return how often the first wins, the second wins, and either looks better to Wilcoxon alone."""
    draw = np.random.default_rng(seed)
    wins = np.zeros(3, dtype=int)
    for repeat in range(repeats):
        settings = Settings(seed=repeat, resamples=resamples)
        (pair,) = compare_pairs(two_methods(draw, gap), "ab", np.zeros(100), settings=settings)
        wins += pair.winner == "a", pair.winner == "b", pair.p_wilcoxon < 0.05
    return wins


def covered(values, truth, *, resamples=600, folds=None):
    """Return how many of (N, S, P) data sets have the truth in their interval; all share one set of weights."""
    folds = np.zeros(values.shape[2]) if folds is None else folds
    found = intervals_of(values, crossed_draws(folds, values.shape[1], seed=0, resamples=resamples))
    return sum(one.low <= truth <= one.high for one in found)


def at_least(count, repeats, share, risk=0.001):
    """Whether a count is compatible with a true share of at least this much."""
    return count >= stats.binom.ppf(risk, repeats, share)


def at_most(count, repeats, share, risk=0.001):
    return count <= stats.binom.ppf(1 - risk, repeats, share)


def test_false_claims_quickly():
    """100 repetitions, both directions, so 200 chances: up to 13 claims are compatible with 2.5 %; Wilcoxon makes 12 %
    in either direction and is caught."""
    first, second, wilcoxon = gate_claims(0.0, repeats=100, resamples=300, seed=0)
    assert at_most(first + second, 200, 0.025)
    assert not at_most(wilcoxon, 200, 0.025)


def test_power_quickly():
    """50 repetitions: from 42 claims on compatible with 95 %."""
    first, second, _ = gate_claims(0.02, repeats=50, resamples=300, seed=1)
    assert at_least(first, 50, 0.95)
    assert second == 0


@pytest.mark.slow
def test_false_claims_stay_below_2_5_percent():
    """400 repetitions, 800 chances: the share itself must hold (at 1.5 % its error is .004). Averaging seeds does not
    help Wilcoxon, for which they stay fixed: 12.3 % published for this set-up, error .012."""
    first, second, wilcoxon = gate_claims(0.0, repeats=400, resamples=1000, seed=2)
    assert (first + second) / 800 <= 0.025
    assert wilcoxon / 800 == pytest.approx(0.123, abs=0.035)


@pytest.mark.slow
def test_power_at_two_points_of_dice():
    """400 repetitions, error .011 at 95 %: from 369 claims (.923) on compatible with 95 %."""
    first, second, _ = gate_claims(0.02, repeats=400, resamples=1000, seed=3)
    assert at_least(first, 400, 0.95, risk=0.01)
    assert second == 0


def test_coverage_of_a_hundred_patients_quickly():
    """300 data sets: coverage of 92 to 97 % within the binomial margin."""
    count = covered(mixture(np.random.default_rng(0), (300, 1, 100)), TRUE_MEAN)
    assert at_least(count, 300, 0.92)
    assert at_most(count, 300, 0.97)


@pytest.mark.slow
def test_coverage_of_a_hundred_patients():
    """2000 data sets, error .005: the share itself must lie in 92 to 97 %."""
    count = covered(mixture(np.random.default_rng(1), (2000, 1, 100)), TRUE_MEAN, resamples=1000)
    assert 0.92 <= count / 2000 <= 0.97


def clusters(repeats, seed):
    """Return (N, 1, 240) images of 40 patients, six each, ICC .59."""
    draw = np.random.default_rng(seed)
    patients = draw.normal(0, math.sqrt(0.59), (repeats, 1, 40)).repeat(6, axis=2)
    return patients + draw.normal(0, math.sqrt(0.41), (repeats, 1, 240))


def test_patients_cover_where_images_do_not_quickly():
    images = clusters(250, seed=0)
    assert at_least(covered(images.reshape(250, 1, 40, 6).mean(axis=3), 0), 250, 0.91)
    assert covered(images, 0) / 250 == pytest.approx(0.66, abs=0.1)


@pytest.mark.slow
def test_patients_cover_where_images_do_not():
    """2000 data sets, errors .006 and .011: patients at least 91 %, images about 66 %."""
    images = clusters(2000, seed=1)
    assert covered(images.reshape(2000, 1, 40, 6).mean(axis=3), 0, resamples=1000) / 2000 >= 0.91
    assert covered(images, 0, resamples=1000) / 2000 == pytest.approx(0.66, abs=0.035)


def normal_study(repeats, *, patient, training, residual, patients=100, seed=0, folds=1):
    """Return (N, 5, P) values about 0; every fold has trainings of its own."""
    draw = np.random.default_rng(seed)
    effects = draw.normal(0, training, (repeats, 5, folds))[:, :, np.arange(patients) % folds]
    noise = draw.normal(0, residual, (repeats, 5, patients))
    return draw.normal(0, patient, (repeats, 1, patients)) + effects + noise


@pytest.mark.parametrize("folds", [1, 5])
def test_crossed_intervals_cover_where_trainings_scatter(folds):
    """250 data sets, error .014. Trainings weigh as much as patients; Student's interval over patients falls short."""
    training = 0.01 * math.sqrt(folds)
    values = normal_study(250, patient=0.04, training=training, residual=0.06, folds=folds)
    assert at_least(covered(values, 0, folds=np.arange(100) % folds), 250, 0.92)
    low, high = np.array([student(one.mean(axis=0), confidence=0.95) for one in values]).T
    assert ((low <= 0) & (high >= 0)).mean() < 0.88


@pytest.mark.slow
def test_five_trainings_that_decide_alone_are_too_few():
    """600 patients: the known limit of five seeds (1000 data sets, error .009), and the condition that removes it."""
    spread = math.sqrt(2)
    values = normal_study(1000, patient=0, training=0.006 * spread, residual=0.045 * spread, patients=600)
    bounds = intervals_of(values, crossed_draws(np.zeros(600), 5, seed=0, resamples=600))
    claims = np.array([one.low > 0 or one.high < 0 for one in bounds])
    over_seeds = np.array([student(one.mean(axis=1), confidence=0.95) for one in values])
    sure = (over_seeds[:, 0] > 0) | (over_seeds[:, 1] < 0)
    assert claims.mean() / 2 > 0.04
    assert at_most((claims & sure).sum(), 2000, 0.025, risk=0.01)
