"""What went wrong: each rule by a case made for it, one primary label each, nothing lost in the counts."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import ScoreError
from medseg.scores import overlap
from medseg.stats.taxonomy import LABELS, Rules, classify, failure_counts, worst_cases

LESIONS = ("reference_lesions", "prediction_lesions", "detected_lesions", "false_lesions", "split_lesions",
           "merged_lesions")  # fmt: skip
FOUND = (1, 1, 1, 0, 0, 0)


def a_row(tp: int, fp: int, fn: int, *, tn: int = 10_000, lesions: tuple[int, ...] = FOUND, **columns: Any) -> dict:
    values = overlap([tp, fp, fn, tn])
    names = ("dice", "sensitivity", "precision")
    return {
        "case": "c", "patient": "p", "class_index": 1, "class_name": "nodule",
        "reference_size": tp + fn, "prediction_size": tp + fp,
        **{name: float(getattr(values, name)) for name in names},
        "hd95_directed_voxel": np.inf if (tp + fn == 0) != (tp + fp == 0) else 2.0,
        "diagonal": 100.0, **dict(zip(LESIONS, lesions, strict=True)), **columns,
    }  # fmt: skip


def a_frame(*rows: dict) -> pd.DataFrame:
    named = [{**row, "case": f"c{i}"} if row["case"] == "c" else row for i, row in enumerate(rows)]
    return pd.DataFrame(named)


MADE = [
    ("correct", "correct", a_row(95, 5, 5)),
    ("correct", "correct", a_row(0, 0, 0, lesions=(0, 0, 0, 0, 0, 0), hd95_directed_voxel=0.0)),
    ("undefined", "undefined", a_row(0, 0, 0, tn=0, lesions=(0, 0, 0, 0, 0, 0), hd95_directed_voxel=0.0)),
    ("missed", "missed", a_row(0, 0, 100, lesions=(1, 0, 0, 0, 0, 0))),
    ("false alarm", "false alarm", a_row(0, 50, 0, lesions=(0, 1, 0, 1, 0, 0))),
    ("wrong place", "wrong place; false positive", a_row(0, 100, 100, lesions=(1, 1, 0, 1, 0, 0))),
    ("wrong place", "wrong place", a_row(9, 91, 91)),
    ("missed lesion", "missed lesion", a_row(90, 2, 10, lesions=(2, 1, 1, 0, 0, 0))),
    ("false positive", "false positive", a_row(95, 5, 5, lesions=(1, 2, 1, 1, 0, 0))),
    ("merged", "merged", a_row(95, 5, 5, lesions=(2, 1, 2, 0, 0, 1))),
    ("split", "split", a_row(95, 5, 5, lesions=(1, 2, 1, 0, 1, 0))),
    ("merged", "merged; split", a_row(95, 5, 5, lesions=(2, 2, 2, 0, 1, 1))),
    ("under-segmentation", "under-segmentation", a_row(79, 0, 21)),
    ("under-segmentation", "under-segmentation; boundary", a_row(40, 0, 60)),
    ("over-segmentation", "over-segmentation", a_row(100, 26, 0)),
    ("boundary", "boundary", a_row(79, 21, 21)),
    ("boundary", "boundary", a_row(95, 5, 5, hd95_directed_voxel=5.1)),
    ("correct", "correct", a_row(95, 5, 5, hd95_directed_voxel=5.0)),
    ("correct", "correct", a_row(80, 20, 20)),
    ("correct", "correct", a_row(95, 5, 5, hd95_directed_voxel=np.nan)),
]


@pytest.mark.parametrize(("label", "labels", "row"), MADE, ids=[f"{i}-{made[1]}" for i, made in enumerate(MADE)])
def test_every_rule_holds_where_it_should(label: str, labels: str, row: dict) -> None:
    (found,) = classify(a_frame(row)).to_dict("records")
    assert (found["label"], found["labels"]) == (label, labels)


def test_a_case_of_each_label_was_made() -> None:
    assert {label for label, _, _ in MADE} == set(LABELS)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.tuples(*[st.integers(0, 60)] * 4),
    lesions=st.tuples(*[st.integers(0, 3)] * 6),
    hd95=st.floats(0, 100),
)
def test_each_row_has_one_primary_label_which_is_the_first_of_all_that_hold(
    counts: tuple[int, ...], lesions: tuple[int, ...], hd95: float
) -> None:
    tp, fp, fn, tn = counts
    (found,) = classify(a_frame(a_row(tp, fp, fn, tn=tn, lesions=lesions, hd95_directed_voxel=hd95))).to_dict("records")
    labels = found["labels"].split("; ")
    assert found["label"] == labels[0]
    assert sorted(labels, key=LABELS.index) == labels
    assert len(set(labels)) == len(labels)
    ends = {"undefined", "missed", "false alarm", "correct"}
    assert len(labels) == 1 or not ends & set(labels), "nothing else can be said of what is not there"
    assert not {"under-segmentation", "over-segmentation"} <= set(labels)


def test_a_ratio_beyond_the_limits_keeps_dice_below_what_the_text_says() -> None:
    best = [2 * min(r, p) / (r + p) for r in range(1, 80) for p in range(1, 120) if p / r < 0.8 or p / r > 1.25]
    assert max(best) < 0.89


def test_the_counts_sum_to_the_rows_of_each_class() -> None:
    frame = a_frame(
        *(row for _, _, row in MADE), *({**row, "class_index": 2, "class_name": "cyst"} for _, _, row in MADE[:5])
    )
    counts = failure_counts(classify(frame))
    assert counts.groupby("class_name")["n"].sum().to_dict() == {"nodule": len(MADE), "cyst": 5}
    assert counts.groupby("class_name")["share"].sum().to_dict() == pytest.approx({"nodule": 1, "cyst": 1})
    nodule = counts[counts["class_name"] == "nodule"].set_index("label")
    for label in LABELS:
        assert nodule.at[label, "n"] == sum(made[0] == label for made in MADE)
        assert nodule.at[label, "n_any"] == sum(label in made[1].split("; ") for made in MADE)
        assert nodule.at[label, "share_any"] == pytest.approx(nodule.at[label, "n_any"] / len(MADE))
    assert nodule.at["boundary", "patients"] == 1


def test_the_worst_are_those_of_lowest_dice_then_of_largest_distance() -> None:
    frame = a_frame(
        a_row(95, 5, 5), a_row(0, 10, 10, hd95_directed_voxel=30.0), a_row(0, 0, 10, lesions=(1, 0, 0, 0, 0, 0)),
        a_row(0, 10, 10, hd95_directed_voxel=40.0), a_row(0, 0, 0, tn=0, hd95_directed_voxel=0.0), a_row(50, 50, 50),
    )  # fmt: skip
    size = pd.Series([f"Q{i}" for i in range(6)], index=frame.index)
    worst = worst_cases(frame, classify(frame), strata={"size": size}, count=4)
    assert worst["case"].tolist() == ["c2", "c3", "c1", "c5"]
    assert worst["by_size"].tolist() == ["Q2", "Q3", "Q1", "Q5"]
    assert worst["label"].tolist() == ["missed", "wrong place", "wrong place", "boundary"]
    assert np.isinf(worst["hd95_directed_voxel"][0])
    assert "c4" not in worst_cases(frame, classify(frame), count=100)["case"].tolist()


def test_other_thresholds_give_other_labels() -> None:
    frame = a_frame(a_row(95, 5, 5))
    assert classify(frame, Rules(dice=0.96))["label"].tolist() == ["boundary"]
    assert classify(frame, Rules(hd95=0.01))["label"].tolist() == ["boundary"]


@pytest.mark.parametrize("rule", [{"overlap": 0}, {"smaller": 1.2}, {"larger": 1.0}, {"dice": 1.0}, {"hd95": -1}])
def test_thresholds_without_meaning_are_refused(rule: dict[str, float]) -> None:
    with pytest.raises(ScoreError, match=f"taxonomy: {next(iter(rule))}="):
        Rules(**rule)


def test_what_was_not_measured_is_no_failure() -> None:
    row = a_row(95, 5, 5, hd95_directed_voxel=float("nan"), **dict.fromkeys(LESIONS, float("nan")))
    assert classify(a_frame(row))["labels"].tolist() == ["correct"]
