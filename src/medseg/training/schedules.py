"""Learning-rate schedules: (optimizer, total steps) to a scheduler that is stepped once an optimizer step."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR


def constant(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """Return a schedule that leaves the learning rate as it is."""
    return LambdaLR(optimizer, lambda step: 1.0)


def one_cycle(optimizer: Optimizer, total_steps: int, *, warmup: float = 0.3) -> LRScheduler:
    """Return torch's one-cycle schedule with the optimizer's learning rate as the maximum.

    Args:
        optimizer: its ``lr`` is the peak.
        total_steps: optimizer steps of the whole training.
        warmup: fraction of the steps in which the rate rises.
    """
    peak = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, max_lr=peak, total_steps=max(total_steps, 2), pct_start=warmup)


def cosine(optimizer: Optimizer, total_steps: int, *, warmup: float = 0.05) -> LRScheduler:
    """Return a linear warm-up followed by half a cosine down to zero.

    Args:
        optimizer: its ``lr`` is the peak.
        total_steps: optimizer steps of the whole training.
        warmup: fraction of the steps in which the rate rises.
    """
    rising = max(1, round(warmup * total_steps))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        progress = min(1.0, (step - rising) / max(1, total_steps - rising))
        return 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def poly(optimizer: Optimizer, total_steps: int, *, power: float = 0.9) -> LRScheduler:
    """Return the polynomial decay ``(1 - step / total_steps) ** power``."""
    return LambdaLR(optimizer, lambda step: max(0.0, 1 - step / max(1, total_steps)) ** power)
