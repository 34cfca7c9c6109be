"""The claim gate: each condition alone keeps "outperforms" away, and says so; swapping the methods mirrors all."""

import math
from dataclasses import replace

import numpy as np
import pytest

from medseg.errors import ScoreError
from medseg.stats import paired
from medseg.stats.bayes import Posterior
from medseg.stats.crossed import crossed_draws, interval_of
from medseg.stats.gate import EQUAL, MANY_PATIENTS, NO_EVIDENCE, OUTPERFORMS, Settings, compare_pairs

QUICK = Settings(resamples=600)
FIELDS = ("p_wilcoxon", "p_holm", "p_permutation", "p_t", "p_equivalence", "needed_patients", "needed_seeds")


def study(gaps, *, seeds=5, patients=60, residual=0.03, seed=0):
    """Return (M, S, P) values of methods that lie ``gaps`` above a common level."""
    draw = np.random.default_rng(seed)
    common = draw.beta(12, 3, patients)
    values = common + draw.normal(0, residual, (len(gaps), seeds, patients))
    return values + np.asarray(gaps)[:, None, None]


def only_pair(values, *, settings=QUICK, folds=None, **words):
    folds = np.zeros(values.shape[2]) if folds is None else folds
    (pair,) = compare_pairs(values, ("a", "b"), folds, settings=settings, **words)
    return pair


def with_votes(votes, *, patients=60):
    """Return two methods whose seed means differ by exactly ``votes``."""
    noise = np.random.default_rng(0).normal(0, 0.01, (len(votes), patients))
    gaps = noise - noise.mean(axis=1, keepdims=True) + np.asarray(votes)[:, None]
    return np.stack([0.8 + gaps, np.full_like(gaps, 0.8)])


def test_a_clear_difference_is_a_claim():
    pair = only_pair(study([0.05, 0.0]))
    assert (pair.verdict, pair.winner, pair.reasons) == (OUTPERFORMS, "a", ())
    assert pair.difference.low > 0
    assert pair.p_holm < 0.05
    assert pair.posterior.better > 0.95
    assert (pair.seeds_in_favour, pair.n_seeds, pair.n_patients) == (5, 5, 60)
    assert pair.difference.mean == pytest.approx(0.05, abs=0.01)
    assert pair.needed_seeds == 5


def test_the_second_may_win():
    pair = only_pair(study([0.0, 0.05]))
    assert (pair.verdict, pair.winner, pair.seeds_in_favour) == (OUTPERFORMS, "b", 0)
    assert pair.difference.high < 0
    assert pair.false_claim > 0.95


@pytest.mark.parametrize("seeds", [1, 3, 4])
def test_fewer_than_five_seeds_never_outperform(seeds):
    pair = only_pair(study([0.3, 0.0], seeds=seeds))
    words = "1 seed" if seeds == 1 else f"{seeds} seeds"
    assert pair.verdict == NO_EVIDENCE
    assert pair.winner is None
    assert pair.reasons == (f"{words}; the gate asks for 5",)
    assert (pair.needed_seeds is None) == (seeds == 1)


def test_folds_do_not_stand_in_for_seeds():
    folds = np.arange(60) % 5
    assert only_pair(study([0.1, 0.0], seeds=3), folds=folds).reasons == ("3 seeds; the gate asks for 5",)
    assert only_pair(study([0.1, 0.0], seeds=5), folds=folds).verdict == OUTPERFORMS


def test_seeds_that_disagree_are_no_claim():
    pair = only_pair(with_votes([0.09, 0.09, 0.09, -0.001, -0.001]))
    assert "3 of 5 seeds agree in sign; the gate asks for 4" in pair.reasons
    assert pair.verdict == NO_EVIDENCE
    agreeing = only_pair(with_votes([0.09, 0.09, 0.09, 0.09, -0.001]))
    assert (agreeing.verdict, agreeing.seeds_in_favour) == (OUTPERFORMS, 4)


def test_four_fifths_of_more_seeds():
    assert only_pair(with_votes([0.05] * 5 + [-0.001])).verdict == OUTPERFORMS
    reasons = only_pair(with_votes([0.05] * 5 + [-0.001] * 2)).reasons
    assert "5 of 7 seeds agree in sign; the gate asks for 6" in reasons


def test_one_lucky_seed_leaves_the_interval_at_zero():
    """Patients agree perfectly, so Wilcoxon is sure; the scatter of trainings is what the interval adds."""
    pair = only_pair(with_votes([0.2, 0.01, 0.01, 0.01, -0.08]))
    assert pair.p_holm < 1e-6
    assert pair.difference.t_low > 0
    assert pair.difference.low < 0
    assert pair.verdict == NO_EVIDENCE
    assert any("95% interval of the difference" in reason and "does not exclude 0" in reason for reason in pair.reasons)


def test_a_sure_difference_inside_the_rope_is_practical_equality():
    pair = only_pair(study([0.003, 0.0], patients=200, residual=0.004))
    assert pair.difference.low > 0
    assert pair.p_holm < 0.05
    assert (pair.verdict, pair.winner) == (EQUAL, None)
    assert pair.posterior.equal > 0.95
    assert pair.reasons == ("p(better) 0.000; the gate asks for more than 0.95",)
    assert pair.p_equivalence < 0.05
    wider = only_pair(study([0.003, 0.0], patients=200, residual=0.004), settings=replace(QUICK, rope=0.0005))
    assert wider.verdict == OUTPERFORMS


def test_noise_is_no_evidence_and_says_how_much_more_is_needed():
    pair = only_pair(study([0.004, 0.0], residual=0.08))
    assert (pair.verdict, pair.winner) == (NO_EVIDENCE, None)
    assert any("Wilcoxon p after Holm" in reason for reason in pair.reasons)
    assert pair.needed_patients is None or pair.needed_patients > 60


def test_holm_runs_over_all_pairs():
    values = study([0.0, 0.002, 0.004, 0.05])
    pairs = compare_pairs(values, "abcd", np.zeros(60), settings=QUICK)
    assert [(pair.first, pair.second) for pair in pairs] == [*zip("aaabbc", "bcdcdd", strict=True)]
    assert [pair.p_holm for pair in pairs] == pytest.approx(paired.holm([pair.p_wilcoxon for pair in pairs]))
    alone = compare_pairs(values[:2], "ab", np.zeros(60), settings=QUICK)[0]
    assert alone.p_holm == alone.p_wilcoxon == pairs[0].p_wilcoxon
    assert replace(alone, p_holm=0, reasons=()) == replace(pairs[0], p_holm=0, reasons=())


def test_the_numbers_are_those_of_the_parts():
    values, folds = study([0.02, 0.0]), np.arange(60) % 3
    pair = only_pair(values, folds=folds)
    gaps = values[0] - values[1]
    by_patient = gaps.mean(axis=0)
    weights = crossed_draws(folds, 5, seed=0, resamples=600)
    interval = interval_of(gaps, folds, weights=weights)
    assert (pair.difference.low, pair.difference.high) == pytest.approx((interval.low, interval.high))
    assert pair.p_wilcoxon == paired.wilcoxon_pratt(by_patient)
    assert pair.p_permutation == paired.sign_flip(by_patient, seed=0, resamples=600)
    assert pair.rank_biserial == paired.rank_biserial(by_patient)
    assert pair.false_claim == pytest.approx(pair.p_t / 2)


@pytest.mark.parametrize("gap", [0.05, 0.012, 0.0])
def test_swapping_first_and_second_flips_everything(gap):
    values = study([gap, 0.0], seed=3)
    pair, swapped = only_pair(values), only_pair(values[::-1])
    assert swapped.difference.mean == pytest.approx(-pair.difference.mean)
    assert (swapped.difference.low, swapped.difference.high) == pytest.approx(
        (-pair.difference.high, -pair.difference.low)
    )
    assert [getattr(swapped, name) for name in FIELDS] == pytest.approx([getattr(pair, name) for name in FIELDS])
    assert swapped.posterior == Posterior(pair.posterior.worse, pair.posterior.equal, pair.posterior.better)
    assert swapped.rank_biserial == pytest.approx(-pair.rank_biserial)
    assert swapped.false_claim == pytest.approx(1 - pair.false_claim)
    assert swapped.seeds_in_favour == 5 - pair.seeds_in_favour
    assert swapped.verdict == pair.verdict
    assert swapped.winner == {"a": "b", "b": "a", None: None}[pair.winner]
    assert len(swapped.reasons) == len(pair.reasons)


def test_order_of_patients_is_irrelevant():
    values, order = study([0.02, 0.0]), np.random.default_rng(1).permutation(60)
    pair, mixed = only_pair(values), only_pair(values[:, :, order])
    assert [getattr(mixed, name) for name in FIELDS] == pytest.approx([getattr(pair, name) for name in FIELDS])
    assert mixed.posterior == pair.posterior
    assert mixed.verdict == pair.verdict
    width = pair.difference.high - pair.difference.low
    assert mixed.difference.low == pytest.approx(pair.difference.low, abs=0.15 * width)


def test_a_shift_of_both_leaves_the_pair_unchanged():
    values = np.round(study([0.02, 0.0]), 2)  # ties, and sums on the edge of the ROPE
    pair, moved = only_pair(values), only_pair(values + 0.137)
    assert [getattr(moved, name) for name in FIELDS] == pytest.approx([getattr(pair, name) for name in FIELDS])
    assert (moved.posterior, moved.verdict, moved.rank_biserial) == (pair.posterior, pair.verdict, pair.rank_biserial)
    assert moved.difference.low == pytest.approx(pair.difference.low, abs=1e-9)


def test_same_seed_same_result():
    values = study([0.02, 0.0])
    assert only_pair(values) == only_pair(values)
    assert only_pair(values).difference.low != only_pair(values, settings=replace(QUICK, seed=1)).difference.low


def test_identical_methods_are_practically_equal():
    values = study([0.0])
    pair = only_pair(np.concatenate([values, values]))
    assert (pair.verdict, pair.p_wilcoxon, pair.false_claim, pair.seeds_in_favour) == (EQUAL, 1, 0.5, 0)
    assert pair.difference.method == "degenerate"
    assert (pair.needed_patients, pair.needed_seeds) == (None, None)


def test_strata_reach_the_interval():
    values, centre = study([0.02, 0.0]), np.repeat([0, 1], 30)
    values[0] += np.where(centre, 0.1, -0.1)
    plain, stratified = only_pair(values), only_pair(values, strata=centre)
    assert stratified.difference.high - stratified.difference.low < plain.difference.high - plain.difference.low


def test_the_test_over_seeds_is_one_more_condition():
    values = with_votes([0.08, 0.05, 0.05, 0.03, -0.001])
    asked = replace(QUICK, seed_test=True)
    assert only_pair(values).verdict == only_pair(values, settings=asked).verdict == OUTPERFORMS
    restless = with_votes([0.13, 0.06, 0.03, 0.005, -0.001])
    assert only_pair(restless).verdict == OUTPERFORMS
    (reason,) = only_pair(restless, settings=asked).reasons
    assert "Student's interval over 5 seeds" in reason


def test_with_many_patients_the_seeds_are_tested_unless_told_otherwise():
    restless = with_votes([0.13, 0.06, 0.03, 0.005, -0.001])
    many = np.concatenate([restless] * 3, axis=2)
    assert many.shape[2] > MANY_PATIENTS >= restless.shape[2]
    (reason,) = only_pair(many).reasons
    assert "Student's interval over 5 seeds" in reason
    assert only_pair(many, settings=replace(QUICK, seed_test=False)).verdict == OUTPERFORMS


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_undefined_values_are_named(broken):
    values = study([0.0, 0.0])
    values[1, 2, 3] = broken
    with pytest.raises(ScoreError, match=rf"method 'b', seed 30, patient 'p3': the value is {broken}"):
        only_pair(values, seeds=(10, 20, 30, 40, 50), patients=[f"p{n}" for n in range(60)])


@pytest.mark.parametrize(
    ("shape", "methods"),
    [((1, 5, 9), "a"), ((2, 5, 9), "abc"), ((2, 5, 9), "aa"), ((2, 5, 1), "ab"), ((5, 9), "ab")],
)
def test_what_is_no_comparison_is_refused(shape, methods):
    with pytest.raises(ScoreError, match="at least two methods with names of their own"):
        compare_pairs(np.zeros(shape), methods, np.zeros(shape[-1]), settings=QUICK)


@pytest.mark.parametrize(
    "setting",
    [{"alpha": 0}, {"confidence": 1}, {"resamples": 0}, {"rope": -1}, {"margin": 0}, {"enough_seeds": 0}],
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ScoreError, match="between 0 and 1"):
        Settings(**setting)
