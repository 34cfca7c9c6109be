"""Mixtures of losses, and what a loss makes of networks that answer with more than one map."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial, singledispatch
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import ConfigError
from medseg.losses.mutual import divergence, margin_of, mutual_learning
from medseg.losses.outputs import presence_loss, structure_loss
from medseg.losses.partial_labels import merged
from medseg.types import IGNORE, BranchOutput, DeepOutput, StructureOutput

__all__ = [
    "Compound", "DeepSupervision", "WeightedSum", "applied", "divergence", "margin_of", "mutual_learning",
    "training_loss",
]  # fmt: skip

LEVELS = ("equal", "halved", "nnunet")


def applied(
    loss: nn.Module, logits: Tensor, mask: Tensor, weight: Tensor | None = None, annotated: Tensor | None = None
) -> Tensor:
    """Return a loss of logits (B, K, *S) and mask (B, *S), and of pixel weights (B, *S) if it wants them.

    A loss that wants pixel weights has an attribute ``weight_map`` that makes them of a label map. Where some samples
    annotate some classes only, (B, K) bool, the loss is that of :func:`~medseg.losses.partial_labels.merged` logits.
    """
    if annotated is not None:
        logits = merged(logits, annotated)
    if weight is None or getattr(loss, "weight_map", None) is None:
        return loss(logits, mask)
    return loss(logits, mask, weight)


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
        return [applied(term, logits, mask, weight) for term in self.terms.values()]


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
def training_loss(
    output: object, mask: Tensor, loss: nn.Module, weight: Tensor | None = None, annotated: Tensor | None = None
) -> Tensor:
    """Return the scalar that a network's training output is fitted by.

    One map: the loss itself. A list (deep supervision, finest first): the mean of the loss over the maps, each
    resized to the mask, or as a :class:`DeepSupervision` weighs them. A :class:`~medseg.types.DeepOutput`: the sum by
    its own weights, and :func:`~medseg.losses.outputs.presence_loss`. A :class:`~medseg.types.StructureOutput`:
    :func:`~medseg.losses.outputs.structure_loss` in place of the loss. A :class:`~medseg.types.BranchOutput`: see
    :func:`~medseg.losses.mutual.mutual_learning`.

    Args:
        output: what the network returned in train mode.
        mask: (B, *S) int64.
        loss: maps (logits, mask) to a scalar; with an attribute ``weight_map``, (logits, mask, weight).
        weight: (B, *S) pixel weights of such a loss.
        annotated: (B, K) bool, which classes each sample annotates, background always; all of them if not given. Label
            maps are judged with the other classes as background, and what else a network says of them is left out.
    """
    raise TypeError(
        f"a network returned {type(output).__name__}; a tensor, a list of tensors, DeepOutput, StructureOutput or "
        "BranchOutput is needed"
    )


@training_loss.register
def _(
    output: Tensor, mask: Tensor, loss: nn.Module, weight: Tensor | None = None, annotated: Tensor | None = None
) -> Tensor:
    return applied(loss, output, mask, weight, annotated)


@training_loss.register
def _(
    output: list, mask: Tensor, loss: nn.Module, weight: Tensor | None = None, annotated: Tensor | None = None
) -> Tensor:
    levels = loss.level_weights(len(output)) if isinstance(loss, DeepSupervision) else None
    return _over_maps(output, levels, mask, partial(applied, loss, weight=weight, annotated=annotated))


@training_loss.register
def _(
    output: DeepOutput, mask: Tensor, loss: nn.Module, weight: Tensor | None = None, annotated: Tensor | None = None
) -> Tensor:
    judge = partial(applied, loss, weight=weight, annotated=annotated)
    total = _over_maps(output.maps, output.weights, mask, judge)
    return total if output.presence is None else total + presence_loss(output.presence, mask, annotated)


@training_loss.register
def _(
    output: StructureOutput,
    mask: Tensor,
    loss: nn.Module,
    weight: Tensor | None = None,
    annotated: Tensor | None = None,
) -> Tensor:
    return structure_loss(output, mask, annotated)


@training_loss.register
def _(
    output: BranchOutput, mask: Tensor, loss: nn.Module, weight: Tensor | None = None, annotated: Tensor | None = None
) -> Tensor:
    judge = partial(applied, loss, weight=weight, annotated=annotated)
    if annotated is None or output.margin is None:
        return mutual_learning(output, mask, judge)
    # The margin is that of all foreground, of which a partial sample does not know the border: it is ignored there.
    known = mask.masked_fill(~annotated.all(1).reshape(-1, *[1] * (mask.ndim - 1)), IGNORE)
    margin = mutual_learning(replace(output, branches=[]), known, _nothing)
    return mutual_learning(replace(output, margin=None), mask, judge) + margin


def _nothing(logits: Tensor, mask: Tensor) -> Tensor:
    return torch.zeros((), device=logits.device)


def _over_maps(
    maps: Sequence[Tensor], factors: Sequence[float] | None, mask: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Return the sum of the loss over maps by their factors, equal ones that add up to 1 if there are none."""
    size = mask.shape[1:]
    mode = "bilinear" if mask.ndim == 3 else "trilinear"
    terms = []
    for logits, factor in zip(maps, factors or [1 / len(maps)] * len(maps), strict=True):
        if factor:
            full = logits if logits.shape[2:] == size else functional.interpolate(logits, size=size, mode=mode)
            terms.append(factor * loss(full, mask))
    return torch.stack(terms).sum()
