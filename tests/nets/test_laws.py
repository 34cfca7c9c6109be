"""What the thyroid networks promise about their inside."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from medseg.errors import ConfigError
from medseg.nets.blocks import PyramidAttention, area_means
from medseg.nets.thyroid.dmunet import DMUNet, MirroredBranch
from medseg.nets.thyroid.jpu_unet import JointPyramidUpsampling, JPUUNet
from medseg.nets.thyroid.reagunet import AttentionGate, ReAgUNet, ResidualUnit
from medseg.types import BranchOutput

SMALL = [8, 16, 32, 64, 128]


def test_jpu_map_is_on_the_grid_of_level_three_with_dilations_1_2_4_8() -> None:
    net = JPUUNet(in_channels=1, num_classes=2, widths=SMALL).eval()
    levels = net.encoder(torch.randn(1, 1, 64, 96))
    joint = net.jpu(levels[net.level :])
    assert joint.shape == (1, 4 * 16, 16, 24)
    assert joint.shape[-2:] == levels[2].shape[-2:]
    assert [branch[0][0].dilation for branch in net.jpu.branches] == [(1, 1), (2, 2), (4, 4), (8, 8)]
    assert all(branch[0][0].groups == 48 for branch in net.jpu.branches)


def test_constant_levels_give_a_constant_jpu_map_away_from_the_border() -> None:
    torch.manual_seed(0)
    jpu = JointPyramidUpsampling([4, 8, 16], 4).eval()
    levels = [torch.full((1, channels, side, side), 0.7) for channels, side in ((4, 64), (8, 32), (16, 16))]
    joint = jpu(levels)
    border = 6 + 8  # the coarsest map's padded cell after resizing by four, then the widest dilation
    inner = joint[..., border:-border, border:-border]
    torch.testing.assert_close(inner, inner[..., :1, :1].expand_as(inner))
    assert inner.std() > 0
    assert (joint - joint[..., 32:33, 32:33]).abs().max() > 1e-4  # the border is not constant: the law is no accident


@pytest.mark.parametrize("widths", [[8, 16, 32], [8, 16, 32, 64]])
@pytest.mark.parametrize("mode", ["augment", "replace"])
def test_jpu_unet_takes_other_depths(widths: list[int], mode: str) -> None:
    net = JPUUNet(in_channels=1, num_classes=2, widths=widths, mode=mode).eval()
    assert net(torch.zeros(1, 1, 20, 21)).shape == (1, 2, 20, 21)


def test_jpu_unet_replace_uses_no_coarse_decoder() -> None:
    net = JPUUNet(in_channels=1, num_classes=2, widths=SMALL, mode="replace")
    assert len(net.stages) == 2
    with pytest.raises(ConfigError, match=r"net\.mode='add'.*augment, replace"):
        JPUUNet(in_channels=1, num_classes=2, widths=SMALL, mode="add")


def test_residual_unit_with_a_silent_body_is_the_identity() -> None:
    unit = ResidualUnit(6).train()
    nn.init.zeros_(unit.body[1][1].weight)
    nn.init.zeros_(unit.body[1][1].bias)
    features = F.relu(torch.randn(2, 6, 9, 9))
    assert torch.equal(unit(features), features)


def test_attention_is_within_0_and_1_and_wide_open_it_passes_the_skip() -> None:
    gate = AttentionGate(6, 12, 6).eval()
    skip, gating = torch.randn(2, 6, 8, 10), torch.randn(2, 12, 4, 5)
    attention = gate.attention(skip, gating)
    assert attention.shape == (2, 1, 8, 10)
    assert 0 < attention.min() < attention.max() < 1
    nn.init.constant_(gate.score.bias, 100.0)
    gated, opened = gate(skip, gating)
    assert torch.equal(opened, torch.ones_like(opened))
    torch.testing.assert_close(gated, gate.out(skip))
    nn.init.constant_(gate.score.bias, -100.0)
    torch.testing.assert_close(gate(skip, gating)[0], gate.out(torch.zeros_like(skip)))


def test_attention_maps_cover_the_image_for_every_skip() -> None:
    net = ReAgUNet(in_channels=1, num_classes=2, widths=SMALL).eval()
    maps = net.attention_maps(torch.randn(2, 1, 67, 50))
    assert [tuple(one.shape) for one in maps] == [(2, 1, 67, 50)] * 4
    assert all(one.min() >= 0 and one.max() <= 1 for one in maps)


def test_residual_encoder_and_half_gates_answer() -> None:
    net = ReAgUNet(in_channels=1, num_classes=2, widths=SMALL, residual_in=True, inter=0.5).eval()
    assert net(torch.zeros(1, 1, 33, 40)).shape == (1, 2, 33, 40)


@pytest.mark.parametrize("size", [(6, 6), (4, 7), (2, 3), (13, 9)])
@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_area_means_are_adaptive_average_pooling(size: tuple[int, int], bins: int) -> None:
    features = torch.randn(2, 3, *size)
    torch.testing.assert_close(area_means(features, bins), F.adaptive_avg_pool2d(features, bins))


def test_pyramid_attention_lies_between_once_and_twice_its_input() -> None:
    features = torch.rand(1, 8, 4, 5) + 0.1
    ratio = PyramidAttention(8)(features) / features
    assert 1 < ratio.min() < ratio.max() < 2


def test_dmunet_returns_its_branches_while_training_and_the_fused_logits_else() -> None:
    net = DMUNet(in_channels=1, num_classes=3, widths=SMALL).train()
    image = torch.randn(2, 1, 37, 41)
    output = net(image)
    assert isinstance(output, BranchOutput)
    assert output.fused.shape == (2, 3, 37, 41)
    assert [tuple(branch.shape) for branch in output.branches] == [(2, 3, 37, 41)] * 2
    assert output.margin is not None
    assert output.margin.shape == (2, 1, 37, 41)
    assert net.eval()(image).shape == (2, 3, 37, 41)


@pytest.mark.parametrize(("branches", "has_margin"), [("u", False), ("mirrored", True)])
def test_each_branch_works_alone(branches: str, has_margin: bool) -> None:
    net = DMUNet(in_channels=1, num_classes=2, widths=SMALL, branches=branches)
    output = net(torch.randn(2, 1, 32, 48))
    assert output.branches == []
    assert (output.margin is not None) is has_margin
    (output.fused.sum() + (output.margin.sum() if has_margin else 0)).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert net.eval()(torch.zeros(1, 1, 32, 48)).shape == (1, 2, 32, 48)


def test_a_branch_alone_is_the_branch_of_both() -> None:
    both = DMUNet(in_channels=1, num_classes=2, widths=SMALL).eval()
    image = torch.randn(1, 1, 32, 32)
    for number, branches in enumerate(("u", "mirrored")):
        alone = DMUNet(in_channels=1, num_classes=2, widths=SMALL, branches=branches).eval()
        alone.load_state_dict({k: v for k, v in both.state_dict().items() if k in alone.state_dict()})
        torch.testing.assert_close(alone(image), both._outputs(image).branches[number])


def test_the_mirrored_grid_grows_to_four_times_and_to_twice_for_large_images() -> None:
    branch = MirroredBranch(1, 2, [4, 8, 16])
    assert branch.scales(256) == [1, 2, 4]
    assert branch.scales(257) == [1, 2, 2]
    assert MirroredBranch(1, 2, [4, 8, 16], max_scale=1).scales(64) == [1, 1, 1]
    grids = []
    for block in branch.inward:
        block.register_forward_hook(lambda _module, _inputs, output: grids.append(tuple(output.shape[-2:])))
    branch.eval()(torch.zeros(1, 1, 16, 24), 24)
    branch(torch.zeros(1, 1, 16, 24), 300)
    assert grids == [(16, 24), (32, 48), (64, 96), (16, 24), (32, 48), (32, 48)]


def test_the_margin_changes_which_class_the_mirrored_branch_prefers() -> None:
    branch = MirroredBranch(1, 2, [4, 8, 16]).eval()
    image = torch.randn(1, 1, 16, 16)
    nn.init.constant_(branch.margin[1].bias, -100.0)
    _, closed, _ = branch(image, 16)
    nn.init.constant_(branch.margin[1].bias, 100.0)
    _, opened, _ = branch(image, 16)
    shift = (opened - closed).softmax(1)
    assert (shift[:, 0] - shift[:, 1]).abs().min() > 1e-4


def test_dmunet_refuses_unknown_branches_and_scales() -> None:
    with pytest.raises(ConfigError, match=r"net\.branches='v'.*both, u, mirrored"):
        DMUNet(in_channels=1, num_classes=2, widths=SMALL, branches="v")
    with pytest.raises(ConfigError, match=r"net\.max_scale='8'.*1, 2, 4"):
        DMUNet(in_channels=1, num_classes=2, widths=SMALL, max_scale=8)
