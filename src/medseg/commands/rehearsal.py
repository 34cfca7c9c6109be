"""A rehearsal on zeros before any data are read: the network answers in the right shape, and the loss can judge it."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from medseg.commands.idle import FITTED, mention_idle
from medseg.data.datamodule import SegmentationData
from medseg.data.preprocess import Preprocess
from medseg.errors import ConfigError
from medseg.losses.combine import DeepSupervision, training_loss
from medseg.losses.truth import Truth
from medseg.training.module import SegmentationModule
from medseg.types import DeepOutput, StructureOutput, offers

log = logging.getLogger(__name__)
LARGEST = {2: 256, 3: 64}
"""Side in pixels or voxels above which an image is rehearsed smaller, by the number of axes."""
SMALL = {2: 64, 3: 32}
"""The same in train mode, which takes up to two images."""
STEPS = 1000
"""Length of the training that a schedule is tried for."""
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
    _refuse_other_method(stage.net, module)
    if module.plain_samples:
        mention_idle(config, FITTED, why=f"net={stage.net} is fitted without gradients")
    elif offers(module.net, "losses"):
        mention_idle(config, ["loss"], why=f"net={stage.net} learns by losses of its own")
    if offers(module.net, "fit"):
        return
    if not module.plain_samples:
        stage.check_optimizer()
    size = _seen(data)
    with _unchanged(module):
        module.eval()
        _try(_sizes(size, LARGEST), stage.check_answer)
        if offers(module.net, "losses") or not any(p.requires_grad for p in module.net.parameters()):
            return
        module.train()
        _try(_sizes(size, SMALL), stage.check_loss)


def _refuse_other_method(net: str, module: SegmentationModule) -> None:
    """Refuse a network that does not learn in the way of the chosen method, before any data are read."""
    from medseg.training.fitted import FittedModule

    learns = any(parameter.requires_grad for parameter in module.net.parameters())
    if isinstance(module, FittedModule):
        if learns and not offers(module.net, "fit"):
            raise ConfigError(
                f"net={net} learns by gradients, and method=fitted would score it as it starts; use method=supervised."
            )
    elif offers(module.net, "fit") or not learns:
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
        self.config = config
        self.module, self.channels, self.classes = module, data.input_channels, data.card.num_classes
        self.net, self.loss = config.choices.get("net", "?"), config.choices.get("loss", "?")
        self.data = config.choices.get("data", data.card.name)
        self.images = 1 if data.batch_size == 1 else 2  # a norm over the batch may need more than one image

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
        output = self.answer(torch.zeros(self.images, self.channels, *size))
        mask = (torch.arange(self.images * prod(size)) % self.classes).view(self.images, *size)
        weight = None if getattr(self.module.loss, "weight_map", None) is None else torch.ones(mask.shape)
        try:
            value = training_loss(output, Truth(mask, weight), self.module.loss)
        except MISTAKES as error:
            raise ConfigError(
                f"loss={self.loss} cannot judge what net={self.net} returns in train mode, a {type(output).__name__}, "
                f"against masks of {self.classes} classes: {_reason(error)}; change loss.* or the network."
            ) from error
        if isinstance(output, StructureOutput):
            mention_idle(
                self.config, ["loss"], why=f"net={self.net} learns overlapping structures by a loss of its own"
            )
        self._mention_own_weights(output)
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise ConfigError(f"loss={self.loss} returns {type(value).__name__} instead of one number; average it.")

    def check_optimizer(self) -> None:
        """Refuse an optimizer or a schedule that cannot be built from its arguments."""
        chosen = self.config.choices
        try:
            self.module.optimized(STEPS)
        except MISTAKES as error:
            raise ConfigError(
                f"optimizer={chosen.get('optimizer')} with scheduler={chosen.get('scheduler')} cannot be built: "
                f"{_reason(error)}; change optimizer.* or scheduler.*."
            ) from error

    def _mention_own_weights(self, output: Any) -> None:
        loss = self.module.loss
        if not isinstance(loss, DeepSupervision) or not isinstance(output, DeepOutput) or output.weights is None:
            return
        wanted, own = loss.level_weights(len(output.maps)), list(output.weights)
        if any(abs(one - other) > 1e-6 for one, other in zip(wanted, own, strict=True)):
            log.warning(
                "loss=%s weighs the maps of deep supervision (loss.levels=%s); net=%s has weights of its own, %s, and "
                "they are used", self.loss, loss.levels, self.net, [round(each, 3) for each in own],
            )  # fmt: skip


def _reason(error: BaseException) -> str:
    """Return an error's first line, with its kind."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
