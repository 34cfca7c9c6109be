"""Mixtures of losses, and what a loss makes of networks that answer with more than one map."""

from collections.abc import Mapping
from functools import singledispatch

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.types import IGNORE, BranchOutput


class WeightedSum(nn.Module):
    """Return the weighted sum of named losses.

    Args:
        terms: name to loss module.
        weights: name to weight; a name that is left out weighs 1.
    """

    def __init__(self, terms: Mapping[str, nn.Module], weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(dict(terms))
        self.weights = {name: float((weights or {}).get(name, 1.0)) for name in terms}

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, K, *S) and mask (B, *S)."""
        return torch.stack([self.weights[name] * term(logits, mask) for name, term in self.terms.items()]).sum()


@singledispatch
def training_loss(output: object, mask: Tensor, loss: nn.Module) -> Tensor:
    """Return the scalar that a network's training output is fitted by.

    One map: the loss itself. A list (deep supervision, finest first): the mean of the loss over the maps, each
    resized to the mask. A :class:`~medseg.types.BranchOutput`: see :func:`mutual_learning`.

    Args:
        output: what the network returned in train mode.
        mask: (B, *S) int64.
        loss: maps (logits, mask) to a scalar.
    """
    raise TypeError(
        f"a network returned {type(output).__name__}; a tensor, a list of tensors or BranchOutput is needed"
    )


@training_loss.register
def _(output: Tensor, mask: Tensor, loss: nn.Module) -> Tensor:
    return loss(output, mask)


@training_loss.register
def _(output: list, mask: Tensor, loss: nn.Module) -> Tensor:
    size = mask.shape[1:]
    mode = "bilinear" if mask.ndim == 3 else "trilinear"
    maps = [m if m.shape[2:] == size else functional.interpolate(m, size=size, mode=mode) for m in output]
    return torch.stack([loss(logits, mask) for logits in maps]).mean()


@training_loss.register
def _(output: BranchOutput, mask: Tensor, loss: nn.Module) -> Tensor:
    return mutual_learning(output, mask, loss)


def mutual_learning(
    output: BranchOutput, mask: Tensor, loss: nn.Module, *, mutual_weight: float = 1.0, margin_weight: float = 0.5
) -> Tensor:
    """Return the loss of branches that learn from the truth and from one another.

    The sum of ``loss`` on the fused map and on each branch; plus, per ordered pair of branches, the KL divergence
    from the partner's detached softmax (deep mutual learning, Zhang et al., CVPR 2018, temperature 1); plus the
    binary cross entropy of the margin map with the 3x3 morphological gradient of the mask. The weights are our
    reading of DMU-Net (Yang et al. 2022), whose abstract names the parts but not the constants.

    Args:
        output: fused logits, branch logits and margin logits.
        mask: (B, *S) int64.
        loss: maps (logits, mask) to a scalar.
        mutual_weight: weight of each KL term.
        margin_weight: weight of the margin term.
    """
    terms = [loss(output.fused, mask), *(loss(branch, mask) for branch in output.branches)]
    for learner in output.branches:
        terms += [mutual_weight * divergence(p, learner, mask) for p in output.branches if p is not learner]
    if output.margin is not None:
        terms.append(margin_weight * _margin_loss(output.margin, mask))
    return torch.stack(terms).sum()


def divergence(partner: Tensor, learner: Tensor, mask: Tensor) -> Tensor:
    """Return KL(partner || learner) of the softmax maps, averaged over valid pixels; the partner is detached.

    Args:
        partner: (B, K, *S) logits that teach.
        learner: (B, K, *S) logits that learn.
        mask: (B, *S); ``IGNORE`` pixels are left out.
    """
    teacher = partner.detach().float().log_softmax(1)
    pupil = learner.float().log_softmax(1)
    valid = mask != IGNORE
    pixelwise = (teacher.exp() * (teacher - pupil)).sum(1)
    return (pixelwise * valid).sum() / valid.sum().clamp(min=1)


def margin_of(mask: Tensor) -> Tensor:
    """Return the 3x3 morphological gradient (dilation minus erosion) of the foreground, (B, 1, H, W) float.

    Args:
        mask: (B, H, W) int64; ``IGNORE`` counts as background.
    """
    foreground = ((mask > 0) & (mask != IGNORE)).float().unsqueeze(1)
    dilated = functional.max_pool2d(foreground, 3, stride=1, padding=1)
    eroded = 1 - functional.max_pool2d(1 - foreground, 3, stride=1, padding=1)
    return dilated - eroded


def _margin_loss(margin: Tensor, mask: Tensor) -> Tensor:
    valid = (mask != IGNORE).unsqueeze(1)
    pixelwise = functional.binary_cross_entropy_with_logits(margin.float(), margin_of(mask), reduction="none")
    return (pixelwise * valid).sum() / valid.sum().clamp(min=1)
