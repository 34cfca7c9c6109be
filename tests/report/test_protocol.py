"""When two numbers may stand side by side, and what a run's record says of its own protocol."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_folders import tn3k_record as record
from medseg.report.protocol import MIXED, TAGS, UNKNOWN, Protocol, agreement, protocol_of

KNOWN = Protocol(
    dataset="tn3k",
    cases="3493",
    split="official",
    patient_grouped="yes",
    resolution="256x256",
    metric_definition="per-image mean",
    averaging="foreground",
    selection_rule="validation",
    tta="no",
    prompts="none",
    extra_data="none",
)


def test_equal_protocols_agree_and_nothing_is_said_against_them() -> None:
    assert agreement(KNOWN, KNOWN) == (True, ())


@pytest.mark.parametrize("tag", [tag for tag in TAGS if tag != "patient_grouped"])
def test_one_tag_that_differs_is_enough_and_is_named(tag: str) -> None:
    same, reasons = agreement(KNOWN, replace(KNOWN, **{tag: "something else"}))
    assert not same
    assert len(reasons) == 1
    assert "something else" in reasons[0]
    assert getattr(KNOWN, tag) in reasons[0]


@given(st.sampled_from([tag for tag in TAGS if tag != "patient_grouped"]), st.booleans(), st.booleans())
def test_an_unknown_tag_never_agrees_not_even_with_an_unknown_one(tag: str, ours: bool, theirs: bool) -> None:
    unknown = replace(KNOWN, **{tag: UNKNOWN})
    same, reasons = agreement(unknown if ours else KNOWN, unknown if theirs else KNOWN)
    assert same == (not ours and not theirs)
    assert len(reasons) == int(ours or theirs)


def test_all_that_is_unknown_stands_in_one_reason() -> None:
    same, reasons = agreement(KNOWN, Protocol(dataset="tn3k"))
    assert not same
    assert len(reasons) == 1
    assert reasons[0].startswith("not stated there: number of cases, split, split by patient, resolution")


def test_on_the_same_official_sides_nobody_asks_whether_they_are_by_patient() -> None:
    assert agreement(KNOWN, replace(KNOWN, patient_grouped=UNKNOWN)) == (True, ())
    other = replace(KNOWN, split="5-fold", patient_grouped="no")
    assert agreement(replace(other, patient_grouped="yes"), other)[1] == ("split by patient: no, ours yes",)


def test_two_random_draws_have_other_test_cases() -> None:
    drawn = replace(KNOWN, split="random")
    assert agreement(drawn, drawn)[1] == ("split: both drawn at random, so other test cases",)


def test_every_tag_is_read_from_the_record() -> None:
    assert protocol_of([record()]) == KNOWN


@pytest.mark.parametrize(
    ("changes", "tag", "value"),
    [
        ({"split__name": "ratio"}, "split", "random"),
        ({"split__name": "kfold0of5"}, "split", "1 of 5 folds"),
        ({"split__name": "manifest_fold2"}, "split", "published lists, fold 2"),
        ({"split__leaky": True}, "patient_grouped", "no"),
        ({"data__patients": {"train": 2447, "val": 432, "test": 614}}, "patient_grouped", UNKNOWN),
        ({"data__classes": ["background", "a", "b"]}, "averaging", "mean over foreground classes"),
        ({"config__data__card": {"spatial_dims": 3}}, "metric_definition", "per-volume mean"),
        ({"config__data__preprocess": {"size": 128}}, "resolution", "128x128"),
        ({"config__data__preprocess": {}}, "resolution", UNKNOWN),
        ({"selection": {"side": "none", "rule": "last"}}, "selection_rule", "last"),
        ({"selection": {"side": "test", "rule": "x"}}, "selection_rule", "best on test"),
        ({"model": {"interactive": True, "interaction": "four marks"}}, "prompts", "four marks"),
        ({"model": {"interactive": True}}, "prompts", "marks"),
        ({"model": {}}, "prompts", UNKNOWN),
        ({"config__transfer": {"weights": "a/weights.pt"}}, "extra_data", "weights from a file"),
        ({"config__net": {"encoder_weights": "imagenet"}}, "extra_data", "ImageNet weights"),
        ({"config": None}, "extra_data", UNKNOWN),
        ({"config": None}, "metric_definition", UNKNOWN),
        ({"tta": ["flip"]}, "tta", "yes"),
    ],
)
def test_a_tag_follows_the_run(changes: dict[str, Any], tag: str, value: str) -> None:
    assert getattr(protocol_of([record(**changes)]), tag) == value


def test_without_a_recorded_selection_the_callbacks_say_it() -> None:
    callbacks = {"best": {"monitor": "val/dice", "mode": "max", "filename": "best"}}
    assert protocol_of([record(selection=None, config__callbacks=callbacks)]).selection_rule == "validation"
    assert protocol_of([record(selection=None)]).selection_rule == UNKNOWN


def test_folds_make_a_cross_validation_only_when_all_are_there() -> None:
    folds = [record(split__name=f"kfold{fold}of3") for fold in range(3)]
    assert protocol_of(folds).split == "3-fold"
    assert protocol_of([*folds[:2], folds[0]]).split == "2 of 3 folds"


def test_runs_that_differ_are_mixed_and_agree_with_nothing() -> None:
    found = protocol_of([record(), record(config__data__preprocess={"size": [224, 224]})])
    assert found.resolution == MIXED
    assert agreement(found, KNOWN)[1] == ("resolution differs among our runs",)


def test_no_record_knows_nothing() -> None:
    assert protocol_of([]) == Protocol()
