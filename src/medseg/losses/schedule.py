"""Pairs of losses whose mixture changes while training.

A loss is not told the epoch. It counts how often it is called in train mode; ``period`` calls stand for an epoch. The
count is part of the state dict, so that a resumed training goes on where it was. A network with several outputs calls
its loss several times a step: multiply the period.
"""

import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.losses.combine import Compound


class Rising(Compound):
    """``(1 - a) region + a boundary``, where a rises while training (Kervadec et al., MIDL 2019: 0.01 an epoch).

    Args:
        region: a loss that holds by itself, for instance Dice.
        boundary: the loss that takes over.
        start: a at the beginning.
        step: by which a rises.
        limit: largest a; below 1, the loss of regions never ends.
        period: training calls between two steps.

    Raises:
        ConfigError: a number is out of its range.
    """

    calls: Tensor

    def __init__(
        self,
        region: nn.Module,
        boundary: nn.Module,
        start: float = 0.01,
        step: float = 0.01,
        limit: float = 0.99,
        period: int = 100,
    ) -> None:
        super().__init__({"region": region, "boundary": boundary})
        if not 0 <= start <= limit <= 1 or step < 0:
            raise ConfigError(
                f"loss: start={start}, step={step}, limit={limit} need 0 <= start <= limit <= 1, step >= 0."
            )
        self.start, self.step, self.limit, self.period = start, step, limit, checked_period(period)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    @property
    def share(self) -> Tensor:
        """The present a."""
        return (self.start + self.step * (self.calls // self.period)).clamp(max=self.limit)

    def forward(self, logits: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the scalar loss of logits (B, K, *S), mask (B, *S) and, where a part wants them, weights (B, *S)."""
        region, boundary = self.values(logits, mask, weight)
        share = self.share
        if self.training:
            self.calls = self.calls + 1
        return (1 - share) * region + share * boundary


class Balanced(Compound):
    """``main + r other``, where r makes both equally large on average over the last period.

    Karimi and Salcudean (IEEE TMI 39(2), 2020) choose the ratio anew after each epoch so that Dice and Hausdorff loss
    weigh alike. Here r is set at the first training call and after every further ``period`` of them.

    Args:
        main: the loss that the other one is scaled to.
        other: the other loss.
        period: training calls between two settings of r.

    Raises:
        ConfigError: the period is not positive.
    """

    calls: Tensor
    ratio: Tensor
    sums: Tensor

    def __init__(self, main: nn.Module, other: nn.Module, period: int = 100) -> None:
        super().__init__({"main": main, "other": other})
        self.period = checked_period(period)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("ratio", torch.ones(()))
        self.register_buffer("sums", torch.zeros(2))

    def forward(self, logits: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the scalar loss of logits (B, K, *S), mask (B, *S) and, where a part wants them, weights (B, *S)."""
        main, other = self.values(logits, mask, weight)
        if self.training:
            self._count(torch.stack([main.detach(), other.detach()]).to(self.sums))
        return main + self.ratio * other

    def _count(self, pair: Tensor) -> None:
        # New tensors, not changes in place: the graph of an earlier call of the same step may hold the old ones. And
        # no branch on their values, for which a device would have to wait.
        sums = self.sums + pair
        due = (self.calls % self.period) == 0
        known = due & (sums > 0).all()
        self.ratio = torch.where(known, sums[0] / sums[1].clamp(min=torch.finfo(sums.dtype).tiny), self.ratio)
        self.sums = torch.where(due, torch.zeros_like(sums), sums)
        self.calls = self.calls + 1


def checked_period(period: int) -> int:
    """Return a positive number of calls.

    Raises:
        ConfigError: it is not positive.
    """
    if period < 1:
        raise ConfigError(f"loss.period={period}: give the training batches of an epoch, at least 1.")
    return int(period)
