"""The network of Kayalibay et al.: segmentation maps enlarged and added, features concatenated or added."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import ConfigError
from medseg.nets.kayalibay import KayalibayNet
from medseg.nets.unet import UNet

SMALL = [4, 8, 12, 16]


def small(channels: int = 1, classes: int = 2, **arguments) -> KayalibayNet:
    torch.manual_seed(0)
    return KayalibayNet(in_channels=channels, num_classes=classes, **{"widths": SMALL, **arguments})


def count(net: type[nn.Module], **arguments) -> int:
    with torch.device("meta"):
        built = net(in_channels=1, num_classes=1, **arguments)
    return sum(parameter.numel() for parameter in built.parameters())


def test_parameters_are_a_unets_and_those_of_the_added_heads() -> None:
    widths = [32, 64, 128, 256]
    unet = count(UNet, widths=widths)
    assert count(KayalibayNet) == unet + (64 + 1) + (128 + 1) == 1_926_627
    assert count(KayalibayNet, scales=1) == unet
    # Adding halves the inputs of each level's first convolution.
    assert count(KayalibayNet, skips="add") == 1_926_627 - 9 * (32**2 + 64**2 + 128**2) == 1_733_091
    assert count(KayalibayNet, spatial_dims=3) == 5_601_315


@torch.no_grad()
def test_one_scale_is_the_unet() -> None:
    net = small(channels=2, scales=1).eval()
    unet = UNet(in_channels=2, num_classes=2, widths=SMALL).eval()
    weights = {name.replace("heads.0.", "head."): value for name, value in net.state_dict().items()}
    unet.load_state_dict(weights)
    image = torch.randn(2, 2, 21, 30)
    assert torch.equal(net(image), unet(image))


@torch.no_grad()
@pytest.mark.parametrize("dims", [2, 3])
def test_the_answer_is_the_sum_of_the_enlarged_maps(dims: int) -> None:
    net = small(classes=3, spatial_dims=dims).eval()
    image = torch.randn(1, 1, *[16] * dims)
    mode = "bilinear" if dims == 2 else "trilinear"

    def twice(logits: Tensor) -> Tensor:
        return functional.interpolate(logits, scale_factor=2, mode=mode)

    maps = net.maps(image)
    assert [one.shape[2:].numel() for one in maps] == [16**dims, 8**dims, 4**dims]
    torch.testing.assert_close(net(image), maps[0] + twice(maps[1]) + twice(twice(maps[2])))


@torch.no_grad()
def test_a_constant_added_to_a_coarse_map_arrives_in_the_answer() -> None:
    net = small().eval()
    image = torch.randn(1, 1, 24, 40)
    before = net(image)
    net.heads[2].bias += torch.tensor([1.0, -2.0])
    torch.testing.assert_close(net(image) - before, torch.tensor([1.0, -2.0]).view(1, 2, 1, 1).expand_as(before))


@pytest.mark.parametrize("skips", ["concatenate", "add"])
@pytest.mark.parametrize("dims", [2, 3])
def test_both_kinds_of_skips_carry_the_encoder_to_the_decoder(skips: str, dims: int) -> None:
    net = small(skips=skips, spatial_dims=dims, norm="group")
    for stage in net.stages:  # nothing comes from below: what is left came by the skip
        nn.init.zeros_(stage.up.weight)
    net(torch.randn(2, 1, *[16] * dims)).square().sum().backward()
    assert net.encoder.levels[0][0][0].weight.grad.abs().sum() > 0
    assert not net.encoder.levels[3][0][0].weight.grad.any()


def test_wrong_settings_say_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"net\.scales=4: give 1 to 3"):
        small(scales=4)
    with pytest.raises(ConfigError, match=r"net\.skips='multiply'.*concatenate, add"):
        small(skips="multiply")
