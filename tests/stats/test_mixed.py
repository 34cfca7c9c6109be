"""Variance shares: a simulation whose components are known, and two estimators that must agree."""

import numpy as np
import pytest

from medseg.errors import ScoreError
from medseg.stats.mixed import ANOVA, REML, anova, reml, variance_shares, why_not

TRUE = {"patient": 0.08**2, "training": 0.02**2, "residual": 0.045**2}


def simulated(
    rng: np.random.Generator, methods: int, seeds: int, patients: int, folds: int = 1, *, training: float = 0.02
) -> tuple[np.ndarray, np.ndarray]:
    """Values (M, S, P) of the model, methods 0.01 apart, and the patients' folds."""
    fold = np.arange(patients) % folds
    values = 0.8 + 0.01 * np.arange(methods)[:, None, None] + rng.normal(0, 0.08, patients)
    values = values + rng.normal(0, training, (methods, seeds, folds))[:, :, fold]
    return values + rng.normal(0, 0.045, (methods, seeds, patients)), fold


@pytest.mark.parametrize("folds", [1, 5])
def test_moments_have_no_bias(folds: int) -> None:
    rng = np.random.default_rng(0)
    found = [anova(*simulated(rng, 3, 3, 50, folds)) for _ in range(400)]
    for name, true in TRUE.items():
        values = np.array([one[name] for one in found])
        assert values.mean() == pytest.approx(true, abs=4 * values.std() / 20), name
    if folds > 1:
        of_fold = np.array([one["fold"] for one in found])
        assert of_fold.mean() == pytest.approx(0, abs=4 * of_fold.std() / 20)


def test_folds_that_are_harder_are_a_component_of_their_own() -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(300):
        values, fold = simulated(rng, 2, 3, 60, 6)
        found.append(anova(values + rng.normal(0, 0.05, 6)[fold], fold))
    means = {name: np.mean([one[name] for one in found]) for name in found[0]}
    assert means["fold"] == pytest.approx(0.05**2, rel=0.15)
    assert means["patient"] == pytest.approx(TRUE["patient"], rel=0.05)


@pytest.mark.parametrize("seed", [0, 1])
def test_moments_and_likelihood_agree_on_a_balanced_design(seed: int) -> None:
    values, fold = simulated(np.random.default_rng(seed), 3, 4, 40)
    moments, likelihood = anova(values, fold), reml(values, fold)
    assert likelihood is not None
    for name, variance in moments.items():
        assert likelihood[name] == pytest.approx(variance, rel=1e-3), name


def test_moments_and_likelihood_are_close_with_folds() -> None:
    values, fold = simulated(np.random.default_rng(3), 2, 3, 40, 4)
    moments, likelihood = anova(values, fold), reml(values, fold)
    assert likelihood is not None
    assert likelihood["residual"] == pytest.approx(moments["residual"], rel=0.02)
    assert likelihood["patient"] == pytest.approx(moments["patient"], rel=0.05)


def test_shares_sum_to_one_and_have_the_right_size() -> None:
    values, fold = simulated(np.random.default_rng(4), 3, 5, 400)
    found = variance_shares(values, fold)
    assert found is not None and found.estimator == ANOVA and found.fold is None
    assert found.patient + found.training + found.residual + found.method == pytest.approx(1)
    total = sum(TRUE.values()) + np.var([0, 0.01, 0.02])
    assert found.patient == pytest.approx(TRUE["patient"] / total, abs=0.08)
    assert found.residual == pytest.approx(TRUE["residual"] / total, abs=0.04)


def without_scatter(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Trainings that agree more than chance: their moment is below 0."""
    rng = np.random.default_rng(5)
    values, fold = simulated(rng, 2, 3, size, training=0)
    return values - values.mean(axis=2, keepdims=True) + values.mean(axis=(1, 2), keepdims=True), fold


def test_a_component_below_zero_is_left_to_the_likelihood() -> None:
    values, fold = without_scatter(30)
    assert anova(values, fold)["training"] < 0
    found = variance_shares(values, fold)
    assert found is not None and found.estimator == REML
    assert found.training == pytest.approx(0, abs=1e-4)


def test_a_component_below_zero_is_cut_and_said_where_the_likelihood_takes_too_long() -> None:
    found = variance_shares(*without_scatter(400))
    assert found is not None and found.estimator == ANOVA and found.training == 0
    assert found.notes == ("The estimate for training was below 0 and is counted as 0.",)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (np.random.default_rng(0).normal(size=(2, 1, 9)), "one seed"),
        (np.random.default_rng(0).normal(size=(2, 3, 1)), "one patient"),
        (np.ones((2, 3, 9)), "all values are equal"),
    ],
)
def test_what_cannot_be_estimated_is_none_with_a_reason(values: np.ndarray, why: str) -> None:
    folds = np.zeros(values.shape[2], dtype=np.int64)
    assert variance_shares(values, folds) is None
    assert why in why_not(values, folds)


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ScoreError, match="not finite"):
        variance_shares(np.full((2, 2, 3), np.nan), np.zeros(3, dtype=np.int64))
