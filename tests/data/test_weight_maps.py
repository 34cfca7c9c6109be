"""Pixel weights: cached once, off by a 500th at most, and moved with the mask they belong to."""

import pickle
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import albumentations
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.commands.configuration import compose as compose_config
from medseg.data.augment.pictures import compose
from medseg.data.datamodule import SegmentationData
from medseg.data.views import Patches, Slices
from medseg.data.weight_maps import STEPS, encoded, meaning
from medseg.errors import ConfigError, DataError
from medseg.losses.border import BorderCrossEntropy, BorderMap
from medseg.losses.combine import training_loss
from medseg.losses.truth import Truth
from medseg.types import IGNORE
from tiny import make_data
from tiny_volumes import PATCH, make_volumes


class Told:
    """Weights that tell the label: 0.5, 3, 5.5; counts how often it is asked."""

    def __init__(self, recipe: str = "told 1") -> None:
        self.recipe, self.asked = recipe, 0

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        self.asked += 1
        return np.where(labels == IGNORE, 0, 0.5 + 2.5 * labels).astype(np.float32)


def weighted(data: SegmentationData, weight_map: object) -> SegmentationData:
    data.weight_map = weight_map  # type: ignore[assignment]
    data.prepare_data()
    data.setup()
    return data


def augmentation(name: str, view: str) -> object:
    config = compose_config("train", ["data=phantom", f"augment={name}"])
    return instantiate(config.augment[view])


# ---- codes


@given(
    st.lists(st.integers(0, 3) | st.just(IGNORE), min_size=1, max_size=40),
    st.integers(0, 2**16),
    st.sampled_from([0.0, 1e-3, 10.0, 1e4]),
)
@settings(max_examples=60, deadline=None)
def test_a_code_is_off_by_half_a_step_at_most(labels: Sequence[int], seed: int, spread: float) -> None:
    mask = np.array(labels, np.uint8)
    weights = (0.1 + spread * np.random.default_rng(seed).random(len(mask))).astype(np.float32)
    codes, row = encoded(weights, mask)
    valid = mask != IGNORE
    back = meaning(row)[codes]
    assert (codes[~valid] == IGNORE).all() and (back[~valid] == 0).all()
    if valid.any():
        step = (float(weights[valid].max()) - float(weights[valid].min())) / STEPS
        assert np.abs(back - weights)[valid].max() <= step / 2 + 1e-6 * (0.1 + spread)


def test_what_is_filled_in_weighs_as_far_background() -> None:
    labels = np.array([0, 0, 1, IGNORE], np.uint8)
    _, row = encoded(np.array([2.0, 9.0, 0.5, 0.0], np.float32), labels)
    assert meaning(row)[0] == 2.0
    assert meaning(row)[IGNORE] == 0


# ---- batches


def test_training_and_validation_carry_the_weights_of_their_masks(tmp_path: Path) -> None:
    data = weighted(make_data(tmp_path), Told())
    for loader in (data.train_dataloader(), data.val_dataloader()):
        for batch in loader:
            assert batch["weight"].shape == batch["mask"].shape and batch["weight"].dtype == torch.float32
            assert torch.allclose(batch["weight"], 0.5 + 2.5 * batch["mask"], atol=1e-5)
    assert "weight" not in next(iter(data.test_dataloader()))


def test_without_a_wish_there_is_no_weight(tmp_path: Path) -> None:
    assert "weight" not in next(iter(make_data(tmp_path).train_dataloader()))


@pytest.mark.parametrize("name", ["light", "strong", "ultrasound", "nnunet"])
def test_weights_move_with_pictures(tmp_path: Path, name: str) -> None:
    data = weighted(make_data(tmp_path, augment=augmentation(name, "in_2d")), Told())
    plain = make_data(tmp_path, augment=augmentation(name, "in_2d"))
    dataset, other = (each.dataset("train", augment=True) for each in (data, plain))
    moved = 0
    for index in range(len(dataset)):
        for epoch in range(6):
            sample, unweighted = dataset[epoch, index], other[epoch, index]
            assert torch.allclose(sample["weight"], 0.5 + 2.5 * sample["mask"], atol=1e-5)
            assert torch.equal(sample["image"], unweighted["image"]) and torch.equal(sample["mask"], unweighted["mask"])
            moved += not torch.equal(sample["mask"], dataset[epoch + 1, index]["mask"])
    assert moved


def test_weights_move_with_patches_of_volumes(tmp_path: Path) -> None:
    data = weighted(make_volumes(tmp_path, augment=augmentation("strong", "in_3d")), Told())
    dataset = data.dataset("train", augment=True, evaluation=False)
    for index in range(6):
        sample = dataset[0, index]
        expected = torch.where(sample["mask"] == IGNORE, 0.0, 0.5 + 2.5 * sample["mask"])
        assert sample["weight"].shape == tuple(PATCH)
        assert torch.allclose(sample["weight"], expected, atol=1e-5)


def test_patches_larger_than_a_picture_weigh_nothing_beyond_it(tmp_path: Path) -> None:
    data = weighted(make_data(tmp_path, view=Patches(dims=2, size=[40, 16], epoch_samples=8)), Told())
    batch = next(iter(data.train_dataloader()))
    beyond = batch["mask"] == IGNORE
    assert beyond.any() and (batch["weight"][beyond] == 0).all()
    assert torch.allclose(batch["weight"][~beyond], 0.5 + 2.5 * batch["mask"][~beyond], atol=1e-5)


def test_the_border_loss_of_a_batch_is_that_of_weights_made_on_the_spot(tmp_path: Path) -> None:
    loss = BorderCrossEntropy(sigma=3.0)
    data = weighted(make_data(tmp_path), loss.weight_map)
    batch = next(iter(data.train_dataloader()))
    torch.manual_seed(0)
    logits = torch.randn(len(batch["mask"]), 2, 32, 32)
    cached = training_loss(logits, Truth(batch["mask"], batch["weight"]), loss)
    assert float(cached) == pytest.approx(float(loss(logits, batch["mask"])), rel=1e-3)


# ---- the cache


def test_weights_are_computed_once_per_case_and_recipe(tmp_path: Path) -> None:
    first, second, other = Told(), Told(), Told("told 2")
    data = weighted(make_data(tmp_path), first)
    count = sum(len(data.cases(side)) for side in ("train", "val", "test"))
    for _ in range(2):
        list(data.train_dataloader())
    weighted(make_data(tmp_path), second)
    weighted(make_data(tmp_path), other)
    assert (first.asked, second.asked, other.asked) == (count, 0, count)
    assert len(list((tmp_path / "cache").glob("fake-weights-*[0-9a-f]"))) == 2


def test_a_worker_opens_its_own_map(tmp_path: Path) -> None:
    store = weighted(make_data(tmp_path), Told()).side("train").weights
    assert store is not None
    case = next(iter(store._rows))
    before = store.codes(case)
    text = pickle.dumps(store)
    assert len(text) < 5000
    assert np.array_equal(pickle.loads(text).codes(case), before)


def test_a_cut_entry_is_one_line(tmp_path: Path) -> None:
    weighted(make_data(tmp_path), Told())
    (folder,) = (path for path in (tmp_path / "cache").glob("fake-weights-*") if path.is_dir())
    (folder / "codes.u8").write_bytes(b"short")
    with pytest.raises(DataError, match=r"cache entry is damaged; delete this folder"):
        weighted(make_data(tmp_path), Told())


# ---- refused


def test_slices_carry_no_weights_and_say_so_at_the_start(tmp_path: Path) -> None:
    data = make_volumes(tmp_path, view=Slices(size=[16, 16]))
    with pytest.raises(ConfigError, match=r"^view: slices of data=\w+ carry no pixel weights.*use view=patches"):
        weighted(data, BorderMap())


def test_a_change_that_follows_the_mask_is_refused(tmp_path: Path) -> None:
    crop = compose([partial(albumentations.CropNonEmptyMaskIfExists, height=16, width=16)])
    data = weighted(make_data(tmp_path, augment=crop), BorderMap())
    dataset = data.dataset("train", augment=True, evaluation=False)
    with pytest.raises(ConfigError, match=r"^augment moves images by what their masks hold"):
        [dataset[0, index] for index in range(len(dataset))]


def test_a_class_without_a_weight_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"loss\.class_weights=\[1\.0\] has no entry for class 1"):
        weighted(make_data(tmp_path), BorderMap(class_weights=[1.0]))
