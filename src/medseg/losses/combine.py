"""Mixtures of losses, and what a loss makes of networks that answer with more than one map."""

from collections.abc import Mapping, Sequence
from functools import partial, singledispatch
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import ConfigError
from medseg.losses.mutual import mutual_learning
from medseg.losses.outputs import presence_loss, structure_loss
from medseg.losses.partial_labels import merged
from medseg.losses.truth import Truth
from medseg.types import BranchOutput, DeepOutput, StructureOutput

LEVELS = ("equal", "halved", "nnunet")


def applied(loss: nn.Module, logits: Tensor, truth: Truth) -> Tensor:
    """Return a loss of logits (B, K, *S), with the truth's pixel weights if it wants them.

    A loss that wants pixel weights has an attribute ``weight_map`` that makes them of a label map. Where some samples
    annotate some classes only, the loss is that of :func:`~medseg.losses.partial_labels.merged` logits.
    """
    if truth.annotated is not None:
        logits = merged(logits, truth.annotated)
    if truth.weight is None or getattr(loss, "weight_map", None) is None:
        return loss(logits, truth.mask)
    return loss(logits, truth.mask, truth.weight)


class Compound(nn.Module):
    """A loss made of named losses.

    Args:
        terms: name to loss module.

    Attributes:
        weight_map: makes the pixel weights that a term wants of a label map; None where no term wants any.

    Raises:
        ConfigError: two terms want different pixel weights.
    """

    def __init__(self, terms: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(dict(terms))
        wishes: list[Any] = [getattr(term, "weight_map", None) for term in terms.values()]
        maps = [each for each in wishes if each is not None]
        if len({each.recipe for each in maps}) > 1:
            raise ConfigError("loss.terms want different pixel weights, and a batch carries one map; keep one of them.")
        self.weight_map: Any = maps[0] if maps else None

    def values(self, logits: Tensor, mask: Tensor, weight: Tensor | None) -> list[Tensor]:
        """Return the scalar of each term."""
        return [applied(term, logits, Truth(mask, weight)) for term in self.terms.values()]


class WeightedSum(Compound):
    """Return the weighted sum of named losses.

    Args:
        terms: name to loss module.
        weights: name to weight; a name that is left out weighs 1.

    Raises:
        ConfigError: a weight has no term.
    """

    def __init__(self, terms: Mapping[str, nn.Module], weights: Mapping[str, float] | None = None) -> None:
        super().__init__(terms)
        unknown = sorted(set(weights or {}) - set(terms))
        if unknown:
            raise ConfigError(f"loss.weights names '{unknown[0]}', loss.terms has {', '.join(terms)}; rename one.")
        self.weights = {name: float((weights or {}).get(name, 1.0)) for name in terms}

    def forward(self, logits: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the scalar loss of logits (B, K, *S), mask (B, *S) and, where a term wants them, weights (B, *S)."""
        values = zip(self.weights.values(), self.values(logits, mask, weight), strict=True)
        return torch.stack([factor * value for factor, value in values]).sum()


class DeepSupervision(Compound):
    """A loss that says how much each map of a deeply supervised network counts; on one map it is the loss itself.

    It has its say where the network has none: UNet++ and lists of maps. The side outputs of UNet 3+, ResEnc U-Net,
    DynUNet, TF-Unet, PSPNet and their kin come with weights of their own, which stand.

    Args:
        loss: of each map.
        levels: ``equal``; ``halved``: each map half of the finer one before it; ``nnunet``: as ``halved``, the coarsest
            at 0 (Isensee et al., Nature Methods 18, 2021). All add up to 1.

    Raises:
        ConfigError: another kind.
    """

    def __init__(self, loss: nn.Module, levels: str = "halved") -> None:
        super().__init__({"loss": loss})
        if levels not in LEVELS:
            raise ConfigError(f"loss.levels={levels}: choose one of {', '.join(LEVELS)}.")
        self.levels = levels

    def forward(self, logits: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the scalar loss of logits (B, K, *S), mask (B, *S) and, where the loss wants them, weights (B, *S)."""
        return self.values(logits, mask, weight)[0]

    def level_weights(self, count: int) -> list[float]:
        """Return the weights of ``count`` maps, finest first."""
        weights = [1.0 if self.levels == "equal" else 0.5**level for level in range(count)]
        if self.levels == "nnunet" and count > 1:
            weights[-1] = 0.0
        return [weight / sum(weights) for weight in weights]


@singledispatch
def training_loss(output: object, truth: Truth, loss: nn.Module) -> Tensor:
    """Return the scalar that a network's training output is fitted by.

    One map: the loss itself. A list (deep supervision, finest first): the loss over the maps, each resized to the mask,
    weighed alike or as a :class:`DeepSupervision` says. A :class:`~medseg.types.DeepOutput`: the same with the weights
    that it brings, if it brings any, and :func:`~medseg.losses.outputs.presence_loss`. A
    :class:`~medseg.types.StructureOutput`: :func:`~medseg.losses.outputs.structure_loss` in place of the loss. A
    :class:`~medseg.types.BranchOutput`: see :func:`~medseg.losses.mutual.mutual_learning`.

    Args:
        output: what the network returned in train mode.
        truth: masks and what is known of them. Classes that a sample does not annotate are background to its label
            maps, and what else a network says of them is left out.
        loss: maps (logits, mask) to a scalar; with an attribute ``weight_map``, (logits, mask, weight).
    """
    raise TypeError(
        f"a network returned {type(output).__name__}; a tensor, a list of tensors, DeepOutput, StructureOutput or "
        "BranchOutput is needed"
    )


@training_loss.register
def _(output: Tensor, truth: Truth, loss: nn.Module) -> Tensor:
    return applied(loss, output, truth)


@training_loss.register
def _(output: list, truth: Truth, loss: nn.Module) -> Tensor:
    return training_loss(DeepOutput(output), truth, loss)


@training_loss.register
def _(output: DeepOutput, truth: Truth, loss: nn.Module) -> Tensor:
    factors = output.weights or _factors(loss, len(output.maps))
    total = _over_maps(output.maps, factors, truth, loss)
    if output.presence is None:
        return total
    return total + presence_loss(output.presence, truth.mask, truth.annotated)


@training_loss.register
def _(output: StructureOutput, truth: Truth, loss: nn.Module) -> Tensor:
    return structure_loss(output, truth.mask, truth.annotated)


@training_loss.register
def _(output: BranchOutput, truth: Truth, loss: nn.Module) -> Tensor:
    # The margin is that of all foreground, of which a partial sample does not know the border.
    return mutual_learning(output, truth.mask, partial(_judged, loss, truth), margin_mask=truth.whole)


def _judged(loss: nn.Module, truth: Truth, logits: Tensor) -> Tensor:
    return applied(loss, logits, truth)


def _factors(loss: nn.Module, count: int) -> list[float]:
    """Return the weights of ``count`` maps, finest first, that add up to 1."""
    return loss.level_weights(count) if isinstance(loss, DeepSupervision) else [1 / count] * count


def _over_maps(maps: Sequence[Tensor], factors: Sequence[float], truth: Truth, loss: nn.Module) -> Tensor:
    """Return the sum of the loss over maps by their factors; a map of weight 0 is not computed."""
    size = truth.mask.shape[1:]
    mode = "bilinear" if len(size) == 2 else "trilinear"
    terms = []
    for logits, factor in zip(maps, factors, strict=True):
        if factor:
            full = logits if logits.shape[2:] == size else functional.interpolate(logits, size=size, mode=mode)
            terms.append(factor * applied(loss, full, truth))
    return torch.stack(terms).sum()
