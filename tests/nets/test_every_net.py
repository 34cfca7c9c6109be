"""The exam of every option under conf/net: a new yaml enrols itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.types import BranchOutput

FOLDER = Path(__file__).resolve().parents[2] / "conf" / "net"
OPTIONS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
SMALL = [8, 16, 32, 64, 128]


def build(option: str, channels: int = 1, classes: int = 2, **overrides: Any) -> nn.Module:
    torch.manual_seed(0)
    net = OmegaConf.load(FOLDER / f"{option}.yaml")
    if "widths" in net:
        net.widths = SMALL
    if "encoder_name" in net:
        net.encoder_name = "resnet18"
    net.update(overrides)
    card = {"in_channels": channels, "num_classes": classes}
    around = {"data": {"card": card}, "input_channels": channels, "view": {"dims": 2}}
    return instantiate(OmegaConf.create({**around, "net": net})["net"])


def image_of(channels: int, *size: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(1))


def ready(net: nn.Module, channels: int) -> nn.Module:
    if hasattr(net, "fit"):
        image = image_of(channels, 16, 16, batch=1)[0].movedim(0, -1).numpy()
        net.fit([image], [(image.mean(-1) > 0.5).astype(np.uint8)])
    return net


def marked(net: nn.Module, image: Tensor) -> Tensor:
    if not hasattr(net, "prompt"):
        return image
    mask = np.zeros(tuple(image.shape[-2:]), dtype=np.uint8)
    mask[10:30, 12:40] = 1
    rng = np.random.default_rng(0)
    return net.mark(image, [net.prompt.prompt(mask, rng, jitter=False) for _ in image])


def tensors_of(output: Any) -> list[Tensor]:
    if isinstance(output, BranchOutput):
        return [output.fused, *output.branches, *([] if output.margin is None else [output.margin])]
    return list(output) if isinstance(output, list | tuple) else [output]


def test_the_folder_has_options() -> None:
    assert {"unet", "smp_unet", "mgunet", "jpu_unet", "reagunet", "dmunet", "threshold", "ellipse_marks"} <= set(
        OPTIONS
    )


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize(("channels", "classes", "size"), [(1, 2, (64, 64)), (3, 3, (67, 71)), (4, 2, (96, 80))])
def test_logits_have_the_image_size_and_the_classes(
    option: str, channels: int, classes: int, size: tuple[int, int]
) -> None:
    net = ready(build(option, channels, classes), channels).eval()
    image = image_of(channels, *size)
    before = image.clone()
    with torch.no_grad():
        logits = net(marked(net, image))
        again = net(marked(net, image))
        plain = net(image)
    assert logits.shape == plain.shape == (2, classes, *size)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()
    assert torch.equal(logits, again)
    assert torch.equal(image, before)


@pytest.mark.parametrize("option", OPTIONS)
def test_training_outputs_have_the_image_size_and_reach_every_parameter(option: str) -> None:
    net = ready(build(option, 1, 3), 1).train()
    outputs = tensors_of(net(marked(net, image_of(1, 67, 71))))
    for output in outputs:
        assert output.shape[-2:] == (67, 71)
        assert output.shape[1] in (1, 3)
    if not list(net.parameters()):
        return
    sum((output * torch.linspace(-1, 1, output.numel()).view(output.shape)).sum() for output in outputs).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    silent = [name for name, p in net.named_parameters() if not p.grad.abs().sum() > 0]
    assert not silent


@pytest.mark.parametrize("option", OPTIONS)
def test_state_dict_brings_the_answer_along(option: str) -> None:
    net = ready(build(option), 1)
    if list(net.parameters()):
        net.train()(marked(net, image_of(1, 64, 64)))  # moves the running statistics
    twin = build(option)
    for parameter in twin.parameters():
        nn.init.zeros_(parameter)
    twin.load_state_dict(net.state_dict())
    image = marked(net, image_of(1, 64, 64))
    with torch.no_grad():
        assert torch.equal(net.eval()(image), twin.eval()(image))


@pytest.mark.parametrize("option", OPTIONS)
def test_one_class_constructs(option: str) -> None:
    net = ready(build(option, 1, 1), 1).eval()
    with torch.no_grad():
        assert net(image_of(1, 64, 64)).shape == (2, 1, 64, 64)


@pytest.mark.parametrize("option", OPTIONS)
def test_wrong_channel_count_names_both_numbers(option: str) -> None:
    net = ready(build(option, 3), 3).eval()
    with pytest.raises(ConfigError, match=r"in_channels=\d.*5 channels") as caught:
        net(image_of(5, 64, 64))
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"in_channels=\d.*shape \(3, 64, 64\)"):
        net(image_of(3, 64, 64)[0])


@pytest.mark.parametrize("option", OPTIONS)
def test_channels_last_gives_the_same_answer(option: str) -> None:
    net = ready(build(option, 3), 3).eval()
    image = marked(net, image_of(3, 64, 64))
    with torch.no_grad():
        plain = net(image)
        other = net.to(memory_format=torch.channels_last)(image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(plain, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("option", OPTIONS)
def test_reading_is_one_line(option: str) -> None:
    reading = type(build(option)).READING
    assert isinstance(reading, str)
    assert "\n" not in reading


@pytest.mark.parametrize("option", [option for option in OPTIONS if option not in ("threshold", "ellipse_marks")])
def test_bf16_autocast_stays_finite(option: str) -> None:
    net = build(option)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = tensors_of(net.train()(marked(net, image_of(1, 64, 64))))
    assert all(torch.isfinite(output).all() for output in outputs)
