"""Classes that a case does not annotate: undefined in its rows, counted, and in no mean."""

import numpy as np
import pytest
import torch

from medseg import scores
from medseg.evaluation.gains import Judge
from medseg.metrics.case import measure_case, only_annotated
from medseg.metrics.epoch import CaseScores
from medseg.metrics.overlap import confusion_counts
from medseg.stats.aggregate import headline
from medseg.stats.table import score_rows

ALL, FIRST, SECOND = (True, True, True), (True, True, False), (True, False, True)


def pair(seed: int, annotated: tuple[bool, ...] = ALL, size: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Return labels that are mostly right and a truth without the classes that are not annotated."""
    draw = np.random.default_rng(seed)
    whole = draw.integers(0, 3, (size, size)).astype(np.uint8)
    labels = np.where(draw.random(whole.shape) < 0.7, whole, draw.integers(0, 3, whole.shape)).astype(np.uint8)
    return labels, np.where(np.array(annotated)[whole], whole, 0).astype(np.uint8)


def dice(labels: np.ndarray, truth: np.ndarray, label: int) -> float:
    one, other = labels == label, truth == label
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_a_class_that_is_not_annotated_has_no_counts_and_no_measure() -> None:
    labels, truth = pair(0, FIRST)
    probabilities = np.stack([labels == 1, labels == 2]).astype(np.float32)
    found = measure_case(labels, truth, num_classes=3, probabilities=probabilities, annotated=FIRST)
    plain = measure_case(labels, truth, num_classes=3, probabilities=probabilities)
    lesions = [scores.MEASURED.index(name) for name in scores.LESIONS]
    others = [place for place in range(len(scores.MEASURED)) if place not in lesions]
    assert (found.counts[[0, 2]] == 0).all() and (found.counts[1] == plain.counts[1]).all()
    assert np.isnan(found.measured[1, others]).all() and (found.measured[1, lesions] == 0).all()
    assert np.array_equal(found.measured[0], plain.measured[0], equal_nan=True)
    assert np.isnan(found.reliability[1]).all() and np.array_equal(found.reliability[0], plain.reliability[0])


def test_what_is_found_of_other_classes_counts_as_not_this_class() -> None:
    truth = np.zeros((4, 4), np.uint8)
    truth[0, :2] = 1
    labels = np.full((4, 4), 2, np.uint8)
    labels[0, 0] = 1
    assert measure_case(labels, truth, num_classes=3, annotated=FIRST).counts[1].tolist() == [1, 0, 1, 14]


def test_counts_of_cases_that_annotate_everything_stay() -> None:
    counts = confusion_counts(*pair(1), 3)
    assert np.array_equal(only_annotated(counts, np.array(ALL)), counts)
    both = np.stack([counts, counts])
    kept = only_annotated(both, np.array([ALL, SECOND]))
    assert np.array_equal(kept[0], counts) and np.array_equal(kept[1, 2], counts[2]) and (kept[1, :2] == 0).all()
    assert torch.equal(only_annotated(torch.from_numpy(both), torch.tensor([ALL, SECOND])), torch.from_numpy(kept))
    assert np.array_equal(both[1], counts)  # nothing was written into it


@pytest.mark.parametrize("native", [False, True])
def test_live_scores_leave_out_what_is_not_annotated(native: bool) -> None:
    kinds = [ALL, FIRST, SECOND, FIRST]
    pairs = [pair(seed, kind) for seed, kind in enumerate(kinds)]
    record = CaseScores(3, measure=native)
    labels, truths = (torch.from_numpy(np.stack(part)) for part in zip(*pairs, strict=True))
    record.update_batch(labels[:3], truths[:3], torch.arange(3), torch.tensor(kinds[:3]))
    record.update(*pairs[3], index=3, annotated=kinds[3])
    found = record.compute()
    known = [dice(*each, label) for each, kind in zip(pairs, kinds, strict=True) for label in (1, 2) if kind[label]]
    assert len(known) == 5
    assert found["dice"] == pytest.approx(np.mean(known))
    assert (found["n"], found["n_undefined"], found["n_left_out_dice"]) == (4, 3, 3)


def test_pooled_scores_take_each_class_where_it_is_annotated() -> None:
    kinds = [ALL, FIRST, FIRST]
    pairs = [pair(seed, kind, size=8 + 2 * seed) for seed, kind in enumerate(kinds)]
    record = CaseScores(3)
    for index, (each, kind) in enumerate(zip(pairs, kinds, strict=True)):
        record.update(*each, index=index, annotated=kind)
    found = record.compute()
    one, two, three = (confusion_counts(*each, 3) for each in pairs)

    def iou(counts: np.ndarray) -> float:
        return counts[0] / counts[:3].sum()

    assert found["n_iou"] == pytest.approx((iou(one[1] + two[1] + three[1]) + iou(one[2])) / 2)
    assert found["b_iou"] == pytest.approx(iou(one[0]))
    assert found["pa"] == pytest.approx((pairs[0][0] == pairs[0][1]).mean())
    assert found["n_absent_classes"] == 0
    recall = [counts[0] / (counts[0] + counts[2]) for counts in (one[1] + two[1] + three[1], one[2])]
    assert found["pooled_recall"] == pytest.approx(np.mean(recall))


def test_without_a_whole_case_the_background_is_unknown_and_the_classes_are_not() -> None:
    record = CaseScores(3)
    for index, kind in enumerate((FIRST, SECOND)):
        record.update(*pair(index, kind), index=index, annotated=kind)
    found = record.compute()
    assert np.isnan([found["b_iou"], found["pa"], found["f1"]]).all()
    assert found["miou"] == found["n_iou"] > 0.3
    assert found["n_absent_classes"] == 1


def test_all_annotated_is_the_same_as_nothing_said() -> None:
    pairs = [pair(seed) for seed in range(3)]
    plain, said = CaseScores(3), CaseScores(3)
    for index, each in enumerate(pairs):
        plain.update(*each, index=index)
        said.update(*each, index=index, annotated=ALL)
    assert plain.compute() == said.compute()
    assert plain.counts()[1].tobytes() == said.counts()[1].tobytes()


def test_the_table_accepts_undefined_rows_and_its_means_leave_them_out() -> None:
    kinds = [FIRST, SECOND]
    pairs = [pair(seed, kind) for seed, kind in enumerate(kinds)]
    record = CaseScores(3, measure=True)
    for index, (each, kind) in enumerate(zip(pairs, kinds, strict=True)):
        record.update(*each, index=index, annotated=kind)
    rows = record.gathered()
    table = score_rows(
        rows.counts, rows.columns(), cases=[{"case": f"c{n}", "patient": f"p{n}", "domain": ""} for n in range(2)],
        diagonals=rows.diagonals, classes=["background", "gland", "nodule"], unit="px", split_side="test", leaky=False,
    )  # fmt: skip
    assert table["dice"].isna().tolist() == [False, True, True, False]
    found = headline(table)
    assert found["dice"] == pytest.approx((dice(*pairs[0], 1) + dice(*pairs[1], 2)) / 2)
    assert found["n_undefined"] == found["n_left_out_dice"] == found["n_left_out_hd_voxel"] == 2
    assert found["n_empty_reference"] == found["n_penalised"] == 0


def test_the_headline_pools_each_class_over_other_pixels() -> None:
    kinds = [FIRST, FIRST, SECOND]
    pairs = [pair(seed, kind) for seed, kind in enumerate(kinds)]
    counts = np.stack([
        only_annotated(confusion_counts(*each, 3), np.array(kind)) for each, kind in zip(pairs, kinds, strict=True)
    ])  # fmt: skip
    table = score_rows(
        counts, None, cases=[{"case": f"c{n}", "patient": f"p{n}", "domain": ""} for n in range(3)],
        diagonals=np.ones(3), classes=["background", "gland", "nodule"], unit="px", split_side="test", leaky=False,
    )  # fmt: skip
    summed = counts.sum(0)
    expected = [summed[label, 0] / summed[label, :3].sum() for label in (1, 2)]
    found = headline(table)
    assert found["n_iou"] == pytest.approx(np.mean(expected))
    assert found["dice"] == pytest.approx(scores.mean_of_defined(table["dice"]))


def test_gains_are_of_what_is_annotated() -> None:
    labels, truth = pair(0, SECOND)
    judge = Judge()
    assert judge.value(labels, truth, classes=3, annotated=SECOND) == pytest.approx(dice(labels, truth, 2))
    assert judge.value(labels, truth, classes=3) == pytest.approx(dice(labels, truth, 2) / 2)  # class 1 at 0
    assert judge.value(labels, truth, classes=3, annotated=ALL) == judge.value(labels, truth, classes=3)
