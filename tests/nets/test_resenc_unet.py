"""Residual-encoder U-Net: the parameter count layer by layer, blocks, strides, side outputs, first weights."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from medseg.errors import ConfigError
from medseg.nets.deep import halving_weights, roomy
from medseg.nets.resenc_unet import ResEncUNet, ResidualBlock
from medseg.types import DeepOutput

SMALL = {"widths": [4, 8, 8, 8], "blocks": [1, 1, 2, 1]}


def by_hand(widths: list[int], taps: int, up: int, heads: int, channels: int = 1, classes: int = 2) -> int:
    """Return the parameters of the published layers: convolutions with bias, two norm factors a channel."""

    def conv(inputs: int, outputs: int) -> int:
        return inputs * outputs * taps + outputs + 2 * outputs

    total, entering = conv(channels, widths[0]), widths[0]
    for width, blocks in zip(widths, [1, 3, 4, 6, 6, 6], strict=True):
        total += conv(entering, width) + (2 * blocks - 1) * conv(width, width)
        total += entering * width + 2 * width if entering != width else 0  # the shortcut's projection
        entering = width
    total += sum(deep * skip * up + skip + conv(2 * skip, skip) for skip, deep in pairwise(widths))
    return total + sum(width * classes + classes for width in widths[:heads])


@pytest.mark.parametrize(
    ("dims", "deep", "expected"),
    [(2, True, 71_815_560), (2, False, 71_814_658), (3, True, 102_349_128), (3, False, 102_348_226)],
)
def test_the_parameters_are_those_counted_by_hand(dims: int, deep: bool, expected: int) -> None:
    most = 512 if dims == 2 else 320
    widths = [min(width, most) for width in (32, 64, 128, 256, 512, 512)]
    with torch.device("meta"):
        net = ResEncUNet(in_channels=1, num_classes=2, spatial_dims=dims, deep_supervision=deep)
    assert list(net.widths) == widths
    assert by_hand(widths, 3**dims, 2**dims, 4 if deep else 1) == expected
    assert sum(parameter.numel() for parameter in net.parameters()) == expected


def test_levels_have_1_3_4_6_6_6_blocks_and_the_grid_is_halved_five_times() -> None:
    with torch.device("meta"):
        net = ResEncUNet(in_channels=1, num_classes=2)
    assert [len(level) for level in net.levels] == [1, 3, 4, 6, 6, 6]
    assert net.stride == (32, 32)
    sizes: list[int] = []
    for level in net.levels:
        level.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.shape[-1]))
    net.eval()(torch.empty(1, 1, 64, 64, device="meta"))
    assert sizes == [64, 32, 16, 8, 4, 2]


@pytest.mark.parametrize(("dims", "size"), [(2, (13, 30)), (3, (5, 9, 17))])
def test_training_answers_on_several_levels_at_the_image_size(dims: int, size: tuple[int, ...]) -> None:
    net = ResEncUNet(in_channels=1, num_classes=3, spatial_dims=dims, **SMALL)  # type: ignore[arg-type]
    image = torch.randn(1, 1, *size)  # one image is enough
    output = net.train()(image)
    assert isinstance(output, DeepOutput)
    assert [tuple(one.shape) for one in output.maps] == [(1, 3, *size)] * 2
    assert output.weights == pytest.approx([2 / 3, 1 / 3])
    torch.testing.assert_close(net.eval()(image), output.maps[0])  # instance norm has no two modes
    net.deep_supervision = False
    assert isinstance(net.train()(image), torch.Tensor)


def test_weights_halve_and_sum_to_one() -> None:
    assert halving_weights(4) == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15])
    assert halving_weights(1) == [1.0]


def test_an_image_of_one_deepest_element_gets_a_second_one() -> None:
    assert roomy((8, 8), (8, 8)) == (8, 16)
    assert roomy((9, 8), (8, 8)) == (8, 8)
    assert roomy((4, 5, 6), (8, 8, 8)) == (8, 8, 16)
    net = ResEncUNet(in_channels=1, num_classes=2, **SMALL).train()  # type: ignore[arg-type]
    assert net(torch.randn(1, 1, 8, 8)).maps[0].shape == (1, 2, 8, 8)


def test_a_block_starts_as_its_shortcut() -> None:
    net = ResEncUNet(in_channels=1, num_classes=2, **SMALL)  # type: ignore[arg-type]
    block = next(module for module in net.modules() if isinstance(module, ResidualBlock) and not module.shortcut)
    features = torch.randn(1, 4, 6, 6).relu()
    torch.testing.assert_close(block(features), features)
    other = ResEncUNet(in_channels=1, num_classes=2, zero_residual=False, **SMALL)  # type: ignore[arg-type]
    assert all(module.second[1].weight.all() for module in other.modules() if isinstance(module, ResidualBlock))


def test_after_one_step_every_parameter_learns_although_blocks_start_as_shortcuts() -> None:
    torch.manual_seed(0)
    net = ResEncUNet(in_channels=1, num_classes=2, **SMALL).train()  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        maps = net(torch.randn(2, 1, 24, 24)).maps
        sum((one * torch.linspace(-1, 1, one.numel()).view(one.shape)).sum() for one in maps).backward()
        optimizer.step()
    assert not [name for name, parameter in net.named_parameters() if not parameter.grad.any()]


def test_thick_slices_take_strides_and_kernels_of_their_own() -> None:
    net = ResEncUNet(
        in_channels=1, num_classes=2, spatial_dims=3, widths=[4, 8, 8], strides=[1, [1, 2, 2], 2],
        kernels=[[1, 3, 3], 3, 3],
    ).eval()  # fmt: skip
    assert net.stride == (2, 4, 4)
    assert net.stem[0].kernel_size == (1, 3, 3)
    assert net(torch.randn(1, 1, 3, 9, 8)).shape == (1, 2, 3, 9, 8)


def test_a_strided_first_level_still_answers_at_the_image_size() -> None:
    net = ResEncUNet(in_channels=1, num_classes=2, widths=[4, 8, 8], strides=[2, 2, 2]).eval()
    assert net(torch.randn(1, 1, 17, 16)).shape == (1, 2, 17, 16)


def test_projections_have_no_bias_and_all_other_convolutions_one() -> None:
    net = ResEncUNet(in_channels=1, num_classes=2, **SMALL)  # type: ignore[arg-type]
    without = [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d) and module.bias is None]
    assert len(without) == 1
    assert all("shortcut" in name for name in without)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"net\.blocks=\[1, 2\]: give 3 positive"):
        ResEncUNet(in_channels=1, num_classes=2, widths=[4, 8, 8], blocks=[1, 2])
    with pytest.raises(ConfigError, match=r"net\.strides=\[\[2, 2\]\]: give 3 entries"):
        ResEncUNet(in_channels=1, num_classes=2, widths=[4, 8, 8], strides=[2])
    with pytest.raises(ConfigError, match=r"net\.strides=.*of 2 positive factors"):
        ResEncUNet(in_channels=1, num_classes=2, widths=[4, 8, 8], strides=[1, [1, 2, 2], 2])
    with pytest.raises(ConfigError, match=r"net\.kernels=.*odd sides"):
        ResEncUNet(in_channels=1, num_classes=2, widths=[4, 8, 8], kernels=[3, 2, 3])
    with pytest.raises(ConfigError, match=r"net\.norm='layer'"):
        ResEncUNet(in_channels=1, num_classes=2, widths=[4, 8, 8], norm="layer")
