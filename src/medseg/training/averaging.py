"""Averages of the weights along a training; the average is what is validated, chosen and kept.

Both build on Lightning's ``WeightAveraging``, which swaps the average in for every validation and writes it as the
checkpoint's ``state_dict``, the trained weights beside it. Until the average has begun it equals the trained weights
here; Lightning alone would validate and keep the random weights of the start.
"""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from medseg.errors import ConfigError
from medseg.types import offers


class Average(WeightAveraging):
    """What every average of weights does: begin late without harm, and refuse checkpoints that would miss it."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the copy that holds the average.

        Raises:
            ConfigError: a checkpoint writes weights only; Lightning leaves the average out of it.
        """
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ModelCheckpoint) and callback.save_weights_only:
                raise ConfigError(
                    f"callbacks.{callback.filename}: save_weights_only=true leaves the averaged weights out; set "
                    f"callbacks.{callback.filename}.save_weights_only=false with {type(self).__name__}."
                )
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the average to the device of the training, which is known only now."""
        if self._device is None and self._average_model is not None:
            self._average_model.to(pl_module.device)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Swap the average in."""
        self._wait(pl_module)
        super().on_validation_epoch_start(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write the average as the checkpoint's weights, and the trained ones beside it."""
        self._wait(pl_module)
        super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the network."""
        self._wait(pl_module)
        super().on_train_end(trainer, pl_module)

    def _wait(self, pl_module: LightningModule) -> None:
        """Let the average follow the trained weights as long as it has not begun."""
        average = self._average_model
        if average is not None and not average.n_averaged:
            average.module.load_state_dict(pl_module.state_dict())


class MovingAverage(Average):
    """Exponential moving average of all weights and batch norm statistics after every optimizer step.

    In step n the average keeps ``min(decay, (1 + n) / (10 + n))`` of itself, so that a short training is not ruled by
    its first weights (as TensorFlow's ``ExponentialMovingAverage`` does with its number of updates).

    Args:
        decay: share that the average keeps, in (0, 1).

    Raises:
        ConfigError: the decay is out of its range.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 < decay < 1:
            raise ConfigError(f"callbacks.averaging.decay={decay}: give a share between 0 and 1.")
        self.decay = decay
        super().__init__(avg_fn=self.averaged)

    def averaged(self, average: Tensor, current: Tensor, count: Tensor) -> Tensor:
        """Return the next average of one tensor; counters are taken over."""
        if not average.is_floating_point():
            return current
        kept = torch.clamp((1 + count) / (10 + count), max=self.decay)
        return current + kept * (average - current)


class StochasticAverage(Average):
    """Plain mean of the weights at the ends of the last epochs (Izmailov et al., UAI 2018, arXiv:1803.05407).

    A mean of weights has batch norm statistics of its own. They are measured on the last training batches of the epoch,
    which is an estimate of the paper's pass over the whole training side and costs no reading.

    Args:
        start: fraction of the epochs after which the mean begins, in [0, 1).
        norm_batches: training batches kept for the statistics; 0 takes the mean of the statistics instead, as do
            networks that need the truth inside.

    Raises:
        ConfigError: the fraction or the number is out of its range.
    """

    def __init__(self, start: float = 0.75, norm_batches: int = 8) -> None:
        if not 0 <= start < 1 or norm_batches < 0:
            raise ConfigError(
                f"callbacks.averaging.start={start}, norm_batches={norm_batches}: give a fraction in [0, 1), and >= 0."
            )
        self.start, self.norm_batches = start, norm_batches
        self._images: list[Tensor] = []
        super().__init__(avg_fn=self.averaged)

    def averaged(self, average: Tensor, current: Tensor, count: Tensor) -> Tensor:
        """Return the next mean of one tensor; counters are taken over."""
        return average + (current - average) / (count + 1) if average.is_floating_point() else current

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the epoch's weights in after its last batch, before they are validated."""
        if trainer.current_epoch < int(self.start * (trainer.max_epochs or 1)):
            return
        left = int(trainer.num_training_batches) - 1 - batch_idx
        if left < self.norm_batches and not offers(pl_module.net, "losses"):
            self._images.append(pl_module.prompted(batch, jitter=True).detach())  # type: ignore[operator]
        if left == 0:
            assert self._average_model is not None
            self._average_model.update_parameters(pl_module)
            self._renew_norms(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing is left to do: the epoch's weights are in."""

    @torch.no_grad()
    def _renew_norms(self, trainer: Trainer) -> None:
        """Measure the batch norm statistics of the mean on the kept images; frozen ones stay."""
        images, self._images = self._images, []
        assert self._average_model is not None
        net: Any = self._average_model.module.train()
        norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
        if not images or not norms:
            return
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
        with torch.random.fork_rng(), trainer.precision_plugin.forward_context():
            for image in images:
                net(image)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            for statistic in (norm.running_mean, norm.running_var):
                assert statistic is not None
                statistic.copy_(trainer.strategy.reduce(statistic.clone(), reduce_op="mean"))
