"""From logits and label maps to probabilities, one-hot targets and valid pixels."""

import torch
from torch import Tensor
from torch.nn import functional

from medseg.types import IGNORE


def probabilities_and_target(logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return softmax probabilities and one-hot targets, both zero where the mask is ``IGNORE``.

    Args:
        logits: (B, K, *S) of any float type; computed in float32 (float64 stays).
        mask: (B, *S) int64 with values 0..K-1 or ``IGNORE``.

    Returns:
        Two (B, K, *S) tensors.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    valid = (mask != IGNORE).unsqueeze(1)
    labels = mask.masked_fill(mask == IGNORE, 0)
    target = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(wide.dtype)
    return wide.softmax(1) * valid, target * valid
