"""Pairs of losses whose mixture changes from epoch to epoch.

``start_epoch`` tells such a loss the epoch. A training module calls it, for each part of the loss that has it, once
before the first batch of an epoch, a resumed one too; without these calls a mixture stays as it begins. How often the
loss is called within an epoch (batches, side outputs, accumulated gradients) makes no difference.
"""

import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.losses.combine import Compound


class Rising(Compound):
    """``(1 - a) region + a boundary``, where a rises while training (Kervadec et al., MIDL 2019: 0.01 an epoch).

    a follows from the epoch alone, so that nothing of it is kept in a checkpoint.

    Args:
        region: a loss that holds by itself, for instance Dice.
        boundary: the loss that takes over.
        start: a in the first epoch.
        step: by which a rises.
        limit: largest a; below 1, the loss of regions never ends.
        period: epochs between two steps.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(
        self,
        region: nn.Module,
        boundary: nn.Module,
        start: float = 0.01,
        step: float = 0.01,
        limit: float = 0.99,
        period: int = 1,
    ) -> None:
        super().__init__({"region": region, "boundary": boundary})
        if not 0 <= start <= limit <= 1 or step < 0:
            raise ConfigError(
                f"loss: start={start}, step={step}, limit={limit} need 0 <= start <= limit <= 1, step >= 0."
            )
        self.start, self.step, self.limit, self.period = start, step, limit, checked_period(period)
        self.epoch = 0

    def start_epoch(self, epoch: int) -> None:
        """Take the share of an epoch, counted from 0."""
        self.epoch = int(epoch)

    @property
    def share(self) -> float:
        """The present a."""
        return min(self.limit, self.start + self.step * (self.epoch // self.period))

    def forward(self, logits: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the scalar loss of logits (B, K, *S), mask (B, *S) and, where a part wants them, weights (B, *S)."""
        region, boundary = self.values(logits, mask, weight)
        return (1 - self.share) * region + self.share * boundary


class Balanced(Compound):
    """``main + r other``, where r makes both equally large on average over the epochs before.

    Karimi and Salcudean (IEEE TMI 39(2), 2020) choose the ratio anew after each epoch so that Dice and Hausdorff loss
    weigh alike. The first r is that of the first training batch in which both are positive, 1 until then. What r is
    made of is part of the state dict.

    Args:
        main: the loss that the other one is scaled to.
        other: the other loss.
        period: epochs between two settings of r.

    Raises:
        ConfigError: the period is not positive.
    """

    ratio: Tensor
    sums: Tensor
    epoch: Tensor

    def __init__(self, main: nn.Module, other: nn.Module, period: int = 1) -> None:
        super().__init__({"main": main, "other": other})
        self.period = checked_period(period)
        self.register_buffer("ratio", torch.zeros(()))  # 0: not known yet
        self.register_buffer("sums", torch.zeros(2))
        self.register_buffer("epoch", torch.full((), -1, dtype=torch.int64))

    def start_epoch(self, epoch: int) -> None:
        """Set r where a period begins, from the training calls since it was last set.

        A second call for the same epoch changes nothing, so that an epoch may be resumed in its midst.

        Args:
            epoch: counted from 0.
        """
        if int(self.epoch) == epoch:
            return
        self.epoch.fill_(epoch)
        if epoch % self.period == 0:
            self.ratio.copy_(_quotient(self.sums, otherwise=self.ratio))
            self.sums.zero_()

    def forward(self, logits: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the scalar loss of logits (B, K, *S), mask (B, *S) and, where a part wants them, weights (B, *S)."""
        main, other = self.values(logits, mask, weight)
        if self.training:
            pair = torch.stack([main.detach(), other.detach()]).to(self.sums)
            # No branch on values, for which a device would have to wait.
            self.ratio.copy_(torch.where(self.ratio > 0, self.ratio, _quotient(pair, otherwise=self.ratio)))
            self.sums += pair
        # A tensor of its own: the graph of this call may outlive further changes of the buffer, in the same step.
        ratio = torch.where(self.ratio > 0, self.ratio, torch.ones_like(self.ratio))
        return main + ratio * other


def checked_period(period: int) -> int:
    """Return a positive number of epochs.

    Raises:
        ConfigError: it is not positive.
    """
    if period < 1:
        raise ConfigError(f"loss.period={period}: give a number of epochs, at least 1.")
    return int(period)


def _quotient(pair: Tensor, *, otherwise: Tensor) -> Tensor:
    """Return the first of two numbers over the second; ``otherwise`` where they are not both positive."""
    smallest = torch.finfo(pair.dtype).tiny
    return torch.where((pair > 0).all(), pair[0] / pair[1].clamp(min=smallest), otherwise)
