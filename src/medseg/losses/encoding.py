"""From logits and label maps to probabilities, one-hot targets and valid pixels."""

import torch
from torch import Tensor
from torch.nn import functional

from medseg.types import IGNORE


def widened(logits: Tensor) -> Tensor:
    """Return the logits in float32; float64 stays."""
    return logits if logits.dtype == torch.float64 else logits.float()


def valid_labels(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return which pixels have a label, bool, and the labels with 0 where they have none, both (B, *S)."""
    valid = mask != IGNORE
    return valid, mask.masked_fill(~valid, 0)


def probabilities_and_target(logits: Tensor, mask: Tensor, *, include_background: bool = True) -> tuple[Tensor, Tensor]:
    """Return softmax probabilities and one-hot targets, both zero where the mask is ``IGNORE``.

    Args:
        logits: (B, K, *S) of any float type; computed in float32 (float64 stays).
        mask: (B, *S) int64 with values 0..K-1 or ``IGNORE``.
        include_background: whether class 0 is among the channels returned.

    Returns:
        Two (B, K, *S) tensors, or (B, K - 1, *S) without the background.
    """
    wide = widened(logits)
    valid, labels = valid_labels(mask)
    target = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(wide.dtype)
    first = 0 if include_background else 1
    there = valid.unsqueeze(1)
    return (wide.softmax(1) * there)[:, first:], (target * there)[:, first:]
