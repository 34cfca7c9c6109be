"""PSPNet and A-PSPNet: counts, pooled cells, the auxiliary head, and what is left without attention."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from medseg.errors import ConfigError
from medseg.nets.pspnet import APSPNet, ChannelGate, PSPNet, PyramidPooling, SpatialGate
from medseg.types import DeepOutput

SMALL: dict[str, Any] = {"layers": [1, 1, 1, 1], "widths": [8, 8, 16, 16, 32]}


def small(net: type[PSPNet] = PSPNet, **arguments: Any) -> PSPNet:
    torch.manual_seed(0)
    return net(in_channels=1, num_classes=2, **{**SMALL, **arguments})


def count(net: type[nn.Module], **arguments: Any) -> int:
    with torch.device("meta"):
        built = net(in_channels=3, num_classes=2, **arguments)
    return sum(parameter.numel() for parameter in built.parameters())


def test_parameter_counts() -> None:
    assert count(PSPNet, aux=False) == 46_582_850
    assert count(PSPNet) == 48_943_172
    with torch.device("meta"):
        trunk = PSPNet(in_channels=3, num_classes=2).backbone
    assert sum(parameter.numel() for parameter in trunk.parameters()) == 23_508_032


def test_parameter_counts_with_attention_are_the_sum_of_the_gates() -> None:
    channel = [2 * c * (c // 16) + c // 16 + c for c in (2048, 4096)]
    assert count(APSPNet, attention="none") == 48_943_172
    assert count(APSPNet, attention="se") == 48_943_172 + sum(channel)
    assert count(APSPNet) == count(APSPNet, attention="dual") == 48_943_172 + sum(channel) + 2 * (2 * 49 + 1)


@pytest.mark.parametrize("sides", [(8, 8), (9, 7), (4, 13)])
def test_the_pyramid_pools_to_1_2_3_and_6_cells(sides: tuple[int, int]) -> None:
    pyramid = PyramidPooling(16).eval()
    cells: list[torch.Tensor] = []
    for branch in pyramid.branches:
        branch.register_forward_pre_hook(lambda _, inputs: cells.append(inputs[0]))
    features = torch.randn(2, 16, *sides)
    with torch.no_grad():
        joined = pyramid(features)
    assert joined.shape == (2, 32, *sides)
    assert torch.equal(joined[:, :16], features)
    for bins, cell in zip((1, 2, 3, 6), cells, strict=True):
        torch.testing.assert_close(cell, F.adaptive_avg_pool2d(features, bins))


def test_one_image_trains_unless_the_published_normalisation_is_asked_for() -> None:
    output = small().train()(torch.randn(1, 1, 64, 64))
    assert isinstance(output, DeepOutput)
    assert all(torch.isfinite(one).all() for one in output.maps)
    with pytest.raises(ConfigError, match="PSPNet trains on at least 2 images a batch"):
        small(cell_norm="batch").train()(torch.randn(1, 1, 64, 64))
    assert count(PSPNet, cell_norm="batch") == 48_943_172


def test_the_auxiliary_head_weighs_two_fifths_and_answers_only_while_training() -> None:
    net = small()
    output = net.train()(torch.randn(2, 1, 67, 71))
    assert isinstance(output, DeepOutput)
    assert output.weights == [1.0, 0.4]
    assert [one.shape for one in output.maps] == [(2, 2, 67, 71)] * 2
    assert torch.is_tensor(small(aux=False).train()(torch.randn(2, 1, 64, 64)))
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        before = net.eval()(image)
        nn.init.zeros_(net.aux_classifier[-1].weight)  # type: ignore[index]
        assert torch.equal(net(image), before)


def test_without_attention_it_is_pspnet_bit_for_bit() -> None:
    plain, none = small().eval(), small(APSPNet, attention="none").eval()
    assert plain.state_dict().keys() == none.state_dict().keys()
    image = torch.randn(2, 1, 67, 71)
    with torch.no_grad():
        assert torch.equal(plain(image), none(image))


@pytest.mark.parametrize("kind", ["se", "cbam", "dual"])
def test_with_open_gates_the_answer_is_that_of_pspnet(kind: str) -> None:
    plain, gated = small().eval(), small(APSPNet, attention=kind).eval()
    missing = gated.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing
    assert all(".channel." in name or ".spatial." in name for name in missing)
    image = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        assert not torch.equal(plain(image), gated(image))
        for gate in gated.modules():
            if isinstance(gate, ChannelGate | SpatialGate):
                last = gate.outlet if isinstance(gate, ChannelGate) else gate.score
                nn.init.zeros_(last.weight)
                nn.init.constant_(last.bias, 50.0)  # type: ignore[arg-type]
        assert torch.equal(plain(image), gated(image))


@pytest.mark.parametrize("kind", ["se", "cbam", "dual"])
def test_gates_are_between_0_and_1_and_learn(kind: str) -> None:
    net = small(APSPNet, attention=kind).train()
    gates: list[torch.Tensor] = []
    for module in net.modules():
        if isinstance(module, ChannelGate | SpatialGate):
            module.register_forward_hook(lambda _, __, output: gates.append(output))
    output = net(torch.randn(2, 1, 64, 64))
    assert len(gates) == (2 if kind == "se" else 4)
    assert all(((gate > 0) & (gate < 1)).all() for gate in gates)
    assert isinstance(output, DeepOutput)
    output.maps[0].square().sum().backward()
    grads = [p.grad for name, p in net.named_parameters() if ".channel." in name or ".spatial." in name]
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads)


def test_unknown_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"net\.attention='nonlocal'.*none, se, cbam, dual"):
        small(APSPNet, attention="nonlocal")
    with pytest.raises(ConfigError, match=r"net\.cell_norm='instance'.*group, batch"):
        small(cell_norm="instance")
