"""Averaging runs: which may be averaged, what the mean is, and how far members disagree."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes import listed_cases
from medseg.data.splits import Split, kfold
from medseg.errors import RunError
from medseg.evaluation.ensemble import Member, averaged, check_members, pairwise_dice, validation_weight
from medseg.evaluation.ensemble_record import common_config, common_split, ensemble_record
from medseg.evaluation.gains import Judge
from medseg.evaluation.postprocess.contract import labels_of
from medseg.evaluation.probabilities import Predicted
from medseg.selection import check_side

CASES = listed_cases([2] * 12)


def a_split(train: str = "abcd", val: str = "ef", test: str = "gh", *, leaky: bool = False) -> Split:
    return Split("s", 0, leaky, {"train": tuple(train), "val": tuple(val), "test": tuple(test)})


def a_card(**changes: Any) -> dict[str, Any]:
    card = {"name": "phantom", "digest": "d" * 64, "classes": ["background", "nodule"], "synthetic": True, "unit": "px"}
    return {**card, **changes}


def member(key: str, split: Split | None = None, **changes: Any) -> Member:
    split, number = split or a_split(), int(key)
    record = {
        "name": f"unet-{key}",
        "key": key,
        "seed": number,
        "study": "s",
        "panel": None,
        "preset": None,
        "sweep": None,
        "choices": {"net": "unet", "data": "phantom", "seed": key},
        "data": a_card(),
        "split": {"name": split.name, "hash": split.hash, "leaky": split.leaky, "seed": 0},
        "model": {"parameters": 10, "trainable_parameters": 10, "gflops": 1.0, "interactive": False},
        "cost": {"fit_seconds": 3.0, "total_seconds": 4.0, "ms_per_image": 2.0, "peak_memory_mb": 100.0 + number},
        "selection": {"side": "val", "monitor": "val/dice", "checkpoint": "best", "rule": "the best epoch"},
    }
    return Member(Path(f"runs/{key}"), {**record, **changes}, split)


def prediction(number: int, foreground: np.ndarray, truth: np.ndarray | None = None) -> Predicted:
    probabilities = np.stack([1 - foreground, foreground]).astype(np.float32)
    truth = np.zeros(foreground.shape, np.uint8) if truth is None else truth
    return Predicted(number, CASES[number], probabilities, probabilities, truth, (1.0, 1.0))


def test_seeds_on_one_split_and_inner_folds_of_one_test_side_may_be_averaged() -> None:
    check_members([member("1"), member("2"), member("3")])
    check_members([member("1", a_split("abcd", "ef")), member("2", a_split("abef", "cd"))])


def test_folds_of_a_k_fold_are_refused_and_the_leak_is_named() -> None:
    folds = [kfold(CASES, seed=0, folds=3, fold=fold)[1] for fold in (0, 1)]
    with pytest.raises(RunError) as caught:
        check_members([member("1", folds[0]), member("2", folds[1])])
    message = str(caught.value)
    assert "\n" not in message
    judged = set(folds[0].sides["test"])
    assert f"runs/2 has learnt from {len(judged)} of the {len(judged)} test cases of runs/1" in message
    assert f"({', '.join(sorted(judged)[:3])} and {len(judged) - 3} more)" in message


def test_a_case_that_only_chose_is_a_leak_too() -> None:
    with pytest.raises(RunError, match=r"runs/2 has learnt from 1 of the 2 test cases of runs/1 \(g\)"):
        check_members([member("1"), member("2", a_split("abcd", "eg", "fh"))])


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([], "at least two runs, 1 given"),
        ([member("1")], r"runs/1 is runs/1 once more \(key 1\)"),
        ([member("2", data=a_card(digest="e" * 64))], "other files of data=phantom"),
        ([member("2", data=a_card(classes=["background", "cyst"]))], "background, cyst"),
        ([member("2", a_split(test="g"))], "tested on 1 cases, runs/1 on 2"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(others: list[Member], message: str) -> None:
    with pytest.raises(RunError, match=message):
        check_members([member("1"), *others])


def test_the_mean_is_of_probabilities_with_the_weights() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((3, 2, 5, 4)).astype(np.float32)  # members, cases
    streams = [[prediction(n, one) for n, one in enumerate(member)] for member in maps]
    found = list(averaged(streams, weights=[1, 1, 2]))
    assert len(found) == 2
    for number, one in enumerate(found):
        assert one.item.mean[1] == pytest.approx((maps[0, number] + maps[1, number] + 2 * maps[2, number]) / 4)
        assert [labels.tolist() for labels in one.labels] == [(m[number] > 0.5).astype(int).tolist() for m in maps]
        assert one.item.case == CASES[number]


def test_an_ensemble_of_one_prediction_thrice_is_that_prediction() -> None:
    maps = np.random.default_rng(1).random((6, 6)).astype(np.float32)
    (one,) = averaged([[prediction(0, maps)]] * 3, weights=[1 / 3] * 3)
    assert (labels_of(one.item.mean) == (maps > 0.5)).all()
    assert pairwise_dice(one.labels, classes=2) == [1.0]


def test_members_that_see_other_cases_or_sizes_are_refused() -> None:
    here = np.zeros((4, 4), np.float32)
    with pytest.raises(RunError, match=r"case 'p000_0'.* meets 'p000_1'"):
        list(averaged([[prediction(0, here)], [prediction(1, here)]], weights=[1, 1]))
    with pytest.raises(RunError, match=r"\(2, 4, 4\) meets 'p000_0' \(2, 4, 5\)"):
        list(averaged([[prediction(0, here)], [prediction(0, np.zeros((4, 5), np.float32))]], weights=[1, 1]))


def test_disagreement_is_the_mean_dice_over_pairs() -> None:
    first, second, third = (np.zeros((1, 8), np.uint8) for _ in range(3))
    first[0, :4] = 1
    second[0, 2:6] = 1
    third[0, 4:] = 1
    # 1-2: 2*2/8, 1-3: 0, 2-3: 2*2/8; class 2 is empty everywhere.
    assert pairwise_dice([first, second, third], classes=3) == pytest.approx([(0.5 + 0 + 0.5) / 3, 1.0])
    assert pairwise_dice([first, np.zeros_like(first)], classes=2) == [0.0]


def test_a_weight_is_the_mean_over_validation_patients() -> None:
    truth = np.zeros((4, 4), np.uint8)
    truth[:2] = 1
    right, wrong = truth.astype(np.float32), 1 - truth.astype(np.float32)
    # Patient 0 has two pictures, one of them wrong; patient 1 has one, right.
    items = [prediction(0, right, truth), prediction(1, wrong, truth), prediction(2, right, truth)]
    assert validation_weight(items, judge=Judge(), source="a run") == pytest.approx(0.75)
    for none in ([], [prediction(0, wrong, truth)]):
        with pytest.raises(RunError, match="a run: mean dice on the validation side is .* weights=equal"):
            validation_weight(none, judge=Judge(), source="a run")


def test_the_record_of_an_ensemble_reads_like_a_run_and_names_its_members() -> None:
    members = [member("1"), member("2", sweep="x")]
    split = common_split(members)
    assert split == members[0].split
    record = ensemble_record(members, [0.4, 0.6], name="both", key="k", split=split, scheme="equal")
    assert record["choices"] == {"net": "unet ensemble of 2", "data": "phantom"}  # the seed is not theirs in common
    assert (record["study"], record["sweep"]) == ("s", None)
    assert record["model"]["parameters"] == 20
    assert record["cost"]["ms_per_image"] == 4.0
    assert record["cost"]["peak_memory_mb"] == 102.0
    assert [(one["key"], one["weight"]) for one in record["ensemble"]["members"]] == [("1", 0.4), ("2", 0.6)]
    assert record["data"]["cases"] == {"train": 4, "val": 2, "test": 2}
    assert check_side(record, split, "test", allow=False) == ()


def test_of_different_splits_everything_that_a_member_saw_was_seen() -> None:
    members = [member("1", a_split("abcd", "ef")), member("2", a_split("abef", "cd", leaky=True))]
    split = common_split(members)
    assert split.sides == {"train": tuple("abcdef"), "val": (), "test": ("g", "h")}
    assert split.leaky
    record = ensemble_record(members, [0.5, 0.5], name="n", key="k", split=split, scheme="validation")
    assert record["split"]["leaky"]
    assert "weights by the mean score" in record["selection"]["rule"]


def test_one_member_that_was_chosen_on_test_marks_the_whole() -> None:
    spoilt = {"side": "test", "monitor": "test/dice", "checkpoint": "best", "rule": "the best test epoch"}
    members = [member("1"), replace(member("2"), record={**member("2").record, "selection": spoilt})]
    for scheme in ("equal", "validation"):
        record = ensemble_record(members, [0.5, 0.5], name="n", key="k", split=a_split(), scheme=scheme)
        assert record["selection"]["side"] == "test"


def test_the_config_of_an_ensemble_is_what_its_members_share() -> None:
    first = {"seed": 0, "net": {"widths": [4, 8], "dropout": 0.1}, "loss": {"_target_": "a"}, "name": None, "only": 1}
    second = {"seed": 1, "net": {"widths": [4, 8], "dropout": 0.2}, "loss": {"_target_": "a"}, "name": None}
    assert common_config([first, second, second]) == {
        "net": {"widths": [4, 8]},
        "loss": {"_target_": "a"},
        "name": None,
    }
    assert first["seed"] == 0
