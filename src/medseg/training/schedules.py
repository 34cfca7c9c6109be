"""Learning-rate schedules: (optimizer, total steps) to a scheduler that is stepped once an optimizer step.

:func:`plateau` alone is stepped once an epoch. Every schedule multiplies the rate of each parameter group by the same
factor, so that groups keep their ratios.
"""

import math
from collections.abc import Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from medseg.errors import ConfigError


def constant(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """Return a schedule that leaves the learning rate as it is."""
    return LambdaLR(optimizer, lambda step: 1.0)


def one_cycle(optimizer: Optimizer, total_steps: int, *, warmup: float = 0.3) -> LRScheduler:
    """Return torch's one-cycle schedule with the optimizer's learning rate as the maximum (Smith, 2018).

    Momentum runs the other way, between 0.85 and 0.95, where the optimizer uses any.

    Args:
        optimizer: its ``lr`` is the peak.
        total_steps: optimizer steps of the whole training.
        warmup: fraction of the steps in which the rate rises.

    Raises:
        ConfigError: the warm-up is no fraction.
    """
    if not 0 <= warmup <= 1:
        raise ConfigError(f"scheduler.warmup={warmup}: give a fraction in [0, 1].")
    peak = [group["lr"] for group in optimizer.param_groups]
    moving = all(group.get("betas") or group.get("momentum") for group in optimizer.param_groups)
    # At the ends torch divides by zero; a rise or a fall of less than a step is none.
    share = min(max(float(warmup), 1e-9), 1 - 1e-9)
    return OneCycleLR(optimizer, max_lr=peak, total_steps=max(total_steps, 2), pct_start=share, cycle_momentum=moving)


def cosine(optimizer: Optimizer, total_steps: int, *, warmup: float = 0.05, floor: float = 0.0) -> LRScheduler:
    """Return a linear warm-up followed by half a cosine (Loshchilov and Hutter, ICLR 2017, without restarts).

    Args:
        optimizer: its ``lr`` is the peak.
        total_steps: optimizer steps of the whole training.
        warmup: fraction of the steps in which the rate rises.
        floor: fraction of the peak at which the cosine ends; weight averaging wants one above 0.
    """
    if not 0 <= warmup <= 1 or not 0 <= floor <= 1:
        raise ConfigError(f"scheduler.warmup={warmup}, scheduler.floor={floor}: give fractions in [0, 1].")
    rising = max(1, round(warmup * total_steps))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        progress = min(1.0, (step - rising) / max(1, total_steps - rising))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def poly(optimizer: Optimizer, total_steps: int, *, power: float = 0.9) -> LRScheduler:
    """Return the polynomial decay ``(1 - step / total_steps) ** power``, which ends at zero."""
    return LambdaLR(optimizer, lambda step: max(0.0, 1 - step / max(1, total_steps)) ** power)


def step(
    optimizer: Optimizer, total_steps: int, *, drops: Sequence[float] = (0.5, 0.75), factor: float = 0.1
) -> LRScheduler:
    """Return a schedule that multiplies the rate by ``factor`` at each of some points of the training.

    Args:
        optimizer: its ``lr`` is the rate until the first drop.
        total_steps: optimizer steps of the whole training.
        drops: fractions of the steps.
        factor: of the rate at each drop.

    Raises:
        ConfigError: a drop lies outside the training, or the factor is not positive.
    """
    points = [float(drop) for drop in drops]
    if any(not 0 < point < 1 for point in points) or not factor > 0:
        raise ConfigError(
            f"scheduler.drops={points}, factor={factor}: give fractions between 0 and 1, and a positive factor."
        )
    places = [round(point * total_steps) for point in points]
    return LambdaLR(optimizer, lambda now: factor ** sum(now >= place for place in places))


class Plateau(ReduceLROnPlateau):
    """Torch's schedule with the name of what it watches; the module steps it once an epoch, after validation.

    Attributes:
        monitor: a metric that is logged once an epoch.
    """

    def __init__(self, optimizer: Optimizer, *, monitor: str, mode: str, factor: float, patience: int) -> None:
        # No least change, which would hold groups of a low rate back while others fall.
        super().__init__(optimizer, mode=mode, factor=factor, patience=patience, eps=0.0)  # type: ignore[arg-type]
        self.monitor = monitor


def plateau(
    optimizer: Optimizer,
    total_steps: int,
    *,
    monitor: str,
    mode: str = "max",
    factor: float = 0.2,
    patience: int = 5,
) -> Plateau:
    """Return a schedule that multiplies the rate by ``factor`` where a metric has stopped getting better.

    Args:
        optimizer: its ``lr`` is the first rate.
        total_steps: not used; the training decides by itself.
        monitor: metric of an epoch, for instance ``val/dice``.
        mode: whether ``max`` or ``min`` of it is good.
        factor: of the rate at each drop.
        patience: epochs without a better one before a drop; less than that of early stopping.

    Raises:
        ConfigError: mode, factor or patience is out of its range.
    """
    if mode not in ("max", "min") or not 0 < factor < 1 or patience < 0:
        raise ConfigError(
            f"scheduler.mode={mode}, factor={factor}, patience={patience}: give max or min, a factor between 0 and 1, "
            "and epochs >= 0."
        )
    return Plateau(optimizer, monitor=monitor, mode=mode, factor=factor, patience=patience)


def step_plateaus(trainer: Any, epoch: int) -> None:
    """Step the plateau schedules of a trainer, where this epoch was validated.

    Lightning does so after the epoch's checkpoint is written, and a resumed training would miss the step.

    Raises:
        ConfigError: what a schedule watches is not there.
    """
    validated = (epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
    for config in trainer.lr_scheduler_configs:
        schedule = config.scheduler
        if not isinstance(schedule, Plateau) or not validated:
            continue
        if schedule.monitor not in trainer.callback_metrics:
            raise ConfigError(
                f"scheduler.monitor={schedule.monitor} is not among what an epoch logs before it ends: "
                f"{', '.join(sorted(trainer.callback_metrics))}; choose one of these, or another scheduler."
            )
        schedule.step(float(trainer.callback_metrics[schedule.monitor]))


def as_lightning(optimizer: Optimizer, schedule: LRScheduler) -> Any:
    """Return what ``configure_optimizers`` answers: an optimizer, and a schedule with when it is stepped."""
    if isinstance(schedule, Plateau):
        watched = {"scheduler": schedule, "interval": "epoch", "monitor": schedule.monitor, "strict": False}
        return {"optimizer": optimizer, "lr_scheduler": watched}
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def total_steps(trainer: Any) -> int:
    """Return the optimizer steps of the whole training.

    Lightning's own estimate would start the loader's processes here, and in a resumed training that is before the
    epoch is known: they would serve the first epoch once more.
    """
    if trainer.datamodule is None:
        return int(trainer.estimated_stepping_batches)
    batches, limit = len(trainer.datamodule.train_dataloader()), trainer.limit_train_batches
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    steps = math.ceil(batches / trainer.accumulate_grad_batches) * (trainer.max_epochs or 1)
    return min(steps, trainer.max_steps) if trainer.max_steps > 0 else steps
