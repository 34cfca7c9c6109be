"""MSAC-Unet: receptive fields of the cascade, attention over the scales."""

from itertools import pairwise

import torch
from torch import nn

from medseg.nets.thyroid.msac_unet import SCALES, MSACUNet, MultiscaleAttention, ScaleAttention


def test_parameters_are_pinned_and_follow_the_blocks() -> None:
    with torch.device("meta"):
        net = MSACUNet(in_channels=1, num_classes=1)
    widths = [64, 128, 256, 512, 1024]

    def block(inputs: int, outputs: int) -> int:
        half, quarter = outputs // 2, outputs // 4
        cascade = 9 * (inputs * half + half * quarter + quarter * quarter) + 2 * outputs
        squeezed = max(outputs // 16, 32)
        attention = outputs * squeezed + squeezed + 3 * squeezed + 3
        return cascade + attention + outputs**2 + 2 * outputs + inputs * outputs + 2 * outputs

    encoder = sum(block(*pair) for pair in pairwise([1, *widths]))
    decoder = sum(block(2 * width, width) for width in widths[:-1])
    ups = sum(4 * deep * skip + skip for skip, deep in pairwise(widths))
    found = sum(parameter.numel() for parameter in net.parameters())
    assert found == encoder + decoder + ups + 64 + 1 == 15_281_532


@torch.no_grad()
def test_the_three_parts_see_3_5_and_7_pixels() -> None:
    block = MultiscaleAttention(1, 16, norm="batch").eval()
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
    point = torch.zeros(1, 1, 15, 15)
    point[..., 7, 7] = 1
    maps = block.scales(point)
    assert [one.shape[1] for one in maps] == [8, 4, 4]
    for one, side in zip(maps, (3, 5, 7), strict=True):
        rows = one[0, 0].nonzero()[:, 0]
        assert int(rows.max() - rows.min()) + 1 == side


@torch.no_grad()
def test_attention_shares_one_among_the_scales_of_each_image() -> None:
    attention = ScaleAttention(16)
    maps = [torch.rand(3, channels, 5, 6) for channels in (8, 4, 4)]
    weights = attention(maps)
    assert weights.shape == (3, SCALES, 1, 1)
    torch.testing.assert_close(weights.sum(1), torch.ones(3, 1, 1))
    assert (weights[0] - weights[1]).abs().max() > 0  # told from the image
    alone = attention([one[:1] for one in maps])
    torch.testing.assert_close(alone, weights[:1])


@torch.no_grad()
def test_equal_weights_change_nothing_and_a_shut_scale_is_not_seen() -> None:
    block = MultiscaleAttention(2, 16).eval()
    features = torch.randn(2, 2, 9, 9)
    nn.init.zeros_(block.attention.score.weight)
    nn.init.zeros_(block.attention.score.bias)
    plain = torch.relu(block.mix(torch.cat(block.scales(features), 1)) + block.shortcut(features))
    torch.testing.assert_close(block(features), plain)
    block.attention.score.bias[:] = torch.tensor([0.0, 0.0, -1000.0])
    before = block(features)
    block.cascade[2][0].weight.mul_(-3)
    assert torch.equal(block(features), before)
    block.cascade[1][0].weight.mul_(-3)
    assert not torch.equal(block(features), before)


def test_a_batch_of_one_image_of_odd_size_trains() -> None:
    net = MSACUNet(in_channels=1, num_classes=2, widths=[4, 8, 16]).train()
    assert net(torch.randn(1, 1, 30, 17)).shape == (1, 2, 30, 17)
    assert net.spatial_dims == 2
