"""Views: what training sees of a case, and that a whole image goes through a network without a trace of the windows."""

from collections import Counter
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medseg.data.augment.pictures import compose
from medseg.data.views import Patches, Slices, Whole, default
from medseg.data.windows import gaussian_weights, slice_by_slice, sliding_window, window_starts
from medseg.errors import ConfigError
from medseg.nets.unet import UNet
from tiny import make_data
from tiny_volumes import PATCH, make_volumes

# ---- the sliding window


@given(side=st.integers(1, 60), patch=st.integers(1, 40), overlap=st.floats(0, 0.9))
def test_windows_cover_an_axis_and_overlap_enough(side: int, patch: int, overlap: float) -> None:
    starts = window_starts(side, patch, overlap)
    covered = {place for start in starts for place in range(start, start + patch)}
    assert covered.issuperset(range(side))
    assert starts[0] == 0 and starts[-1] == max(side - patch, 0)
    step = max(int(patch * (1 - overlap)), 1)
    assert all(later - earlier <= step for earlier, later in pairwise(starts))


@settings(deadline=None, max_examples=30)
@given(
    size=st.lists(st.integers(3, 17), min_size=2, max_size=3),
    patch=st.integers(3, 9),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.8]),
    batch=st.integers(1, 5),
    images=st.integers(1, 2),
)
def test_a_network_that_looks_at_single_voxels_gives_what_it_gives_whole(size, patch, overlap, batch, images) -> None:
    torch.manual_seed(0)
    image = torch.randn(images, 2, *size)
    weights = torch.randn(3, 2)

    def net(x):
        return torch.einsum("kc,bc...->bk...", weights, x)

    found = sliding_window(net, image, patch=[patch] * len(size), overlap=overlap, batch=batch)
    assert found.shape == (images, 3, *size)
    torch.testing.assert_close(found, net(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(9, 20, 13), (40, 3, 16)])
def test_a_constant_comes_back_as_that_constant_from_half_precision_too(size: tuple[int, ...]) -> None:
    image = torch.full((1, 1, *size), 7.0)
    found = sliding_window(lambda x: torch.cat([x, -x], 1).half(), image, patch=(8, 8, 8), overlap=0.5)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[:, 0], image[:, 0], rtol=1e-5, atol=0)
    torch.testing.assert_close(found[:, 1], -image[:, 0], rtol=1e-5, atol=0)


def test_weights_are_positive_everywhere_and_largest_in_the_middle() -> None:
    weights = gaussian_weights((64, 64, 64))
    assert float(weights.min()) > 0 and float(weights.max()) == 1
    assert torch.equal(weights, weights.flip(0, 1, 2))
    assert np.unravel_index(int(weights.argmax()), weights.shape) in set(product((31, 32), repeat=3))


def test_every_window_is_weighted_by_its_gaussian() -> None:
    """Two windows that answer with their own number: the seam is their weighted mean, computed here one by one."""
    numbers = iter([1.0, 5.0])
    image = torch.zeros(1, 1, 4, 6)
    found = sliding_window(lambda x: torch.full_like(x, next(numbers)), image, patch=(4, 4), overlap=0.5, batch=1)
    gauss = [np.exp(-0.5 * ((place - 1.5) / 0.5) ** 2) for place in range(4)]
    rows = [gauss[y] for y in range(4)]
    for y, x in product(range(4), range(6)):
        parts = []
        for number, start in ((1.0, 0), (5.0, 2)):
            if start <= x < start + 4:
                top = max(rows) * max(gauss)
                parts.append((number, max(rows[y] * gauss[x - start] / top, 1e-3)))
        wanted = sum(n * w for n, w in parts) / sum(w for _, w in parts)
        assert float(found[0, 0, y, x]) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_come_back_in_their_places(axis: int) -> None:
    image = torch.randn(2, 1, 5, 6, 7)
    seen = []

    def net(x: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(x.shape))
        mean = x.mean((2, 3), keepdim=True)
        return torch.cat([x - mean, x], 1)

    found = slice_by_slice(net, image, axis=axis, batch=3)
    others = tuple(2 + other for other in range(3) if other != axis)
    torch.testing.assert_close(found[:, :1], image - image.mean(others, keepdim=True))
    torch.testing.assert_close(found[:, 1:], image)
    assert max(shape[0] for shape in seen) == 3
    assert {shape[2:] for shape in seen} == {tuple(side for other, side in enumerate((5, 6, 7)) if other != axis)}


# ---- what training sees


def test_patches_depend_on_seed_epoch_and_index_alone(tmp_path: Path) -> None:
    datasets = [
        make_volumes(tmp_path, seed=seed).dataset("train", augment=True, evaluation=False) for seed in (0, 0, 1)
    ]
    first = [datasets[0][epoch, index] for epoch in (0, 1) for index in range(8)]
    again = [datasets[1][epoch, index] for epoch in (1, 0) for index in range(7, -1, -1)][::-1]
    assert all(torch.equal(one["image"], other["image"]) for one, other in zip(first, again, strict=True))
    assert all(torch.equal(one["mask"], other["mask"]) for one, other in zip(first, again, strict=True))
    assert not torch.equal(first[0]["image"], first[8]["image"])
    assert not torch.equal(first[0]["image"], datasets[2][0, 0]["image"])
    assert first[0]["image"].shape == (1, *PATCH) and first[0]["mask"].shape == PATCH


def test_the_next_epoch_draws_other_patches_of_the_same_cases(tmp_path: Path) -> None:
    data = make_volumes(tmp_path, view=Patches(size=PATCH, epoch_samples=6))
    dataset = data.dataset("train", evaluation=False)
    assert 6 % len(data.cases("train")) == 0  # so that a place meets the same case in each epoch
    pairs = [(dataset[0, index], dataset[1, index]) for index in range(6)]
    assert all(one["case"] == other["case"] for one, other in pairs)
    assert not any(torch.equal(one["image"], other["image"]) for one, other in pairs)


def test_patches_are_parts_of_their_case(tmp_path: Path) -> None:
    data = make_volumes(tmp_path)
    dataset = data.dataset("train", evaluation=False)
    for index in range(8):
        sample = dataset[0, index]
        whole = data.dataset("train")[sample["index"]]
        windows = whole["image"].unfold(1, PATCH[0], 1).unfold(2, PATCH[1], 1).unfold(3, PATCH[2], 1)
        same = (windows == sample["image"][:, None, None, None]).flatten(4).all(-1)
        assert same.sum() == 1
        z, y, x = (int(place[0]) for place in torch.where(same[0]))
        part = whole["mask"][z : z + PATCH[0], y : y + PATCH[1], x : x + PATCH[2]]
        assert torch.equal(part, sample["mask"])


def test_cases_take_turns_over_the_epochs(tmp_path: Path) -> None:
    data = make_volumes(tmp_path, view=Patches(size=PATCH, epoch_samples=2))
    dataset = data.dataset("train", evaluation=False)
    count = len(data.cases("train"))
    drawn = Counter(dataset[epoch, index]["case"] for epoch in range(count) for index in range(2))
    assert set(drawn.values()) == {2} and len(drawn) == count


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_oversampling_places_patches_around_foreground(tmp_path: Path, share: float) -> None:
    data = make_volumes(tmp_path, view=Patches(size=(4, 4, 4), epoch_samples=60, foreground=share))
    dataset = data.dataset("train", evaluation=False)
    with_organ = np.mean([bool((dataset[0, index]["mask"] == 1).any()) for index in range(60)])
    assert with_organ == 1 if share else with_organ < 0.9


def test_two_workers_serve_what_none_serves(tmp_path: Path) -> None:
    batches = []
    for workers in (0, 2):
        data = make_volumes(tmp_path, num_workers=workers)
        batches.append(list(data.train_dataloader()))
    for one, other in zip(*batches, strict=True):
        assert one["case"] == other["case"]
        assert torch.equal(one["image"], other["image"])


def test_slices_are_slices_and_are_augmented_as_pictures(tmp_path: Path) -> None:
    import albumentations

    view = Slices(axis=0, size=(16, 20), epoch_samples=12, foreground=1.0)
    data = make_volumes(tmp_path, view=view)
    dataset = data.dataset("train", evaluation=False)
    sample = dataset[0, 0]
    assert sample["image"].shape == (1, 16, 20) and sample["mask"].shape == (16, 20)
    whole = data.dataset("train")[sample["index"]]["image"]
    windows = whole.unfold(2, 16, 1).unfold(3, 20, 1)
    assert (windows == sample["image"][:, None, None, None]).flatten(4).all(-1).sum() == 1
    assert all((dataset[0, index]["mask"] == 1).any() for index in range(12))
    flipped = make_volumes(tmp_path, view=view, augment=compose([albumentations.HorizontalFlip(p=1.0)]))
    changed = flipped.dataset("train", augment=True, evaluation=False)[0, 0]
    torch.testing.assert_close(changed["image"].flip(2), sample["image"], rtol=1e-5, atol=1e-5)
    assert torch.equal(changed["mask"].flip(1), sample["mask"])


def test_pictures_can_be_cut_into_patches_too(tmp_path: Path) -> None:
    view = Patches(dims=2, samples="in_2d", size=(16, 24), epoch_samples=8)
    data = make_data(tmp_path, view=view)
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (4, 1, 16, 24) and batch["mask"].shape == (4, 16, 24)
    whole = next(iter(data.test_dataloader()))
    net = UNet(in_channels=1, num_classes=2, widths=[4, 8]).eval()
    assert view.predict(net, whole["image"]).shape == (3, 2, 32, 32)


def test_volumes_smaller_than_the_patch_are_filled_with_ignored_edges(tmp_path: Path) -> None:
    data = make_volumes(tmp_path, view=Patches(size=(16, 32, 16), epoch_samples=4))
    sample = data.dataset("train", evaluation=False)[0, 0]
    depth, height, _ = data.dataset("train")[sample["index"]]["mask"].shape
    assert sample["image"].shape == (1, 16, 32, 16)
    assert (sample["mask"][depth:] == 255).all() and (sample["mask"][:, height:] == 255).all()
    assert not (sample["mask"][:depth, :height] == 255).any()
    assert torch.equal(sample["image"][:, depth - 1], sample["image"][:, -1])


# ---- what is refused


def test_views_that_do_not_go_with_the_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"volumes of data=fake are not shown whole; use view=patches or view=slices"):
        make_volumes(tmp_path, view=Whole(), prepare=False)
    with pytest.raises(ConfigError, match=r"view.size=None: data=fake needs a patch of 3 positive numbers"):
        make_volumes(tmp_path, view=Patches(), prepare=False)
    with pytest.raises(ConfigError, match=r"view=slices: data=fake holds pictures"):
        make_data(tmp_path, view=Slices(size=(8, 8)))
    with pytest.raises(ConfigError, match=r"view.overlap=1"):
        Patches(size=PATCH, overlap=1.0)
    with pytest.raises(ConfigError, match=r"view.foreground=2"):
        make_volumes(tmp_path, view=Patches(size=PATCH, foreground=2)).dataset("train", evaluation=False)


def test_the_default_is_whole_pictures_and_patches_of_volumes() -> None:
    assert isinstance(default(dims=2), Whole)
    view = default(dims=3, samples="in_3d", size=[8, 8, 8])
    assert isinstance(view, Patches) and view.input_size((50, 60, 70)) == (8, 8, 8)
    assert Slices(axis=1, patch=[8, 12, 16]).input_size((1, 1, 1)) == (8, 16)


def test_a_three_dimensional_network_goes_through_its_view() -> None:
    net: nn.Module = UNet(in_channels=1, num_classes=2, widths=[4, 8], spatial_dims=3).eval()
    with torch.no_grad():
        found = Patches(size=PATCH).predict(net, torch.randn(1, 1, 9, 20, 17))
    assert found.shape == (1, 2, 9, 20, 17)
