"""The pooled columns of the 2022 preprint: its own arithmetic, its script's formulas, torchmetrics' numbers."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassJaccardIndex,
    MulticlassPrecision,
    MulticlassRecall,
)
from torchmetrics.segmentation import DiceScore

from medseg.errors import ScoreError
from medseg.metrics.overlap import confusion_counts
from medseg.scores import overlap, pooled, with_background


def random_maps(seed, classes, shape=(3, 16, 15)):
    """Return prediction and truth that agree on about two thirds of the pixels."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, classes, shape)
    return np.where(draw.random(shape) < 0.6, truth, draw.integers(0, classes, shape)), truth


def counts_of(prediction, truth, classes):
    return np.stack([confusion_counts(*pair, classes) for pair in zip(prediction, truth, strict=True)])


@pytest.mark.parametrize("missed_share", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_published_row_from_counts(missed_share):
    """Whatever part of the errors is missed nodule, the five columns are the published ones."""
    pixels, errors = 729 * 512 * 512, 0.0449524
    nodule = 0.6131 * errors / (1 - 0.6131)
    fractions = np.array([nodule, errors * (1 - missed_share), errors * missed_share, 1 - nodule - errors])
    row = pooled(with_background(np.rint(fractions * pixels)[None])).headline()
    published = {"b_iou": 95.16, "n_iou": 61.31, "miou": 78.24, "pa": 95.5, "f1": 86.8}
    digits = {"b_iou": 0.005, "n_iou": 0.005, "miou": 0.0051, "pa": 0.05, "f1": 0.05}
    for name, value in published.items():
        assert 100 * row[name] == pytest.approx(value, abs=digits[name]), name
    assert row["pooled_recall"] == pytest.approx(nodule / (nodule + errors * missed_share), abs=1e-6)
    assert row["pooled_precision"] == pytest.approx(nodule / (nodule + errors * (1 - missed_share)), abs=1e-6)


def test_pooling_hides_the_small_nodule():
    prediction, truth = np.zeros((2, 2, 64, 64), np.uint8)
    prediction[0, 16:48, 16:48] = truth[0, 16:48, 16:48] = 1
    truth[1, 20:28, 20:28], prediction[1, 20:28, 24:32] = 1, 1
    counts = counts_of(prediction, truth, 2)
    together, apart = pooled(counts), overlap(counts[:, 1])
    assert together.iou[1] == pytest.approx(0.9429, abs=5e-5)
    assert apart.iou.mean() == pytest.approx(0.6667, abs=5e-5)
    assert together.f1[1] == pytest.approx(0.9706, abs=5e-5)
    assert apart.dice.mean() == pytest.approx(0.75)
    assert together.pixel_accuracy == pytest.approx(0.9922, abs=5e-5)
    assert together.headline()["f1"] == pytest.approx(0.9830, abs=5e-5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_identities_hold(seed):
    counts = counts_of(*random_maps(seed, 2), 2)
    found = pooled(counts)
    assert found.f1 == pytest.approx(2 * found.iou / (1 + found.iou), abs=1e-9)
    # With two classes both IoUs have the same errors e, so TP = e IoU / (1 - IoU), and all parts sum to one.
    errors = 1 / (1 + (found.iou / (1 - found.iou)).sum())
    assert found.pixel_accuracy == pytest.approx(1 - errors, abs=1e-9)
    assert (with_background(counts[:, 1]) == counts).all()


@pytest.mark.parametrize("classes", [2, 4])
def test_equals_torchmetrics(classes):
    prediction, truth = random_maps(classes, classes)
    found = pooled(counts_of(prediction, truth, classes))
    pair = torch.from_numpy(prediction), torch.from_numpy(truth)

    def oracle(metric, **options):
        return metric(num_classes=classes, **options)(*pair).tolist()

    assert found.iou == pytest.approx(oracle(MulticlassJaccardIndex, average=None), abs=1e-6)
    assert found.f1 == pytest.approx(oracle(MulticlassF1Score, average=None), abs=1e-6)
    assert found.precision == pytest.approx(oracle(MulticlassPrecision, average=None), abs=1e-6)
    assert found.recall == pytest.approx(oracle(MulticlassRecall, average=None), abs=1e-6)
    row = found.headline()
    assert row["miou"] == pytest.approx(oracle(MulticlassJaccardIndex, average="macro"), abs=1e-6)
    assert row["f1"] == pytest.approx(oracle(MulticlassF1Score, average="macro"), abs=1e-6)
    assert row["pa"] == pytest.approx(oracle(MulticlassAccuracy, average="micro"), abs=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_equals_the_formulas_on_the_confusion_matrix(classes):
    prediction, truth = random_maps(7, classes)
    matrix = MulticlassConfusionMatrix(classes)(torch.from_numpy(prediction), torch.from_numpy(truth)).numpy()
    right, guessed, real = np.diag(matrix), matrix.sum(0), matrix.sum(1)
    found = pooled(counts_of(prediction, truth, classes))
    assert found.iou == pytest.approx(right / (guessed + real - right))
    assert found.f1 == pytest.approx(2 * right / (guessed + real))
    assert found.pixel_accuracy == pytest.approx(right.sum() / matrix.sum())


def test_absent_class_is_nan_and_counted():
    prediction, truth = random_maps(0, 2)
    found = pooled(counts_of(prediction, truth, 3))
    assert np.isnan([found.iou[2], found.f1[2], found.precision[2], found.recall[2]]).all()
    row = found.headline()
    assert row["n_absent_classes"] == 1
    assert row["miou"] == pytest.approx(found.iou[:2].mean())
    assert np.isnan(row["f1"])
    assert row["pa"] == pooled(counts_of(prediction, truth, 2)).pixel_accuracy


def test_classes_must_cover_the_same_pixels():
    with pytest.raises(ScoreError, match=r"classes cover \[10, 9\] pixels"):
        pooled([[1, 2, 3, 4], [1, 2, 3, 3]])


def test_torchmetrics_default_reads_label_maps_as_one_hot():
    """The trap that the project's own counts avoid: label maps are accepted silently and another number comes out."""
    prediction, truth = np.zeros((2, 4, 64, 64), np.int64)
    truth[:, 20:40, 20:40], prediction[:, 28:48, 28:48] = 1, 1
    found = {}
    for name, options in {"told": {"input_format": "index"}, "default": {}}.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            score = DiceScore(num_classes=2, **options)
        score.update(torch.from_numpy(prediction), torch.from_numpy(truth))
        found[name] = score.compute().item()
    assert pooled(counts_of(prediction, truth, 2)).headline()["f1"] == pytest.approx(found["told"], abs=1e-6)
    assert found["told"] == pytest.approx(0.6454, abs=1e-4)
    assert found["default"] == pytest.approx(0.2571, abs=1e-4)


def test_torchmetrics_has_no_dice_for_two_empty_masks():
    empty = torch.zeros(1, 8, 8, dtype=torch.long)
    score = DiceScore(num_classes=2, include_background=False, input_format="index", average="macro")
    score.update(empty, empty)
    assert np.isnan(score.compute().item())
    assert overlap(confusion_counts(empty[0].numpy(), empty[0].numpy(), 2)[1]).dice == 1
