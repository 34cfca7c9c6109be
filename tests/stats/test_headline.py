"""The headline of a run from its rows: hand-computed, and equal to what the live record of the epoch computes."""

import math

import numpy as np
import pandas as pd
import pytest

from medseg.errors import ScoreError
from medseg.metrics.epoch import CaseScores
from medseg.scores import DISTANCES, MEASURED, OVERLAPS
from medseg.stats.aggregate import case_interval, headline, patient_means, penalised_column, seed_mean
from medseg.stats.bootstrap import mean_interval
from medseg.stats.table import score_rows

inf, nan = math.inf, math.nan
PATIENTS = ("p1", "p1", "p1", "p2", "p3", "p3")
#         tp  fp  fn  tn
COUNTS = [[40, 0, 0, 60], [20, 20, 0, 60], [0, 0, 40, 60], [30, 10, 10, 50], [0, 0, 0, 100], [0, 5, 0, 95]]
HD95 = [0, 4, inf, 2, 0, inf]
MORE = {
    "nsd_voxel": [1, 0.5, 0, 0.75, 1, 0],
    "boundary_iou": [1, 0.4, 0, 0.6, 1, 0],
    "cldice": [1, 0.3, 0, 0.9, 1, 0],
    "reference_lesions": [1, 1, 2, 3, 0, 0],
    "prediction_lesions": [1, 2, 0, 2, 0, 1],
    "detected_lesions": [1, 1, 0, 2, 0, 0],
    "false_lesions": [0, 1, 0, 0, 0, 1],
    "split_lesions": [0, 0, 0, 0, 0, 0],
    "merged_lesions": [0, 0, 0, 0, 0, 0],
    "ece": [0.1, 0.2, 0.3, 0.1, 0.0, 0.2],
    "brier": [0.05, 0.1, 0.4, 0.1, 0.0, 0.05],
}


def table(counts=COUNTS, hd95=HD95, patients=PATIENTS, **more):
    foreground = np.array(counts)
    distances = np.array(hd95, dtype=float)[:, None]
    return score_rows(
        np.stack([foreground[:, ::-1], foreground], axis=1),
        dict.fromkeys(DISTANCES, distances) | {name: np.array(values)[:, None] for name, values in more.items()},
        cases=[{"case": f"c{n}", "patient": patient, "domain": ""} for n, patient in enumerate(patients)],
        diagonals=[14.0] * len(counts),
        classes=["background", "nodule"],
        unit="px",
        split_side="test",
        leaky=False,
    )


def test_hand_computed_headline():
    found = headline(table(**MORE))
    dice = [1, 2 / 3, 0, 0.75, 1, 0]
    expected = {
        "dice": sum(dice) / 6,
        "dice_without_both_empty": (sum(dice) - 1) / 5,
        "iou": (1 + 0.5 + 0 + 0.6 + 1 + 0) / 6,
        "sensitivity": (1 + 1 + 0 + 0.75) / 4,
        "specificity": (1 + 0.75 + 1 + 5 / 6 + 1 + 0.95) / 6,
        "precision": (1 + 0.5 + 0 + 0.75 + 0) / 5,
        "balanced_accuracy": ((1 + 1) / 2 + (1 + 0.75) / 2 + (0 + 1) / 2 + (0.75 + 5 / 6) / 2) / 4,
        "volumetric_similarity": (1 + (1 - 20 / 60) + 0 + 1 + 1 + 0) / 6,
        "patient_dice": (5 / 9 + 0.75 + 0.5) / 3,
        **dict.fromkeys(DISTANCES, (0 + 4 + 14 + 2 + 0 + 14) / 6),
        "hd95_directed_voxel_without_both_empty": (0 + 4 + 14 + 2 + 14) / 5,
        "hd95_directed_voxel_median_finite": 1,
        "nsd_voxel": 3.25 / 6,
        "nsd_voxel_without_both_empty": 2.25 / 5,
        "reference_lesions": 7 / 6,
        "lesion_f1_pooled": 2 * 4 / (2 * 4 + 3 + 2),
        "lesion_f1_per_case": (1 + 2 / 3 + 0 + 4 / 5 + 1 + 0) / 6,
        "missed_lesion_rate": 3 / 7,
        "false_lesions_per_case": 2 / 6,
        "ece": 0.15,
        "brier": 0.7 / 6,
        "n_left_out_dice": 0,
        "n_left_out_sensitivity": 2,
        "n_left_out_precision": 1,
        "n_left_out_balanced_accuracy": 2,
        "n_left_out_hd_voxel": 0,
        "n_left_out_ece": 0,
        "false_alarm_rate": 1 / 2,
        "miss_rate": 1 / 4,
        "n_iou": 90 / 175,
        "b_iou": 425 / 510,
        "miou": (90 / 175 + 425 / 510) / 2,
        "pa": 515 / 600,
        "f1": (180 / 265 + 850 / 935) / 2,
        "pooled_precision": 90 / 125,
        "pooled_recall": 90 / 140,
        "prevalence": 140 / 600,
        "pa_all_background": 460 / 600,
        "n": 6,
        "n_patients": 3,
        "n_empty_reference": 2,
        "n_empty_prediction": 2,
        "n_both_empty": 1,
        "n_undefined": 0,
        "n_penalised": 2,
        "n_absent_classes": 0,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    columns = (*OVERLAPS, *MEASURED)
    beside = {"dice", "iou", "volumetric_similarity", *DISTANCES, "nsd_voxel", "boundary_iou", "cldice"}
    named = {*expected, *columns, *(f"n_left_out_{name}" for name in columns)}
    assert set(found) == named | {f"{name}_without_both_empty" for name in beside}


def test_what_was_not_measured_is_said_and_not_guessed():
    found = headline(table())
    assert (found["n_left_out_ece"], found["n_left_out_cldice"], found["n_left_out_false_lesions"]) == (6, 6, 6)
    names = ("ece", "brier", "cldice", "lesion_f1_pooled", "lesion_f1_per_case", "missed_lesion_rate")
    assert np.isnan([found[name] for name in names]).all()


def test_pooled_lesion_f1_is_averaged_over_classes():
    """A class whose lesions are all found and one whose are all missed, ten times as many."""
    lesions = {"reference": [[1, 10]], "prediction": [[1, 0]], "detected": [[1, 0]], "false": [[0, 0]]}
    frame = score_rows(
        [[[80, 0, 0, 20], [10, 0, 0, 90], [0, 0, 10, 90]]],
        {f"{name}_lesions": values for name, values in lesions.items()},
        cases=[{"case": "c", "patient": "p", "domain": ""}],
        diagonals=[14.0], classes=["background", "one", "two"], unit="px", split_side="test", leaky=False,
    )  # fmt: skip
    found = headline(frame)
    assert (found["lesion_f1_pooled"], found["lesion_f1_per_case"]) == (0.5, 0.5)
    assert found["missed_lesion_rate"] == pytest.approx(10 / 11)


def test_predicting_background_everywhere_scores_its_share():
    counts = [[0, 0, 8, 92], [0, 0, 11, 89]]
    found = headline(table(counts, [inf, inf], ["a", "b"]))
    assert found["pa"] == found["pa_all_background"] == pytest.approx(181 / 200)
    assert found["n_iou"] == found["dice"] == 0
    assert found["hd95_directed_voxel"] == 14
    assert math.isnan(found["hd95_directed_voxel_median_finite"])


@pytest.mark.parametrize("classes", [2, 3])
def test_equals_the_live_record(classes):
    draw = np.random.default_rng(5)
    scores = CaseScores(classes, measure=True)
    for index in range(6):
        truth = draw.integers(0, classes, (13, 11), dtype=np.uint8) * (index != 2)
        prediction = np.where(draw.random(truth.shape) < 0.8, truth, 0) * (index != 4)
        scores.update(prediction.astype(np.uint8), truth.astype(np.uint8), index=index)
    rows = scores.gathered()
    frame = score_rows(
        rows.counts,
        rows.columns(),
        cases=[{"case": str(index), "patient": str(index // 2), "domain": ""} for index in rows.index],
        diagonals=rows.diagonals,
        tolerances=rows.tolerances,
        classes=["background", "nodule", "cyst"][:classes],
        unit="px",
        split_side="test",
        leaky=True,
    )
    live, found = scores.compute(), headline(frame)
    unknown = set() if classes == 2 else {"b_iou", "miou", "pa", "f1", "n_absent_classes"}
    for name, value in live.items():
        if name in unknown:
            assert math.isnan(found[name]), name
        else:
            assert found[name] == value, name  # the same bits: one arithmetic


def test_unlabelled_case_is_left_out_and_counted():
    found = headline(table([[10, 0, 0, 90], [0, 0, 0, 0]], [0, nan], ["a", "b"]))
    assert (found["dice"], found["n"], found["n_undefined"], found["miss_rate"]) == (1, 2, 1, 0)
    assert (found["hd_voxel"], found["n_left_out_hd_voxel"], found["n_left_out_dice"]) == (0, 1, 1)


def test_rows_of_two_runs_are_refused():
    frame = table()
    with pytest.raises(ScoreError, match="12 rows for 6 cases and 1 classes; give one run"):
        headline(pd.concat([frame, frame]))


def test_distances_are_penalised_by_row():
    assert penalised_column(table(), "hd95_directed_voxel").tolist() == [0, 4, 14, 2, 0, 14]


def test_seeds_are_averaged_within_the_case():
    first, second = table(), table(COUNTS[::-1], HD95[::-1])
    dice = seed_mean([first, second.sample(frac=1, random_state=0)], "dice")
    assert dice["case"].tolist() == [f"c{n}" for n in range(6)]
    assert dice["patient"].tolist() == list(PATIENTS)
    assert dice["value"].tolist() == pytest.approx([0.5, 5 / 6, 0.375, 0.375, 5 / 6, 0.5])
    assert seed_mean([first], "hd95_directed_voxel")["value"].tolist() == [0, 4, 14, 2, 0, 14]


def test_seeds_on_different_cases_are_refused():
    with pytest.raises(ScoreError, match="run 2 scored other cases than run 1"):
        seed_mean([table(), table(COUNTS[:5], HD95[:5], PATIENTS[:5])], "dice")


def test_the_interval_of_cases_averages_runs_joins_folds_and_leaves_out_what_is_undefined():
    draw = np.random.default_rng(0)
    rows = [(f"c{n}", f"p{n // 2}", value) for n, value in enumerate(draw.uniform(0.5, 0.9, 60))]
    first = pd.DataFrame(rows, columns=["case", "patient", "dice"])
    second = first.assign(dice=first["dice"] / 2)
    first.loc[3, "dice"] = nan
    other = first.assign(case="x" + first["case"], patient="x" + first["patient"], dice=first["dice"] / 4)
    found = case_interval([first, second.sample(frac=1, random_state=0)], [other], column="dice")
    values = pd.concat([first["dice"] * 0.75, first["dice"] / 4])
    expected = mean_interval(
        values.dropna().to_numpy(), pd.concat([first, other])[values.notna().to_numpy()]["patient"].to_numpy(), seed=0
    )
    assert (found.n_cases, found.n_patients) == (118, 60)
    assert [found.mean, found.low, found.high] == pytest.approx([expected.mean, expected.low, expected.high], abs=1e-12)
    with pytest.raises(ScoreError, match="run 2 scored other cases"):
        case_interval([first, other], column="dice")
    with pytest.raises(ScoreError, match="0"):
        case_interval([first.assign(dice=nan)], column="dice")


def test_patient_means_weigh_cases_equally_and_leave_out_the_undefined() -> None:
    rows = [("p0", "a", 0.2), ("p0", "a", 0.4), ("p0", "b", 0.9), ("p1", "c", nan), ("p1", "d", 0.5), ("p2", "e", nan)]
    found = patient_means(pd.DataFrame(rows, columns=["patient", "case", "dice"]), "dice")
    assert found.to_dict() == pytest.approx({"p0": 0.6, "p1": 0.5, "p2": nan}, nan_ok=True)
