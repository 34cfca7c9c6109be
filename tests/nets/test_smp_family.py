"""Every architecture of segmentation_models_pytorch as an option: counts, what trains, small images, refusals."""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from medseg.errors import ConfigError
from medseg.nets.smp import ARCHITECTURES, SmpNet

FOLDER = Path(__file__).resolve().parents[2] / "conf" / "net"
TINY_DPT = {
    "encoder_name": "tu-vit_tiny_patch16_224",
    "options": {
        "dynamic_img_size": True, "decoder_intermediate_channels": [8, 8, 8, 8], "decoder_fusion_channels": 8
    },
}  # fmt: skip


def built(channels: int = 3, classes: int = 2, **arguments: Any) -> SmpNet:
    torch.manual_seed(0)
    return SmpNet(in_channels=channels, num_classes=classes, **{"encoder_name": "resnet18", **arguments})


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def meta(**arguments: Any) -> SmpNet:
    with torch.device("meta"):
        return built(**arguments)


def test_every_architecture_is_an_option() -> None:
    options = [OmegaConf.load(path) for path in FOLDER.glob("smp_*.yaml")]
    assert sorted(option.architecture for option in options) == sorted(ARCHITECTURES)


@pytest.mark.parametrize(
    ("architecture", "encoder", "channels", "expected"),
    [
        ("Unet", "resnet50", 3, 32_521_250),
        ("UnetPlusPlus", "resnet50", 3, 48_985_890),
        ("DeepLabV3", "resnet50", 3, 39_633_986),
        ("DeepLabV3Plus", "resnet50", 3, 26_677_842),
        ("PSPNet", "resnet50", 3, 24_305_602),
        ("UnetPlusPlus", "resnet34", 1, 26_072_482),
        ("MAnet", "resnet34", 1, 31_777_506),
        ("Linknet", "resnet34", 1, 21_765_698),
        ("FPN", "resnet34", 1, 23_149_250),
        ("DeepLabV3", "resnet34", 1, 26_001_090),
        ("DeepLabV3Plus", "resnet34", 1, 22_431_442),
        ("PAN", "resnet34", 1, 21_469_833 - 262),
        ("UPerNet", "resnet34", 1, 29_593_666),
        ("Segformer", "resnet34", 1, 21_870_530),
    ],
)
def test_parameter_counts_are_those_of_the_library_less_idle_biases_of_pan(
    architecture: str, encoder: str, channels: int, expected: int
) -> None:
    assert count(meta(architecture=architecture, encoder_name=encoder, channels=channels)) == expected


@pytest.mark.parametrize("option", ["smp_pspnet", "smp_deeplabv3plus", "smp_dpt"])
def test_an_option_with_settings_of_its_own_is_built_with_them(option: str) -> None:
    settings = OmegaConf.load(FOLDER / f"{option}.yaml")
    net = meta(
        channels=1, architecture=settings.architecture, encoder_name=settings.encoder_name, options=settings.options
    )
    expected = {"smp_pspnet": 22_075_970, "smp_deeplabv3plus": 22_431_442, "smp_dpt": 120_614_658}
    assert count(net) == expected[option]
    assert net.UNTRAINED == ()


def test_deeplabv3plus_has_the_rates_of_the_paper() -> None:
    settings = OmegaConf.load(FOLDER / "smp_deeplabv3plus.yaml")
    net = meta(architecture="DeepLabV3Plus", options=settings.options)
    rates = {module.dilation[0] for module in net.model.decoder.aspp.modules() if isinstance(module, nn.Conv2d)}
    assert rates == {1, 6, 12, 18}


def test_pspnet_of_the_library_leaves_22_million_parameters_untrained_and_says_so() -> None:
    net = meta(architecture="PSPNet", encoder_name="resnet50")
    silent = [p.numel() for name, p in net.named_parameters() if name.startswith(net.UNTRAINED)]
    assert sum(silent) == 22_063_104
    small = built(architecture="PSPNet").train()
    small(torch.randn(2, 3, 32, 32)).square().sum().backward()
    for name, parameter in small.named_parameters():
        assert (parameter.grad is None) == name.startswith(small.UNTRAINED), name


def test_dilated_pspnet_trains_all_of_it_on_an_eighth_of_the_grid() -> None:
    net = built(architecture="PSPNet", options={"encoder_depth": 5, "output_stride": 8}).train()
    assert net.stride == 8
    assert net.model.encoder(torch.zeros(2, 3, 64, 64))[-1].shape[-2:] == (8, 8)
    net(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("size", [(20, 33), (64, 64), (130, 40)])
def test_pan_takes_images_below_128_pixels(size: tuple[int, int]) -> None:
    net = built(architecture="PAN").eval()
    with torch.no_grad():
        assert net(torch.randn(1, 3, *size)).shape == (1, 2, *size)


@pytest.mark.parametrize("channels", [1, 4])
def test_dpt_takes_odd_sizes_and_trains_all_of_its_transformer(channels: int) -> None:
    net = built(channels, architecture="DPT", **TINY_DPT).train()
    net(torch.randn(2, channels, 37, 70)).square().sum().backward()
    assert net.stride == 32
    assert not [name for name, parameter in net.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("channels", [1, 4])
def test_segformer_takes_its_own_transformer_with_any_channels(channels: int) -> None:
    net = built(channels, architecture="Segformer", encoder_name="mit_b0").train()
    net(torch.randn(2, channels, 37, 70)).square().sum().backward()
    assert not [name for name, parameter in net.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"architecture": "DPT"}, r"DPT with encoder_name=resnet18 cannot be built: Only Timm encoders"),
        ({"options": {"output_stride": 8}}, r"unknown \['output_stride'\]; Unet takes"),
        ({"options": {"activation": "sigmoid"}}, r"unknown \['activation'\]"),
        ({"architecture": "FPN", "options": {"aux_params": {}}}, r"unknown \['aux_params'\]"),
        ({"architecture": "Segnet"}, r"net\.architecture='Segnet'.*Segformer, DPT"),
        ({"architecture": "PAN", "options": {"encoder_output_stride": 8}}, r"PAN with encoder_name=resnet18 cannot"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        built(**arguments)
    assert "\n" not in str(caught.value)
