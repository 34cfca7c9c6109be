"""V-Net in both forms: parameter counts, stages, sums, and channels that do not divide 16."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from medseg.errors import ConfigError
from medseg.nets.vnet import Stage, VNet, VNetPaper


def count(net: type[nn.Module], channels: int = 1, **arguments: object) -> int:
    with torch.device("meta"):
        built = net(in_channels=channels, num_classes=2, **arguments)
    return sum(parameter.numel() for parameter in built.parameters())


def test_the_released_network_has_the_parameters_of_the_library() -> None:
    assert count(VNet) == 45_597_930
    # One slope a channel for each of the 3,618 channels behind 32 activations.
    assert count(VNet, slopes="channel") == 45_601_516
    assert count(VNet, spatial_dims=2) == 9_358_762


def test_the_figure_has_the_parameters_counted_by_hand() -> None:
    widths, convs = [16, 32, 64, 128, 256], [1, 2, 3, 3, 3]
    down = sum(a * b * 8 + b for a, b in pairwise(widths))
    left = (125 + 1) * 16 + sum((w * w * 125 + w) * n for w, n in zip(widths[1:], convs[1:], strict=True))
    up = sum(deep * skip * 8 + skip for deep, skip in ((256, 128), (256, 64), (128, 32), (64, 16)))
    right = sum((w * w * 125 + w) * n for w, n in ((256, 3), (128, 3), (64, 2), (32, 1)))
    slopes = sum(w * n for w, n in zip(widths, convs, strict=True)) + sum(widths[1:]) + sum(widths[:-1])
    slopes += 256 * 3 + 128 * 3 + 64 * 2 + 32
    assert down + left + up + right + slopes + 32 * 2 + 2 == 65_175_314 == count(VNetPaper)
    assert count(VNetPaper, norm="batch") == 65_175_314 + 2 * slopes == 65_182_226


def test_the_figure_halves_the_grid_four_times_and_takes_1_2_3_3_3_convolutions() -> None:
    net = VNetPaper(in_channels=1, num_classes=2, widths=[4, 8, 8, 8, 8]).eval()
    assert [len(stage.convs) for stage in net.left] == [1, 2, 3, 3, 3]
    assert [len(stage.convs) for stage in reversed(net.right)] == [3, 3, 2, 1]
    with torch.device("meta"):
        whole = VNetPaper(in_channels=1, num_classes=2)
    seen: list[tuple[int, ...]] = []
    whole.left[4].register_forward_hook(lambda _module, _inputs, output: seen.append(tuple(output.shape)))
    assert whole(torch.empty(1, 1, 64, 128, 128, device="meta")).shape == (1, 2, 64, 128, 128)
    assert seen == [(1, 256, 4, 8, 8)]


def test_a_stage_with_silent_convolutions_passes_its_input_through_the_last_activation() -> None:
    stage = Stage(6, inputs=2, convs=2, norm="none", spatial_dims=3)
    for conv in stage.convs:
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
    image = torch.randn(1, 2, 3, 4, 5)
    repeated = torch.cat([image, image, image], dim=1)
    torch.testing.assert_close(stage(image), torch.where(repeated > 0, repeated, 0.25 * repeated))


@pytest.mark.parametrize("net", [VNet, VNetPaper])
@pytest.mark.parametrize(("dims", "size"), [(2, (17, 30)), (3, (5, 9, 17))])
def test_sizes_and_channels_that_do_not_divide_16_are_completed(
    net: type[nn.Module], dims: int, size: tuple[int, ...]
) -> None:
    small = {"widths": [4, 8, 8]} if net is VNetPaper else {}
    built = net(in_channels=3, num_classes=2, spatial_dims=dims, **small).eval()
    with torch.no_grad():
        assert built(torch.randn(1, 3, *size)).shape == (1, 2, *size)


def test_empty_channels_change_nothing() -> None:
    torch.manual_seed(0)
    three = VNet(in_channels=3, num_classes=2, spatial_dims=2).eval()
    four = VNet(in_channels=4, num_classes=2, spatial_dims=2).eval()
    four.load_state_dict(three.state_dict())
    image = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(three(image), four(torch.cat([image, torch.zeros(1, 1, 16, 16)], dim=1)))


def test_dropout_of_pictures_drops_maps_and_not_whole_pictures() -> None:
    net = VNet(in_channels=1, num_classes=2, spatial_dims=2, dropout=0.5)
    kinds = {type(module) for module in net.modules() if "Dropout" in type(module).__name__}
    assert kinds == {nn.Dropout2d}
    assert {module.p for module in net.modules() if isinstance(module, nn.Dropout2d)} == {0.5}
    image = torch.randn(1, 1, 16, 16)
    off = VNet(in_channels=1, num_classes=2, spatial_dims=2).eval()
    off.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(net.eval()(image), off(image))


def test_without_dropout_nothing_is_dropped_while_training() -> None:
    net = VNet(in_channels=1, num_classes=2, spatial_dims=2).train()
    image = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(net(image), net(image))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"net\.slopes='own'.*shared, channel"):
        VNet(in_channels=1, num_classes=2, slopes="own")
    with pytest.raises(ConfigError, match=r"net\.in_channels=17: VNet repeats them to 16"):
        VNet(in_channels=17, num_classes=2)
    with pytest.raises(ConfigError, match=r"net\.dropout=1\.0"):
        VNet(in_channels=1, num_classes=2, dropout=1.0)
    with pytest.raises(ConfigError, match=r"net\.norm='group'.*none, batch"):
        VNetPaper(in_channels=1, num_classes=2, norm="group")
    with pytest.raises(ConfigError, match=r"net\.widths=\[4, 8\].*the 5 image channels"):
        VNetPaper(in_channels=5, num_classes=2, widths=[4, 8])
