"""3D U-Net: the published count and tile, mirror padding, and learning from a few annotated slices."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from medseg.errors import ConfigError
from medseg.losses.pixelwise import CrossEntropy
from medseg.nets.unet3d import UNet3D, margin, mirrored, tile_side
from medseg.types import IGNORE


def meta(**arguments: object) -> UNet3D:
    with torch.device("meta"):
        return UNet3D(in_channels=3, num_classes=3, **arguments)  # type: ignore[arg-type]


def test_the_paper_counts_all_but_the_factors_of_batch_norm() -> None:
    net = meta()
    factors = sum(p.numel() for m in net.modules() if isinstance(m, nn.BatchNorm3d) for p in m.parameters())
    count = sum(p.numel() for p in net.parameters())
    assert (count, count - factors) == (19_074_627, 19_069_955)


def test_the_published_tile_answers_its_middle() -> None:
    tile = torch.empty(1, 3, 132, 132, 116, device="meta")
    assert meta().eval().tile(tile).shape == (1, 3, 44, 44, 28)
    assert (tile_side(44, 3), tile_side(28, 3), margin(3)) == (132, 116, 44)
    assert tile_side(45, 3) == 140


def answered(side: int, poolings: int) -> int | None:
    """Return what is left of a side after the network, counted layer by layer; None if it does not pool evenly."""
    for _ in range(poolings):
        side -= 4
        if side % 2 or side < 2:
            return None
        side //= 2
    side -= 4
    for _ in range(poolings):
        side = 2 * side - 4
    return side if side > 0 else None


@given(st.integers(1, 90), st.integers(1, 4))
def test_no_smaller_tile_covers_a_side(side: int, poolings: int) -> None:
    tile = tile_side(side, poolings)
    left = answered(tile, poolings)
    assert left is not None
    assert left >= side
    assert tile - left == 2 * margin(poolings)
    assert all((answered(smaller, poolings) or 0) < side for smaller in range(4, tile))


@given(st.lists(st.integers(1, 5), min_size=3, max_size=3), st.integers(0, 9), st.integers(0, 9))
def test_mirroring_repeats_as_numpy_does(sides: list[int], before: int, after: int) -> None:
    image = np.random.default_rng(0).normal(size=(1, 2, *sides))
    wanted = np.pad(image, [(0, 0), (0, 0), *[(before, after)] * 3], mode="reflect")
    found = mirrored(torch.from_numpy(image), before, [side + before + after for side in sides])
    assert np.array_equal(found.numpy(), wanted)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("size", [(1, 3, 2), (9, 12, 10)])
def test_volumes_of_any_size_are_answered_at_their_size(padding: str, size: tuple[int, int, int]) -> None:
    net = UNet3D(in_channels=2, num_classes=3, widths=[4, 8, 8], padding=padding).eval()
    with torch.no_grad():
        assert net(torch.randn(1, 2, *size)).shape == (1, 3, *size)


def test_the_mirror_only_matters_near_the_border() -> None:
    net = UNet3D(in_channels=1, num_classes=2, widths=[4, 8]).eval()
    image = torch.randn(1, 1, 20, 22, 24)
    with torch.no_grad():
        whole, middle = net(image), net.tile(image)
    assert middle.shape == (1, 2, 4, 6, 8)
    torch.testing.assert_close(whole[..., 8:-8, 8:-8, 8:-8], middle)


def test_voxels_without_a_label_have_no_gradient_at_all() -> None:
    torch.manual_seed(0)
    mask = torch.full((2, 5, 6, 4), IGNORE)
    mask[0, 2], mask[1, :, 3] = torch.randint(0, 3, (6, 4)), torch.randint(0, 3, (5, 4))
    logits = torch.randn(2, 3, 5, 6, 4, requires_grad=True)
    CrossEntropy([0.2, 1.0, 0.5])(logits, mask).backward()
    silent = (logits.grad == 0).all(1)
    assert torch.equal(silent, mask == IGNORE)


def test_the_loss_is_divided_by_the_weights_of_labelled_voxels_and_dense_when_all_are() -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(1, 3, 4, 4, 4), torch.randint(0, 3, (1, 4, 4, 4))
    weights = torch.tensor([0.2, 1.0, 0.5])
    torch.testing.assert_close(CrossEntropy(weights.tolist())(logits, mask), F.cross_entropy(logits, mask, weights))
    mask[:, 1:] = IGNORE
    picked = -logits.log_softmax(1).gather(1, mask[:, None, :1])[:, 0]
    by_hand = (picked * weights[mask[:, :1]]).sum() / weights[mask[:, :1]].sum()
    torch.testing.assert_close(CrossEntropy(weights.tolist())(logits, mask), by_hand)


def test_a_crop_without_labels_costs_nothing_and_still_has_a_graph() -> None:
    net = UNet3D(in_channels=1, num_classes=2, widths=[4, 8], padding="same").train()
    loss = CrossEntropy()(net(torch.randn(1, 1, 4, 4, 4)), torch.full((1, 4, 4, 4), IGNORE))
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in net.parameters())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"net\.padding='mirror'.*valid, same"):
        UNet3D(in_channels=1, num_classes=2, padding="mirror")
    with pytest.raises(ConfigError, match=r"net\.widths=\[5, 10\].*even"):
        UNet3D(in_channels=1, num_classes=2, widths=[5, 10])
    with pytest.raises(ConfigError, match=r"net\.spatial_dims=2: UNet3D is for volumes"):
        UNet3D(in_channels=1, num_classes=2, spatial_dims=2)
