"""No patient on two sides, every case on one, the same for the same seed whatever the order."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes import listed_cases, write_dataset
from medseg.data.cases import Case
from medseg.data.files import foreground_fraction
from medseg.data.groups import largest_remainder, patient_groups
from medseg.data.nested import nested_kfold
from medseg.data.sources.folder import read_manifest
from medseg.data.splits import (
    Split,
    from_file,
    kfold,
    manifest_fold,
    official,
    ratio,
    read_split,
    twins_grouped,
    twins_leaky,
)
from medseg.errors import ConfigError, DataError

Splitter = Callable[[list[Case]], tuple[list[Case], Split]]
SPLITTERS: dict[str, Callable[..., tuple[list[Case], Split]]] = {
    "ratio": ratio,
    "kfold": partial(kfold, folds=3, fold=1),
    "nested_kfold": partial(nested_kfold, folds=3, fold=1, inner_folds=2, inner_fold=1),
    "manifest_fold": manifest_fold,
    "official": official,
    "twins_grouped": twins_grouped,
}
SIZES = st.lists(st.integers(1, 4), min_size=9, max_size=40)


def patients(cases: list[Case], split: Split, side: str) -> set[str]:
    of = {case.id: case.patient for case in cases}
    return {of[identifier] for identifier in split.sides[side]}


def on_one_side_each(cases: list[Case], split: Split) -> bool:
    named = [identifier for side in split.sides.values() for identifier in side]
    return sorted(named) == sorted(case.id for case in cases)


def test_nested_folds_share_the_outer_test_side_and_choose_on_all_the_rest() -> None:
    cases = listed_cases([2, 1, 3] * 10)
    tests, chosen = [], []
    for fold in range(3):
        inner = [nested_kfold(cases, seed=5, folds=3, fold=fold, inner_folds=4, inner_fold=i)[1] for i in range(4)]
        assert {split.sides["test"] for split in inner} == {kfold(cases, seed=5, folds=3, fold=fold)[1].sides["test"]}
        validated = [identifier for split in inner for identifier in split.sides["val"]]
        assert sorted(validated) == sorted({case.id for case in cases} - set(inner[0].sides["test"]))
        assert len({split.hash for split in inner}) == 4
        tests.extend(inner[0].sides["test"])
        chosen.append(validated)
    assert sorted(tests) == sorted(case.id for case in cases)


@pytest.mark.parametrize(("given", "key"), [({"fold": 3}, "split.fold=3"), ({"inner_fold": -1}, "split.inner_fold=-1")])
def test_a_nested_fold_that_is_not_there_is_refused(given: dict[str, int], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        nested_kfold(listed_cases([1] * 12), seed=0, folds=3, **given)


@pytest.mark.parametrize("name", SPLITTERS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sizes=SIZES, seed=st.integers(0, 10**6), order=st.randoms(use_true_random=False))
def test_laws_of_every_grouped_split(name: str, sizes: list[int], seed: int, order: object) -> None:
    splitter = partial(SPLITTERS[name], seed=seed)
    listed = listed_cases(sizes)
    cases, split = splitter(listed)
    assert on_one_side_each(cases, split)
    sides = [patients(cases, split, side) for side in ("train", "val", "test")]
    assert len(set.union(*sides)) == sum(len(side) for side in sides) == len(sizes)
    assert not split.leaky and all(split.sides.values())
    shuffled = list(listed)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert splitter(shuffled)[1] == split
    assert splitter(shuffled)[1].hash == split.hash


@settings(max_examples=25, deadline=None)
@given(count=st.integers(10, 200), seed=st.integers(0, 10**6))
def test_single_image_patients_give_exact_counts(count: int, seed: int) -> None:
    _, split = ratio(listed_cases([1] * count), seed=seed)
    wanted = largest_remainder(count, weights={"train": 0.7, "val": 0.1, "test": 0.2})
    assert {side: len(ids) for side, ids in split.sides.items()} == wanted


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(1, 4), min_size=40, max_size=80), seed=st.integers(0, 10**6))
def test_counts_are_near_and_strata_even(sizes: list[int], seed: int) -> None:
    listed = listed_cases(sizes)
    _, split = ratio(listed, seed=seed)
    for side, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        assert abs(len(split.sides[side]) - share * len(listed)) <= 4
    stratum = {identifier: group.stratum for group in patient_groups(listed) for identifier in group.ids}
    for number in range(3):
        members = [identifier for identifier in stratum if stratum[identifier] == number]
        tested = sum(identifier in split.sides["test"] for identifier in members)
        assert abs(tested - 0.2 * len(members)) <= 4.5


def test_large_patients_do_not_gather_on_one_side() -> None:
    cases, split = ratio(listed_cases([1] * 60 + [4] * 60), seed=3)
    for side in ("train", "val", "test"):
        images_per_patient = len(split.sides[side]) / len(patients(cases, split, side))
        assert 2.0 < images_per_patient < 3.0


def test_seeds_differ_and_largest_remainder_is_exact() -> None:
    cases = listed_cases([2] * 20)
    assert ratio(cases, seed=1)[1].hash != ratio(cases, seed=2)[1].hash
    # The doubled TN-SCUI set of the preprint: 5101.6, 1457.6, 728.8
    assert largest_remainder(7288, weights={"train": 0.7, "val": 0.2, "test": 0.1}) == {
        "train": 5102,
        "val": 1457,
        "test": 729,
    }
    assert largest_remainder(30, weights={"a": 0.1, "b": 0.9}) == {"a": 3, "b": 27}


def test_folds_partition_the_dataset() -> None:
    cases = listed_cases([1, 2, 3] * 8)
    tests = [kfold(cases, seed=5, folds=4, fold=fold)[1].sides["test"] for fold in range(4)]
    assert sorted(identifier for ids in tests for identifier in ids) == sorted(case.id for case in cases)
    assert max(map(len, tests)) - min(map(len, tests)) <= 3


def test_manifest_fold_and_empty_val() -> None:
    cases = listed_cases([2] * 9)
    _, split = manifest_fold(cases, seed=0, test_fold=1, val_fraction=0)
    assert split.sides["val"] == ()
    assert set(split.sides["test"]) == {case.id for case in cases if case.fold == "1"}
    assert split.hash == manifest_fold(cases, seed=9, test_fold=1, val_fraction=0)[1].hash


def test_official_sides_and_published_leak() -> None:
    cases = listed_cases([2] * 8)
    _, split = official(cases, seed=0)
    assert set(split.sides["test"]) == {case.id for case in cases if case.attributes["split"] == "test"}
    cases[0].attributes["split"] = "test"
    assert official(cases, seed=0)[1].leaky
    cases[0].attributes["split"] = "holdout"
    with pytest.raises(DataError, match="column 'split' holds 'holdout', not train, val or test"):
        official(cases, seed=0)


def test_twins_leaky_tears_twins_apart_and_says_so() -> None:
    originals = listed_cases([1] * 200)
    cases, split = twins_leaky(originals, seed=0)
    assert len(cases) == 400 and on_one_side_each(cases, split)
    assert split.leaky and split.name == "twins_leaky"
    assert [len(split.sides[side]) for side in ("train", "val", "test")] == [280, 80, 40]
    side_of = {identifier: side for side, ids in split.sides.items() for identifier in ids}
    partner = [
        side_of[name.removesuffix("__twin") if "__twin" in name else name + "__twin"] for name in split.sides["test"]
    ]
    # A partner is in train with probability 0.7 (hypergeometric, sd about 0.07).
    assert 0.45 < np.mean([side == "train" for side in partner]) < 0.95
    assert split == twins_leaky(originals[::-1], seed=0)[1]


def test_twins_grouped_keeps_twins_together() -> None:
    cases, split = twins_grouped(listed_cases([1, 2] * 20), seed=0)
    side_of = {identifier: side for side, ids in split.sides.items() for identifier in ids}
    twins = [case for case in cases if case.twin is not None]
    assert len(twins) == len(cases) // 2
    assert all(side_of[case.id] == side_of[case.id.removesuffix("__twin")] for case in twins)
    assert not split.leaky
    assert len({case.twin for case in twins}) == len(twins)


def test_written_split_reads_back_and_edits_are_noticed(tmp_path: Path) -> None:
    cases, split = twins_leaky(listed_cases([2] * 6), seed=4)
    path = tmp_path / "folder" / "split.json"
    split.write(path)
    assert read_split(path) == split
    again, same = from_file(listed_cases([2] * 6), path=path)
    assert same == split and {case.id: case.twin for case in again} == {case.id: case.twin for case in cases}
    content = json.loads(path.read_text())
    content["sides"]["train"], content["sides"]["test"] = content["sides"]["test"], content["sides"]["train"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="do not match the stored hash"):
        read_split(path)
    path.write_text("{}")
    with pytest.raises(DataError, match="not a split file"):
        read_split(path)
    with pytest.raises(DataError, match="absent.json: split file is missing"):
        read_split(tmp_path / "absent.json")


def test_split_of_other_cases_or_cut_patients_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    ratio(listed_cases([2] * 6), seed=0)[1].write(path)
    with pytest.raises(DataError, match="does not name each case exactly once .first difference: 'p006_0'"):
        from_file(listed_cases([2] * 7), path=path)
    torn = Split("mine", 0, False, {"train": ("p000_0",), "val": (), "test": ("p000_1",)})
    torn.write(path)
    with pytest.raises(DataError, match="a patient is on two sides but the file says leaky=false"):
        from_file(listed_cases([2]), path=path)


@pytest.mark.parametrize(
    ("splitter", "match"),
    [
        (partial(ratio, seed=0, fractions=(0.7, 0.2, 0.2)), "sum to 1"),
        (partial(ratio, seed=0, fractions=(0.9, 0.1, 0.0)), "only val may be 0"),
        (partial(kfold, seed=0, folds=3, fold=3), "0 <= fold < folds"),
        (partial(manifest_fold, seed=0, val_fraction=1.0), r"share of the non-test cases in \[0, 1\)"),
    ],
)
def test_impossible_arguments(splitter: Splitter, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        splitter(listed_cases([1] * 12))


def test_impossible_data() -> None:
    with pytest.raises(DataError, match=r"2 patient\(s\) cannot fill the sides train, val, test"):
        ratio(listed_cases([5, 5]), seed=0)
    with pytest.raises(DataError, match="the manifest's folds are 0, 1, 2; name one"):
        manifest_fold(listed_cases([1] * 9), seed=0, test_fold=7)
    with pytest.raises(DataError, match="has no fold; fill the column"):
        manifest_fold([Case("a", "p", (Path("a"),), (Path("m"),), attributes={"fg_fraction": "0"})], seed=0)
    cut = [Case(f"a{fold}", "p", (Path("a"),), Path("m"), fold=fold, attributes={"fg_fraction": "0"}) for fold in "01"]
    with pytest.raises(DataError, match="patient 'p' is in fold 0 and in another"):
        manifest_fold(cut, seed=0)


def test_foreground_is_measured_where_the_manifest_is_silent(tmp_path: Path) -> None:
    cases = read_manifest(write_dataset(tmp_path, patients=9, images_per_patient=1))
    silent = [Case(case.id, case.patient, case.images, case.masks, fold=case.fold) for case in cases]
    assert foreground_fraction(silent[0]) == pytest.approx(foreground_fraction(cases[0]), abs=1e-4)
    assert ratio(silent, seed=0)[1] == ratio(cases, seed=0)[1]
