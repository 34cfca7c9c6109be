"""Swin-Unet against timm's Swin Transformer, by its shapes, its window masks and its parameter count."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.swin_blocks import PatchExpand, PatchMerging, SwinBlock, kept_apart, map_of, windows_of
from medseg.nets.swin_unet import SwinUnet, named_as_timm

TINY: dict[str, Any] = {"dim": 12, "depths": [2, 2, 2], "heads": [1, 2, 4], "window": 4, "drop_path": 0.0}


def tiny(channels: int = 3, classes: int = 2, **arguments: Any) -> SwinUnet:
    torch.manual_seed(0)
    return SwinUnet(in_channels=channels, num_classes=classes, **{**TINY, **arguments}).eval()


@pytest.fixture(scope="module")
def timm_swin() -> nn.Module:
    from timm.models.swin_transformer import SwinTransformer

    torch.manual_seed(5)
    sizes: dict[str, Any] = {"embed_dim": 12, "depths": (2, 2, 2), "num_heads": (1, 2, 4), "window_size": 4}
    return SwinTransformer(img_size=64, num_classes=0, **sizes).eval()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("classes", "expected"), [(9, 27_168_900), (4, 27_168_420), (2, 27_168_228)])
def test_the_published_parameter_count(channels: int, classes: int, expected: int) -> None:
    with torch.device("meta"):
        net = SwinUnet(in_channels=channels, num_classes=classes)
    assert sum(parameter.numel() for parameter in net.parameters()) == expected


def test_another_channel_count_only_widens_the_patch_embedding() -> None:
    with torch.device("meta"):
        three, five = (SwinUnet(in_channels=n, num_classes=2) for n in (3, 5))
    counts = [sum(parameter.numel() for parameter in net.parameters()) for net in (three, five)]
    assert counts[1] - counts[0] == 2 * 16 * 96


def test_224_px_give_224_px() -> None:
    with torch.no_grad():
        assert tiny(1, 4, window=7)(torch.randn(1, 1, 224, 224)).shape == (1, 4, 224, 224)


def test_the_encoder_answers_as_timm_does_with_its_weights(timm_swin: nn.Module, tmp_path: Path) -> None:
    save_file(timm_swin.state_dict(), tmp_path / "swin.safetensors")
    net = tiny(encoder_weights=str(tmp_path / "swin.safetensors"))
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        skips, bottom = net.encoder(image)
        expected = timm_swin.forward_features(image)
    assert [tuple(skip.shape[1:]) for skip in skips] == [(16, 16, 12), (8, 8, 24)]
    torch.testing.assert_close(bottom, expected, rtol=1e-4, atol=1e-5)


def test_weights_are_mirrored_into_the_decoder(timm_swin: nn.Module, tmp_path: Path) -> None:
    save_file(timm_swin.state_dict(), tmp_path / "swin.safetensors")
    net, plain = tiny(encoder_weights=str(tmp_path / "swin.safetensors")), tiny()
    for level, stage in enumerate(net.stages):
        for name, value in stage.blocks.state_dict().items():
            assert torch.equal(value, timm_swin.state_dict()[f"layers.{level}.blocks.{name}"]), name
    assert torch.equal(net.merges[0].weight, plain.merges[0].weight)
    with torch.no_grad():  # a copy, not a tie
        net.stages[0].blocks[0].attn.qkv.weight.zero_()
    assert net.encoder.layers[0].blocks[0].attn.qkv.weight.any()


def test_a_grey_image_is_repeated_and_other_counts_are_inflated(timm_swin: nn.Module, tmp_path: Path) -> None:
    save_file(timm_swin.state_dict(), tmp_path / "swin.safetensors")
    one, two, three = (tiny(n, encoder_weights=str(tmp_path / "swin.safetensors")) for n in (1, 2, 3))
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        grey, pair, colour = (net(image.repeat(1, n, 1, 1)) for n, net in ((1, one), (2, two), (3, three)))
    assert torch.equal(grey, colour)
    # The patch embedding is exact; the heads of the three start from different numbers of random draws.
    weight = timm_swin.state_dict()["patch_embed.proj.weight"]
    torch.testing.assert_close(two.encoder.patch_embed.proj.weight.sum(1), weight.sum(1))
    assert pair.shape == grey.shape


def test_names_of_the_authors_become_those_of_timm() -> None:
    ours = named_as_timm(
        {"layers.0.downsample.norm.weight": torch.zeros(1), "layers.0.blocks.0.norm1.bias": torch.ones(1)}
    )
    assert sorted(ours) == ["layers.0.blocks.0.norm1.bias", "layers.1.downsample.norm.weight"]
    assert sorted(named_as_timm(ours)) == sorted(ours)


def test_expanding_inverts_the_shape_of_merging() -> None:
    features = torch.randn(2, 6, 10, 8)
    merged = PatchMerging(8)(features)
    assert merged.shape == (2, 3, 5, 16)
    assert PatchExpand(16, factor=2, outputs=8)(merged).shape == features.shape
    assert PatchExpand(8, factor=4, outputs=8)(features).shape == (2, 24, 40, 8)


def test_expanding_keeps_each_cell_in_its_place() -> None:
    expand = PatchExpand(4, factor=2, outputs=2)
    with torch.no_grad():
        before = torch.randn(1, 3, 5, 4)
        after = before.clone()
        after[0, 1, 2] += 1
        changed = (expand(before) != expand(after)).any(-1)[0]
    assert changed.nonzero().tolist() == [[2, 4], [2, 5], [3, 4], [3, 5]]


@given(
    height=st.integers(1, 13), width=st.integers(1, 13), window=st.integers(2, 5), shifted=st.booleans()
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_no_token_sees_the_padding_or_across_the_wrap(height: int, width: int, window: int, shifted: bool) -> None:
    padded = [side + -side % window for side in (height, width)]
    shift = [window // 2 if shifted and side > window else 0 for side in padded]
    apart = kept_apart((height, width), padded, shift, window)
    places = torch.stack(torch.meshgrid(*[torch.arange(side) for side in padded], indexing="ij"), -1)
    inside = windows_of(places.roll([-step for step in shift], dims=(0, 1))[None], window)
    if apart is None:
        apart = torch.zeros(len(inside), window**2, window**2, dtype=torch.bool)
    real = (inside < torch.tensor([height, width])).all(-1)
    # Neighbours in a window are neighbours in the image: less than a window apart along both axes.
    near = ((inside[:, :, None] - inside[:, None, :]).abs() < window).all(-1)
    expected = real[:, :, None] & real[:, None, :] & near
    mutual = real[:, :, None] & real[:, None, :]
    assert torch.equal(~apart & mutual, expected)
    assert not (~apart & (real[:, :, None] != real[:, None, :])).any()
    assert not apart.all(-1).any()  # every token sees at least itself


def test_a_change_at_one_border_does_not_reach_the_other() -> None:
    torch.manual_seed(0)
    block = SwinBlock(8, 2, window=4, shifted=True).eval()
    before = torch.randn(1, 12, 12, 8)
    after = before.clone()
    after[0, 0, 0] += 1
    with torch.no_grad():
        changed = (block(before) != block(after)).any(-1)[0]
    assert changed[:2, :2].all()
    assert changed.sum() == 4  # the shifted window in the corner holds two by two tokens


def test_padding_inside_a_block_changes_nothing() -> None:
    torch.manual_seed(0)
    block = SwinBlock(8, 2, window=4, shifted=False).eval()
    features = torch.randn(1, 6, 4, 8)
    with torch.no_grad():
        whole, lower = block(features), block(torch.cat([features[:, 4:], torch.full((1, 2, 4, 8), 9.0)], 1))
        alone = block(features[:, 4:])
    torch.testing.assert_close(whole[:, 4:], alone)
    assert not torch.allclose(lower[:, :2], alone)  # real tokens in the same places would have been seen


def test_windows_come_back_as_the_map() -> None:
    features = torch.randn(2, 8, 12, 3)
    assert torch.equal(map_of(windows_of(features, 4), 4, 8, 12), features)


def test_shifting_alternates_and_paths_drop_from_none_to_the_last() -> None:
    net = tiny(drop_path=0.2)
    for stage in itertools.chain(net.encoder.layers, net.stages):
        assert [block.shift for block in stage.blocks] == [0, 2]
    rates = [block.drop_path.p for stage in net.encoder.layers for block in stage.blocks]
    torch.testing.assert_close(Tensor(rates), torch.linspace(0, 0.2, 6))


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ConfigError, match=r"net\.depths=\[2, 2\] and net\.heads=\[1\]"):
        tiny(depths=[2, 2], heads=[1])
    with pytest.raises(ConfigError, match=r"net\.heads=\[5, 2, 4\] must divide the channels \[12, 24, 48\]"):
        tiny(heads=[5, 2, 4])
    with pytest.raises(ConfigError, match=r"net\.window=1"):
        tiny(window=1)
