"""Confusion counts against a definition written out pixel by pixel, and what empty masks mean."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import multilabel_confusion_matrix

from medseg.errors import ScoreError
from medseg.metrics.epoch import batch_counts
from medseg.metrics.overlap import confusion_counts
from medseg.scores import OVERLAPS, case_means, overlap, penalised

nan = float("nan")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 5), ignored=st.sampled_from([0.0, 0.3]))
def test_counts_are_sklearns(seed, classes, ignored):
    draw = np.random.default_rng(seed)
    prediction, truth = draw.integers(0, classes, (2, 7, 9), dtype=np.uint8)
    truth[draw.random(truth.shape) < ignored] = 255
    kept = truth != 255
    matrices = multilabel_confusion_matrix(truth[kept], prediction[kept], labels=range(classes))
    expected = [[m[1, 1], m[0, 1], m[1, 0], m[0, 0]] for m in matrices]
    assert confusion_counts(prediction, truth, classes).tolist() == expected


def test_device_counts_equal_host_counts():
    draw = np.random.default_rng(3)
    prediction, truth = draw.integers(0, 3, (2, 4, 11, 13))
    truth[draw.random(truth.shape) < 0.2] = 255
    host = [confusion_counts(labels, mask, 3) for labels, mask in zip(prediction, truth, strict=True)]
    device = batch_counts(torch.from_numpy(prediction), torch.from_numpy(truth), 3)
    assert device.dtype == torch.int64
    assert device.tolist() == np.stack(host).tolist()


def test_volumes_and_every_whole_number_type_are_counted():
    draw = np.random.default_rng(4)
    prediction, truth = draw.integers(0, 2, (2, 3, 4, 5), dtype=np.int64)
    expected = confusion_counts(prediction.astype(np.uint8), truth.astype(np.uint8), 2).tolist()
    for kind in (np.int64, np.int32, np.uint16, np.bool_, np.dtype(">i4")):
        assert confusion_counts(prediction.astype(kind), truth.astype(kind), 2).tolist() == expected


SQUARE, SHIFTED = np.zeros((2, 64, 64), np.uint8)
SQUARE[10:30, 10:30], SHIFTED[13:33, 14:34] = 1, 1
EMPTY, PIXEL, FULL = np.zeros_like(SQUARE), np.zeros_like(SQUARE), np.ones_like(SQUARE)
PIXEL[5, 5] = 1
TEN, TEN_SHIFTED, CENTRE, FAR = np.zeros((4, 64, 64), np.uint8)
TEN[10:20, 10:20], TEN_SHIFTED[11:21, 10:20], CENTRE[15:25, 15:25] = 1, 1, 1
FAR[10:20, 10:20], FAR[60, 15] = 1, 1
NOTHING = np.full_like(SQUARE, 255)

TABLE = {  # prediction, truth, (dice, iou, sensitivity, specificity, precision, balanced accuracy, volume)
    "both empty": (EMPTY, EMPTY, (1, 1, nan, 1, nan, nan, 1)),
    "only reference empty": (PIXEL, EMPTY, (0, 0, nan, 4095 / 4096, 0, nan, 0)),
    "only prediction empty": (EMPTY, PIXEL, (0, 0, 0, 1, 0, 0.5, 0)),
    "no background": (FULL, FULL, (1, 1, 1, nan, 1, nan, 1)),
    "nothing labelled": (SQUARE, NOTHING, (nan,) * 7),
    "10x10 shifted by 1": (TEN_SHIFTED, TEN, (0.9, 9 / 11, 0.9, 3986 / 3996, 0.9, (0.9 + 3986 / 3996) / 2, 1)),
    "20x20 shifted by (3, 4)": (
        SHIFTED,
        SQUARE,
        (0.68, 272 / 528, 0.68, 3568 / 3696, 0.68, (0.68 + 3568 / 3696) / 2, 1),
    ),
    "20x20 against its centre": (SQUARE, CENTRE, (0.4, 0.25, 1, 3696 / 3996, 0.25, (1 + 3696 / 3996) / 2, 0.4)),
    "a far pixel": (FAR, TEN, (200 / 201, 100 / 101, 1, 3995 / 3996, 100 / 101, (1 + 3995 / 3996) / 2, 200 / 201)),
}


@pytest.mark.parametrize("name", TABLE)
def test_scores_of_corner_cases(name):
    prediction, truth, expected = TABLE[name]
    found = overlap(confusion_counts(prediction, truth, 2)[1])
    ours = [float(getattr(found, name)) for name in OVERLAPS]
    assert ours == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_case_means_count_what_they_leave_out():
    pairs = [TABLE[name][:2] for name in list(TABLE)[:5]]
    counts = np.stack([confusion_counts(*pair, 2) for pair in pairs])[:, 1:]
    means = case_means(counts)
    assert means["dice"] == pytest.approx((1 + 0 + 0 + 1) / 4)
    assert means["dice_without_both_empty"] == pytest.approx(1 / 3)
    assert means["sensitivity"] == pytest.approx(1 / 2)
    assert means["volumetric_similarity"] == pytest.approx((1 + 0 + 0 + 1) / 4)
    assert means["balanced_accuracy"] == pytest.approx(0.5)
    left_out = {name: means[f"n_left_out_{name}"] for name in OVERLAPS}
    assert left_out == {
        "dice": 1,
        "iou": 1,
        "sensitivity": 3,
        "specificity": 2,
        "precision": 2,
        "balanced_accuracy": 4,
        "volumetric_similarity": 1,
    }
    names = ("n", "n_empty_reference", "n_empty_prediction", "n_both_empty", "n_undefined")
    assert [means[name] for name in names] == [5, 2, 2, 1, 1]


def test_infinite_distances_become_the_diagonal():
    found = penalised([1.5, float("inf"), nan], [10, 20, 30])
    assert found.tolist() == pytest.approx([1.5, 20, nan], nan_ok=True)


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (SQUARE, SQUARE[:5], r"prediction is \(64, 64\) but truth is \(5, 64\)"),
        (SQUARE * 2, SQUARE, r"prediction has 400 pixel\(s\) with a label above 1"),
        (SQUARE, SQUARE * 7, r"truth has 400 pixel\(s\) with a label above 1"),
        (NOTHING, SQUARE, "prediction has 4096"),
        (SQUARE.astype(np.float32), SQUARE, "dtype float32; scores need whole-number labels"),
        (np.full((64, 64), np.nan), SQUARE, "dtype float64; scores need whole-number labels"),
        (SQUARE.astype(np.int64) * -1, SQUARE, r"prediction has labels -1\.\.0"),
        (SQUARE, SQUARE.astype(np.int64) * 256, r"truth has labels 0\.\.256"),
    ],
)
def test_bad_labels_are_refused(prediction, truth, message):
    with pytest.raises(ScoreError, match=message):
        confusion_counts(prediction, truth, 2)
