"""DeepLabV3, DeepLabV3+ and the fully convolutional ResNet: counts, strides, dilations, torchvision's own answer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import nn

from medseg.errors import ConfigError
from medseg.nets.deeplab import DeepLabV3, FCNResNet
from medseg.nets.dilated import DilatedNet, dilated_resnet
from medseg.nets.smp import SmpNet
from medseg.types import DeepOutput
from tiny_nets import FOLDER

SMALL: dict[str, Any] = {"layers": [1, 1, 1, 1], "widths": [8, 8, 16, 16, 32]}


def small(net: type[DilatedNet] = DeepLabV3, channels: int = 1, **arguments: Any) -> Any:
    torch.manual_seed(0)
    return net(in_channels=channels, num_classes=2, **{**SMALL, **arguments})  # type: ignore[call-arg]


def count(net: type[nn.Module], classes: int, **arguments: Any) -> int:
    with torch.device("meta"):
        built = net(in_channels=3, num_classes=classes, **arguments)
    return sum(parameter.numel() for parameter in built.parameters())


def test_parameter_counts() -> None:
    assert count(DeepLabV3, 21) == 39_638_869
    assert count(DeepLabV3, 21, aux=True) == 42_004_074
    assert count(DeepLabV3, 21, backbone="resnet101") == 58_630_997
    assert count(FCNResNet, 21) == 32_957_013
    assert count(FCNResNet, 21, aux=True) == 35_322_218  # what torchvision states for its weights


def test_deeplabv3plus_of_the_yaml() -> None:
    text = OmegaConf.to_container(OmegaConf.load(FOLDER / "deeplabv3plus.yaml"))
    arguments = {key: text[key] for key in ("architecture", "encoder_name", "options")}
    assert count(SmpNet, 2, **arguments) == 26_677_842
    with torch.device("meta"):
        net = SmpNet(in_channels=3, num_classes=2, **arguments)
    assert {6, 12, 18} <= {conv.dilation[0] for conv in net.model.decoder.modules() if isinstance(conv, nn.Conv2d)}
    assert net.model.encoder.output_stride == 16


@pytest.mark.parametrize("option", ["deeplabv3", "fcn_resnet50"])
def test_names_and_shapes_are_those_of_torchvision(option: str) -> None:
    from torchvision.models import segmentation

    builders = {"deeplabv3": segmentation.deeplabv3_resnet50, "fcn_resnet50": segmentation.fcn_resnet50}
    ours = {"deeplabv3": DeepLabV3, "fcn_resnet50": FCNResNet}
    with torch.device("meta"):
        theirs = builders[option](weights=None, weights_backbone=None, num_classes=2, aux_loss=True)
        mine = ours[option](in_channels=3, num_classes=2, aux=True)
    shapes = [{name: value.shape for name, value in net.state_dict().items()} for net in (theirs, mine)]
    assert shapes[0] == shapes[1]


@pytest.mark.slow
def test_the_answer_is_that_of_torchvision() -> None:
    from torchvision.models.segmentation import deeplabv3_resnet50

    torch.manual_seed(0)
    theirs = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=2).eval()
    mine = DeepLabV3(in_channels=3, num_classes=2).eval()
    mine.load_state_dict(theirs.state_dict())
    image = torch.randn(1, 3, 64, 72)
    with torch.no_grad():
        torch.testing.assert_close(mine(image), theirs(image)["out"])


@pytest.mark.parametrize(("stride", "rates"), [(8, [12, 24, 36]), (16, [6, 12, 18])])
def test_dilations_belong_to_the_stride(stride: int, rates: list[int]) -> None:
    net = small(output_stride=stride).eval()
    aspp = net.classifier[0].convs
    assert [branch[0].dilation[0] for branch in list(aspp)[1:4]] == rates
    with torch.no_grad():
        assert net.backbone(torch.zeros(1, 1, 64, 96))["out"].shape[2:] == (64 // stride, 96 // stride)
    assert [b[0].dilation[0] for b in list(small(output_stride=stride, rates=[1, 2, 3]).classifier[0].convs)[1:4]] == [
        1,
        2,
        3,
    ]


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_a_narrow_backbone_is_dilated_as_torchvisions_is(stride: int) -> None:
    with torch.device("meta"):
        full, narrow = (
            dilated_resnet(3, backbone="resnet50", layers=None, widths=widths, output_stride=stride)
            for widths in ([64, 64, 128, 256, 512], [8, 8, 16, 32, 64])
        )
    geometry = [
        [(m.stride, m.dilation, m.padding) for m in net.modules() if isinstance(m, nn.Conv2d)] for net in (full, narrow)
    ]
    assert geometry[0] == geometry[1]


def test_one_image_trains_only_the_net_without_pooled_branch() -> None:
    with pytest.raises(ConfigError, match="DeepLabV3 trains on at least 2 images a batch"):
        small().train()(torch.zeros(1, 1, 64, 64))
    assert small(FCNResNet).train()(torch.zeros(1, 1, 64, 64)).shape == (1, 2, 64, 64)


@pytest.mark.parametrize("net", [DeepLabV3, FCNResNet])
def test_the_second_head_answers_only_while_training(net: type[DilatedNet]) -> None:
    built = small(net, aux=True, aux_weight=0.3)
    output = built.train()(torch.randn(2, 1, 67, 71))
    assert isinstance(output, DeepOutput)
    assert output.weights == [1.0, 0.3]
    assert [one.shape for one in output.maps] == [(2, 2, 67, 71)] * 2
    with torch.no_grad():
        assert built.eval()(torch.randn(1, 1, 67, 71)).shape == (1, 2, 67, 71)


def test_weights_of_the_resnet_and_of_the_whole_arrive(tmp_path: Path) -> None:
    source = small(channels=3)
    resnet = {name.removeprefix("backbone."): v for name, v in source.state_dict().items() if "backbone." in name}
    save_file(resnet | {"fc.weight": torch.zeros(3, 3)}, tmp_path / "resnet.safetensors")
    save_file(source.state_dict(), tmp_path / "whole.safetensors")
    torch.manual_seed(9)
    for name in ("resnet", "whole"):
        loaded = DeepLabV3(
            in_channels=3, num_classes=2, encoder_weights=str(tmp_path / f"{name}.safetensors"), **SMALL
        ).state_dict()
        same = {key for key, value in source.state_dict().items() if torch.equal(loaded[key], value)}
        assert {key for key in loaded if key.startswith("backbone.")} <= same
        assert ("classifier.1.weight" in same) == (name == "whole")
    grey = small(FCNResNet, 1, encoder_weights=str(tmp_path / "resnet.safetensors"))
    torch.testing.assert_close(grey.backbone["conv1"].weight.sum(1), resnet["conv1.weight"].sum(1))


def test_settings_that_do_not_fit_are_named() -> None:
    with pytest.raises(ConfigError, match=r"net\.output_stride=32: DeepLabV3 is made for 8 and 16"):
        small(output_stride=32)
    with pytest.raises(ConfigError, match=r"net\.output_stride=4"):
        small(FCNResNet, output_stride=4)
    with pytest.raises(ConfigError, match=r"net\.backbone='resnet18'.*resnet101, resnet50"):
        small(backbone="resnet18")
    with pytest.raises(ConfigError, match=r"four layers"):
        small(layers=[1, 1])
    with pytest.raises(ConfigError, match=r"five widths"):
        small(FCNResNet, widths=[8, 16, 16, 16])
