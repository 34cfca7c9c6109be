"""Paired tests: the reference vectors of the literature, statsmodels' Holm, and what swapping must do."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from medseg.errors import ScoreError
from medseg.stats import paired

A = np.array([0.91, 0.85, 0.78, 0.88, 0.92, 0.60, 0.83, 0.79, 0.95, 0.71])
B = np.array([0.90, 0.83, 0.79, 0.85, 0.92, 0.55, 0.80, 0.80, 0.94, 0.66])
two_decimals = st.lists(st.integers(-30, 30).map(lambda n: n / 100), min_size=2, max_size=7).map(np.array)


def correlated(number, *, means, deviation, correlation):
    """Return two samples with exactly these means, deviations (n - 1) and correlation."""
    draw = np.random.default_rng(number).normal(size=(number, 2))
    white, _ = np.linalg.qr(draw - draw.mean(axis=0))
    white *= math.sqrt(number - 1)
    second = correlation * white[:, 0] + math.sqrt(1 - correlation**2) * white[:, 1]
    return means[0] + deviation * white[:, 0], means[1] + deviation * second


def test_wilcoxon_reference_with_both_ways_of_zeros():
    assert paired.wilcoxon_pratt(A - B) == pytest.approx(0.046875, abs=1e-9)
    dropped = stats.wilcoxon(paired.rounded(A - B), zero_method="wilcox")
    assert (dropped.statistic, dropped.pvalue) == pytest.approx((5, 0.046875), abs=1e-9)


def test_rounding_is_what_keeps_ties_as_ties():
    """Float noise splits the tied ranks of 0.01, 0.03 and 0.05: without rounding p is .0508."""
    assert stats.wilcoxon(A - B, zero_method="pratt").pvalue == pytest.approx(0.0508, abs=5e-5)
    noise = np.random.default_rng(0).uniform(-1e-12, 1e-12, 10)
    assert paired.wilcoxon_pratt(A - B + noise) == paired.wilcoxon_pratt(A - B)


@pytest.mark.parametrize("number", [5, 12, 16, 17, 40])
def test_without_ties_wilcoxon_is_scipys_exact_test(number):
    gaps = np.random.default_rng(number).normal(0.01, 0.03, number)
    assert paired.wilcoxon_pratt(gaps) == pytest.approx(stats.wilcoxon(gaps, method="exact").pvalue)


def test_with_ties_and_zeros_it_is_scipys_search_of_all_signs():
    gaps = np.array([0.0, 0.01, 0.01, -0.01, 0.03, 0.03, 0.0, -0.02])
    search = stats.PermutationMethod(n_resamples=300)
    assert paired.wilcoxon_pratt(gaps) == pytest.approx(stats.wilcoxon(gaps, zero_method="pratt", method=search).pvalue)
    assert 0 < paired.wilcoxon_pratt(np.tile(gaps, 3)) < paired.wilcoxon_pratt(gaps)


def test_t_reference():
    assert paired.paired_t(A - B) == pytest.approx(0.02940, abs=5e-6)
    assert paired.paired_t(A - B) == pytest.approx(stats.ttest_rel(A, B).pvalue)


def test_sign_flip_reference_and_enumeration():
    assert paired.sign_flip(A - B, seed=0) == pytest.approx(0.046875, abs=1e-12)
    gaps = paired.rounded(A - B)[:6]
    sums = [abs(np.dot(signs, gaps)) for signs in product((-1, 1), repeat=6)]
    assert paired.sign_flip(gaps, seed=0) == np.mean([total >= abs(gaps.sum()) - 1e-12 for total in sums])


def test_random_sign_flips_agree_with_the_normal_limit():
    gaps = np.random.default_rng(1).normal(0.02, 0.1, 80)
    found = paired.sign_flip(gaps, seed=3, resamples=20_000)
    limit = 2 * stats.norm.sf(abs(gaps.sum()) / math.sqrt((gaps**2).sum()))
    assert found == pytest.approx(limit, abs=0.015)
    assert found == paired.sign_flip(gaps, seed=3, resamples=20_000) != paired.sign_flip(gaps, seed=4, resamples=20_000)


def test_random_sign_flips_never_give_zero():
    assert paired.sign_flip(np.full(40, 0.3), seed=0, resamples=999) == pytest.approx(1 / 1000)


def test_holm_reference():
    assert paired.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@settings(max_examples=8, deadline=None)
def test_holm_is_that_of_statsmodels(p_values):
    from statsmodels.stats.multitest import multipletests

    assert paired.holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


@pytest.mark.parametrize("p_values", [[0.1, math.nan], [1.2], [-0.1]])
def test_holm_refuses_what_is_no_probability(p_values):
    with pytest.raises(ScoreError, match="between 0 and 1"):
        paired.holm(p_values)


@pytest.mark.parametrize(
    ("number", "deviation", "correlation", "expected", "tolerance"),
    [
        (100, 0.10, 0.8, 0.0585, 5e-5),
        (30, 0.10, 0.8, 0.1968, 5e-5),
        (614, 0.10, 0.8, 5e-5, 5e-6),
        (614, 0.20, 0.6, 0.0832, 5e-5),
    ],
)
def test_false_claim_references(number, deviation, correlation, expected, tolerance):
    first, second = correlated(number, means=(0.85, 0.84), deviation=deviation, correlation=correlation)
    assert paired.false_claim(first, second) == pytest.approx(expected, abs=tolerance)
    assert paired.false_claim(second, first) == pytest.approx(1 - paired.false_claim(first, second))


def test_equivalence_is_two_t_tests():
    gaps = np.random.default_rng(2).normal(0.002, 0.02, 60)
    above = stats.ttest_1samp(gaps, -0.01, alternative="greater").pvalue
    below = stats.ttest_1samp(gaps, 0.01, alternative="less").pvalue
    assert paired.equivalence(gaps, margin=0.01) == pytest.approx(max(above, below), rel=1e-4)
    with pytest.raises(ScoreError, match="margin 0"):
        paired.equivalence(gaps, margin=0)


def test_rank_biserial_by_hand():
    """Sizes 0, 1, 2, 3 rank 1 to 4: 2 + 4 against 3 of 9."""
    assert paired.rank_biserial([0.0, 0.01, -0.02, 0.03]) == pytest.approx((6 - 3) / 9)
    assert paired.rank_biserial([0.1, 0.2]) == 1
    assert paired.rank_biserial([0.0, 0.0]) == 0


def test_methods_that_agree_on_every_patient_are_no_evidence():
    none = np.zeros(30)
    assert paired.wilcoxon_pratt(none) == paired.paired_t(none) == paired.sign_flip(none, seed=0) == 1
    assert paired.false_claim(A, A) == 0.5
    assert paired.equivalence(none, margin=0.01) == 0
    assert paired.equivalence(none + 0.02, margin=0.01) == 1
    assert paired.paired_t(none + 0.02) == 0


def test_one_patient_has_no_t_test():
    found = (paired.paired_t([0.1]), paired.equivalence([0.1], margin=0.01), paired.false_claim([0.1], [0.2]))
    assert np.isnan(found).all()


@given(two_decimals, st.randoms())
@settings(max_examples=10, deadline=None)
def test_swapping_flips_and_order_is_irrelevant(gaps, random):
    mixed = np.array(random.sample(list(gaps), len(gaps)))
    for test in (
        paired.wilcoxon_pratt,
        paired.paired_t,
        lambda numbers: paired.sign_flip(numbers, seed=0),
        lambda numbers: abs(paired.rank_biserial(numbers)),
        lambda numbers: paired.equivalence(numbers, margin=0.05),
    ):
        assert test(gaps) == pytest.approx(test(-gaps), abs=1e-9) == pytest.approx(test(mixed), abs=1e-9)
    assert paired.rank_biserial(-gaps) == pytest.approx(-paired.rank_biserial(gaps))


def test_random_sign_flips_ignore_order_and_direction_exactly():
    gaps = np.random.default_rng(3).normal(0.01, 0.05, 50)
    found = paired.sign_flip(gaps, seed=0, resamples=500)
    assert found == paired.sign_flip(-gaps[::-1], seed=0, resamples=500)


@pytest.mark.parametrize(
    ("gaps", "message"), [([0.1, math.nan], "2 of 2 is nan"), ([math.inf], "1 of 1 is inf"), ([], r"shape \(0,\)")]
)
def test_undefined_differences_are_refused(gaps, message):
    for test in (paired.wilcoxon_pratt, paired.paired_t, paired.rank_biserial):
        with pytest.raises(ScoreError, match=message):
            test(gaps)


def test_false_claim_needs_the_same_patients():
    with pytest.raises(ScoreError, match="same patients"):
        paired.false_claim([0.1, 0.2], [0.1])
