"""Centreline Dice: whether thin structures stay connected."""

from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.losses.encoding import probabilities_and_target


def cldice(logits: Tensor, mask: Tensor, *, iterations: int = 10) -> Tensor:
    """Return one minus the soft centreline Dice of the foreground, averaged over cases.

    Shit et al., CVPR 2021, arXiv:2003.07311: MONAI's ``SoftclDiceLoss`` in 2D and 3D. ``2 Tp Ts / (Tp + Ts)`` of the
    share of the answer's skeleton inside the truth and of the truth's inside the answer; skeletons by repeated
    minimum and maximum pooling. Foreground classes are summed within a case.

    Args:
        logits: (B, K, *S).
        mask: (B, *S) int64; ``IGNORE`` pixels count as background in both.
        iterations: at least the largest radius in pixels (the paper: 5 to 50).
    """
    from monai.losses import SoftclDiceLoss

    return SoftclDiceLoss(iter_=iterations, include_background=False)(*probabilities_and_target(logits, mask))


class ClDice(nn.Module):
    """Centreline Dice as a module (see :func:`cldice`).

    Args:
        iterations: at least the largest radius in pixels.
    """

    def __init__(self, iterations: int = 10) -> None:
        super().__init__()
        if iterations < 1:
            raise ConfigError(
                f"loss.iterations={iterations}: give at least 1, the largest radius of a vessel in pixels."
            )
        self.iterations = iterations

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, K, *S) and mask (B, *S)."""
        return cldice(logits, mask, iterations=self.iterations)
