"""Small networks of every option under conf/net, and what the tests of all of them need."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from medseg.losses.combine import WeightedSum, training_loss
from medseg.losses.overlap import Dice
from medseg.losses.pixelwise import CrossEntropy
from medseg.losses.truth import Truth
from medseg.types import BranchOutput, DeepOutput, StructureOutput

FOLDER = Path(__file__).resolve().parents[1] / "conf" / "net"
SETTINGS = Path(__file__).parent / "nets" / "small"
SMALL = [8, 16, 32, 64, 128]
OPTIONS = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "custom")
"""Every network that has a class; ``custom`` waits for the user's."""


def dimensions(option: str) -> tuple[int, ...]:
    """Return the numbers of axes that an option's yaml lets its network see."""
    told = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{option}.yaml")).get("spatial_dims", 2)
    return (2, 3) if isinstance(told, str) else (int(told),)


IN_2D = [option for option in OPTIONS if 2 in dimensions(option)]
IN_3D = [option for option in OPTIONS if 3 in dimensions(option)]


def build(
    option: str, channels: int = 1, classes: int = 2, *, dims: int = 2, draw: int = 0, **overrides: Any
) -> nn.Module:
    """Return a small network of an option; the same ``draw`` gives the same random weights."""
    torch.manual_seed(draw)
    net = OmegaConf.load(FOLDER / f"{option}.yaml")
    if "widths" in net:
        net.widths = SMALL
    if "encoder_name" in net:
        net.encoder_name = "resnet18"
    own = SETTINGS / f"{option}.yaml"
    net.update(OmegaConf.load(own) if own.exists() else {})
    net.update(overrides)
    card = {"in_channels": channels, "num_classes": classes}
    view = {"dims": dims, "size": [16, 24, 16] if dims == 3 else None}
    around = {"data": {"card": card}, "input_channels": channels, "view": view, "preprocess": {"size": [64, 64]}}
    return instantiate(OmegaConf.create({**around, "seed": 0, "net": net})["net"])


def kind(option: str) -> str:
    """Return ``classical`` for a network that nothing trains by gradients, else ``deep``."""
    return "classical" if ".classical." in str(OmegaConf.load(FOLDER / f"{option}.yaml")["_target_"]) else "deep"


def image_of(channels: int, *size: int, batch: int = 2) -> Tensor:
    """Return the same random images each time, (batch, channels, *size)."""
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(1))


def ready(net: nn.Module, channels: int) -> nn.Module:
    """Return the network, fitted to a tiny image where it learns without gradients."""
    if hasattr(net, "fit"):
        image = image_of(channels, 16, 16, batch=1)[0].movedim(0, -1).numpy()
        net.fit([image], [(image.mean(-1) > 0.5).astype(np.uint8)])
    return net


def marked(net: nn.Module, image: Tensor) -> Tensor:
    """Return the images with a simulated user's marks where the network asks for them."""
    if not hasattr(net, "prompt"):
        return image
    mask = np.zeros(tuple(image.shape[-2:]), dtype=np.uint8)
    mask[10:30, 12:40] = 1
    rng = np.random.default_rng(0)
    points = [getattr(net.prompt, "prompt", net.prompt)(mask, rng, jitter=False) for _ in image]
    return net.mark(image, points)


def tensors_of(output: Any) -> list[Tensor]:
    """Return all maps of a training output; those of the whole image first."""
    if isinstance(output, BranchOutput):
        return [output.fused, *output.branches, *([] if output.margin is None else [output.margin])]
    if isinstance(output, DeepOutput):
        return list(output.maps)
    if isinstance(output, StructureOutput):
        return [output.maps]
    return list(output) if isinstance(output, list | tuple) else [output]


def random_mask(image: Tensor, classes: int) -> Tensor:
    """Return label maps (B, *S) of blobs: every class is somewhere."""
    coarse = image[:, :1, ...].mean(1)
    edges = torch.linspace(-1, 1, classes)[: classes - 1] if classes > 1 else torch.tensor([0.0])
    return torch.bucketize(torch.nn.functional.avg_pool2d(coarse, 5, 1, 2) * 5 if coarse.ndim == 3 else coarse, edges)


def loss_of(net: nn.Module, image: Tensor, mask: Tensor) -> Tensor:
    """Return the training loss of one batch as the module computes it, with Dice and cross entropy."""
    if hasattr(net, "losses"):
        return torch.stack(list(net.losses(image, mask).values())).sum()
    return training_loss(net(image), Truth(mask), WeightedSum({"ce": CrossEntropy(), "dice": Dice()}))


def trained_once(net: nn.Module, channels: int, classes: int, *size: int) -> list[Tensor]:
    """Run a training pass, put gradients everywhere, and return the maps (none for one with its own losses)."""
    image = image_of(channels, *size)
    mask = random_mask(image, classes)
    if hasattr(net, "losses"):
        torch.stack(list(net.losses(image, mask).values())).sum().backward()
        return []
    output = net(marked(net, image))
    outputs = tensors_of(output)
    if list(net.parameters()):
        spread = sum((one * torch.linspace(-1, 1, one.numel()).view(one.shape)).sum() for one in outputs)
        if isinstance(output, DeepOutput) and output.presence is not None:
            spread = (
                spread
                + (output.presence * torch.linspace(-1, 2, output.presence.numel()).view_as(output.presence)).sum()
            )
        spread.backward()
    return outputs


def untrained(net: nn.Module, name: str) -> bool:
    """Tell whether a parameter says of itself that it never gets a gradient."""
    return any(name.startswith(prefix) for prefix in getattr(net, "UNTRAINED", ()))
