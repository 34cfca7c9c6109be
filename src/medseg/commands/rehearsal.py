"""A rehearsal on zeros before any data are read: the network answers in the right shape, and the loss can judge it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from medseg.data.datamodule import SegmentationData
from medseg.data.preprocess import Preprocess
from medseg.errors import ConfigError
from medseg.losses.combine import training_loss
from medseg.training.module import SegmentationModule

LARGEST = {2: 256, 3: 64}
"""Side in pixels or voxels above which an image is rehearsed smaller, by the number of axes."""
SMALL = {2: 64, 3: 32}
"""The same in train mode, which takes two images."""
MISTAKES = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What networks and losses raise when a shape, a class or an argument is wrong."""


def try_network(config: DictConfig, data: SegmentationData, module: SegmentationModule) -> None:
    """Send zeros of the data's channels and size through network and loss; weights, statistics and chance stay.

    A large image is tried smaller first, to be quick; a network that refuses the smaller one gets the whole.
    Networks that are fitted without gradients cannot answer yet and are left out.

    Raises:
        ConfigError: the network fails, or answers in another shape than logits (B, K, *S); the loss fails on them.
    """
    stage = _Stage(config, data, module)
    if hasattr(module.net, "fit"):
        return
    _refuse_nothing_to_learn(stage.net, module)
    size = _seen(data)
    with _unchanged(module):
        module.eval()
        _try(_sizes(size, LARGEST), stage.check_answer)
        if hasattr(module.net, "losses") or not any(p.requires_grad for p in module.net.parameters()):
            return
        module.train()
        _try(_sizes(size, SMALL), stage.check_loss)


def _refuse_nothing_to_learn(net: str, module: SegmentationModule) -> None:
    from medseg.training.fitted import FittedModule

    if not isinstance(module, FittedModule) and not any(p.requires_grad for p in module.net.parameters()):
        raise ConfigError(f"net={net} has no parameter that learns by gradients; use method=fitted with it.")


def _seen(data: SegmentationData) -> tuple[int, ...]:
    """Return the size that the network sees at once, without reading a case."""
    size = data.preprocess.size if isinstance(data.preprocess, Preprocess) else ()
    return data.view.input_size(size)


def _sizes(size: Sequence[int], most: dict[int, int]) -> list[tuple[int, ...]]:
    """Return the sizes to try in turn: one that is quick, then the network's own."""
    quick = tuple(min(side, most[len(size)]) for side in size)
    return [quick] if quick == tuple(size) else [quick, tuple(size)]


@contextmanager
def _unchanged(module: SegmentationModule) -> Iterator[None]:
    """Put buffers and modes back, and the random numbers; parameters cannot change without gradients."""
    modes = [(layer, layer.training) for layer in module.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            yield
    finally:
        for buffer, value in buffers:
            buffer.copy_(value)
        for layer, mode in modes:
            layer.training = mode


def _try(sizes: list[tuple[int, ...]], attempt: Callable[[tuple[int, ...]], None]) -> None:
    *quick, last = sizes
    for size in quick:
        try:
            return attempt(size)
        except ConfigError:  # perhaps network or loss want the larger size
            continue
    return attempt(last)


class _Stage:
    """What is rehearsed, with the names that messages need."""

    def __init__(self, config: DictConfig, data: SegmentationData, module: SegmentationModule) -> None:
        self.module, self.channels, self.classes = module, data.input_channels, data.card.num_classes
        self.net, self.loss = config.choices.get("net", "?"), config.choices.get("loss", "?")
        self.data = config.choices.get("data", data.card.name)

    def answer(self, image: Tensor) -> Any:
        """Return what the network makes of images."""
        try:
            return self.module(image)
        except MISTAKES as error:
            mode = "train" if self.module.training else "eval"
            raise ConfigError(
                f"net={self.net} fails in {mode} mode on images of data={self.data}, shape {tuple(image.shape)}: "
                f"{_reason(error)}; make the options of net.*, data.* and preprocess.size agree."
            ) from error

    def check_answer(self, size: tuple[int, ...]) -> None:
        """Refuse an answer in eval mode that is no logits (1, K, *S)."""
        image, wanted = torch.zeros(1, self.channels, *size), (1, self.classes, *size)
        logits = self.answer(image)
        if not isinstance(logits, Tensor) or not logits.is_floating_point():
            kind = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
            raise ConfigError(
                f"net={self.net} answers in eval mode with a {kind}; one tensor of float logits {wanted} is needed."
            )
        found = tuple(logits.shape)
        if found == wanted:
            return
        where = f"net={self.net} makes {found} of an image {tuple(image.shape)}"
        if len(found) == len(wanted) and found[1] != self.classes:
            raise ConfigError(
                f"{where}, and data={self.data} has {self.classes} classes; leave "
                "net.num_classes=${data.card.num_classes}."
            )
        raise ConfigError(f"{where}; logits {wanted} are needed, at the size of the image.")

    def check_loss(self, size: tuple[int, ...]) -> None:
        """Refuse a loss that cannot judge the answer in train mode against a mask of every class."""
        output = self.answer(torch.zeros(2, self.channels, *size))
        mask = (torch.arange(2 * prod(size)) % self.classes).view(2, *size)
        weight = None if getattr(self.module.loss, "weight_map", None) is None else torch.ones(mask.shape)
        try:
            value = training_loss(output, mask, self.module.loss, weight)
        except MISTAKES as error:
            raise ConfigError(
                f"loss={self.loss} cannot judge what net={self.net} returns in train mode, a {type(output).__name__}, "
                f"against masks of {self.classes} classes: {_reason(error)}; change loss.* or the network."
            ) from error
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise ConfigError(f"loss={self.loss} returns {type(value).__name__} instead of one number; average it.")


def _reason(error: BaseException) -> str:
    """Return an error's first line, with its kind."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
