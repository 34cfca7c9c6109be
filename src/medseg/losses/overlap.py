"""Losses from the overlap of probabilities and truth."""

from torch import Tensor, nn

from medseg.losses.encoding import probabilities_and_target


def dice(logits: Tensor, mask: Tensor, *, smooth: float = 1.0, include_background: bool = False) -> Tensor:
    """Return one minus the soft Dice, averaged over cases and classes.

    Soft Dice of a case and class is ``(2 sum(p g) + smooth) / (sum(p) + sum(g) + smooth)``. An empty mask keeps
    its gradient: the loss is then ``1 - smooth / (sum(p) + smooth)``, so false positives are punished (some
    libraries multiply by "class is present" and return 0 there).

    Args:
        logits: (B, K, *S).
        mask: (B, *S) int64; ``IGNORE`` pixels count neither as truth nor as prediction.
        smooth: added to numerator and denominator, in pixels.
        include_background: whether class 0 takes part in the mean.
    """
    probability, target = probabilities_and_target(logits, mask)
    first = 0 if include_background else 1
    axes = tuple(range(2, probability.ndim))
    probability, target = probability[:, first:], target[:, first:]
    overlap = (probability * target).sum(axes)
    total = probability.sum(axes) + target.sum(axes)
    return 1 - ((2 * overlap + smooth) / (total + smooth)).mean()


class Dice(nn.Module):
    """Soft Dice loss as a module (see :func:`dice`).

    Args:
        smooth: added to numerator and denominator, in pixels; must be positive.
        include_background: whether class 0 takes part in the mean.
    """

    def __init__(self, smooth: float = 1.0, include_background: bool = False) -> None:
        super().__init__()
        self.smooth, self.include_background = smooth, include_background

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, K, *S) and mask (B, *S)."""
        return dice(logits, mask, smooth=self.smooth, include_background=self.include_background)
