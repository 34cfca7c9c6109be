"""Losses from distances to the truth's boundary. The distances are computed at every step, on the CPU, by scipy."""

import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.losses.encoding import probabilities_and_target


def boundary(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over pixels, cases and foreground classes of probability times signed distance.

    Kervadec et al., MIDL 2019: MONAI's ``BoundaryLoss``. The distance in pixels is ``-(d - 1)`` inside the class, so
    that the loss is negative when the answer is right, and says nothing of a class that is absent or everywhere:
    mix it with a loss of regions (:class:`~medseg.losses.schedule.Rising`). ``IGNORE`` pixels count as background for
    the distances and add nothing.

    Args:
        logits: (B, K, *S).
        mask: (B, *S) int64.
    """
    from monai.losses import BoundaryLoss

    return BoundaryLoss(include_background=False)(*probabilities_and_target(logits, mask))


class Boundary(nn.Module):
    """Boundary loss as a module (see :func:`boundary`)."""

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, K, *S) and mask (B, *S)."""
        return boundary(logits, mask)


def hausdorff_dt(logits: Tensor, mask: Tensor, *, alpha: float = 2.0, log: bool = False) -> Tensor:
    """Return the mean over pixels, cases and foreground classes of ``(p - g)^2 (DT_p^alpha + DT_g^alpha)``.

    Karimi and Salcudean, IEEE TMI 39(2), 2020: MONAI's ``HausdorffDTLoss``. DT is the distance to the boundary of the
    truth, and of the answer cut at 0.5; a mask without boundary has DT 0. ``IGNORE`` pixels count as background for
    the distances and add nothing.

    Args:
        logits: (B, K, *S).
        mask: (B, *S) int64.
        alpha: exponent of the distances in pixels.
        log: whether ``log(1 + loss)`` is returned.
    """
    from monai.losses import HausdorffDTLoss

    value = HausdorffDTLoss(alpha=alpha)(*probabilities_and_target(logits, mask))
    return torch.log1p(value) if log else value


class HausdorffDT(nn.Module):
    """Hausdorff loss by distance transforms as a module (see :func:`hausdorff_dt`).

    Args:
        alpha: exponent of the distances; must be positive.
        log: whether ``log(1 + loss)`` is returned.
    """

    def __init__(self, alpha: float = 2.0, log: bool = False) -> None:
        super().__init__()
        if alpha <= 0:
            raise ConfigError(f"loss.alpha={alpha}: give a positive exponent, 2 in the paper.")
        self.alpha, self.log = alpha, log

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, K, *S) and mask (B, *S)."""
        return hausdorff_dt(logits, mask, alpha=self.alpha, log=self.log)
