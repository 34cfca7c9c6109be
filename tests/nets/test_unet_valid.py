"""U-Net with valid convolutions: counts, geometry, mirror, tiles, start of the weights."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from medseg.errors import ConfigError
from medseg.nets.unet_valid import UNetValid, mirrored

SMALL = [4, 4, 8, 8, 16]


def small(**options: object) -> UNetValid:
    torch.manual_seed(0)
    return UNetValid(in_channels=1, num_classes=2, **{"widths": SMALL, **options}).eval()


@pytest.mark.parametrize(
    ("channels", "classes", "expected"), [(1, 2, 31_030_658), (3, 2, 31_031_810), (1, 1, 31_030_593)]
)
def test_parameters(channels: int, classes: int, expected: int) -> None:
    with torch.device("meta"):
        net = UNetValid(in_channels=channels, num_classes=classes)
    assert sum(parameter.numel() for parameter in net.parameters()) == expected


def test_there_are_23_convolutional_layers_and_no_normalisation() -> None:
    modules = list(small().modules())
    assert sum(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for module in modules) == 23
    assert not any("Norm" in type(module).__name__ for module in modules)
    assert all(module.padding == (0, 0) for module in modules if isinstance(module, nn.Conv2d))


@pytest.mark.parametrize(("inside", "outside"), [(188, 4), (204, 20), (572, 388)])
def test_valid_shrinks_by_184(inside: int, outside: int) -> None:
    with torch.device("meta"):
        net = UNetValid(in_channels=1, num_classes=2)
        assert net.valid(torch.empty(1, 1, inside, 188)).shape == (1, 2, outside, 4)
    assert net.margin == 92
    assert net.input_side(outside) == inside
    assert net.input_side(outside + 1) == inside + 16


def test_skips_are_cropped_by_4_16_40_and_88() -> None:
    with torch.device("meta"):
        net = UNetValid(in_channels=1, num_classes=2)
        sides: list[int] = []
        for level in net.levels:
            level.register_forward_hook(lambda _, __, output: sides.append(output.shape[-1]))
        for up in net.ups:
            up.register_forward_hook(lambda _, __, output: sides.append(output.shape[-1]))
        net.valid(torch.empty(1, 1, 572, 572))
    skips, ups = sides[:4][::-1], sides[5:]
    assert (skips, ups) == ([64, 136, 280, 568], [56, 104, 200, 392])
    assert [(skip - up) // 2 for skip, up in zip(skips, ups, strict=True)] == [4, 16, 40, 88]


@given(side=st.integers(1, 9), before=st.integers(0, 40), after=st.integers(0, 40))
@settings(max_examples=50, deadline=None)
def test_mirroring_goes_to_and_fro_without_repeating_the_edge(side: int, before: int, after: int) -> None:
    image = torch.arange(side).view(1, 1, 1, side)
    there_and_back = [*range(side), *range(side - 2, 0, -1)] or [0]
    expected = [there_and_back[place % len(there_and_back)] for place in range(-before, side + after)]
    assert mirrored(image, before, (0, after))[0, 0, -1].tolist() == expected


def test_mirroring_is_torchs_reflection_where_that_exists() -> None:
    image = torch.rand(2, 3, 10, 12)
    torch.testing.assert_close(mirrored(image, 5, (7, 9)), functional.pad(image, [5, 9, 5, 7], mode="reflect"))


def test_the_answer_is_the_valid_answer_of_the_mirrored_image() -> None:
    net, image = small(), torch.rand(1, 1, 100, 100)
    with torch.no_grad():
        expected = net.valid(functional.pad(image, [92] * 4, mode="reflect"))
        assert expected.shape[-1] == 100
        torch.testing.assert_close(net(image), expected)


@pytest.mark.parametrize("size", [(1, 1), (5, 2), (33, 70)])
def test_images_smaller_than_the_margin_get_an_answer(size: tuple[int, int]) -> None:
    for tile in (None, 204):
        assert small(tile=tile)(torch.rand(1, 1, *size)).shape == (1, 2, *size)


@pytest.mark.parametrize("tile", [204, 236])
@pytest.mark.parametrize("size", [(70, 33), (64, 100)])
def test_tiles_give_the_answer_of_the_whole(tile: int, size: tuple[int, int]) -> None:
    image = torch.rand(2, 1, *size)
    with torch.no_grad():
        torch.testing.assert_close(small(tile=tile)(image), small()(image), rtol=1e-5, atol=1e-5)


def test_tiles_bound_what_the_net_sees_at_once_and_only_in_eval_mode() -> None:
    net = small(tile=204)
    sides: list[int] = []
    net.levels[0].register_forward_pre_hook(lambda _, inputs: sides.append(inputs[0].shape[-1]))
    net(torch.rand(1, 1, 40, 20))
    assert sides == [204] * 6  # 3 x 2 tiles, 16 apart
    sides.clear()
    net.train()(torch.rand(1, 1, 40, 20))
    assert sides == [204 + 0]  # 20 columns at once: 20 + 184


def test_tiles_that_start_elsewhere_would_not_fit() -> None:
    """The published distance n = tile - 184 is no multiple of 16: pooling cells shift and the answer changes."""
    net, image = small(), torch.rand(1, 1, 240, 204)
    with torch.no_grad():
        whole = net.valid(torch.cat([image, image[:, :, :28]], dim=2))  # 268 rows
        shifted, fitting = (net.valid(image[:, :, start : start + 204]) for start in (20, 16))
    torch.testing.assert_close(whole[:, :, 16:36], fitting, rtol=1e-5, atol=1e-5)
    assert (whole[:, :, 20:40] - shifted).abs().max() > 1e-4


def test_weights_start_with_variance_2_over_fan_in() -> None:
    net = UNetValid(in_channels=1, num_classes=2, widths=[64, 128])
    for module, fan_in in ((net.levels[1][0], 64 * 9), (net.ups[0], 128), (net.convs[0][0], 128 * 9)):
        assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.03)
        assert not module.bias.any()


def test_dropout_acts_at_the_end_of_the_contracting_path_while_training_only() -> None:
    net, image = small(), torch.rand(1, 1, 16, 16)
    assert torch.equal(net(image), net(image))
    net.train()
    assert not torch.equal(net(image), net(image))
    assert torch.equal(small(dropout=0.0).train()(image), small(dropout=0.0).eval()(image))


def test_fewer_levels_keep_the_whole_scheme() -> None:
    image = torch.rand(1, 1, 50, 41)
    net = small(widths=[4, 8, 8])
    assert net.margin == 20
    tiled = small(widths=[4, 8, 8], tile=net.input_side(12))
    torch.testing.assert_close(tiled(image), net(image), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tile", [188, 200, 571])
def test_tiles_off_the_geometry_are_refused(tile: int) -> None:
    with pytest.raises(ConfigError, match=rf"net\.tile={tile}: give 204 or a multiple of 16 more, for instance 572"):
        small(tile=tile)
