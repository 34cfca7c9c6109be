"""Losses of what a network says beside its label map: which classes are there, and structures that overlap."""

import torch
from torch import Tensor
from torch.nn import functional

from medseg.losses.encoding import widened
from medseg.types import IGNORE, StructureOutput


def presence_loss(presence: Tensor, mask: Tensor, annotated: Tensor | None = None) -> Tensor:
    """Return the binary cross entropy of "this foreground class is in the image", averaged over what is known.

    An image that has ignored pixels and shows no pixel of a class may yet hold it, and so may one that does not
    annotate the class: that pair is left out. UNet 3+'s classification-guided module (Huang et al., ICASSP 2020) is
    trained by it.

    Args:
        presence: (B, K - 1) logits.
        mask: (B, *S) int64.
        annotated: (B, K) bool, which classes each image annotates; all of them if not given.
    """
    pixels = mask.flatten(1)
    there = torch.stack([(pixels == label).any(1) for label in range(1, presence.shape[1] + 1)], dim=1)
    known = there | (pixels != IGNORE).all(1, keepdim=True)
    if annotated is not None:
        known = known & annotated[:, 1 : presence.shape[1] + 1]
    wide = widened(presence)
    each = functional.binary_cross_entropy_with_logits(wide, there.to(wide.dtype), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def structure_loss(
    output: StructureOutput, mask: Tensor, annotated: Tensor | None = None, *, smooth: float = 1.0
) -> Tensor:
    """Return the sum over structures of binary cross entropy and soft Dice against the union of their labels.

    The loss of Kumar et al., IEEE Access 8, 2020, as we read it. Cross entropy is the mean over valid pixels, Dice the
    mean over images that have one; images without any labelled pixel are left out, and a batch of them costs 0. A
    structure is left out of the images that do not annotate all of its labels.

    Args:
        output: logits (B, P, *S) and the labels of each of the P structures.
        mask: (B, *S) int64; ``IGNORE`` pixels are left out.
        annotated: (B, K) bool, which classes each image annotates; all of them if not given.
        smooth: of Dice, in pixels.

    Raises:
        ValueError: there are not as many maps as structures.
    """
    if output.maps.shape[1] != len(output.members):
        raise ValueError(f"{output.maps.shape[1]} maps for {len(output.members)} structures")
    valid = (mask != IGNORE).flatten(1)
    terms = []
    for logits, labels in zip(widened(output.maps).unbind(1), output.members, strict=True):
        target = torch.stack([mask == label for label in labels]).any(0).flatten(1).to(logits.dtype)
        known = valid if annotated is None else valid & annotated[:, list(labels)].all(1, keepdim=True)
        terms.append(_binary(logits.flatten(1), target, known, smooth))
    return torch.stack(terms).sum()


def _binary(logits: Tensor, target: Tensor, valid: Tensor, smooth: float) -> Tensor:
    """Return cross entropy plus Dice of logits (B, N) against targets 0 and 1."""
    each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    entropy = (each * valid).sum() / valid.sum().clamp(min=1)
    probability, target = logits.sigmoid() * valid, target * valid
    missing = 1 - (2 * (probability * target).sum(1) + smooth) / (probability.sum(1) + target.sum(1) + smooth)
    labelled = valid.any(1)
    return entropy + (missing * labelled).sum() / labelled.sum().clamp(min=1)
