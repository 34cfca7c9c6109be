"""Intervals over patients: SciPy's own on independent cases, the right width on clusters, honest on the rest."""

import math

import numpy as np
import pytest
from scipy import stats

from medseg.errors import ScoreError
from medseg.rng import generator
from medseg.stats.bootstrap import mean_interval


def dice_like(draw, number):
    """Return a mixture as segmentation gives it: mostly good, 8 % failures."""
    return np.where(draw.random(number) < 0.92, draw.beta(30, 4, number), draw.beta(1, 4, number))


def test_one_case_per_patient_is_scipys_bca():
    values = dice_like(np.random.default_rng(0), 60)
    found = mean_interval(values, [f"p{n:02}" for n in range(60)], seed=3, resamples=2000)
    oracle = stats.bootstrap(
        (values,), np.mean, n_resamples=2000, batch=1000, method="BCa", random_state=generator(3, "bootstrap")
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=2e-3)
    student = stats.t.interval(0.95, 59, loc=values.mean(), scale=stats.sem(values))
    assert (found.t_low, found.t_high) == pytest.approx(student)
    assert found.mean == pytest.approx(values.mean())
    assert (found.n_cases, found.n_patients, found.method, found.reliable) == (60, 60, "BCa", True)


def test_bca_by_hand_on_unequal_patients():
    """The same resamples, bias correction and acceleration written out (Efron and Tibshirani 1993, chapter 14)."""
    draw = np.random.default_rng(1)
    sizes = draw.integers(1, 8, 30)
    groups = np.repeat(np.arange(30), sizes)
    values = dice_like(draw, len(groups))
    found = mean_interval(values, groups, seed=0, resamples=20_000)
    sums = np.bincount(groups, weights=values)
    picks = np.random.default_rng(9).integers(0, 30, (20_000, 30))
    means = sums[picks].sum(1) / sizes[picks].sum(1)
    leave_one_out = (sums.sum() - sums) / (sizes.sum() - sizes)
    deviation = leave_one_out.mean() - leave_one_out
    acceleration = (deviation**3).sum() / (6 * (deviation**2).sum() ** 1.5)
    bias = stats.norm.ppf((means < values.mean()).mean())
    z = bias + stats.norm.ppf([0.025, 0.975])
    expected = np.quantile(means, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    assert (found.low, found.high) == pytest.approx(expected, abs=2e-3)


def test_same_seed_same_interval():
    values, groups = dice_like(np.random.default_rng(2), 80), np.repeat(np.arange(40), 2)
    first, again, other = (mean_interval(values, groups, seed=seed, resamples=500) for seed in (1, 1, 2))
    assert first == again
    assert first.low != other.low


def test_order_of_cases_does_not_matter():
    values, groups = dice_like(np.random.default_rng(2), 80), np.repeat(np.arange(40), 2)
    order = np.random.default_rng(0).permutation(80)
    first = mean_interval(values, groups, seed=1, resamples=500)
    again = mean_interval(values[order], groups[order], seed=1, resamples=500)
    assert (first.low, first.high) == pytest.approx((again.low, again.high), abs=1e-12)


def test_identical_cases_of_a_patient_add_no_certainty():
    """With all scatter between patients (ICC 1) six copies of each case leave the interval as wide as one."""
    values = dice_like(np.random.default_rng(3), 40)
    patients = np.arange(40)
    single = mean_interval(values, patients, seed=0, resamples=2000)
    copies = mean_interval(values.repeat(6), patients.repeat(6), seed=0, resamples=2000)
    assert (copies.low, copies.high) == pytest.approx((single.low, single.high), abs=1e-12)
    unaware = mean_interval(values.repeat(6), np.arange(240), seed=0, resamples=2000)
    width = (unaware.high - unaware.low) / (copies.high - copies.low)
    assert width == pytest.approx(1 / math.sqrt(6), rel=0.2)


def test_point_is_the_mean_over_cases():
    found = mean_interval([1, 1, 1, 0.5], ["a", "a", "a", "b"], seed=0, resamples=200)
    assert found.mean == pytest.approx(0.875)
    assert found.t_low < 0.75 < found.t_high  # Student's interval is about the mean of patient means
    assert not found.reliable


@pytest.mark.slow
def test_coverage_on_clusters():
    """40 patients with 6 images, ICC .59: intervals over patients cover about 92 %, over images about 66 %."""
    draw = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 6)
    covered = {"patients": 0, "images": 0}
    repeats = 200
    for repeat in range(repeats):
        values = draw.normal(0, math.sqrt(0.59), 40).repeat(6) + draw.normal(0, math.sqrt(0.41), 240)
        for name, units in (("patients", groups), ("images", np.arange(240))):
            found = mean_interval(values, units, seed=repeat, resamples=600)
            covered[name] += found.low <= 0 <= found.high
    assert covered["patients"] / repeats >= 0.90
    assert covered["images"] / repeats <= 0.75


@pytest.mark.parametrize(("number", "low", "high"), [(10, 0.5, 0.95), (100, 0.88, 1.0)])
def test_coverage_on_independent_patients(number, low, high):
    """Few patients cover less than promised, which is why they are marked unreliable; a hundred are enough."""
    draw = np.random.default_rng(1)
    truth = 0.92 * 30 / 34 + 0.08 / 5
    repeats, covered = 60, 0
    for repeat in range(repeats):
        found = mean_interval(dice_like(draw, number), np.arange(number), seed=repeat, resamples=400)
        covered += found.low <= truth <= found.high
        assert found.reliable == (number >= 25)
    assert low <= covered / repeats <= high


def test_agreeing_patients_have_equal_bounds():
    found = mean_interval([0.8] * 6, ["a", "a", "b", "b", "b", "c"], seed=0)
    assert found.method == "degenerate"
    assert (found.low, found.mean, found.high) == pytest.approx((0.8, 0.8, 0.8))
    assert not found.reliable


def test_one_patient_has_no_interval():
    found = mean_interval([0.8, 0.6], ["a", "a"], seed=0)
    assert found.method == "undefined"
    assert found.mean == pytest.approx(0.7)
    assert np.isnan([found.low, found.high, found.t_low, found.t_high]).all()


@pytest.mark.parametrize(
    ("values", "groups", "message"),
    [
        ([], [], r"\(0,\) values"),
        ([1.0, 2.0], ["a"], r"\(2,\) values for \(1,\) patients"),
        ([1.0, math.nan], ["a", "b"], "value 1 of 2 is nan; penalise infinite distances and drop"),
        ([math.inf, 1.0], ["a", "b"], "value 0 of 2 is inf"),
    ],
)
def test_bad_values_are_named(values, groups, message):
    with pytest.raises(ScoreError, match=message):
        mean_interval(values, groups, seed=0)
