"""From score tables to methods x seeds x patients: what is averaged, and everything that is refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from medseg.errors import ScoreError
from medseg.stats.evidence import Evidence, Training, gather

COUNTS = (60, 20, 20, 3996)


def table(
    patients: int = 4, images: int = 2, *, first: int = 0, classes: tuple[str, ...] = ("nodule",)
) -> pd.DataFrame:
    """A score table of equal masks: patients ``p00`` and so on with some images each."""
    cases = [(f"p{patient:02d}_{image}", f"p{patient:02d}")
             for patient in range(first, first + patients) for image in range(images)]  # fmt: skip
    rows = [(case, patient, number, name) for case, patient in cases for number, name in enumerate(classes, start=1)]
    frame = pd.DataFrame(rows, columns=["case", "patient", "class_index", "class_name"])
    fixed = dict(zip(("tp", "fp", "fn", "tn"), COUNTS, strict=True))
    fixed |= {"domain": "", "split_side": "test", "leaky": 0, "diagonal": 90.0, "empty_reference": 0}
    fixed |= {"empty_prediction": 0, "dice": 0.75, "sensitivity": 0.75, "hd_voxel": 5.0, "ece": np.nan}
    return frame.assign(**fixed)


def training(method: str, seed: int = 0, scores: pd.DataFrame | None = None, **changes: object) -> Training:
    made = Training(
        name=f"runs/{method}-s{seed}",
        method=method,
        seed=seed,
        table=table() if scores is None else scores,
        data="phantom",
        digest="d" * 64,
        split="a" * 64,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def both(change: pd.DataFrame, **options: object) -> Evidence:
    """The evidence of two methods, of which the second has the changed table."""
    return gather([training("A"), training("B", scores=change)], **options)  # type: ignore[arg-type]


def test_a_patients_value_is_the_mean_over_cases_of_the_mean_over_classes() -> None:
    scores = table(3, 2, classes=("gland", "nodule"))
    rng = np.random.default_rng(0)
    scores["dice"] = rng.uniform(size=len(scores))
    scores = scores[scores["case"] != "p01_1"].reset_index(drop=True)
    found = gather([training("A", scores=scores), training("B", scores=scores.sample(frac=1, random_state=1))])
    by_hand = {}
    for patient in ("p00", "p01", "p02"):
        of_case = [
            np.mean([row.dice for row in scores.itertuples() if row.case == case])
            for case in sorted({row.case for row in scores.itertuples() if row.patient == patient})
        ]
        by_hand[patient] = np.mean(of_case)
    assert found.patients == ("p00", "p01", "p02")
    np.testing.assert_allclose(found.values[0, 0], list(by_hand.values()))
    np.testing.assert_allclose(found.values[1], found.values[0])  # the order of rows is of no account
    assert any("mean over the classes gland, nodule" in note for note in found.notes)


def test_one_class_may_count_alone() -> None:
    scores = table(2, 1, classes=("gland", "nodule"))
    scores.loc[scores["class_name"] == "gland", "dice"] = 0.1
    pair = [training("A", scores=scores), training("B", scores=scores)]
    assert gather(pair, class_name="nodule").values.tolist() == [[[0.75, 0.75]]] * 2
    with pytest.raises(ScoreError, match="class=vessel: runs/A-s0 has the classes gland, nodule"):
        gather(pair, class_name="vessel")


def test_distances_are_penalised_counted_and_lower_is_better() -> None:
    scores = table()
    scores.loc[0, "hd_voxel"] = np.inf
    scores.loc[0, "empty_prediction"] = 1
    found = both(scores, metric="hd_voxel")
    np.testing.assert_allclose(found.values[1, 0], [(90 + 5) / 2, 5, 5, 5])
    assert not found.higher_is_better
    np.testing.assert_allclose(found.signed, -found.values)
    assert any("diagonal; such rows per seed: A 0, B 1" in note for note in found.notes)
    assert any("Empty predictions per seed: A 0, B 1" in note for note in found.notes)


def test_k_folds_of_one_seed_are_one_test_of_every_patient() -> None:
    runs = [
        training(method, seed, table(2, 1, first=2 * fold).assign(dice=0.5 + 0.1 * fold), split=str(fold) * 64)
        for method in "AB" for seed in (1, 0) for fold in (1, 0, 2)
    ]  # fmt: skip
    found = gather(runs)
    assert found.patients == tuple(f"p{number:02d}" for number in range(6))
    assert found.folds.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.seeds == (0, 1)
    np.testing.assert_allclose(found.values, np.broadcast_to([0.5, 0.5, 0.6, 0.6, 0.7, 0.7], (2, 2, 6)))
    assert any(note.startswith("3 folds: ") and "differ" not in note for note in found.notes)


def test_a_missing_fold_is_refused_with_its_patients() -> None:
    runs = [training("A", 0, table(2, 1, first=2 * fold)) for fold in range(2)] + [training("B", 0, table(2, 1))]
    with pytest.raises(ScoreError, match=r"'A' seed 0 was tested on 4 patients, 'B' seed 0 on 2; 2 only for 'A' seed"):
        gather(runs)


def test_folds_must_not_share_patients() -> None:
    runs = [training("A", 0, table(2)), training("A", 0, table(2, first=1), name="runs/other"), training("B")]
    with pytest.raises(ScoreError, match="patient 'p01' is on the test side of runs/A-s0 and of runs/other"):
        gather(runs)


def test_folds_cut_in_another_way_are_refused() -> None:
    first = [training("A", 0, table(2)), training("A", 0, table(2, first=2))]
    second = [training("B", 0, table(1)), training("B", 0, table(3, first=1))]
    with pytest.raises(ScoreError, match="2 cases .* belong to another fold for 'B' seed 0"):
        gather(first + second)


def test_a_run_given_twice_is_refused() -> None:
    with pytest.raises(ScoreError, match="'A' with seed 0 is there twice: runs/A-s0 and runs/copy"):
        gather([training("A"), training("A", name="runs/copy"), training("B")])


def test_other_data_are_refused() -> None:
    with pytest.raises(ScoreError, match=r"different datasets: runs/A-s0 .*phantom \(dddddddd\), runs/B-s0 on phantom"):
        gather([training("A"), training("B", digest="e" * 64)])


def test_other_patients_are_refused_with_names_and_number() -> None:
    with pytest.raises(ScoreError, match=r"4 patients, 'B' seed 0 on 5; 1 only for 'B' seed 0 \('p04'\)"):
        both(table(5))


def test_other_cases_of_the_same_patients_are_refused() -> None:
    with pytest.raises(ScoreError, match=r"on 8 cases, 'B' seed 0 on 7; 1 only for 'A' seed 0 \('p00_0'\)"):
        both(table().iloc[1:].reset_index(drop=True))


def test_a_case_of_another_patient_is_refused() -> None:
    scores = table()
    scores.loc[0, "patient"] = "p01"
    with pytest.raises(ScoreError, match=r"1 cases \(first: 'p00_0'\) belong to another patient"):
        both(scores)


def test_unpaired_seeds_are_refused_or_left_out_with_a_note() -> None:
    runs = [training("A", seed) for seed in (0, 1, 2)] + [training("B", seed) for seed in (1, 2, 3)]
    with pytest.raises(ScoreError, match="'A' lacks 3; 'B' lacks 0; .*seeds=common"):
        gather(runs)
    found = gather(runs, seeds="common")
    assert found.seeds == (1, 2)
    assert found.values.shape == (2, 2, 4)
    assert any("Left out: seeds 0, 3 (2 runs)" in note for note in found.notes)
    with pytest.raises(ScoreError, match="no seed that all methods have"):
        gather([training("A", 0), training("B", 1)], seeds="common")


def test_a_nan_that_no_policy_explains_is_refused_by_run_case_and_metric() -> None:
    scores = table()
    scores.loc[3, "dice"] = np.nan
    with pytest.raises(ScoreError, match=r"runs/B-s0, case 'p01_1', class 'nodule': dice is nan .*1 such rows"):
        both(scores)


def test_an_infinite_score_is_refused() -> None:
    scores = table()
    scores.loc[3, "dice"] = np.inf
    with pytest.raises(ScoreError, match="case 'p01_1', class 'nodule': dice is inf"):
        both(scores)


def test_a_metric_that_was_not_measured_is_refused() -> None:
    with pytest.raises(ScoreError, match="runs/A-s0: 'ece' was not measured"):
        both(table(), metric="ece")


def test_rows_undefined_by_policy_are_left_out_for_all_methods_alike() -> None:
    scores = table()
    scores.loc[0, ["tp", "fn", "sensitivity"]] = [0, 0, np.nan]  # no reference: nothing to be sensitive to
    good = table().assign(sensitivity=np.linspace(0, 1, 8))
    found = gather([training("A", scores=good), training("B", scores=scores)], metric="sensitivity")
    np.testing.assert_allclose(found.values[0, 0, 0], 1 / 7)  # of p00 its second case alone, for A too
    (note,) = [note for note in found.notes if note.startswith("Left out for all methods")]
    assert note.endswith("1 of 8 rows, 1 of 8 cases, 0 of 4 patients.")


def test_a_patient_without_any_defined_row_is_left_out_and_counted() -> None:
    scores = table()
    scores.loc[scores["patient"] == "p02", ["tp", "fn", "sensitivity"]] = [0, 0, np.nan]
    found = both(scores, metric="sensitivity")
    assert found.patients == ("p00", "p01", "p03")
    assert any("1 of 4 patients" in note for note in found.notes)


def test_a_metric_undefined_everywhere_is_refused() -> None:
    scores = table().assign(tp=0, fn=0, sensitivity=np.nan)
    with pytest.raises(ScoreError, match="undefined in every case"):
        both(scores, metric="sensitivity")


def test_scores_of_the_selecting_side_need_an_explicit_yes_and_are_labelled() -> None:
    runs = [training(method, scores=table().assign(split_side="val")) for method in "AB"]
    with pytest.raises(ScoreError, match="runs/A-s0: scores of the val side.*allow_selection_side=true"):
        gather(runs)
    assert "SELECTION SIDE" in gather(runs, allow_selection_side=True).flags
    with pytest.raises(ScoreError, match="different sides"):
        gather([runs[0], training("C")], allow_selection_side=True)


def test_flags_say_what_no_table_may_leave_out() -> None:
    runs = [training(method, seed, leaky=True, synthetic=True) for method in "AB" for seed in (0, 1)]
    assert gather(runs).flags == ["SYNTHETIC", "LEAKY SPLIT"]
    assert gather([training("A"), training("B")]).flags == ["ONE SEED"]


@pytest.mark.parametrize("names", [[], ["A"], ["A", "A"]])
def test_one_method_is_nothing_to_compare(names: list[str]) -> None:
    with pytest.raises(ScoreError, match="nothing to compare"):
        gather([training(name, seed) for seed, name in enumerate(names)])


def test_unknown_metrics_list_the_known_ones() -> None:
    with pytest.raises(ScoreError, match=r"metric=f1: .*dice, iou, .*hd95_directed_voxel"):
        both(table(), metric="f1")


@pytest.mark.parametrize(("smallest", "kept"), [(5, True), (4, False)])
def test_centres_are_strata_if_they_are_large_enough(smallest: int, kept: bool) -> None:
    scores = table(12, 1)
    scores["domain"] = ["east"] * smallest + ["west"] * (12 - smallest)
    found = gather([training("A", scores=scores), training("B", scores=scores)])
    assert len(set(found.strata.tolist())) == (2 if kept else 1)
    assert any("centres" in note for note in found.notes)


def test_other_training_sides_are_said() -> None:
    found = gather([training("A"), training("B", split="b" * 64)])
    assert any("Training sides differ" in note for note in found.notes)
