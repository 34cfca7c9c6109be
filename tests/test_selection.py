"""What chose a run's weights is written down, and nobody reports on it unawares."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from medseg.data.splits import Split, read_split
from medseg.errors import DataError, RunError
from medseg.selection import ROLES, SELECTION_SIDE, TRAINING_SIDE, check_side, selection_of

BEST = {"_target_": "ModelCheckpoint", "filename": "best", "monitor": "val/dice", "mode": "max"}
LAST = {"_target_": "ModelCheckpoint", "filename": "last"}
STOP = {"_target_": "EarlyStopping", "monitor": "val/dice", "mode": "max"}
FITTED = {"_target_": "medseg.training.fitted.FittedModule"}
SPLIT = Split("ratio", 0, False, {"train": ("a", "b"), "val": ("c",), "test": ("d", "e")})
HASH_WITHOUT_ROLES = "9a829d12a061d46ce7cdc5cc4533022918f8c96127fa02f9d1a989b82cc8cbfd"
"""Of SPLIT, by the version that wrote no roles."""
PATIENTS = {"a": "p1", "b": "p2", "c": "p3", "d": "p4", "e": "p5"}
CHOSEN = {"name": "unet", "selection": {"side": "val", "rule": "the epoch with the highest val/dice"}}


def a_config(**changes: Any) -> dict[str, Any]:
    default = {"callbacks": {"best": BEST, "last": LAST, "early_stopping": STOP, "progress": None}, "scheduler": {}}
    return {**default, "trainer": {"max_epochs": 40}, "method": {"_target_": "Module"}, "net": {}, **changes}


class Tuned:
    candidates: ClassVar[dict[str, list[float]]] = {"sigma": [1.0, 2.0]}

    def tune(self) -> None: ...


class Untuned(Tuned):
    candidates: ClassVar[dict[str, list[float]]] = {}


def test_the_best_epoch_is_chosen_by_the_validation_side() -> None:
    found = selection_of(a_config())
    assert (found["side"], found["monitor"], found["checkpoint"]) == ("val", "val/dice", "best")
    assert found["rule"] == "the epoch with the highest val/dice; early stopping on val/dice"


@pytest.mark.parametrize(
    ("changes", "side", "checkpoint"),
    [
        ({"callbacks": {"last": LAST, "best": None, "early_stopping": None}}, "none", "last"),
        ({"callbacks": {"last": LAST, "early_stopping": STOP}}, "val", "last"),
        ({"callbacks": {"last": LAST}, "scheduler": {"monitor": "val/loss"}}, "val", "last"),
        ({"callbacks": {"best": {**BEST, "monitor": "train/loss", "mode": "min"}}}, "train", "best"),
        ({"callbacks": {"best": BEST, "peek": {**STOP, "monitor": "test/dice"}}}, "test", "best"),
        ({"trainer": {"max_epochs": 1}}, "none", "last"),
        ({"trainer": {"max_epochs": 1}, "method": FITTED, "net": {"candidates": {"sigma": [1, 2]}}}, "val", "last"),
        ({"trainer": {"max_epochs": 1}, "method": FITTED, "net": {"candidates": {}}}, "none", "last"),
        ({"trainer": {"max_epochs": 1}, "net": {"candidates": {"sigma": [1, 2]}}}, "none", "last"),
        ({"callbacks": {"best": {**BEST, "monitor": "dice"}}}, "val", "best"),
    ],
)
def test_what_chose_is_read_from_the_config(changes: dict[str, Any], side: str, checkpoint: str) -> None:
    found = selection_of(a_config(**changes))
    assert (found["side"], found["checkpoint"]) == (side, checkpoint)
    assert bool(found["monitor"]) == (side != "none")


def test_a_network_is_asked_for_its_candidates_and_an_empty_side_chooses_nothing() -> None:
    config = a_config(trainer={"max_epochs": 1}, method=FITTED)
    assert selection_of(config, Tuned())["side"] == "val"
    assert selection_of(config, Untuned())["side"] == "none"
    assert selection_of(config, object())["side"] == "none"
    empty = Split("s", 0, False, {"train": ("a",), "val": (), "test": ("d",)})
    assert selection_of(config, Tuned(), split=empty)["side"] == "none"


def test_the_default_config_selects_on_validation_and_callbacks_last_does_not(compose: Any) -> None:
    from omegaconf import OmegaConf

    for overrides, side in ((("folder=x",), "val"), (("folder=x", "callbacks=last"), "none")):
        cfg = compose("train", *overrides)
        plain = {name: OmegaConf.to_container(cfg[name], resolve=True) for name in ("callbacks", "scheduler")}
        found = selection_of({**plain, "trainer": {"max_epochs": 3}})
        assert found["side"] == side, overrides
        assert found["monitor"] == ("val/dice" if side == "val" else "")


def test_the_side_that_chose_is_refused_in_one_line_with_the_way_out_or_labelled() -> None:
    with pytest.raises(RunError, match="allow_selection_side=true") as refused:
        check_side(CHOSEN, SPLIT, "val", allow=False)
    assert "\n" not in str(refused.value)
    assert "unet: side=val chose" in str(refused.value)
    assert "the epoch with the highest val/dice" in str(refused.value)
    assert check_side(CHOSEN, SPLIT, "val", allow=True) == (SELECTION_SIDE,)


def test_the_test_side_is_free_and_the_training_side_says_what_it_is() -> None:
    assert check_side(CHOSEN, SPLIT, "test", allow=False, patients=PATIENTS) == ()
    assert check_side(CHOSEN, SPLIT, "train", allow=False, patients=PATIENTS) == (TRAINING_SIDE,)


def test_without_a_choice_validation_is_a_side_like_another() -> None:
    record = {"selection": {"side": "none", "rule": "the last weights"}}
    assert check_side(record, SPLIT, "val", allow=False) == ()


def test_a_run_from_before_the_guard_is_taken_to_have_chosen_on_validation() -> None:
    with pytest.raises(RunError, match="not recorded"):
        check_side({"name": "old"}, SPLIT, "val", allow=False)
    assert check_side({"name": "old"}, SPLIT, "test", allow=False) == ()


def test_a_run_that_chose_on_the_test_side_may_not_report_it() -> None:
    record = {"name": "peek", "selection": {"side": "test", "rule": "early stopping on test/dice"}}
    with pytest.raises(RunError, match="side=test chose"):
        check_side(record, SPLIT, "test", allow=False)


def test_shared_patients_or_cases_of_both_sides_are_refused_unless_declared() -> None:
    shared = {**PATIENTS, "e": "p3"}
    with pytest.raises(RunError, match="sides val and test share 1 patient.*'p3'.*divide by patient"):
        check_side(CHOSEN, SPLIT, "test", allow=False, patients=shared)
    assert check_side(CHOSEN, SPLIT, "test", allow=True, patients=shared) == (SELECTION_SIDE,)
    twice = Split("s", 0, False, {"train": ("a",), "val": ("c", "d"), "test": ("d", "e")})
    with pytest.raises(RunError, match="share 1 case.*'d'"):
        check_side(CHOSEN, twice, "test", allow=False)
    declared = Split("twins_leaky", 0, True, SPLIT.sides)
    assert check_side(CHOSEN, declared, "test", allow=False, patients=shared) == (SELECTION_SIDE,)
    assert check_side(CHOSEN, declared, "test", allow=False, patients=PATIENTS) == ()
    record = {"selection": {"side": "none", "rule": "the last weights"}}
    assert check_side(record, SPLIT, "test", allow=False, patients=shared) == ()


def test_the_record_keeps_the_labels_of_the_test_side_for_those_who_do_not_know_the_patients() -> None:
    leaky = Split("twins_leaky", 0, True, SPLIT.sides)
    assert selection_of(a_config(), split=SPLIT, patients=PATIENTS)["labels"] == []
    selection = selection_of(a_config(), split=leaky, patients={**PATIENTS, "e": "p3"})
    assert selection["labels"] == [SELECTION_SIDE]
    record = json.loads(json.dumps({"name": "x", "selection": selection}))
    assert check_side(record, leaky, "test", allow=False) == (SELECTION_SIDE,)


def test_roles_stand_in_the_split_file_and_change_no_hash(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    SPLIT.write(path)
    content = json.loads(path.read_text())
    assert content["roles"] == ROLES == {"train": "fit", "val": "select", "test": "report"}
    assert content["hash"] == HASH_WITHOUT_ROLES
    assert read_split(path) == SPLIT
    old = {name: value for name, value in content.items() if name != "roles"}
    path.write_text(json.dumps(old))
    assert read_split(path).hash == content["hash"]


def test_roles_cannot_be_exchanged_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    SPLIT.write(path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "roles": {**ROLES, "val": "report", "test": "select"}}))
    with pytest.raises(DataError, match="move cases, not roles"):
        read_split(path)
