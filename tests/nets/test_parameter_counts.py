"""Parameter counts of the default widths; built on the meta device, so nothing is allocated."""

from typing import Any

import pytest
import torch
from torch import nn

from medseg.nets.smp import SmpNet
from medseg.nets.thyroid.dmunet import DMUNet
from medseg.nets.thyroid.jpu_unet import JPUUNet
from medseg.nets.thyroid.mgunet import MGUNet
from medseg.nets.thyroid.reagunet import ReAgUNet
from medseg.nets.unet import UNet


def count(net: type[nn.Module], channels: int = 1, classes: int = 1, **arguments: Any) -> int:
    with torch.device("meta"):
        built = net(in_channels=channels, num_classes=classes, **arguments)
    return sum(parameter.numel() for parameter in built.parameters())


@pytest.mark.parametrize(
    ("channels", "classes", "up", "expected"),
    [
        (3, 2, "transpose", 31_037_698),
        (1, 2, "transpose", 31_036_546),
        (1, 1, "transpose", 31_036_481),
        (3, 2, "bilinear", 17_263_042),
    ],
)
def test_unet(channels: int, classes: int, up: str, expected: int) -> None:
    assert count(UNet, channels, classes, up=up) == expected


def test_unet_of_the_comparison_with_unetpp() -> None:
    widths = [32, 64, 128, 256, 512]
    assert count(UNet, widths=widths, norm="none") == 7_759_521  # published: 7.76 M
    # Two numbers a channel of the normalisations in place of one bias.
    assert count(UNet, widths=widths) == 7_759_521 + 2 * sum(widths) + 2 * sum(widths[:-1])


def test_mgunet_is_a_unet() -> None:
    assert count(MGUNet) == 31_036_481
    assert count(MGUNet, mark_mode="channel") == 31_036_481 + 64 * 9


def test_jpu_unet() -> None:
    assert count(JPUUNet) == 35_086_145
    assert count(JPUUNet, mode="replace") == 23_023_681
    with torch.device("meta"):
        module = JPUUNet(in_channels=1, num_classes=1).jpu
    assert sum(parameter.numel() for parameter in module.parameters()) == 2_279_680


def test_reagunet() -> None:
    assert count(ReAgUNet) == 39_749_125
    assert count(ReAgUNet, inter=0.5) == 38_703_685
    assert count(ReAgUNet, residual_in=True) == 39_749_125 + 700_352


def test_dmunet_is_pinned() -> None:
    assert count(DMUNet) == 8_615_774
    assert count(DMUNet, branches="u") == 8_549_921
    assert count(DMUNet, branches="mirrored") == 51_380
    assert count(DMUNet, 1, 2) > count(DMUNet)


def test_smp_unet() -> None:
    assert count(SmpNet) == 24_430_097
    assert count(SmpNet, 3, 2, encoder_name="resnet50") == 32_521_250


def test_deeplabv3plus_on_efficientnet() -> None:
    assert count(SmpNet, 3, 1, architecture="DeepLabV3Plus", encoder_name="efficientnet-b6") == 41_970_985
