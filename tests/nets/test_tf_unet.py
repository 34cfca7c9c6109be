"""TF-Unet: the U-Net inside it, its Transformers, positions, windows, side outputs."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from medseg.errors import ConfigError
from medseg.nets.tf_unet import Attention, TFUNet, TransformerStage, joined, windows_of
from medseg.nets.unet import UNet
from medseg.types import DeepOutput

SMALL = [4, 8, 16]
FEW = {"depths": [1, 2], "heads": [2, 4]}


def small(channels: int = 1, classes: int = 2, **arguments) -> TFUNet:
    torch.manual_seed(0)
    return TFUNet(in_channels=channels, num_classes=classes, **{"widths": SMALL, **FEW, **arguments})


def count(net: type[nn.Module], **arguments) -> int:
    with torch.device("meta"):
        built = net(in_channels=1, num_classes=1, **arguments)
    return sum(parameter.numel() for parameter in built.parameters())


def test_parameters_are_pinned_and_are_a_unets_and_those_of_the_transformers() -> None:
    widths = [32, 64, 128, 256, 320, 320]
    layers = sum(
        depth * (12 * width**2 + 13 * width) + width * 8**2  # with biases and two LayerNorms; positions
        for width, depth in zip([256, 320, 320], [2, 2, 4], strict=True)
    )
    assert count(TFUNet) == count(UNet, widths=widths) + layers + (64 + 1) + (128 + 1) == 19_740_323
    assert count(TFUNet, spatial_dims=3) == 40_626_403


@torch.no_grad()
@pytest.mark.parametrize("dims", [2, 3])
def test_without_its_transformers_it_is_exactly_the_unet(dims: int) -> None:
    net = small(channels=2, classes=3, spatial_dims=dims).eval()
    image = torch.randn(2, 2, *[(21, 18), (9, 12, 10)][dims - 2])
    unet = UNet(in_channels=2, num_classes=3, widths=SMALL, spatial_dims=dims).eval()
    unet.load_state_dict(net.state_dict(), strict=False)
    assert set(unet.state_dict()) <= set(net.state_dict())
    with_them = net(image)
    net.transformers = nn.ModuleList(nn.Identity() for _ in SMALL)
    assert torch.equal(net(image), unet(image))
    assert not torch.allclose(with_them, unet(image), atol=1e-3)
    none = small(channels=2, classes=3, spatial_dims=dims, depths=[0, 0], heads=[1, 1]).eval()
    assert set(none.state_dict()) - set(unet.state_dict()) == {"sides.0.0.weight", "sides.0.0.bias"}


@torch.no_grad()
def test_layers_that_are_identity_leave_the_map_plus_its_position() -> None:
    stage = TransformerStage(8, 2, 2, positions=False).eval()
    features = torch.randn(1, 8, 5, 6)
    stage.layers = nn.Sequential(nn.Identity(), nn.Identity())
    assert torch.equal(stage(features), features)


@torch.no_grad()
def shifted_answers(*, positions: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a net says around a spot, and around the spot 16 pixels further, away from the image's border."""
    net = small(positions=positions, depths=[2], heads=[4]).eval()  # 32 x 32 places: all see each other
    if positions:
        net.transformers[2].position *= 50  # as learnt: they start small
    image = torch.zeros(1, 1, 128, 128)
    image[..., 52:60, 52:60] = 3 * torch.randn(8, 8)
    here, there = net(image), net(image.roll((16, 16), (-2, -1)))
    return here[..., 32:84, 32:84], there[..., 48:100, 48:100]


def test_translation_by_16_pixels_commutes_only_without_positions() -> None:
    here, there = shifted_answers(positions=False)
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-5)
    assert here.std() > 1e-2
    here, there = shifted_answers(positions=True)
    assert (here - there).abs().max() > 1e-3


@torch.no_grad()
def test_rolling_the_places_rolls_the_answer_only_without_positions() -> None:
    features = torch.randn(1, 8, 6, 10)
    torch.manual_seed(0)
    blind, placed = TransformerStage(8, 2, 4, positions=False), TransformerStage(8, 2, 4)
    for stage, commutes in ((blind, True), (placed, False)):
        same = torch.allclose(stage(features.roll((2, 3), (2, 3))), stage(features).roll((2, 3), (2, 3)), atol=1e-5)
        assert same is commutes


@pytest.mark.parametrize("sides", [(14, 21), (7, 14, 7)])
def test_windows_are_neighbours_and_join_again(sides: tuple[int, ...]) -> None:
    places = torch.stack(torch.meshgrid(*[torch.arange(side) for side in sides], indexing="ij"), dim=-1)
    tokens = torch.stack([places, places + 100])
    windows = windows_of(tokens, 7)
    assert windows.shape == (2 * tokens[0, ..., 0].numel() // 7 ** len(sides), 7 ** len(sides), len(sides))
    assert ((windows.amax(1) - windows.amin(1)) == 6).all()
    assert torch.equal(joined(windows, sides, 7), tokens)


def influence(attention: Attention, sides: tuple[int, ...], place: tuple[int, ...]) -> torch.Tensor:
    """Return which places (bool, *sides) change the answer at one place."""
    tokens = torch.randn(1, *sides, 8, requires_grad=True)
    attention(tokens)[(0, *place)].sum().backward()
    return tokens.grad[0].abs().sum(-1) > 0


def test_small_maps_see_everything_and_large_ones_their_window() -> None:
    attention = Attention(8, 2, global_tokens=60, window=4)
    assert influence(attention, (6, 10), (0, 0)).all()  # 60 places
    seen = influence(attention, (6, 11), (5, 9))  # 66 places in windows of 4, the last ones cut by the border
    expected = torch.zeros(6, 11, dtype=torch.bool)
    expected[4:, 8:] = True
    assert torch.equal(seen, expected)
    deep = influence(attention, (5, 4, 4), (4, 0, 0))
    assert deep[4].all()
    assert not deep[:4].any()


@torch.no_grad()
def test_places_that_fill_up_a_window_are_not_seen() -> None:
    attention = Attention(8, 2, global_tokens=0, window=4).eval()
    tokens = torch.randn(2, 3, 4, 8)  # one window, its last row filled up
    everything = Attention(8, 2, global_tokens=1024)
    everything.load_state_dict(attention.state_dict())
    torch.testing.assert_close(attention(tokens), everything(tokens))


def test_attention_agrees_with_torchs() -> None:
    own, torchs = Attention(8, 2), nn.MultiheadAttention(8, 2, batch_first=True)
    torchs.in_proj_weight.data = own.queries_keys_values.weight.data
    torchs.in_proj_bias.data = own.queries_keys_values.bias.data
    torchs.out_proj.load_state_dict(own.out.state_dict())
    tokens = torch.randn(3, 4, 5, 8)
    flat = tokens.flatten(1, 2)
    torch.testing.assert_close(own(tokens).flatten(1, 2), torchs(flat, flat, flat)[0])


def test_side_outputs_weigh_half_as_much_at_each_level() -> None:
    net = small(widths=[4, 8, 12, 16], classes=3).train()
    output = net(torch.randn(2, 1, 21, 38))
    assert isinstance(output, DeepOutput)
    assert [tuple(one.shape) for one in output.maps] == [(2, 3, 21, 38)] * 3
    assert sum(output.weights) == pytest.approx(1)
    assert all(fine == pytest.approx(2 * coarse) for fine, coarse in pairwise(output.weights))
    assert output.weights[0] == pytest.approx(4 / 7)
    assert isinstance(small(deep_supervision=False).train()(torch.randn(2, 1, 16, 16)), torch.Tensor)
    assert len(small().train()(torch.randn(2, 1, 16, 16)).maps) == 2  # two decoder levels only


def test_wrong_settings_say_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"net\.heads=\[2, 5\]: 5 heads do not divide the 16 channels"):
        small(heads=[2, 5])
    with pytest.raises(ConfigError, match=r"net\.depths=\[1, 2\] and net\.heads=\[4\] must be equally many"):
        small(heads=[4])
    with pytest.raises(ConfigError, match=r"at most one for each of the 3 net\.widths"):
        small(depths=[1] * 4, heads=[1] * 4)
