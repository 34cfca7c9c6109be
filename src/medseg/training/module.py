"""The Lightning module of supervised segmentation: network, loss, optimizer and schedule arrive finished."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from lightning.pytorch.profilers import PassThroughProfiler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from medseg import rng
from medseg.data.preprocess import native_logits
from medseg.data.views import View, Whole
from medseg.errors import ConfigError, MedsegError
from medseg.losses.combine import training_loss
from medseg.metrics.epoch import CaseScores
from medseg.training.freezing import Freezing
from medseg.training.measuring import NativeScoring, gives_probabilities
from medseg.training.schedules import Plateau
from medseg.training.transfer import Transfer, scale_rates
from medseg.types import Batch

LOGGED = (
    *("dice", "iou", "sensitivity", "specificity", "precision"),
    *("b_iou", "n_iou", "miou", "pa", "f1", "pooled_precision", "pooled_recall"),
)
"""The validation scores of every epoch; counts of empty masks belong to the final score table."""


class NotFiniteError(MedsegError):
    """The loss became NaN or infinite; training stops before the weights are spoilt."""


class Unprofiled(PassThroughProfiler):
    """Measures nothing, and spares each of about a hundred calls a step the generator that would measure nothing."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return self._nothing


class SegmentationModule(LightningModule):
    """Fit a network to labelled images and score it per case.

    Logged per epoch: ``train/loss``, ``val/loss`` and ``val/<score>`` with the scores of
    :class:`~medseg.metrics.epoch.CaseScores` on the network's grid. The test scores are on the native grid; what the
    attribute ``nsd_tolerance`` says there, in the unit of the spacing, the one who tests may set before.

    Args:
        net: images (B, C, *S) to logits (B, K, *S); in train mode also a list or one of the outputs in
            :mod:`medseg.types`. A network with ``losses`` (images, masks) has its own named training losses, which are
            summed. One with a ``prompt`` (interactive) gets its marks painted into whole pictures, simulated from the
            truth.
        loss: (logits, mask) to a scalar.
        optimizer: takes the trainable parameters, or groups of them.
        scheduler: (optimizer, total steps) to a schedule stepped at every optimizer step; a plateau schedule once an
            epoch.
        num_classes: classes K, background included.
        seed: root seed; dropout and simulated marks derive theirs from it.
        channels_last: memory format of images and weights; faster for most convolutional networks of pictures and
            slices, not used for volumes.
        view: takes whole images through the network in validation and test; pictures whole if not given.
        transfer: what is frozen and what learns more slowly, from the beginning; the weights that it names are loaded
            by :meth:`take_over` alone, for an evaluation has its own. Everything learns alike if not given.
    """

    full_batches = True
    """Whether a last batch that is not full is left out of an epoch of training."""

    def __init__(
        self,
        net: nn.Module,
        loss: nn.Module,
        optimizer: Callable[[Any], Optimizer],
        scheduler: Callable[[Optimizer, int], LRScheduler],
        num_classes: int,
        seed: int = 0,
        channels_last: bool = True,
        view: View | None = None,
        transfer: Transfer | None = None,
    ) -> None:
        super().__init__()
        self.view: View = view or Whole()
        pictures = channels_last and all(parameter.ndim < 5 for parameter in net.parameters())
        self.memory_format = torch.channels_last if pictures else torch.contiguous_format
        self.net = net.to(memory_format=self.memory_format)
        self.loss, self.optimizer, self.scheduler = loss, optimizer, scheduler
        self.seed = seed
        self.val_scores = CaseScores(num_classes=num_classes)
        self.test_scores = CaseScores(num_classes=num_classes, measure=True)
        self.nsd_tolerance = 1.0
        self._losses: list[Tensor] = []
        self._val_losses: list[Tensor] = []
        self.transfer = transfer or Transfer()
        self.freezing = Freezing(net, self.transfer)
        self.freezing.hold()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_current_fx_name":
            # Lightning sets this one name about fifty times a step; torch would look each time whether it is a layer.
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def take_over(self) -> None:
        """Load the weights that ``transfer`` names; once, before a training."""
        self.transfer.load(self.net)

    def train(self, mode: bool = True) -> "SegmentationModule":
        """Set the mode of all layers, but the norms of frozen parts keep their statistics."""
        super().train(mode)
        self.freezing.hold()
        return self

    def setup(self, stage: str) -> None:
        """Take out the profiler that measures nothing; one that the user asked for stays.

        Raises:
            ConfigError: parts are to be unfrozen and several processes train, which would not exchange their gradients;
                or the network learns in a way of its own that needs every class, and some cases annotate only some.
        """
        if stage == "fit":
            self._check_annotated()
        if self.transfer.frozen_epochs is not None and self.trainer.world_size > 1:
            raise ConfigError(
                f"transfer.frozen_epochs={self.transfer.frozen_epochs} needs a single process; use one device, or null."
            )
        if type(self.trainer.profiler) is PassThroughProfiler:  # type: ignore[attr-defined]
            self.trainer.profiler = Unprofiled()  # type: ignore[attr-defined]

    def _check_annotated(self) -> None:
        """Refuse cases that annotate some classes only where no loss of ours judges the network."""
        if not (hasattr(self.net, "losses") or hasattr(self.net, "fit")):
            return
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it without declaring it
        if hasattr(data, "partly_annotated") and data.partly_annotated("train", "val"):
            raise ConfigError(
                f"net={type(self.net).__name__} takes what is not in a mask for background, and some cases of "
                f"data={data.card.name} annotate some classes only (manifest column 'annotated'); use a network with "
                "one of conf/loss, such as net=unet, or leave these cases out of the manifest."
            )

    def forward(self, image: Tensor) -> Any:
        """Return what the network makes of images (B, C, *S) of the size that it sees at once."""
        pictures = image.ndim == 4
        return self.net(image.contiguous(memory_format=self.memory_format) if pictures else image.contiguous())

    def whole(self, batch: Batch) -> Tensor:
        """Return logits (B, K, *S) of a batch of whole images as the view takes them through the network."""
        return self.view.predict(self, self.prompted(batch, jitter=False))

    def prompted(self, batch: Batch, *, jitter: bool) -> Tensor:
        """Return the batch's images, with marks simulated from the truth where the network is interactive.

        Args:
            batch: images (B, C, H, W), masks and case indices.
            jitter: whether the simulated user is imprecise (training) or not (evaluation).
        """
        if not hasattr(self.net, "prompt"):
            return batch["image"]
        epoch = self.current_epoch if jitter else 0
        points = []
        for mask, index in zip(batch["mask"].cpu().numpy(), batch["index"].tolist(), strict=True):
            draw = rng.generator(self.seed, "marks", epoch, index)
            points.append(self.net.prompt(mask.astype(np.uint8), draw, jitter=jitter))
        return self.net.mark(batch["image"], points)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move the tensors only: Lightning's own walk through a batch refuses frozen dataclasses such as Geometry."""
        wait = device.type != "cuda"
        return {  # type: ignore[return-value]
            name: value.to(device, non_blocking=not wait) if isinstance(value, Tensor) else value
            for name, value in batch.items()
        }

    def on_train_epoch_start(self) -> None:
        """Seed torch for this epoch, so that a resumed training draws what an uninterrupted one draws."""
        torch.manual_seed(rng.derive(self.seed, "torch", self.current_epoch, self.global_rank))
        self._losses.clear()
        self.freezing.start_epoch(self.current_epoch)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the loss of one batch."""
        image, mask = self.prompted(batch, jitter=True), batch["mask"]
        if hasattr(self.net, "losses"):  # needs the truth inside, as Mask R-CNN does for its boxes
            loss = torch.stack(list(self.net.losses(image, mask).values())).sum()
        else:
            loss = training_loss(self(image), mask, self.loss, batch.get("weight"), batch.get("annotated"))
        # Asking a CUDA loss for its value would make the device wait; there the epoch's end finds it.
        if not loss.is_cuda and not math.isfinite(loss.item()):
            self._not_finite(loss.detach(), batch["case"])
        self._losses.append(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the mean training loss and refuse to go on when it is not finite."""
        if not self._losses:
            return
        mean = torch.stack(self._losses).float().mean()
        if not torch.isfinite(mean):
            self._not_finite(mean, [])
        self.log("train/loss", mean, sync_dist=True)
        self._step_plateau()

    def _step_plateau(self) -> None:
        """Step a plateau schedule, where this epoch was validated.

        Lightning does so after the epoch's checkpoint is written, and a resumed training would miss the step.
        """
        trainer = self.trainer
        validated = (self.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
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

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step a schedule; a plateau was stepped at the end of the epoch."""
        if not isinstance(scheduler, Plateau):
            super().lr_scheduler_step(scheduler, metric)

    def _not_finite(self, loss: Tensor, cases: list[str]) -> None:
        where = f"in the batch of cases {', '.join(cases)}" if cases else "in this epoch"
        raise NotFiniteError(
            f"the training loss is {float(loss)} at epoch {self.current_epoch}, step {self.global_step}, {where}; "
            "lower optimizer.lr, set trainer.gradient_clip_val, or use trainer.precision=32-true. "
            "The last checkpoint is intact."
        )

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Score one batch on the network's grid."""
        logits, annotated = self.whole(batch), batch.get("annotated")
        loss = training_loss(logits, batch["mask"], self.loss, batch.get("weight"), annotated)
        self._val_losses.append(loss.detach())
        # Many times faster than argmax along this axis.
        self.val_scores.update_batch(logits.max(1).indices, batch["mask"], batch["index"], annotated)

    def on_validation_epoch_end(self) -> None:
        """Log the validation loss and scores."""
        self.log("val/loss", torch.stack(self._val_losses).float().mean(), sync_dist=True)
        self._val_losses.clear()
        scores = self.val_scores.compute()
        self.log_dict({f"val/{name}": torch.tensor(scores[name]) for name in LOGGED}, sync_dist=True)
        self.val_scores.reset()

    def on_test_epoch_start(self) -> None:
        """Open the threads that measure."""
        known = gives_probabilities(self.net)
        self._native = NativeScoring(self.test_scores, probabilities=known, tolerance=self.nsd_tolerance)

    def test_step(self, batch: Batch, batch_index: int) -> list[np.ndarray]:
        """Hand one batch over to be scored on the native grid and return its label maps, one uint8 array a case.

        The last batch waits until every case is measured, so that the trainer's progress bar is full when all is done.
        """
        logits = self.whole(batch).float()
        known = batch["annotated"].cpu().numpy() if "annotated" in batch else [None] * len(logits)
        labels = [
            self._native.case(
                native_logits(logits[number], geometry), batch["truth"][number], case=batch["case"][number],
                index=int(batch["index"][number]), spacing=geometry.spacing, annotated=known[number],
            )
            for number, geometry in enumerate(batch["geometry"])
        ]  # fmt: skip
        if batch_index + 1 == self.trainer.num_test_batches[0]:
            self._native.finish()
        return labels

    def on_test_epoch_end(self) -> None:
        """Keep the rows of all processes in ``test_rows`` while the processes can still be asked."""
        self._native.close()
        del self._native
        self.test_rows = self.test_scores.gathered()

    def configure_optimizers(self) -> Any:
        """Build the optimizer over the parameters that train, now or later, and its schedule."""
        later = self.freezing.later
        names = [name for name, p in self.net.named_parameters() if p.requires_grad or name in later]
        groups = self.transfer.groups(self.net, names)
        if others := [p for p in self.loss.parameters() if p.requires_grad]:
            groups.append({"params": others})
        optimizer = scale_rates(self.optimizer(groups))
        schedule = self.scheduler(optimizer, self._total_steps())
        if isinstance(schedule, Plateau):
            watched = {"scheduler": schedule, "interval": "epoch", "monitor": schedule.monitor, "strict": False}
            return {"optimizer": optimizer, "lr_scheduler": watched}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _total_steps(self) -> int:
        """Return the optimizer steps of the whole training.

        Lightning's own estimate would start the loader's processes here, and in a resumed training that is before the
        epoch is known: they would serve the first epoch once more.
        """
        trainer: Any = self.trainer  # Lightning sets its datamodule without declaring it
        if trainer.datamodule is None:
            return int(trainer.estimated_stepping_batches)
        batches, limit = len(trainer.datamodule.train_dataloader()), trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        steps = math.ceil(batches / trainer.accumulate_grad_batches) * (trainer.max_epochs or 1)
        return min(steps, trainer.max_steps) if trainer.max_steps > 0 else steps
