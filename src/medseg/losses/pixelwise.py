"""Losses that are means over pixels."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.types import IGNORE


def cross_entropy(logits: Tensor, mask: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """Return the mean cross entropy over the pixels that are not ``IGNORE``; 0 where there are none.

    Args:
        logits: (B, K, *S).
        mask: (B, *S) int64.
        weight: (K,) class weights; the mean is then weighted by them.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    total = functional.cross_entropy(wide, mask, weight=weight, ignore_index=IGNORE, reduction="sum")
    valid = mask != IGNORE
    if weight is None:
        return total / valid.sum().clamp(min=1)
    # No branch on the data: a test for "nothing valid" would make the device wait at every step.
    return total / (weight[mask.masked_fill(~valid, 0)] * valid).sum().clamp(min=torch.finfo(wide.dtype).tiny)


class CrossEntropy(nn.Module):
    """Cross entropy as a module (see :func:`cross_entropy`).

    Args:
        class_weights: one weight a class, or None for equal weights.
    """

    weight: Tensor | None

    def __init__(self, class_weights: list[float] | None = None) -> None:
        super().__init__()
        self.register_buffer(
            "weight", None if class_weights is None else torch.tensor(list(class_weights)), persistent=False
        )

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, K, *S) and mask (B, *S)."""
        return cross_entropy(logits, mask, weight=self.weight)
