"""From files to batches: geometry is undone, the cache is exact, streams depend on the seed alone."""

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import albumentations
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import draw_pair, write_dataset
from medseg.data.augment.pictures import compose
from medseg.data.cache import Reading, content_hashes, dataset_digest, open_cache
from medseg.data.preprocess import Preprocess, native_logits
from medseg.data.sampler import EpochSampler
from medseg.data.sources.folder import read_manifest
from medseg.data.splits import twins_grouped, twins_leaky
from medseg.data.steps.crop import CropBorder
from medseg.data.steps.intensity import Clahe, EqualizeHistogram, Smooth
from medseg.data.twins import add_twins, apply_twin
from medseg.errors import ConfigError, DataError
from tiny import make_data

# ---- preprocessing and the way back


def framed(height: int = 60, width: int = 80) -> np.ndarray:
    """Return a bright scan within a dark frame, 10 rows above, 6 columns left, 4 rows below."""
    image = np.zeros((height, width, 1), np.uint8)
    image[10:-4, 6:] = 120
    return image


def test_border_is_cropped_to_the_scan_and_predictions_come_back_into_their_place() -> None:
    image, mask = framed(), np.zeros((60, 80), np.uint8)
    mask[30:40, 30:50] = 1
    recipe = Preprocess(size=[46, 74], steps=[CropBorder()])
    small, small_mask, geometry = recipe.do(image, mask)
    assert geometry.box == (10, 6, 46, 74)
    assert small.min() == 120
    assert small_mask is not None
    # The grid is as large as the box, so nothing is lost on the way.
    assert np.array_equal(recipe.undo(small_mask, geometry), mask)
    logits = np.stack([1.0 - small_mask, small_mask]).astype(np.float32)
    assert np.array_equal(native_logits(logits, geometry).argmax(0), mask)
    assert native_logits(torch.from_numpy(logits), geometry).shape == (2, 60, 80)


@settings(max_examples=25, deadline=None)
@given(height=st.integers(20, 90), width=st.integers(20, 90), side=st.sampled_from([32, 64]))
def test_labels_stay_labels_and_shapes_come_back(height: int, width: int, side: int) -> None:
    image, mask = draw_pair(height * 100 + width, size=(height, width))
    recipe = Preprocess(size=side, steps=[CropBorder(), EqualizeHistogram(), Smooth()])
    small, small_mask, geometry = recipe.do(image, (mask > 0).astype(np.uint8))
    assert small.shape == (side, side, 1)
    assert small.dtype == np.uint8
    assert set(np.unique(small_mask)) <= {0, 1}
    native = recipe.undo(small_mask, geometry)
    assert native.shape == (height, width)
    assert set(np.unique(native)) <= {0, 1}


def test_equalised_histograms_are_flat_and_colour_is_kept_in_colour() -> None:
    image, _ = draw_pair(3, size=(80, 80))
    assert abs(float(EqualizeHistogram()(image).mean()) - 127.5) < 12
    colour = np.dstack([image, image // 2, image // 4])
    for step in (EqualizeHistogram(), Clahe(), Smooth(), Smooth(kind="median")):
        assert step(colour).shape == colour.shape
    with pytest.raises(ConfigError, match="kind='box'"):
        Smooth(kind="box")


def test_an_image_and_a_mask_of_different_size_are_refused() -> None:
    with pytest.raises(DataError, match=r"differ in size"):
        Preprocess(size=32).do(np.zeros((10, 10, 1), np.uint8), np.zeros((10, 11), np.uint8))


# ---- twins


def test_twins_move_image_and_mask_alike_and_repeat_exactly() -> None:
    image, mask = draw_pair(5, size=(96, 96))
    flat = np.where(mask[..., None] > 0, 200, 60).astype(np.uint8)
    labels = (mask > 0).astype(np.uint8)
    moved, moved_labels = apply_twin(flat, labels, seed=3)
    again = apply_twin(flat, labels, seed=3)
    assert np.array_equal(moved, again[0])
    assert np.array_equal(moved_labels, again[1])
    assert not np.array_equal(moved_labels, labels)
    assert moved[..., 0][moved_labels > 0].mean() > 170
    inside = (moved_labels == 0) & (moved[..., 0] > 25)
    assert moved[..., 0][inside].mean() < 80


def test_shuffled_twins_leak_and_grouped_twins_do_not(tmp_path: Path) -> None:
    cases = read_manifest(write_dataset(tmp_path, patients=40, images_per_patient=1))
    assert len(add_twins(cases, seed=0)) == 80
    apart = {}
    for splitter in (twins_leaky, twins_grouped):
        doubled, split = splitter(cases, seed=0)
        assert len(doubled) == 80
        side = {name: side for side, names in split.sides.items() for name in names}
        apart[split.name] = sum(side[case.id] != side[f"{case.id}__twin"] for case in cases)
        assert split.leaky is (split.name == "twins_leaky")
    assert apart["twins_grouped"] == 0
    # 1 - (0.49 + 0.04 + 0.01) = 0.46 of 40 pairs are torn apart on average.
    assert 10 <= apart["twins_leaky"] <= 27


# ---- cache


def reading(size: int = 32) -> Reading:
    return Reading(Preprocess(size=size), channels=1, labels={0: 0, 255: 1})


def test_the_cache_holds_what_preprocessing_gives_and_the_native_truth(tmp_path: Path) -> None:
    from medseg.data.files import read_case

    cases = read_manifest(write_dataset(tmp_path / "set", patients=3))
    cache = open_cache(cases, reading=reading(), root=tmp_path / "cache", hashes=content_hashes(cases))
    for case in cases:
        image, truth = read_case(case, channels=1, labels={0: 0, 255: 1})
        small, mask, geometry = Preprocess(size=32).do(image, truth)
        assert np.array_equal(cache.image(case.id), small)
        assert np.array_equal(cache.mask(case.id), mask)
        assert np.array_equal(cache.truth(case.id), truth)
        assert cache.geometry(case.id) == geometry


def test_another_file_or_recipe_makes_another_entry_and_the_same_one_is_reused(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "set", patients=3)
    cases = read_manifest(root)
    make = partial(open_cache, root=tmp_path / "cache")
    first = make(cases, reading=reading(), hashes=content_hashes(cases))
    assert make(cases, reading=reading(), hashes=content_hashes(cases)).folder == first.folder
    assert make(cases, reading=reading(16), hashes=content_hashes(cases)).folder != first.folder
    digest = dataset_digest(cases, content_hashes(cases))
    shutil.copy(cases[0].images[0], cases[1].images[0])
    shutil.copy(cases[0].masks[0], cases[1].masks[0])  # type: ignore[arg-type]
    assert make(cases, reading=reading(), hashes=content_hashes(cases)).folder != first.folder
    assert dataset_digest(cases, content_hashes(cases)) != digest


def test_what_a_killed_writer_left_is_never_read(tmp_path: Path) -> None:
    cases = read_manifest(write_dataset(tmp_path / "set", patients=3))
    hashes = content_hashes(cases)
    entry = open_cache(cases, reading=reading(), root=tmp_path / "cache", hashes=hashes)
    shutil.rmtree(entry.folder)
    remains = entry.folder.with_name(entry.folder.name + ".part-1")
    remains.mkdir()
    (remains / "images.u8").write_bytes(b"half")
    again = open_cache(cases, reading=reading(), root=tmp_path / "cache", hashes=hashes)
    assert again.folder == entry.folder
    assert not remains.exists()
    (again.folder / "images.u8").write_bytes(b"short")
    with pytest.raises(DataError, match="cache entry is damaged; delete this folder"):
        open_cache(cases, reading=reading(), root=tmp_path / "cache", hashes=hashes)


OPEN = """
import sys
from pathlib import Path
from medseg.data.cache import Reading, content_hashes, open_cache
from medseg.data.preprocess import Preprocess
from medseg.data.sources.folder import read_manifest
root = Path(sys.argv[1])
cases = read_manifest(root / "set")
reading = Reading(Preprocess(size=32), channels=1, labels={0: 0, 255: 1})
cache = open_cache(cases, reading=reading, root=root / "cache", hashes=content_hashes(cases))
print(cache.folder.name, int(cache.image(cases[-1].id).sum()))
"""


def test_processes_that_ask_at_once_get_the_same_entry(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", patients=6)
    command = [sys.executable, "-c", OPEN, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {process.communicate(timeout=120)[0] for process in processes}
    assert len(answers) == 1
    assert "cases" not in answers.pop()
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1


# ---- order and augmentation


@settings(max_examples=40, deadline=None)
@given(size=st.integers(4, 40), world=st.sampled_from([1, 2, 4]), epoch=st.integers(0, 3))
def test_ranks_share_the_order_of_one_process(size: int, world: int, epoch: int) -> None:
    def order(rank: int, world: int) -> list[tuple[int, int]]:
        sampler = EpochSampler(size=size, seed=1, shuffle=True, rank=rank, world=world, drop_last_to=4)
        sampler.set_epoch(epoch)
        return list(sampler)

    alone, together = order(0, 1), [order(rank, world) for rank in range(world)]
    assert [place for places in zip(*together, strict=True) for place in places] == alone
    assert len({index for _, index in alone}) == len(alone) == size // 4 * 4
    assert {number for number, _ in alone} == {epoch}


def test_evaluation_misses_no_case_and_may_repeat_some(tmp_path: Path) -> None:
    ranks = [list(EpochSampler(size=7, seed=0, shuffle=False, rank=rank, world=2)) for rank in range(2)]
    assert sorted({index for places in ranks for _, index in places}) == list(range(7))
    assert [len(places) for places in ranks] == [4, 4]


def streams(folder: Path, workers: int, epoch: int = 0) -> torch.Tensor:
    noise = albumentations.GaussNoise(std_range=(0.05, 0.1), p=1.0)
    data = make_data(
        folder, augment=compose([albumentations.Affine(rotate=(-30, 30), p=1.0), noise]), num_workers=workers
    )
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return torch.cat([batch["image"] for batch in loader])


def test_the_augmented_stream_does_not_depend_on_the_workers(tmp_path: Path) -> None:
    alone = streams(tmp_path, 0)
    assert torch.equal(alone, streams(tmp_path, 1))
    assert torch.equal(alone, streams(tmp_path, 2))
    assert not torch.equal(alone, streams(tmp_path, 0, epoch=1))


def test_images_of_one_batch_are_changed_differently(tmp_path: Path) -> None:
    image, mask = draw_pair(1, size=(48, 48))
    noise = compose([albumentations.GaussNoise(std_range=(0.05, 0.1), p=1.0)])
    first, second, again = (noise(image, mask, seed=seed)[0] for seed in (1, 2, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)


def test_image_and_mask_move_together() -> None:
    _, mask = draw_pair(2, size=(64, 64))
    image = np.repeat(mask[..., None], 1, axis=2)
    move = compose([albumentations.Affine(rotate=(-40, 40), translate_percent=(-0.1, 0.1), p=1.0)])
    for seed in range(5):
        moved, labels = move(image, (mask > 0).astype(np.uint8), seed=seed)
        assert ((moved[..., 0] > 127) != (labels > 0)).mean() < 0.02
        assert set(np.unique(labels)) <= {0, 1}


def test_an_argument_that_albumentations_only_warns_of_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"augment transform .*mask_value"):
        compose([partial(albumentations.Affine, mask_value=0)])


# ---- real data


def test_ddti_is_read_as_its_readme_says(real_data: Path) -> None:
    root = real_data / "ddti"
    if not root.is_dir():
        pytest.skip("ddti absent: set MEDSEG_DATA to a folder that holds it")
    cases = read_manifest(root)
    assert len(cases) == 504
    assert len({case.patient for case in cases}) == 302
    assert sum(case.fold == "0" for case in cases) == 126
