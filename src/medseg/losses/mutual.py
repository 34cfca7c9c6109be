"""What branches of a network learn from the truth and from one another (deep mutual learning)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from medseg.types import IGNORE, BranchOutput


def mutual_learning(
    output: BranchOutput,
    mask: Tensor,
    judge: Callable[[Tensor], Tensor],
    *,
    margin_mask: Tensor | None = None,
    mutual_weight: float = 1.0,
    margin_weight: float = 0.5,
) -> Tensor:
    """Return the loss of branches that learn from the truth and from one another.

    The sum of ``judge`` on the fused map and on each branch; plus, per ordered pair of branches, the KL divergence
    from the partner's detached softmax (deep mutual learning, Zhang et al., CVPR 2018, temperature 1); plus the
    binary cross entropy of the margin map with the 3x3 morphological gradient of the mask. The weights are our
    reading of DMU-Net (Yang et al. 2022), whose abstract names the parts but not the constants.

    Args:
        output: fused logits, branch logits and margin logits.
        mask: (B, *S) int64.
        judge: maps logits to their scalar loss against the mask.
        margin_mask: (B, *S) that the margin is taken of; the mask if not given.
        mutual_weight: weight of each KL term.
        margin_weight: weight of the margin term.
    """
    terms = [judge(output.fused), *(judge(branch) for branch in output.branches)]
    for learner in output.branches:
        terms += [mutual_weight * divergence(p, learner, mask) for p in output.branches if p is not learner]
    if output.margin is not None:
        terms.append(margin_weight * _margin_loss(output.margin, mask if margin_mask is None else margin_mask))
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
