"""Missing modalities: refused, left out, zeroed, marked, dropped in training; for volumes and for pictures."""

import logging
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fake_volumes import write_volume_dataset
from fakes import draw_pair, write_manifest, write_pair
from medseg.data.cases import Case
from medseg.data.missing import Missing, available_channels
from medseg.data.sources.folder import read_manifest
from medseg.errors import ConfigError, DataError
from medseg.types import DataCard
from tiny import make_data
from tiny_volumes import make_volumes


def lacking(tmp_path: Path, **changes: object):
    root = tmp_path / "volumes"
    if not root.exists():
        write_volume_dataset(root, patients=6, channels=2, folds=3, missing={"p01_0": [1], "p04_0": [0]})
    card = DataCard("fake", 2, 2, ["background", "organ"], 3, "mm", channels=["T1", "FLAIR"])
    return make_volumes(tmp_path, channels=2, card=card, **changes)


def test_a_missing_modality_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"case 'p01_0' lacks modality 2 \(FLAIR\), 2 of 6 cases.*missing=drop"):
        lacking(tmp_path)


def test_dropped_cases_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        data = lacking(tmp_path, missing=Missing("drop"))
    kept = {case.id for side in ("train", "val", "test") for case in data.cases(side)}
    assert kept == {"p00_0", "p02_0", "p03_0", "p05_0"}
    assert "2 of 6 cases lack a modality and are left out: p01_0, p04_0" in caplog.text


def sample_of(data, case: str) -> dict:
    for side in ("train", "val", "test"):
        for number, found in enumerate(data.cases(side)):
            if found.id == case:
                return data.dataset(side)[number]
    raise AssertionError(case)


def test_zeros_stand_for_what_is_missing_and_planes_tell_it(tmp_path: Path) -> None:
    plain = sample_of(lacking(tmp_path, missing=Missing("zero")), "p01_0")["image"]
    assert plain.shape[0] == 2 and plain[0].std() > 0.5 and not plain[1].any()
    data = lacking(tmp_path, missing=Missing("zero", extra_channels=2))
    assert data.input_channels == 4
    marked = sample_of(data, "p01_0")["image"]
    assert torch.equal(marked[:2], plain)
    assert (marked[2] == 1).all() and (marked[3] == 0).all()
    complete = sample_of(data, "p00_0")["image"]
    assert (complete[2:] == 1).all() and (complete[:2].flatten(1).std(1) > 0.5).all()


def test_training_drops_modalities_and_evaluation_does_not(tmp_path: Path) -> None:
    data = lacking(tmp_path, missing=Missing("zero", dropout=0.5))
    dataset = data.dataset("train", evaluation=False)
    names = [case.id for case in data.cases("train")]
    seen = set()
    for epoch in range(8):
        for index in range(8):
            sample = dataset[epoch, index]
            there = tuple(bool(channel.any()) for channel in sample["image"])
            assert any(there)
            seen.add((names[sample["index"]] in ("p01_0", "p04_0"), there))
    assert {there for short, there in seen if not short} == {(True, True), (True, False), (False, True)}
    assert sample_of(data, "p00_0")["image"].flatten(1).std(1).min() > 0.5


@given(seed=st.integers(0, 2**32), there=st.lists(st.booleans(), min_size=1, max_size=5), p=st.floats(0, 0.99))
def test_dropout_never_takes_the_last_modality_nor_invents_one(seed: int, there: list[bool], p: float) -> None:
    available = np.array(there)
    image = np.ones((len(there), 2, 2), np.float32)
    missing = Missing("zero", extra_channels=len(there), dropout=p)
    found = missing.apply(image.copy(), available, seed=seed)
    present = found[len(there) :, 0, 0] == 1
    assert not (present & ~available).any()
    assert present.any() == available.any()
    assert np.array_equal(found[: len(there), 0, 0] == 1, present)
    assert np.array_equal(found, missing.apply(image.copy(), available, seed=seed))


def test_pictures_of_several_files_go_the_same_way(tmp_path: Path) -> None:
    root, rows = tmp_path / "pictures", []
    for number in range(8):
        image, mask = draw_pair(number, channels=2)
        write_pair(root, f"p{number}", image[..., 0], mask)
        write_pair(root, f"p{number}_b", image[..., 1], mask)
        second = "" if number == 3 else f"images/p{number}_b.png"
        rows.append({
            "id": f"p{number}", "image": f"images/p{number}.png;{second}", "mask": f"masks/p{number}.png",
            "group": f"p{number}", "fold": number % 4,
        })  # fmt: skip
    write_manifest(root, rows)
    given = {"card": DataCard("two", 2, 2, ["background", "nodule"]), "source": partial(read_manifest, root)}
    with pytest.raises(DataError, match="case 'p3' lacks modality 2"):
        make_data(tmp_path, **given)
    data = make_data(tmp_path, **given, missing=Missing("zero", extra_channels=2))
    image = sample_of(data, "p3")["image"]
    assert image.shape[0] == 4 and not image[1].any() and not image[3].any() and (image[2] == 1).all()
    assert data.read(read_manifest(root)[3])[0][..., 1].max() == 0


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"missing.policy=keep: choose one of error, drop, zero"):
        Missing("keep")
    with pytest.raises(ConfigError, match=r"missing.dropout=1"):
        Missing("zero", dropout=1.0)
    with pytest.raises(ConfigError, match=r"missing.extra_channels=3: give 0 or data.card.in_channels=2"):
        Missing("zero", extra_channels=3).check_channels(2)
    with pytest.raises(DataError, match="every case lacks a modality"):
        Missing("drop").select([Case("a", "a", (None, Path("x")))], channels=[], name="all")


def test_one_file_has_all_its_channels() -> None:
    assert available_channels(Case("a", "a", (Path("x"),)), channels=4).all()
    assert available_channels(Case("a", "a", (None, Path("x"))), channels=2).tolist() == [False, True]
