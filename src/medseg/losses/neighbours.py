"""Cross entropy that does not reward more confidence than the labels around a pixel support."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import ConfigError
from medseg.losses.encoding import valid_labels, widened
from medseg.losses.partial_labels import NEGLIGIBLE
from medseg.losses.pixelwise import cross_entropy
from medseg.types import IGNORE

DISTANCES = ("l1", "l2")


def nacl(logits: Tensor, mask: Tensor, *, alpha: float = 0.1, size: int = 3, distance: str = "l1") -> Tensor:
    """Return cross entropy plus ``alpha`` times the mean distance of the logits from the shares of labels around.

    The neighbour-aware calibration loss (Murugesan et al., MICCAI 2023, arXiv:2303.06268; 3D in arXiv:2401.14487):
    ``|u - l|`` or ``(u - l)^2`` of the logits l and :func:`shares_around` u, averaged over classes and valid pixels. It
    acts on logits, not on probabilities, and is least where an answer is right without being certain. Classes whose
    logit lies ``NEGLIGIBLE`` below the largest are not averaged: those that a sample does not annotate are put there.

    Written here because MONAI's ``NACLLoss``, which has the same values off the border, knows no ignored pixels and
    takes the outside of an image for a place without any class.

    Args:
        logits: (B, K, *S).
        mask: (B, *S) int64; ``IGNORE`` pixels are left out.
        alpha: weight of the distance, 0.1 in the paper.
        size: side of the neighbourhood in pixels, odd.
        distance: ``l1`` or ``l2``.
    """
    wide = widened(logits)
    gap = wide - shares_around(mask, logits.shape[1], size=size).to(wide.dtype)
    each = gap.abs() if distance == "l1" else gap**2
    counted = wide.detach() > wide.detach().amax(1, keepdim=True) - NEGLIGIBLE
    each = (each * counted).sum(1) / counted.sum(1)
    valid = mask != IGNORE
    return cross_entropy(logits, mask) + alpha * (each * valid).sum() / valid.sum().clamp(min=1)


def shares_around(mask: Tensor, classes: int, *, size: int) -> Tensor:
    """Return the share of each class among the labelled pixels around each pixel, itself among them, (B, K, *S).

    0 where there are none.

    Args:
        mask: (B, *S) int64.
        classes: K.
        size: side of the neighbourhood in pixels, odd.
    """
    valid, labels = valid_labels(mask)
    there = valid.unsqueeze(1).float()
    target = functional.one_hot(labels, classes).movedim(-1, 1).float() * there
    pool = functional.avg_pool2d if mask.ndim == 3 else functional.avg_pool3d
    # The outside of the image adds 0 to both. Padded here: the library refuses images smaller than the kernel.
    margin = [size // 2] * 2 * (mask.ndim - 1)
    inside, known = (pool(functional.pad(values, margin), size, stride=1) for values in (target, there))
    return inside / known.clamp(min=torch.finfo(known.dtype).tiny)


class NACL(nn.Module):
    """Neighbour-aware calibration loss as a module (see :func:`nacl`).

    Args:
        alpha: weight of the distance; not negative.
        size: side of the neighbourhood in pixels; odd.
        distance: ``l1`` or ``l2``.

    Raises:
        ConfigError: a value is out of its range.
    """

    def __init__(self, alpha: float = 0.1, size: int = 3, distance: str = "l1") -> None:
        super().__init__()
        if alpha < 0:
            raise ConfigError(f"loss.alpha={alpha}: give a weight that is not negative, 0.1 in the paper.")
        if size < 1 or size % 2 == 0:
            raise ConfigError(f"loss.size={size}: give an odd number of pixels, 3 in the paper.")
        if distance not in DISTANCES:
            raise ConfigError(f"loss.distance={distance}: choose one of {', '.join(DISTANCES)}.")
        self.alpha, self.size, self.distance = float(alpha), int(size), distance

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, K, *S) and mask (B, *S)."""
        return nacl(logits, mask, alpha=self.alpha, size=self.size, distance=self.distance)
