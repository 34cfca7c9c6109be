"""Attention U-Net: counts, gates, attention maps, forms, MONAI's variant."""

from typing import Any

import pytest
import torch
from torch import nn

from medseg.errors import ConfigError
from medseg.nets.attention_gates import Gate
from medseg.nets.attention_unet import AttentionUNet
from medseg.nets.monai_attention_unet import MonaiAttentionUNet

SMALL = [4, 8, 16, 32]


def small(**options: Any) -> AttentionUNet:
    torch.manual_seed(0)
    return AttentionUNet(in_channels=1, num_classes=3, **{"widths": SMALL, **options}).eval()


def count(net: type[nn.Module], channels: int, classes: int, **options: Any) -> int:
    with torch.device("meta"):
        built = net(in_channels=channels, num_classes=classes, **options)
    return sum(parameter.numel() for parameter in built.parameters())


@pytest.mark.parametrize(("gates", "expected"), [(0, 5_888_004), (1, 6_214_151), (2, 6_473_322), (None, 6_473_322)])
def test_parameters_of_the_released_form_in_3d(gates: int | None, expected: int) -> None:
    assert count(AttentionUNet, 1, 4, spatial_dims=3, gates=gates) == expected


def test_parameters_of_the_plain_form_in_2d() -> None:
    gating = 1024 * 1024 + 2 * 1024
    assert count(AttentionUNet, 1, 1) == 33_449_412 + gating == 34_500_036
    assert count(AttentionUNet, 1, 1, gates=0) == 31_036_481  # the usual U-Net


def test_parameters_of_monais() -> None:
    assert count(MonaiAttentionUNet, 1, 2) == 31_739_250


@pytest.mark.parametrize("form", ["plain", "released"])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("gates", [0, 1, 2])
def test_every_form_answers_at_any_size(form: str, dims: int, gates: int) -> None:
    net = small(form=form, spatial_dims=dims, gates=gates)
    size = (9, 19, 12)[-dims:]
    assert net(torch.rand(2, 1, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("form", ["plain", "released"])
def test_gradients_reach_every_weight(form: str) -> None:
    net = small(form=form).train()
    net(torch.rand(2, 1, 32, 32)).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("dims", [2, 3])
def test_attention_lies_between_zero_and_one_on_all_levels_but_the_finest(dims: int) -> None:
    net = small(spatial_dims=dims, gates=2)
    size = (10, 19, 12)[-dims:]
    maps = net.attention_maps(torch.rand(2, 1, *size))
    assert [tuple(part.shape) for part in maps] == [(2, 2, *size)] * (len(SMALL) - 2)
    assert all(((part > 0) & (part < 1)).all() for part in maps)


def test_open_gates_let_the_skip_through_up_to_w() -> None:
    gate = Gate(8, 16).eval()
    nn.init.constant_(gate.psi.bias, 1e4)
    skip = torch.rand(1, 8, 6, 6)
    gated, attention = gate(skip, torch.rand(1, 16, 3, 3))
    assert (attention == 1).all()
    torch.testing.assert_close(gated, gate.out(skip))


def test_a_gate_follows_its_formula() -> None:
    torch.manual_seed(0)
    gate = Gate(4, 6).eval()
    skip, gating = torch.rand(1, 4, 2, 2), torch.rand(1, 6, 1, 1)
    x = torch.einsum("oiyx,iyx->o", gate.from_skip.weight, skip[0])
    g = gate.from_gating.weight[..., 0, 0] @ gating.flatten() + gate.from_gating.bias
    alpha = torch.sigmoid(gate.psi.weight.flatten() @ (x + g).relu() + gate.psi.bias)
    torch.testing.assert_close(gate(skip, gating)[1], alpha.expand(1, 1, 2, 2))


def test_closed_gates_silence_all_skips_but_the_finest() -> None:
    net = small()
    for gated in net.gated:
        for gate in gated.gates:
            nn.init.constant_(gate.psi.bias, -1e4)
    brought: list[torch.Tensor] = []
    for gated in net.gated:
        gated.gates[0].out[0].register_forward_pre_hook(lambda _, inputs: brought.append(inputs[0]))
    net(torch.rand(1, 1, 16, 16))
    assert len(brought) == 2
    assert not any(part.any() for part in brought)


def test_the_gates_are_steered_from_one_level_deeper() -> None:
    net = small()
    sides: list[tuple[int, int]] = []
    for gated in net.gated:
        gated.register_forward_hook(lambda _, inputs, __: sides.append((inputs[0].shape[-1], inputs[1].shape[-1])))
    net(torch.rand(1, 1, 32, 32))
    assert sides == [(8, 4), (16, 8)]


def test_deep_supervision_mixes_a_score_of_every_level() -> None:
    net = small(form="plain", deep_supervision=True)
    assert len(net.scores) == 3
    assert net.mix.in_channels == 9
    image = torch.rand(1, 1, 32, 32)
    for score in net.scores:  # each score alone moves the answer
        before = net(image)
        with torch.no_grad():
            score.bias += 1
        assert not torch.equal(net(image), before)


def test_monais_answers_in_both_dimensions() -> None:
    for dims in (2, 3):
        net = MonaiAttentionUNet(in_channels=1, num_classes=2, widths=[4, 8, 8], spatial_dims=dims).eval()
        assert net(torch.rand(1, 1, *(9, 11, 6)[-dims:])).shape == (1, 2, *(9, 11, 6)[-dims:])


def test_unknown_options_say_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"net\.form='deep'.*plain, released"):
        small(form="deep")
    with pytest.raises(ConfigError, match=r"net\.gates=3: give 0, 1 or 2"):
        small(gates=3)
    with pytest.raises(ConfigError, match=r"net\.spatial_dims=4: give 2"):
        small(spatial_dims=4)
    with pytest.raises(ConfigError, match=r"net\.spatial_dims=1: give 2"):
        MonaiAttentionUNet(in_channels=1, num_classes=2, spatial_dims=1)
    with pytest.raises(ConfigError, match=r"net\.widths=\[8\].*at least 2 levels"):
        small(widths=[8])
