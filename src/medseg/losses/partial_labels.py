"""Cases that annotate some classes only: what the others are called there, the network is not blamed for."""

import torch
from torch import Tensor

from medseg.losses.encoding import widened

NEGLIGIBLE = 100.0
"""How far the logit of a class that is not annotated lies below every other: exp(-100) is nothing beside 1."""


def merged(logits: Tensor, annotated: Tensor) -> Tensor:
    """Return logits whose softmax has, in each sample, the classes that it does not annotate added to background.

    The marginal loss of Shi et al., Medical Image Analysis 70, 2021, 101979: background in the mask of such a sample
    means "none of the annotated classes", so any loss is taken of the probabilities added up alike. Done on logits,
    every loss works unchanged: channel 0 becomes the logarithm of the sum of the exponentials that it collects, which
    leaves the softmax of the annotated classes as it is; what was collected falls to a finite logit whose probability
    and gradient are nothing. A sample that annotates every class keeps its logits to the bit.

    Args:
        logits: (B, K, *S) of any float type; computed in float32 (float64 stays).
        annotated: (B, K) bool on the device of the logits, the background (class 0) always True.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    if annotated.shape != logits.shape[:2]:
        raise ValueError(f"annotated is {tuple(annotated.shape)} for logits {tuple(logits.shape)}; give (B, K)")
    wide = widened(logits)
    known = annotated.reshape(*annotated.shape, *[1] * (logits.ndim - 2))
    kept = known.clone()
    kept[:, 0] = False
    background = wide.masked_fill(kept, -torch.inf).logsumexp(1, keepdim=True)
    lowest = wide.detach().amin(1, keepdim=True) - NEGLIGIBLE
    return torch.cat([background, torch.where(known[:, 1:], wide[:, 1:], lowest)], dim=1)
