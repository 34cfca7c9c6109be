"""What the datamodule promises the rest: sides, shares of a batch, independent draws, a cache that survives kills."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import albumentations
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image

from fakes import draw_pair, write_dataset
from medseg.commands.configuration import compose as compose_config
from medseg.data.augment.pictures import compose
from medseg.data.datamodule import SegmentationData
from medseg.data.preprocess import Preprocess, resize_image
from medseg.data.sampler import EpochSampler
from medseg.data.sources.folder import read_manifest
from medseg.data.splits import SIDES, kfold, manifest_fold, twins_leaky
from medseg.data.steps.crop import CropBorder
from medseg.errors import ConfigError, DataError
from medseg.rng import derive
from medseg.types import DataCard
from tiny import make_data


def trainer(rank: int, world: int) -> SimpleNamespace:
    """Return what the datamodule asks of a trainer."""
    return SimpleNamespace(
        global_rank=rank,
        world_size=world,
        fit_loop=SimpleNamespace(epoch_progress=SimpleNamespace(current=SimpleNamespace(processed=0))),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )


# ---- batches


def test_evaluation_batches_carry_native_truth_and_the_way_back(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    (batch,) = data.test_dataloader()
    cases = data.cases("test")
    assert batch["case"] == [case.id for case in cases]
    assert batch["index"].tolist() == list(range(len(cases)))
    assert batch["image"].dtype == torch.float32 and batch["mask"].dtype == torch.int64
    for case, truth, geometry in zip(cases, batch["truth"], batch["geometry"], strict=True):
        assert np.array_equal(truth, data.read(case)[1])
        assert geometry.native_size == truth.shape == (40, 48)
        assert geometry.spacing == (1.0, 1.0)
    assert "truth" not in next(iter(data.train_dataloader()))


def test_images_are_normalised_per_channel(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "set", patients=12, images_per_patient=1, folds=4, channels=3)
    card = DataCard("colour", 3, 2, ["background", "vessel"])
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.1, 0.3]
    data = make_data(tmp_path, card=card, source=partial(read_manifest, root), mean=mean, std=std)
    case = data.cases("test")[0]
    small = resize_image(data.read(case)[0], (32, 32)).astype(np.float64)
    wanted = ((small / 255 - mean) / std).transpose(2, 0, 1)
    assert np.allclose(data.dataset("test")[0]["image"], wanted, atol=1e-5)
    with pytest.raises(ConfigError, match=r"data\.mean=\[0\.1, 0\.2\]: give one number or one for each of the 3"):
        make_data(tmp_path, card=card, source=partial(read_manifest, root), mean=[0.1, 0.2]).dataset("test")
    with pytest.raises(ConfigError, match=r"data\.std=0: every channel needs a positive value"):
        make_data(tmp_path, std=0).dataset("test")


def test_shares_of_two_processes_make_the_batch_of_one(tmp_path: Path) -> None:
    data = make_data(tmp_path, augment=compose([albumentations.HorizontalFlip(p=0.5)]))
    alone = list(data.train_dataloader())
    shares = []
    for rank in range(2):
        data.trainer = trainer(rank, 2)  # type: ignore[assignment]
        shares.append(list(data.train_dataloader()))
    data.trainer = None
    for whole, *parts in zip(alone, *shares, strict=True):
        images = {case: image for part in parts for case, image in zip(part["case"], part["image"], strict=True)}
        assert [len(part["case"]) for part in parts] == [2, 2]
        assert sorted(images) == sorted(whole["case"])
        assert all(torch.equal(images[case], image) for case, image in zip(whole["case"], whole["image"], strict=True))


def test_batch_sizes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    data.trainer = trainer(0, 3)  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"data\.batch_size=4 is no multiple of the 3 processes"):
        data.train_dataloader()
    with pytest.raises(ConfigError, match=r"data\.batch_size=64 exceeds the 6 training case\(s\).*batch_size=6"):
        EpochSampler(size=6, seed=0, shuffle=True, drop_last_to=64)
    with pytest.raises(ConfigError, match=r"data\.batch_size=0"):
        make_data(tmp_path, batch_size=0)


def test_loaders_take_nothing_from_the_global_stream(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    list(data.train_dataloader())
    assert torch.equal(torch.rand(3), wanted)


# ---- sides and summary


def test_an_empty_val_side_gives_no_loader(tmp_path: Path) -> None:
    data = make_data(tmp_path, split=partial(manifest_fold, seed=0, test_fold=1, val_fraction=0))
    assert data.val_dataloader() == []
    assert data.summary()["prevalence"]["val"] is None  # type: ignore[index]


def test_summary_counts_what_is_there(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "set", patients=6, images_per_patient=2)
    data = make_data(
        tmp_path, source=partial(read_manifest, root), split=partial(kfold, seed=0, folds=3, val_fraction=0)
    )
    summary = data.summary()
    assert summary["cases"] == {"train": 8, "val": 0, "test": 4}
    assert summary["patients"] == {"train": 4, "val": 0, "test": 2}
    assert summary["sizes"] == {"40x48": 6, "44x48": 6}
    masks = [data.read(case)[1] for case in data.cases("test")]
    wanted = sum(int(mask.sum()) for mask in masks) / sum(mask.size for mask in masks)
    assert summary["prevalence"]["test"] == pytest.approx(wanted)  # type: ignore[index]
    assert summary["split"]["hash"] == data.split.hash  # type: ignore[index]
    json.dumps(summary)


def test_the_digest_belongs_to_the_files_not_to_split_or_recipe(tmp_path: Path) -> None:
    plain = make_data(tmp_path)
    doubled = make_data(tmp_path, split=partial(twins_leaky, seed=0), preprocess=Preprocess(size=16))
    assert plain.digest == doubled.digest
    assert sum(len(doubled.cases(side)) for side in SIDES) == 24
    twin = next(case for case in doubled.cases("train") if case.twin is not None)
    place = doubled.cases("train").index(twin)
    assert np.array_equal(doubled.dataset("train")[place]["truth"], doubled.read(twin)[1])  # type: ignore[typeddict-item]


def test_a_split_declared_leaky_says_so_and_keeps_its_sides(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    before, cases, store = data.split, data.cases("train"), data.prepared.store
    data.declare_leaky()
    assert (before.leaky, data.split.leaky) == (False, True) and data.split.hash != before.hash
    assert data.split.sides == before.sides and data.cases("train") == cases and data.prepared.store is store


def test_predictions_are_written_as_the_masks_are_and_read_back(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    case, labels = data.cases("test")[0].id, np.eye(5, dtype=np.uint8)
    path = data.save_prediction(tmp_path / "out", case, labels)
    assert path == tmp_path / "out" / f"{case}.png"
    assert np.array_equal(np.asarray(Image.open(path)), 255 * labels)
    assert np.array_equal(data.load_prediction(tmp_path / "out", case), labels)


def test_physical_units_need_a_spacing(tmp_path: Path) -> None:
    card = DataCard("fake", 1, 2, ["background", "nodule"], unit="mm")
    with pytest.raises(DataError, match="spacing '' is not ROWxCOLUMN in mm"):
        make_data(tmp_path, card=card).test_dataloader()


# ---- augmentation


def test_transforms_of_one_sample_draw_independently() -> None:
    both = compose([albumentations.HorizontalFlip(p=0.5), albumentations.VerticalFlip(p=0.5)])
    image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    seen = Counter(int(both(image, image[..., 0], seed=seed)[0][0, 0, 0]) for seed in range(200))
    # Corner 0 means neither flip, 15 both; seeded alike, the two would always agree.
    assert sorted(seen) == [0, 3, 12, 15]
    assert min(seen.values()) > 25


@pytest.mark.parametrize("name", ["none", "light", "strong"])
def test_configured_augmentations_keep_the_contract(name: str) -> None:
    augmentation = instantiate(compose_config("train", [f"augment={name}"]).augment.in_2d)
    for channels in (1, 3):
        image, mask = draw_pair(4, size=(48, 40), channels=channels)
        labels = (mask > 0).astype(np.uint8)
        for seed in range(10):
            changed, moved = augmentation(image, labels, seed=derive(seed, name))
            assert (changed.shape, changed.dtype, moved.shape) == (image.shape, np.uint8, labels.shape)
            assert set(np.unique(moved)) <= {0, 1}
            if name == "none":
                assert np.array_equal(changed, image)
                assert np.array_equal(moved, labels)


def test_light_draws_within_its_stated_ranges() -> None:
    light = instantiate(compose_config("train", ["augment=light"]).augment.in_2d)
    flat = np.full((64, 64, 1), 128, np.uint8)
    disc = np.zeros((64, 64), np.uint8)
    disc[22:42, 22:42] = 1
    levels, noises, areas = [], [], []
    for seed in range(150):
        changed, moved = light(flat, disc, seed=seed)
        inside = changed[16:48, 16:48].astype(float)
        levels.append(inside.mean())
        noises.append(inside.std())
        areas.append(moved.sum() / disc.sum())
    # 255 * (128 / 255) ** gamma * gain with gamma 0.7-1.4 and gain 0.8-1.2
    assert 255 * 0.502**1.4 * 0.8 - 3 <= min(levels) < 100
    assert 160 < max(levels) <= 255 * 0.502**0.7 * 1.2 + 3
    assert np.median(noises) == pytest.approx(0.03 * 255, rel=0.15)
    assert 0.8**2 * 0.9 < min(areas) < 0.75
    assert 1.35 < max(areas) < 1.25**2 * 1.1


# ---- cropping


def test_a_shadow_does_not_cut_the_scan_but_text_beyond_the_frame_goes() -> None:
    image = np.full((100, 100, 1), 90, np.uint8)
    image[50:53] = 0
    image[:, 90:] = 0
    image[40:60, 98:, 0] = 255
    assert CropBorder().box(image) == (0, 0, 100, 90)
    assert CropBorder().box(np.zeros((10, 12, 1), np.uint8)) == (0, 0, 10, 12)


def test_steps_must_state_their_parameters() -> None:
    with pytest.raises(ConfigError, match="is no dataclass; its repr must state all its parameters"):
        Preprocess(size=8, steps=[np.copy])
    with pytest.raises(ConfigError, match=r"preprocess\.size=\[8\]: give \[rows, columns\]"):
        Preprocess(size=[8])
    assert Preprocess(size=8, steps=[CropBorder()]).recipe != Preprocess(size=8, steps=[CropBorder(bridge=0)]).recipe


# ---- cache


def test_a_worker_receives_the_cache_without_its_pixels(tmp_path: Path) -> None:
    flips = compose([albumentations.HorizontalFlip(p=0.5)])
    dataset = make_data(tmp_path, augment=flips, preprocess=Preprocess(size=64)).dataset("train", augment=True)
    first = dataset[0]
    content = pickle.dumps(dataset)
    assert len(content) < 64 * 64 * len(dataset)
    assert torch.equal(pickle.loads(content)[0]["image"], first["image"])


FILL = """
import sys, time
from functools import partial
from pathlib import Path
from medseg.data import cache
from medseg.data.preprocess import Preprocess
from medseg.data.sources.folder import read_manifest
root = Path(sys.argv[1])
read = cache.read_case
def slow(*args, **kwargs):
    time.sleep(0.2)
    return read(*args, **kwargs)
cache.read_case = slow
cases = read_manifest(root / "set")
reading = cache.Reading(Preprocess(size=[32, 32]), channels=1, labels={0: 0, 255: 1})
cache.open_cache(cases, reading=reading, root=root / "cache", hashes=cache.content_hashes(cases), name="fake")
"""


def test_a_writer_killed_half_way_leaves_no_entry(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", patients=12, images_per_patient=1, folds=4)
    writer = subprocess.Popen([sys.executable, "-c", FILL, str(tmp_path)])
    deadline = time.monotonic() + 60
    while not list((tmp_path).glob("cache/*.part-*/images.u8")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    left = [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert len(left) == 1
    assert ".part-" in left[0]
    data: SegmentationData = make_data(tmp_path)
    assert len(next(iter(data.test_dataloader()))["case"]) == 3
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == [left[0].split(".part-")[0]]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medseg.data.cache.flush", full)
    with pytest.raises(DataError, match=r"cache cannot be written \(No space left on device\); free space") as caught:
        make_data(tmp_path)
    assert "\n" not in str(caught.value)
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []
