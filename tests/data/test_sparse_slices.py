"""A few annotated slices of a volume: which they are, what is ignored, and that networks learn from them."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fakes import listed_cases, write_dataset
from medseg.data import splits
from medseg.data.cases import Case
from medseg.data.sources.folder import read_manifest
from medseg.data.sparse import sparse_slices
from medseg.data.splits import from_file, kfold, manifest_fold
from medseg.data.views import Patches
from medseg.data.volumes.planes import labelled_voxels
from medseg.errors import ConfigError, DataError
from medseg.losses.pixelwise import WeightedCrossEntropy
from medseg.nets.unet3d import UNet3D
from medseg.types import IGNORE
from tiny import make_data, make_module, make_trainer
from tiny_volumes import make_volumes

BASE = partial(manifest_fold, seed=0, test_fold=0, val_fraction=0.3)
HALVES = partial(kfold, seed=0, folds=2)


def case_with(column: str, name: str = "a") -> Case:
    return Case(name, "p", (Path("a.nii"),), attributes={"labelled_slices": column})


def box(shape: tuple[int, ...] = (10, 12, 14), inside: tuple[slice, ...] = (slice(2, 8), slice(3, 6), slice(5, 6))):
    mask = np.zeros(shape, np.uint8)
    mask[inside] = 1
    return mask


def slices_of(column: str, mask: np.ndarray, axis: int, name: str = "a") -> list[int]:
    """Return the slices that a column with one axis labels, after checking that they are labelled throughout."""
    known = labelled_voxels(case_with(column, name), mask)
    assert known is not None
    lines = np.moveaxis(known, axis, 0).reshape(mask.shape[axis], -1)
    assert np.array_equal(lines.any(axis=1), lines.all(axis=1))
    return np.flatnonzero(lines.any(axis=1)).tolist()


def sparse_volumes(folder: Path, **changes: Any):
    """Return the tiny volumes with sparse training masks; settings of the split and of the data."""
    own = {key: changes.pop(key) for key in ("slices", "axes", "placing", "seed") if key in changes}
    return make_volumes(folder, split=partial(sparse_slices, base=BASE, **own), **changes)


# ---- the column


def test_a_part_without_an_axis_is_of_the_first() -> None:
    assert slices_of("3;7", box(), 0) == [3, 7]
    assert slices_of("0:3; 7", box(), 0) == [3, 7]
    assert slices_of("2:13;2:0", box(), 2) == [0, 13]
    assert labelled_voxels(case_with(""), box()) is None


def test_slices_of_several_axes_are_united() -> None:
    wanted = np.zeros((10, 12, 14), bool)
    wanted[3], wanted[:, 11], wanted[:, :, 0] = True, True, True
    known = labelled_voxels(case_with("3;1:11;2:0"), box())
    assert known is not None and np.array_equal(known, wanted)


def test_even_slices_lie_among_those_with_foreground() -> None:
    assert slices_of("even1", box(), 0) == [5]
    assert slices_of("even2", box(), 0) == [3, 6]
    assert slices_of("even3", box(), 0) == [3, 5, 7]
    assert slices_of("1:even3", box(), 1) == [3, 4, 5]
    assert slices_of("1:even4", box(), 1) == [2, 3, 4, 5]
    assert slices_of("2:even3", box(), 2) == [4, 5, 6]
    gap = box()
    gap[4:7] = 0
    assert slices_of("even3", gap, 0) == [2, 3, 7]


def test_ignored_voxels_are_no_foreground_and_empty_masks_are_labelled_all_over() -> None:
    mask = np.zeros((9, 3, 3), np.uint8)
    mask[8] = IGNORE
    assert slices_of("even3", mask, 0) == [1, 4, 7]


def test_drawn_slices_repeat_and_differ_between_cases_and_seeds() -> None:
    mask = box((40, 8, 8), (slice(5, 35), slice(2, 6), slice(2, 6)))
    first = slices_of("drawn5/0", mask, 0)
    assert first == slices_of("drawn5/0", mask, 0) and len(first) == 5 and set(first) <= set(range(5, 35))
    assert first != slices_of("drawn5/1", mask, 0)
    assert first != slices_of("drawn5/0", mask, 0, name="b")


@given(st.integers(0, 2**32), st.sampled_from(["even", "drawn"]), st.integers(0, 2), st.data())
def test_there_are_as_many_slices_as_asked_and_foreground_comes_first(
    seed: int, kind: str, axis: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    mask = (rng.random(rng.integers(1, 9, 3)) < rng.random() ** 3).astype(np.uint8)
    count = data.draw(st.integers(1, mask.shape[axis]))
    found = slices_of(f"{axis}:{kind}{count}" + ("/7" if kind == "drawn" else ""), mask, axis)
    assert len(found) == count
    held = {place for place in range(mask.shape[axis]) if mask.take(place, axis).any()}
    if held:
        assert len(held & set(found)) == min(count, len(held))


@pytest.mark.parametrize(
    ("column", "fault"),
    [
        ("3;10", r"'10' is none of the slices 0 to 9 of axis 0"),
        ("1:12", r"'1:12' is none of the slices 0 to 11 of axis 1"),
        ("2:even15", r"'2:even15' wants 15 slices, axis 2 has 14"),
        ("-1", r"'-1' is no slice"),
        ("3:1", r"'3:1' is no slice"),
        ("3;", r"'' is no slice"),
        ("even0", r"'even0' is no slice"),
        ("even3/1", r"'even3/1' is no slice"),
        ("drawn3", r"'drawn3' is no slice \(7, or 1:7 of axis 1\) and no number of them \(1:even3, 1:drawn3/SEED\)"),
    ],
)
def test_a_wrong_part_is_named_in_one_line(column: str, fault: str) -> None:
    with pytest.raises(DataError, match=rf"case 'a': labelled_slices '{column}': {fault}.*repair this man") as caught:
        labelled_voxels(case_with(column), box())
    assert "\n" not in str(caught.value)


# ---- the split


def test_sides_and_hash_are_those_of_the_split_inside() -> None:
    cases = listed_cases([1] * 12)
    for base in (partial(kfold, seed=3, folds=3), partial(kfold, seed=3, folds=3, fold=1)):
        found, split = sparse_slices(cases, base=base, slices=2, axes=[2, 0])
        assert (split.sides, split.hash) == (base(cases)[1].sides, base(cases)[1].hash)
        assert split.name == f"{base(cases)[1].name}-sparse2"
        columns = {case.id: case.attributes.get("labelled_slices") for case in found}
        assert {columns[name] for name in split.sides["train"]} == {"0:even2;2:even2"}
        assert {columns[name] for side in ("val", "test") for name in split.sides[side]} == {None}
    assert not any("labelled_slices" in case.attributes for case in cases)
    drawn, split = sparse_slices(cases, base=HALVES, placing="drawn", seed=4)
    assert {case.attributes.get("labelled_slices") for case in drawn} == {"0:drawn3/4;1:drawn3/4;2:drawn3/4", None}


def test_a_written_split_can_be_made_sparse(tmp_path: Path) -> None:
    cases = listed_cases([1] * 8)
    found, split = sparse_slices(cases, base=HALVES)
    split.write(tmp_path / "split.json")
    again, read = sparse_slices(cases, base=partial(from_file, path=tmp_path / "split.json"))
    assert again == found and read.sides == split.sides


def test_what_cannot_be_made_sparse_is_refused(tmp_path: Path) -> None:
    cases = listed_cases([1] * 8)
    for wrong in ({"slices": 0}, {"axes": []}, {"axes": [0, 0]}, {"axes": [3]}):
        with pytest.raises(ConfigError, match=r"split\.slices=.*, split\.axes=.*different axes 0, 1, 2"):
            sparse_slices(cases, base=HALVES, **wrong)
    with pytest.raises(ConfigError, match=r"split\.placing='random' is unknown; use even or drawn"):
        sparse_slices(cases, base=HALVES, placing="random")
    with pytest.raises(DataError, match=r"split test_only: no training case"):
        sparse_slices(cases, base=splits.test_only)
    known = [replace(case, attributes={**case.attributes, "labelled_slices": "3"}) for case in cases]
    with pytest.raises(DataError, match=r"its manifest has labelled_slices '3' already"):
        sparse_slices(known, base=HALVES)
    root = write_dataset(tmp_path / "set", patients=6, images_per_patient=1)
    with pytest.raises(DataError, match=r"labelled_slices are of volumes, this is a picture"):
        make_data(
            tmp_path, source=partial(read_manifest, root), split=partial(sparse_slices, base=partial(kfold, seed=0))
        )


# ---- the data


def test_masks_are_ignored_exactly_off_the_slices_and_dense_on_the_other_sides(tmp_path: Path) -> None:
    dense, sparse = make_volumes(tmp_path, split=BASE), sparse_volumes(tmp_path, slices=2, axes=[0, 2])
    assert dense.prepared.store.folder != sparse.prepared.store.folder
    assert (dense.split.hash, dense.digest) == (sparse.split.hash, sparse.digest)
    for case in sparse.cases("train"):
        whole, kept = dense.prepared.store.truth(case.id), sparse.prepared.store.truth(case.id)
        on = kept != IGNORE
        assert np.array_equal(kept[on], whole[on])
        planes = [np.flatnonzero(on.all(axis=(1, 2))), np.flatnonzero(on.all(axis=(0, 1)))]
        wanted = np.zeros(whole.shape, bool)
        wanted[planes[0]], wanted[:, :, planes[1]] = True, True
        assert [len(found) for found in planes] == [2, 2] and np.array_equal(on, wanted)
        assert all(
            (whole.take(int(place), axis) > 0).any()
            for axis, found in zip((0, 2), planes, strict=True)
            for place in found
        )
        assert np.array_equal(sparse.read(case)[1], kept)  # the same at every reading
        assert np.array_equal(sparse.prepared.store.image(case.id), dense.prepared.store.image(case.id))
    for side in ("val", "test"):
        for case in sparse.cases(side):
            assert np.array_equal(sparse.prepared.store.truth(case.id), dense.prepared.store.truth(case.id))
    shares = sparse.summary()["labelled"]
    masks = [sparse.read(case)[1] for case in sparse.cases("train")]
    assert shares["train"] == pytest.approx(np.mean(np.concatenate([mask.ravel() for mask in masks]) != IGNORE))
    assert 0 < shares["train"] < 0.4 and shares["val"] == shares["test"] == 1
    assert dense.summary()["labelled"]["train"] == 1


def test_all_slices_of_an_axis_are_the_dense_masks(tmp_path: Path) -> None:
    from fake_volumes import write_volume_dataset

    write_volume_dataset(tmp_path / "volumes", patients=6, folds=3, sizes_differ=False)
    dense, whole = make_volumes(tmp_path, split=BASE), sparse_volumes(tmp_path, slices=12, axes=[0])
    first, second = (data.dataset("train", evaluation=False) for data in (dense, whole))
    for index in range(4):
        for part in ("image", "mask"):
            assert torch.equal(first[1, index][part], second[1, index][part])
    with pytest.raises(DataError, match=r"wants 13 slices, axis 0 has 12; .* or the setting split\.slices"):
        sparse_volumes(tmp_path, slices=13, axes=[0])


def test_every_choice_of_slices_has_a_cache_entry_of_its_own(tmp_path: Path) -> None:
    choices: list[dict[str, Any]] = [{"slices": 2}, {"slices": 3}, {"slices": 3, "axes": [1]}, {"placing": "drawn"}]
    folders = [sparse_volumes(tmp_path, **choice).prepared.store.folder for choice in choices]
    folders.append(sparse_volumes(tmp_path, placing="drawn", seed=1).prepared.store.folder)
    assert len(set(folders)) == 5
    assert sparse_volumes(tmp_path, slices=2).prepared.store.folder == folders[0]


@pytest.mark.slow
def test_a_network_learns_from_patches_around_a_few_slices(tmp_path: Path) -> None:
    data = sparse_volumes(tmp_path, slices=1, view=Patches(size=(6, 8, 8), epoch_samples=16, foreground=0.3))
    patches = data.dataset("train", augment=True, evaluation=False)
    masks = torch.stack([patches[0, index]["mask"] for index in range(16)])
    assert (masks != IGNORE).flatten(1).any(1).all() and (masks == IGNORE).any()
    torch.manual_seed(0)
    net = UNet3D(in_channels=1, num_classes=2, widths=[4, 8], padding="same")
    module = make_module(net, loss=WeightedCrossEntropy())
    trainer = make_trainer(tmp_path, 8)
    trainer.fit(module, data)
    trainer.test(module, dataloaders=data.test_dataloader(), verbose=False)
    counts = module.test_rows.counts[:, 1]
    dice = 2 * counts[:, 0] / (2 * counts[:, 0] + counts[:, 1] + counts[:, 2])
    sizes = [data.read(case)[1].size for case in data.cases("test")]
    assert counts.sum(1).tolist() == sizes  # every voxel of a test case is judged
    assert dice.mean() > 0.7
