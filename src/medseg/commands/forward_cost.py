"""What one image costs a trained network, measured where it was trained."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from medseg import rng
from medseg.commands.assembly import Parts
from medseg.data.datamodule import SegmentationData
from medseg.data.dataset import collate
from medseg.training.cost import gigaflops, milliseconds, parameter_counts
from medseg.types import Batch, offers

LOOKED_AT = 16
"""Training samples among which one that shows an object is sought: some systems do nothing without."""
MARKED = "marks simulated from the truth"
"""What an interactive network is given that does not say so itself."""


def kind_of(net: nn.Module) -> str:
    """Return ``deep`` for a network that gradients train, else ``classical``."""
    return "deep" if parameter_counts(net)[1] else "classical"


def interaction_of(net: nn.Module) -> str:
    """Return what a user gives the network beside the image: its own words in ``interaction``, or ``none``."""
    said = str(getattr(net, "interaction", "") or "")
    return said or (MARKED if offers(net, "prompt") else "none")


def forward_cost(parts: Parts) -> tuple[float | None, float]:
    """Return gigaflops and milliseconds of one training image through the network in eval mode.

    The operations of classical systems are not counted (None): those that a counter of convolutions and matrix products
    would see are not what they spend their time on. The time is that of the trainer's device and precision, marks of an
    interactive network drawn into the image included, the user's own time not.
    """
    module, trainer = parts.module, parts.trainer
    strategy: Any = trainer.strategy
    device, before = strategy.root_device, next(module.net.parameters(), torch.zeros(0)).device
    training = module.net.training
    module.to(device).eval()
    answer = _answer(module, one_image(parts.data), device)
    try:
        with strategy.precision_plugin.forward_context():
            gflops = gigaflops(answer) if kind_of(module.net) == "deep" else None
            return gflops, milliseconds(answer, device=device)
    finally:
        module.to(before).train(training)


def one_image(data: SegmentationData) -> Batch:
    """Return a batch of one unaugmented training sample, the first of a few that shows an object."""
    dataset = data.dataset("train", evaluation=False)
    size: int = len(dataset)  # type: ignore[arg-type]
    samples = [dataset[number] for number in range(min(LOOKED_AT, size))]
    shown = (sample for sample in samples if bool(((sample["mask"] > 0) & (sample["mask"] < 255)).any()))
    return collate([next(shown, samples[0])])


def _answer(module: Any, batch: Batch, device: torch.device) -> Callable[[], object]:
    """Return what takes the batch through the network."""
    image, net = batch["image"].to(device), module.net
    if not offers(net, "prompt"):
        return lambda: module(image)
    mask = batch["mask"][0].numpy().astype(np.uint8)
    points = [net.prompt(mask, rng.generator(0, "marks"), jitter=False)]
    return lambda: module(net.mark(image, points))
