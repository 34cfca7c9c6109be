"""The crossed bootstrap: its weights, its variance by formula, SciPy's BCa with one seed, and what it refuses."""

import math

import numpy as np
import pytest
from scipy import stats

from medseg.errors import ScoreError
from medseg.stats.bca import acceleration, bca
from medseg.stats.crossed import crossed_draws, crossed_means, interval_of, intervals_of
from medseg.stats.needed import DifferenceVariance


def table(seeds, patients, *, seed=0, training=0.02, residual=0.05):
    """Return (S, P) values: skewed patients, trainings and a residual."""
    draw = np.random.default_rng(seed)
    return (
        draw.beta(8, 2, patients) + draw.normal(0, training, (seeds, 1)) + draw.normal(0, residual, (seeds, patients))
    )


def test_every_stratum_and_every_fold_keep_their_size():
    folds, strata = np.repeat([7, 3, 5], [10, 12, 8]), np.tile(["a", "b", "b"], 10)
    weights = crossed_draws(folds, 4, seed=0, resamples=1300, strata=strata)
    assert weights.patients.shape == (1300, 30)
    assert weights.trainings.shape == (1300, 3, 4)
    for centre, size in (("a", 10), ("b", 20)):
        assert (weights.patients[:, strata == centre].sum(axis=1) == size).all()
    assert (weights.trainings.sum(axis=2) == 4).all()
    assert weights.patients.var(axis=0).mean() == pytest.approx(1 - (1 / 10 + 2 / 20) / 3, rel=0.05)


def test_seeds_are_drawn_independently_within_each_fold():
    weights = crossed_draws(np.repeat([0, 1], 5), 5, seed=0, resamples=8000)
    first, second = weights.trainings[:, 0, 0].astype(float), weights.trainings[:, 1, 0].astype(float)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.04
    assert first.var() == pytest.approx(0.8, rel=0.07)


@pytest.mark.parametrize(
    ("strata", "drawn_together"),
    [(["a", "a", "a", "b", "c"], [{3, 4}]), (["a", "a", "b", "b", "b", "c"], [{0, 1, 5}]), (["a"], [{0}])],
)
def test_lone_patients_of_a_stratum_are_joined(strata, drawn_together):
    weights = crossed_draws(np.zeros(len(strata)), 1, seed=0, resamples=50, strata=strata)
    groups = [set(np.flatnonzero(weights.strata == name)) for name in np.unique(weights.strata)]
    assert all(group in groups for group in drawn_together)
    assert all((weights.patients[:, sorted(group)].sum(axis=1) == len(group)).all() for group in groups)


def test_means_are_the_weighted_sum_written_out():
    folds = np.array([0, 1, 1, 0, 2, 2, 2])
    values = np.random.default_rng(0).random((2, 3, 7))
    weights = crossed_draws(folds, 3, seed=1, resamples=600)
    found = crossed_means(values, weights)
    for draw in (0, 1, 599):
        product = weights.patients[draw] * weights.trainings[draw].astype(float)[folds].T
        expected = (values * product).sum(axis=(1, 2)) / 21
        assert found[draw] == pytest.approx(expected)


def test_the_draws_scatter_as_the_formula_says():
    """Variance of the draws, averaged over data: patients and trainings once, the residual nearly three times."""
    parts, weights = (
        DifferenceVariance(0.04, 0.0004, 0.0025, 1.0),
        crossed_draws(np.zeros(20), 4, seed=0, resamples=400),
    )
    draw = np.random.default_rng(1)
    values = (
        draw.normal(0, 0.2, (2500, 1, 20)) + draw.normal(0, 0.02, (2500, 4, 1)) + draw.normal(0, 0.05, (2500, 4, 20))
    )
    assert crossed_means(values, weights).var(axis=0).mean() == pytest.approx(parts.of_draws(20, 4), rel=0.04)


def test_one_seed_is_scipys_bca_over_patients():
    values = table(1, 60)
    found = interval_of(values, np.zeros(60), seed=3, resamples=20_000)
    oracle = stats.bootstrap((values[0],), np.mean, n_resamples=20_000, batch=2000, method="BCa", random_state=1)
    assert (found.low, found.high) == pytest.approx(tuple(oracle.confidence_interval), abs=2e-3)
    student = stats.t.interval(0.95, 59, loc=values.mean(), scale=stats.sem(values[0]))
    assert (found.t_low, found.t_high) == pytest.approx(student)
    assert (found.mean, found.n_patients, found.n_seeds) == (pytest.approx(values.mean()), 60, 1)
    assert (found.method, found.reliable) == ("BCa, one seed", True)


def test_acceleration_is_that_of_several_samples():
    """Strata as independent samples: SciPy's own BCa of a weighted sum of two means has the same jackknife."""
    draw = np.random.default_rng(2)
    groups = [draw.exponential(size=12), draw.exponential(size=20)]
    values, strata = np.concatenate(groups), np.repeat([0, 1], [12, 20])
    influence = np.concatenate([(group - group.mean()) / 32 for group in groups])
    expected = (influence**3).sum() / (6 * (influence**2).sum() ** 1.5)
    assert acceleration(values[None], np.zeros(32, dtype=int), strata) == pytest.approx(expected)
    found = interval_of(values[None], np.zeros(32), seed=0, resamples=20_000, strata=strata)
    oracle = stats.bootstrap(
        groups,
        lambda a, b, axis: (12 * a.mean(axis=axis) + 20 * b.mean(axis=axis)) / 32,
        n_resamples=20_000,
        batch=2000,
        random_state=4,
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx(tuple(oracle), abs=0.02)


def test_trainings_add_to_the_acceleration_by_leaving_one_out():
    """30 skewed trainings, patients alike: the jackknife over trainings decides; of five only the variance counts."""
    trainings = np.random.default_rng(0).exponential(size=30)
    left_out = (trainings.sum() - trainings) / 29
    gaps = left_out.mean() - left_out
    expected = (gaps**3).sum() / (6 * (gaps**2).sum() ** 1.5)
    zeros = np.zeros(8, dtype=int)
    assert acceleration(np.repeat(trainings[:, None], 8, axis=1), zeros, zeros) == pytest.approx(expected)
    assert acceleration(np.repeat(trainings[:5, None], 8, axis=1), zeros, zeros) == pytest.approx(0, abs=1e-12)


def test_bias_correction_by_hand():
    """Draws of which 60 % lie below and 10 % on the mean: bias Phi^-1(.65)."""
    draws = np.r_[np.linspace(-1, -0.1, 600), np.zeros(100), np.linspace(0.1, 1, 300)]
    bias = stats.norm.ppf(0.65)
    shares = stats.norm.cdf(2 * bias + stats.norm.ppf([0.025, 0.975]))
    low, high, method = bca(draws, 0.0, 0.0, confidence=0.95)
    assert (low, high) == pytest.approx(tuple(np.quantile(draws, shares)))
    assert method == "BCa"


def test_scatter_of_trainings_widens_the_interval_but_not_students():
    calm, wild = table(5, 40, training=0.0), table(5, 40, training=0.0)
    wild += np.linspace(-0.1, 0.1, 5)[:, None]
    narrow, wide = (interval_of(values, np.zeros(40), seed=0, resamples=2000) for values in (calm, wild))
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    assert (wide.t_low, wide.t_high) == pytest.approx((narrow.t_low, narrow.t_high))
    assert wide.method == "BCa"


def test_folds_have_trainings_of_their_own_and_so_more_of_them():
    """The same values tested by one training a seed, or by five: five independent ones narrow by sqrt(5)."""
    values = np.full((3, 50), 0.8) + np.array([[-0.1], [0.02], [0.08]])
    one, five = (interval_of(values, folds, seed=0, resamples=4000) for folds in (np.zeros(50), np.arange(50) % 5))
    assert (one.high - one.low) / (five.high - five.low) == pytest.approx(math.sqrt(5), rel=0.2)


def test_strata_take_out_what_lies_between_centres():
    centre = np.repeat([0, 1], 20)
    values = np.where(centre, 0.9, 0.5) + np.random.default_rng(0).normal(0, 0.02, (1, 40))
    plain = interval_of(values, np.zeros(40), seed=0, resamples=1000)
    stratified = interval_of(values, np.zeros(40), seed=0, resamples=1000, strata=centre)
    assert stratified.high - stratified.low < 0.2 * (plain.high - plain.low)


def test_methods_together_are_each_alone_and_a_shift_moves_the_bounds():
    values, folds = np.stack([table(3, 30, seed=n) for n in range(3)]), np.arange(30) % 3
    weights = crossed_draws(folds, 3, seed=0, resamples=800)
    together = intervals_of(values, weights)
    for found, one in zip(together, values, strict=True):
        alone, moved = (interval_of(one + shift, folds, weights=weights) for shift in (0.0, 0.25))
        assert (alone.low, alone.high) == pytest.approx((found.low, found.high))
        assert (moved.low - 0.25, moved.high - 0.25) == pytest.approx((found.low, found.high))
        turned = interval_of(-one, folds, weights=weights)
        assert (-turned.high, -turned.low) == pytest.approx((found.low, found.high))


def test_same_seed_same_interval_and_order_matters_no_more_than_the_draw():
    values, order = table(4, 80), np.random.default_rng(0).permutation(80)
    first, again, other = (interval_of(values, np.zeros(80), seed=seed, resamples=2000) for seed in (1, 1, 2))
    assert first == again
    assert first.low != other.low
    mixed = interval_of(values[:, order], np.zeros(80), seed=1, resamples=2000)
    width = first.high - first.low
    assert (mixed.low, mixed.high) == pytest.approx((first.low, first.high), abs=0.08 * width)


def test_few_patients_are_marked():
    marks = [interval_of(table(5, number), np.zeros(number), resamples=200).reliable for number in (24, 25)]
    assert marks == [False, True]


def test_agreement_is_degenerate_and_one_patient_undefined():
    same = interval_of(np.full((3, 30), 0.8), np.zeros(30), resamples=50)
    assert (same.low, same.high) == pytest.approx((0.8, 0.8))
    assert (same.method, same.reliable) == ("degenerate", False)
    one = interval_of([[0.5], [0.7]], [0], resamples=50)
    assert np.isnan([one.low, one.high, one.t_low, one.t_high]).all()
    assert (one.mean, one.method, one.reliable) == (pytest.approx(0.6), "undefined", False)


def test_draws_on_one_side_give_no_bound():
    low, high, method = bca(np.array([0.1, 0.2]), 0.0, 0.0, confidence=0.95)
    assert math.isnan(low)
    assert math.isnan(high)
    assert method == "undefined"


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_undefined_values_are_named(broken):
    values = table(3, 4)
    values[1, 2] = broken
    with pytest.raises(ScoreError, match=rf"method 'unet', seed 11, patient 'p2': the value is {broken}; penalise"):
        interval_of(values, [0] * 4, method="unet", seeds=(10, 11, 12), patients=("p0", "p1", "p2", "p3"))
    with pytest.raises(ScoreError, match="seed number 2 of 3, patient number 3 of 4"):
        interval_of(values, [0] * 4)


def test_weights_of_other_data_are_refused():
    weights = crossed_draws([0, 0, 1, 1], 3, seed=0, resamples=10)
    with pytest.raises(ScoreError, match="other folds"):
        interval_of(table(3, 4), [0, 1, 0, 1], weights=weights)
    with pytest.raises(ScoreError, match="2 seeds and 4 patients, weights of 3 and 4"):
        interval_of(table(2, 4), [0, 0, 1, 1], weights=weights)


@pytest.mark.parametrize(
    ("folds", "seeds", "resamples", "strata", "message"),
    [
        ([], 3, 10, None, r"\(0,\) folds"),
        ([0, 0], 3, 10, [0], r"\(1,\) strata"),
        ([0, 0], 0, 10, None, "0 seeds"),
        ([0, 0], 3, 0, None, "0 resamples"),
    ],
)
def test_nothing_to_draw_is_refused(folds, seeds, resamples, strata, message):
    with pytest.raises(ScoreError, match=message):
        crossed_draws(folds, seeds, seed=0, resamples=resamples, strata=strata)


@pytest.mark.slow
def test_sixty_methods_and_a_thousand_patients_stay_small():
    """10 000 resamples: the weights take 20 MB, all that is held at once less than 150 MB."""
    import tracemalloc

    values = np.random.default_rng(0).random((60, 5, 1000))
    tracemalloc.start()
    means = crossed_means(values, crossed_draws(np.arange(1000) % 5, 5, seed=0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert means.shape == (10_000, 60)
    assert peak < 150e6
