"""The reliability table: what is written comes back, cases add up, and a changed file is found out."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import ScoreError
from medseg.metrics.calibration import ece_of_bins, reliability_bins
from medseg.stats.reliability import read_reliability, reliability_rows, summed, write_reliability

CASES = ["007", "null"]


def tables(seed=0, classes=2):
    draw = np.random.default_rng(seed)
    made = [reliability_bins(draw.random((9, 8)), draw.random((9, 8)) < 0.3) for _ in range(2 * classes)]
    return np.stack(made).reshape(2, classes, 15, 3)


def test_round_trip_is_exact(tmp_path):
    path = tmp_path / "reliability.csv"
    frame = reliability_rows(tables(), CASES)
    assert len(frame) == 2 * 2 * 15
    write_reliability(frame, path)
    pd.testing.assert_frame_equal(read_reliability(path), frame, check_exact=True)
    assert read_reliability(path)["case"].unique().tolist() == CASES


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_summed_bins_give_the_calibration_error_of_all_pixels(seed):
    together = summed(reliability_rows(tables(seed), CASES))
    gap = (together["n"] * (together["confidence"] - together["frequency"]).abs()).sum() / together["n"].sum()
    assert gap == pytest.approx(ece_of_bins(tables(seed).sum(axis=(0, 1))))
    assert together["n"].sum() == 4 * 72


def test_a_case_without_a_labelled_pixel_has_rows_of_zeros():
    made = tables()
    made[1] = math.nan
    frame = reliability_rows(made, CASES)
    assert (frame[frame["case"] == "null"][["n", "probability_sum", "positives"]] == 0).all().all()


FAULTS = {
    "sum": (3, "probability_sum", 0.0, r"line 5 \(case '007'\), column 'probability_sum': 0.0 does not fit n pixels"),
    "positives": (0, "positives", 10_000, "line 2 .* column 'positives': 10000 must lie between 0 and n"),
    "twice": (1, "bin", 0, "line 3 .* column 'bin': 0 stands twice"),
    "class": (0, "class_index", 0, "line 2 .* is none of the table's bins"),
    "negative": (16, "n", -1, "line 18 .* 'n': -1 must be >= 0"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_named(tmp_path, fault):
    row, column, value, message = FAULTS[fault]
    frame = reliability_rows(tables(), CASES)
    frame.loc[row, column] = value
    path = tmp_path / "reliability.csv"
    frame.to_csv(path, index=False)
    with pytest.raises(ScoreError, match=message) as raised:
        read_reliability(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "reliability.csv"
    with pytest.raises(ScoreError, match="cannot read the reliability table"):
        read_reliability(path)
    frame = reliability_rows(tables(), CASES)
    frame[:-1].to_csv(path, index=False)
    with pytest.raises(ScoreError, match="not every case has 2 classes of 15 bins"):
        read_reliability(path)
    frame.drop(columns="n").to_csv(path, index=False)
    with pytest.raises(ScoreError, match="needs the columns case, class_index, bin, n,"):
        read_reliability(path)
    frame.astype({"n": float}).assign(n=0.5).to_csv(path, index=False)
    with pytest.raises(ScoreError, match="column 'n': must hold whole numbers"):
        read_reliability(path)
    with pytest.raises(ScoreError, match=r"\(2, 2, 15, 3\) for 1 cases"):
        reliability_rows(tables(), CASES[:1])
