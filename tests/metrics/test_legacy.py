"""The published scripts rebuilt: their oddities one by one, and their arithmetic by other tools."""

import math

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix, roc_auc_score

from medseg.errors import ScoreError
from medseg.metrics.legacy import seed004, seed004_table, trfe, trfe_means
from medseg.metrics.surface import border_distances


def box(top, left, height, width, shape=(224, 224)):
    labels = np.zeros(shape, np.uint8)
    labels[top : top + height, left : left + width] = 1
    return labels


def test_trfe_overlap_is_the_usual_one_where_something_was_hit():
    prediction, truth = box(50, 50, 40, 60), box(60, 55, 40, 60)
    found = trfe(prediction, truth)
    (tn, fp), (fn, tp) = confusion_matrix(truth.ravel(), prediction.ravel())
    assert (found.precision, found.recall) == pytest.approx((tp / (tp + fp), tp / (tp + fn)))
    assert found.specificity == pytest.approx(tn / (tn + fp))
    assert (found.iou, found.f1) == pytest.approx((tp / (tp + fp + fn), 2 * tp / (2 * tp + fp + fn)))
    assert found.accuracy == pytest.approx((tp + tn) / truth.size)
    assert found.auc == pytest.approx(roc_auc_score(truth.ravel(), prediction.ravel()))


def test_trfe_counts_one_true_positive_where_there_is_none():
    missed = trfe(box(0, 0, 0, 0), box(60, 55, 10, 10))
    assert (missed.precision, missed.recall, missed.iou) == pytest.approx((1, 1 / 101, 1 / 101))
    assert missed.f1 == pytest.approx(2 / 102)
    assert missed.accuracy == pytest.approx((1 + 224**2 - 100) / (1 + 224**2))
    assert missed.auc == 0.5  # the AUC has the true counts
    beside = trfe(box(100, 100, 10, 10), box(60, 55, 10, 10))
    assert (beside.precision, beside.iou) == pytest.approx((1 / 101, 1 / 201))


def test_trfe_gives_an_empty_prediction_the_first_pixel():
    missed = trfe(box(0, 0, 0, 0), box(60, 80, 1, 1))
    assert missed.hd95 == pytest.approx(100)
    assert missed.empty_prediction
    wider = trfe(box(0, 0, 0, 0), box(60, 80, 3, 3))
    distances = [math.hypot(row, column) for row in range(60, 63) for column in range(80, 83)]
    assert wider.hd95 == pytest.approx(np.percentile(distances, 95))


def test_trfe_hd95_runs_over_filled_masks_and_so_falls_below_the_contours():
    prediction, truth = box(50, 50, 60, 60), box(50, 55, 60, 60)
    filled = trfe(prediction, truth).hd95
    outside = np.repeat([0, 1, 2, 3, 4, 5], [55 * 60, *[60] * 5])  # 5 columns of 60 lie outside, 1 to 5 away
    assert filled == pytest.approx(np.percentile(outside, 95)) == pytest.approx(2.05)
    assert border_distances(prediction, truth).hd95_directed_voxel == 5


@pytest.mark.parametrize("shape", [(100, 100), (360, 480), (511, 301), (224, 224), (1024, 800)])
def test_trfe_resizes_as_pillow_does(shape):
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, shape, dtype=np.uint8)
    small = np.asarray(Image.fromarray(labels).resize((224, 224), Image.Resampling.NEAREST))
    other = np.asarray(Image.fromarray(labels[::-1].copy()).resize((224, 224), Image.Resampling.NEAREST))
    expected = confusion_matrix(small.ravel(), other.ravel())
    found = trfe(labels[::-1].copy(), labels)
    assert found.recall == pytest.approx(expected[1, 1] / expected[1].sum())
    assert found.precision == pytest.approx(expected[1, 1] / expected[:, 1].sum())


def test_trfe_dice_comes_from_the_mean_iou_and_exceeds_the_mean_f1():
    pairs = [(box(50, 50, 40, 60), box(50, 50, 40, 60)), (box(100, 100, 10, 10), box(60, 55, 10, 10))]
    images = [trfe(*pair) for pair in pairs]
    means = trfe_means(images)
    iou = (1 + 1 / 201) / 2
    assert means["iou"] == pytest.approx(iou)
    assert means["dice"] == pytest.approx(2 * iou / (1 + iou))
    assert means["f1"] == pytest.approx((1 + 2 / 202) / 2)
    assert means["dice"] > means["f1"] + 0.1
    assert (means["n"], means["n_empty_prediction"], means["n_empty_reference"]) == (2, 0, 0)


@pytest.mark.parametrize(
    ("iou", "dice"), [(64.67, 78.55), (65.83, 79.39), (67.37, 80.50), (69.38, 81.92), (70.45, 82.67), (70.87, 82.92)]
)
def test_published_rows_satisfy_the_identity(iou, dice):
    """Ozcan et al., BSPC 95, 2024, Table 4, in percent: the printed digits hold it to 0.03 points."""
    assert 200 * (iou / 100) / (1 + iou / 100) == pytest.approx(dice, abs=0.035)


def test_trfe_has_no_number_for_an_empty_reference_and_says_so():
    healthy = trfe(box(5, 5, 5, 5), box(0, 0, 0, 0))
    assert math.isnan(healthy.hd95)
    assert math.isnan(healthy.auc)
    assert (healthy.recall, healthy.precision) == pytest.approx((1, 1 / 26))
    means = trfe_means([healthy, trfe(box(5, 5, 5, 5), box(5, 5, 5, 5))])
    assert math.isnan(means["hd95"])  # a sum with NaN, as in the script
    assert means["n_empty_reference"] == 1


def test_trfe_reads_one_class_of_several():
    labels = box(50, 50, 40, 60) * 2
    assert trfe(labels, labels, label=2).iou == 1
    assert trfe(labels, labels, label=1).empty_reference


def disc(shape, radius):
    rows, columns = (np.arange(size) - (size - 1) / 2 for size in shape)
    return (np.hypot(rows[:, None], columns) <= radius).astype(np.uint8)


@pytest.mark.parametrize(
    ("shape", "radius", "growth"), [((256, 256), 40, 0.032), ((360, 480), 56, 0.02), ((800, 1000), 125, 0.01)]
)
def test_bilinear_labels_grow(shape, radius, growth):
    """Nodules widen by 1 to 3 % of their area, more in small images; a perfect prediction pays for it."""
    labels = disc(shape, radius)
    matrix = seed004(labels, labels)
    assert matrix.sum() == 512**2
    assert matrix[1].sum() / 512**2 / labels.mean() - 1 == pytest.approx(growth, abs=0.004)
    assert matrix[0, 1] == 0  # nothing false, only missed rim
    assert seed004_table([matrix])["n_miou"] < 0.995


def test_labels_of_the_scripts_size_are_left_alone():
    labels = disc((512, 512), 80)
    assert seed004(labels, labels).tolist() == [[512**2 - int(labels.sum()), 0], [0, int(labels.sum())]]


def test_the_rim_is_as_wide_as_the_interpolation_reaches():
    """Doubling 256 to 512, a row outside the mask is touched with a weight of 1/4: one more row on every side."""
    labels = box(100, 100, 10, 20, (256, 256))
    matrix = seed004(labels, labels)
    assert matrix[1].sum() == 22 * 42
    assert matrix[1, 1] == 20 * 40


def test_every_label_but_background_is_nodule():
    labels = disc((512, 512), 80)
    assert seed004(labels * 3, labels * 2).tolist() == seed004(labels, labels).tolist()


def test_the_table_is_the_scripts_formulas_on_the_summed_matrix():
    draw = np.random.default_rng(3)
    matrices = [draw.integers(1, 1000, (2, 2)) for _ in range(3)]
    (tn, fp), (fn, tp) = np.sum(matrices, axis=0)
    table = seed004_table(matrices)
    assert (table["b_miou"], table["n_miou"]) == pytest.approx((tn / (tn + fp + fn), tp / (tp + fp + fn)))
    assert table["miou"] == pytest.approx((table["b_miou"] + table["n_miou"]) / 2)
    assert table["pa"] == pytest.approx((tn + tp) / (tn + fp + fn + tp))
    assert table["f1s"] == pytest.approx((2 * tn / (2 * tn + fp + fn) + 2 * tp / (2 * tp + fp + fn)) / 2)
    assert table["n"] == 3


def test_the_published_row_comes_out():
    """A matrix with nodule 7.123 %, background 88.381 %, errors 4.496 % of 729 images gives Table 1."""
    pixels = 729 * 512**2
    matrix = np.rint(np.array([[0.88381, 0.02248], [0.02248, 0.07123]]) * pixels).astype(np.int64)
    table = {name: round(100 * value, 2) for name, value in seed004_table([matrix]).items() if name != "n"}
    assert table == pytest.approx({"b_miou": 95.16, "n_miou": 61.31, "miou": 78.24, "pa": 95.5, "f1s": 86.8}, abs=0.05)


def test_a_nodule_never_hit_has_no_f1_in_the_script():
    table = seed004_table([np.array([[90, 0], [10, 0]])])
    assert math.isnan(table["f1s"])
    assert table["miou"] == pytest.approx(0.45)


@pytest.mark.parametrize("emulator", [trfe, seed004])
@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (box(0, 0, 1, 1), box(0, 0, 1, 1, (100, 224)), r"are \(224, 224\) and \(100, 224\)"),
        (np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 4), np.uint8), "scores 2D images"),
        (box(0, 0, 1, 1), box(0, 0, 1, 1) * 255, "unlabelled pixels"),
        (np.full((224, 224), 0.5), box(0, 0, 1, 1), "prediction has dtype float64"),
    ],
)
def test_bad_input_is_named(emulator, prediction, truth, message):
    with pytest.raises(ScoreError, match=message):
        emulator(prediction, truth)


@pytest.mark.parametrize("aggregate", [trfe_means, seed004_table])
def test_no_image_is_no_number(aggregate):
    with pytest.raises(ScoreError, match="no image was scored"):
        aggregate([])
