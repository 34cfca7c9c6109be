"""The record of an epoch: batches, native cases, repeated cases, and two processes against one."""

import copy
import importlib.util
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.errors import ScoreError
from medseg.metrics.epoch import CaseScores
from medseg.metrics.overlap import confusion_counts
from medseg.scores import CALIBRATION, DISTANCES, LESIONS, SHARES

SCRIPT = Path(__file__).with_name("two_ranks.py")
_spec = importlib.util.spec_from_file_location("two_ranks", SCRIPT)
two_ranks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(two_ranks)


def random_batch(number, seed=0, classes=2, size=16):
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, classes, (number, size, size))
    labels = np.where(draw.random(truth.shape) < 0.7, truth, draw.integers(0, classes, truth.shape))
    return torch.from_numpy(labels), torch.from_numpy(truth)


@pytest.fixture(scope="module")
def gathered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    ranks = [subprocess.Popen([sys.executable, str(SCRIPT), str(rank), "2", str(folder)]) for rank in range(2)]
    try:
        assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    return folder


@pytest.mark.parametrize("kind", ["native", "batch"])
@pytest.mark.parametrize("scenario", ["uneven", "padded", "idle"])
def test_two_processes_give_the_table_of_one(gathered, tmp_path, scenario, kind):
    alone = tmp_path / "alone.npz"
    two_ranks.write(alone, two_ranks.scored(range(two_ranks.CASES), native=kind == "native"))
    expected = np.load(alone)
    assert expected["index"].tolist() == list(range(two_ranks.CASES))
    for rank in range(2):
        path = gathered / f"{scenario}-{kind}-{rank}.npz"
        found = np.load(path)
        for name in ("index", "counts", "measured", "diagonals", "tolerances"):
            assert found[name].dtype == expected[name].dtype
            assert found[name].tobytes() == expected[name].tobytes(), name
        assert path.with_suffix(".json").read_text() == alone.with_suffix(".json").read_text()


def test_batch_size_and_order_do_not_matter():
    labels, mask = random_batch(7)
    tables = []
    for parts in ([range(7)], [[6, 5], [4], [0, 1, 2, 3]]):
        scores = CaseScores(2)
        for part in parts:
            scores.update_batch(labels[list(part)], mask[list(part)], torch.tensor(list(part)))
        tables.append((scores.counts()[1].tobytes(), json.dumps(scores.compute())))
    assert tables[0] == tables[1]


def test_a_repeated_case_counts_once():
    labels, mask = random_batch(3)
    scores = CaseScores(2)
    scores.update_batch(labels, mask, torch.arange(3))
    once = scores.compute()
    scores.update_batch(labels[:1], mask[:1], torch.tensor([0]))
    assert scores.compute() == once
    assert once["n"] == 3


def test_headline_of_known_cases():
    small, big, empty = np.zeros((3, 64, 64), np.uint8)
    big[16:48, 16:48], small[50:54, 50:54] = 1, 1
    scores = CaseScores(2, measure=True, prefix="test/")
    scores.update(big, big, index=0)
    scores.update(empty, small, index=1)  # a missed nodule
    scores.update(empty, empty, index=2, spacing=(2.0, 2.0))
    found = scores.compute()
    diagonal = np.hypot(64, 64)
    assert found["test/dice"] == pytest.approx(2 / 3)
    assert found["test/dice_without_both_empty"] == pytest.approx(1 / 2)
    assert found["test/sensitivity"] == pytest.approx(1 / 2)
    assert found["test/n_iou"] == pytest.approx(1024 / 1040)
    assert (found["test/n"], found["test/n_empty_prediction"], found["test/n_both_empty"]) == (3, 2, 1)
    rows = scores.gathered()
    columns = {name: values[:, 0].tolist() for name, values in rows.columns().items()}
    for name in DISTANCES:
        assert columns[name] == [0, np.inf, 0], name
    for name in SHARES:
        assert columns[name] == [1, 0, 1], name
    assert [columns[name] for name in LESIONS[:4]] == [[1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert np.isnan([columns[name] for name in CALIBRATION]).all()
    assert rows.reliability is None
    assert rows.diagonals == pytest.approx([diagonal, diagonal, 2 * diagonal])


def test_every_measurement_of_a_case_worked_out_by_hand():
    """A 10 x 10 square found one row too far down and a false pixel in the corner, told with 75 %."""
    truth, prediction = np.zeros((2, 64, 64), np.uint8)
    truth[10:20, 10:20], prediction[11:21, 10:20], prediction[60, 60] = 1, 1, 1
    probability = np.where(prediction == 1, 0.75, 0.25)[None]
    scores = CaseScores(2, measure=True)
    scores.update(prediction, truth, index=4, spacing=(2.0, 1.0), tolerance=2.0, probabilities=probability)
    rows = scores.gathered()
    found = {name: float(values[0, 0]) for name, values in rows.columns().items()}
    far = np.hypot(2 * (60 - 19), 60 - 19)
    assert found["hd_voxel"] == pytest.approx(far)
    assert found["hd95_directed_voxel"] == 2  # ten of 36 border pixels lie a row off, the far one of 37 is cut away
    assert found["nsd_voxel"] == pytest.approx((36 + 36) / (36 + 37))  # all but the far pixel are within 2
    assert found["boundary_iou"] == pytest.approx(found_boundary(prediction, truth), abs=1e-12)
    assert [found[name] for name in LESIONS] == [1, 2, 1, 1, 0, 0]
    hits = (truth == 1) == (prediction == 1)
    assert found["brier"] == pytest.approx(np.where(hits, 0.25**2, 0.75**2).mean())
    positive = prediction == 1
    gaps = [abs((truth == 1)[part].sum() - probability[0][part].sum()) for part in (positive, ~positive)]
    assert found["ece"] == pytest.approx(sum(gaps) / 4096)
    assert rows.reliability.shape == (1, 1, 15, 3)
    assert rows.reliability[0, 0, 3].tolist() == [4096 - 101, (4096 - 101) / 4, 10]
    assert rows.reliability[0, 0, 11].tolist() == [101, 101 * 0.75, 90]
    assert (rows.diagonals[0], rows.tolerances[0]) == (pytest.approx(np.hypot(128, 64)), 2.0)


def found_boundary(prediction, truth, width=2):
    """The bands within two pixels (2 % of the diagonal of 64 x 64, rounded) of the outside, by erosion."""
    from scipy.ndimage import binary_erosion

    bands = [m & ~binary_erosion(m, np.ones((3, 3)), iterations=width) for m in (prediction == 1, truth == 1)]
    return (bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum()


def test_a_case_without_a_labelled_pixel_has_no_measurement():
    scores = CaseScores(3, measure=True)
    nothing, prediction = np.full((8, 8), 255, np.uint8), np.ones((8, 8), np.uint8)
    scores.update(prediction, nothing, index=0, probabilities=np.full((2, 8, 8), 0.5))
    columns = scores.gathered().columns()
    assert all(np.isnan(columns[name]).all() for name in (*DISTANCES, *SHARES, *CALIBRATION))
    assert all((columns[name] == 0).all() for name in LESIONS)


def test_ignored_pixels_have_no_border_and_no_count():
    truth, prediction = np.zeros((2, 20, 20), np.uint8)
    truth[5:10, 5:10], truth[:, 15:] = 1, 255
    prediction[5:10, 5:10], prediction[3:8, 16:] = 1, 1
    scores = CaseScores(2, measure=True)
    scores.update(prediction, truth, index=0)
    assert scores.compute()["dice"] == 1
    found = {name: float(values[0, 0]) for name, values in scores.gathered().columns().items()}
    assert [found[name] for name in (*DISTANCES, *SHARES)] == [0] * 5 + [1] * 3
    assert [found[name] for name in LESIONS] == [1, 1, 1, 0, 0, 0]


def test_several_classes_average_over_cases_and_foreground():
    labels, mask = random_batch(4, classes=4)
    scores = CaseScores(4, measure=True)
    scores.update_batch(labels, mask, torch.tensor([3, 1, 0, 2]))
    index, counts = scores.counts()
    assert index.tolist() == [0, 1, 2, 3]
    assert counts[3].tolist() == confusion_counts(labels[0].numpy(), mask[0].numpy(), 4).tolist()
    tp, fp, fn, _ = np.moveaxis(counts[:, 1:], -1, 0)
    assert scores.compute()["dice"] == pytest.approx((2 * tp / (2 * tp + fp + fn)).mean())
    assert scores.gathered().measured.shape == (4, 3, 16)


def test_reset_copy_and_pickle():
    labels, mask = random_batch(2)
    scores = CaseScores(2)
    scores.update_batch(labels, mask, torch.arange(2))
    expected = scores.compute()
    for copied in (copy.deepcopy(scores), pickle.loads(pickle.dumps(scores)), scores.clone()):
        assert copied.compute() == expected
    scores.reset()
    assert scores.counts()[1].shape == (0, 2, 4)
    scores.update_batch(labels.flip(0), mask.flip(0), torch.tensor([1, 0]))
    assert scores.compute() == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_batch_gives_the_same_counts():
    labels, mask = random_batch(5, classes=3)
    host, device = CaseScores(3), CaseScores(3).cuda()
    host.update_batch(labels, mask, torch.arange(5))
    device.update_batch(labels.cuda(), mask.cuda(), torch.arange(5).cuda())
    assert device.compute() == host.compute()
    assert device.gathered().diagonals.tolist() == host.gathered().diagonals.tolist()


def test_mistakes_are_named():
    labels, mask = random_batch(2)
    scores = CaseScores(2)
    with pytest.raises(ScoreError, match="no case was recorded"), pytest.warns(UserWarning, match="before the"):
        scores.compute()
    with pytest.raises(ScoreError, match=r"batch of \(2, 16, 16\) predictions, \(2, 16, 16\) masks and 3 indices"):
        scores.update_batch(labels, mask, torch.arange(3))
    with pytest.raises(ScoreError, match="whole-number labels"):
        scores.update_batch(labels.float(), mask, torch.arange(2))
    with pytest.raises(ScoreError, match=r"truth has \d+ pixel\(s\) with a label above 1"):
        scores.update(labels[0], mask[0] * 7, index=0)
    scores.update_batch(labels, mask, torch.arange(2))
    assert scores.gathered().columns() is None
    with pytest.raises(ScoreError, match="2 maps of probabilities for 1 foreground classes"):
        CaseScores(2, measure=True).update(labels[0], mask[0], index=0, probabilities=np.ones((2, 16, 16)))
    with pytest.raises(ScoreError, match=r"probability has values nan"):
        CaseScores(2, measure=True).update(labels[0], mask[0], index=0, probabilities=np.full((1, 16, 16), np.nan))
    with pytest.raises(ScoreError, match="num_classes=1; give at least 2"):
        CaseScores(1)
