"""Reliability tables, ECE and Brier: the reference vectors, torchmetrics and scikit-learn, and bad probabilities."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss
from torchmetrics.classification import BinaryCalibrationError

from medseg.errors import ScoreError
from medseg.metrics import calibration
from medseg.metrics.calibration import brier, ece_of_bins, reliability_bins


@pytest.mark.parametrize(("hits", "error", "score"), [(9, 0.0, 0.09), (5, 0.4, 0.41)])
def test_reference_vectors(hits, error, score):
    """Ten pixels at .9: calibrated with nine hits; with five, (5 x .01 + 5 x .81) / 10."""
    probability, truth = np.full(10, 0.9), np.arange(10) < hits
    assert ece_of_bins(reliability_bins(probability, truth)) == pytest.approx(error, abs=1e-12)
    assert brier(probability, truth) == pytest.approx(score, abs=1e-12)


def test_bins_hold_their_lower_edge_and_the_last_one():
    table = reliability_bins(np.array([0.0, 0.25, 0.5, 0.74, 1.0]), np.array([0, 1, 0, 1, 1]), bins=4)
    assert table.tolist() == [[1, 0, 0], [1, 0.25, 1], [2, 1.24, 1], [1, 1, 1]]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), bins=st.sampled_from([1, 10, 15]))
def test_ece_is_torchmetrics_and_brier_is_sklearns(seed, bins):
    """torchmetrics: L1 norm over equal-width bins of the class's probability, float32, to 1e-5; sklearn to 1e-12."""
    draw = np.random.default_rng(seed)
    probability = draw.random((12, 13)).astype(np.float32)
    truth = draw.random((12, 13)) < probability**2
    score = BinaryCalibrationError(n_bins=bins, norm="l1")
    score.update(torch.from_numpy(probability).ravel(), torch.from_numpy(truth).ravel().int())
    assert ece_of_bins(reliability_bins(probability, truth, bins=bins)) == pytest.approx(
        score.compute().item(), abs=1e-5
    )
    assert brier(probability, truth) == pytest.approx(
        brier_score_loss(truth.ravel(), probability.ravel().astype(float)), abs=1e-12
    )


def test_tables_of_parts_add_up_to_the_whole(monkeypatch):
    draw = np.random.default_rng(0)
    probability, truth = draw.random((4, 9, 10)), draw.random((4, 9, 10)) < 0.3
    whole = reliability_bins(probability, truth)
    assert whole[:, 0].sum() == truth.size
    assert whole[:, 2].sum() == truth.sum()
    parts = sum(reliability_bins(*pair) for pair in zip(probability, truth, strict=True))
    assert parts == pytest.approx(whole)
    score = brier(probability, truth)
    monkeypatch.setattr(calibration, "_PIECE", 7)
    assert reliability_bins(probability, truth) == pytest.approx(whole)
    assert brier(probability, truth) == pytest.approx(score)


def test_only_counted_pixels_are_looked_at():
    draw = np.random.default_rng(1)
    probability, truth = draw.random((9, 10)), draw.random((9, 10)) < 0.3
    counted = draw.random((9, 10)) < 0.5
    assert reliability_bins(probability, truth, counted=counted) == pytest.approx(
        reliability_bins(probability[counted], truth[counted])
    )
    assert brier(probability, truth, counted=counted) == pytest.approx(brier(probability[counted], truth[counted]))


def test_no_pixel_gives_no_number():
    nothing = np.zeros((3, 3), bool)
    table = reliability_bins(np.full((3, 3), 0.5), nothing, counted=nothing)
    assert not table.any()
    assert math.isnan(ece_of_bins(table))
    assert math.isnan(brier(np.full((3, 3), 0.5), nothing, counted=nothing))


def test_rounding_of_float32_sums_is_no_error():
    assert brier(np.array([1 + 1e-7, -1e-7]), np.array([1, 0])) == 0


HALF, TRUTH = np.full((4, 4), 0.5), np.zeros((4, 4), bool)


@pytest.mark.parametrize(
    ("probability", "options", "message"),
    [
        (np.where(np.eye(4) > 0, np.nan, 0.5), {}, "values nan..nan; take the softmax first"),
        (np.where(np.eye(4) > 0, np.inf, 0.5), {}, "values 0.5..inf"),
        (HALF * 3, {}, r"values 1.5..1.5"),
        (HALF - 1, {}, r"values -0.5..-0.5"),
        (TRUTH, {}, "dtype bool; give floating-point numbers"),
        (HALF[:2], {}, r"probability is \(2, 4\) but truth is \(4, 4\)"),
        (HALF, {"counted": TRUTH[:1]}, "score them on one grid"),
    ],
)
def test_bad_probabilities_are_refused(probability, options, message):
    for measure in (reliability_bins, brier):
        with pytest.raises(ScoreError, match=message):
            measure(probability, TRUTH, **options)


def test_a_table_needs_a_bin():
    with pytest.raises(ScoreError, match="bins=0"):
        reliability_bins(HALF, TRUTH, bins=0)
