"""The Lightning module of supervised segmentation: network, loss, optimizer and schedule arrive finished."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from medseg import rng
from medseg.data.preprocess import native_logits
from medseg.data.views import View, Whole
from medseg.errors import ConfigError, MedsegError
from medseg.losses.combine import training_loss
from medseg.losses.truth import Truth
from medseg.metrics.epoch import CaseScores
from medseg.training.freezing import Freezing
from medseg.training.measuring import NativeScoring, gives_probabilities
from medseg.training.schedules import Plateau, as_lightning, step_plateaus, total_steps
from medseg.training.thrift import ThriftyModule
from medseg.training.transfer import Transfer, scale_rates
from medseg.types import Batch, offers

LOGGED = (
    *("dice", "iou", "sensitivity", "specificity", "precision"),
    *("b_iou", "n_iou", "miou", "pa", "f1", "pooled_precision", "pooled_recall"),
)
"""The validation scores of every epoch; counts of empty masks belong to the final score table."""


class NotFiniteError(MedsegError):
    """The loss became NaN or infinite; training stops before the weights are spoilt."""


class SegmentationModule(ThriftyModule):
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

    plain_samples = False
    """Whether training samples are wanted as they are: not augmented, and the last ones though no batch is full."""

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

    def take_over(self) -> None:
        """Load the weights that ``transfer`` names; once, before a training."""
        self.transfer.load(self.net)

    def train(self, mode: bool = True) -> "SegmentationModule":
        """Set the mode of all layers, but the norms of frozen parts keep their statistics."""
        super().train(mode)
        self.freezing.hold()
        return self

    def setup(self, stage: str) -> None:
        """Refuse to unfreeze parts where several processes train, which would not exchange their gradients.

        Raises:
            ConfigError: ``transfer.frozen_epochs`` with more than one process.
        """
        super().setup(stage)
        if self.transfer.frozen_epochs is not None and self.trainer.world_size > 1:
            raise ConfigError(
                f"transfer.frozen_epochs={self.transfer.frozen_epochs} needs a single process; use one device, or null."
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
        if not offers(self.net, "prompt"):
            return batch["image"]
        epoch = self.current_epoch if jitter and self._trainer is not None else 0
        points = []
        for mask, index in zip(batch["mask"].cpu().numpy(), batch["index"].tolist(), strict=True):
            draw = rng.generator(self.seed, "marks", epoch, index)
            points.append(self.net.prompt(mask.astype(np.uint8), draw, jitter=jitter))
        return self.net.mark(batch["image"], points)

    def on_train_epoch_start(self) -> None:
        """Seed torch for this epoch, so that a resumed training draws what an uninterrupted one draws."""
        torch.manual_seed(rng.derive(self.seed, "torch", self.current_epoch, self.global_rank))
        self._losses.clear()
        self.freezing.start_epoch(self.current_epoch)
        for part in self.loss.modules():
            if offers(part, "start_epoch"):  # a mixture that changes from epoch to epoch
                part.start_epoch(self.current_epoch)  # type: ignore[operator]

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the loss of one batch."""
        loss = self.loss_of(batch)
        # Asking a CUDA loss for its value would make the device wait; there the epoch's end finds it.
        if not loss.is_cuda and not math.isfinite(loss.item()):
            self._not_finite(loss.detach(), batch["case"])
        self._losses.append(loss.detach())
        return loss

    def loss_of(self, batch: Batch) -> Tensor:
        """Return the scalar that a batch is learnt by, in train mode."""
        image = self.prompted(batch, jitter=True)
        if offers(self.net, "losses"):  # needs the truth inside, as Mask R-CNN does for its boxes
            return torch.stack(list(self.net.losses(image, batch["mask"]).values())).sum()  # type: ignore[operator]
        return training_loss(self(image), Truth.of(batch), self.loss)

    def on_train_epoch_end(self) -> None:
        """Log the mean training loss and refuse to go on when it is not finite."""
        if not self._losses:
            return
        mean = torch.stack(self._losses).float().mean()
        if not torch.isfinite(mean):
            self._not_finite(mean, [])
        self.log("train/loss", mean, sync_dist=True)
        step_plateaus(self.trainer, self.current_epoch)

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
        logits = self.whole(batch)
        self._val_losses.append(training_loss(logits, Truth.of(batch), self.loss).detach())
        # Many times faster than argmax along this axis.
        self.val_scores.update_batch(logits.max(1).indices, batch["mask"], batch["index"], batch.get("annotated"))

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
        """Build the optimizer and its schedule for the whole training."""
        return as_lightning(*self.optimized(total_steps(self.trainer)))

    def optimized(self, steps: int) -> tuple[Optimizer, LRScheduler]:
        """Return the optimizer over the parameters that train, now or later, and its schedule of so many steps."""
        later = self.freezing.later
        names = [name for name, p in self.net.named_parameters() if p.requires_grad or name in later]
        groups = self.transfer.groups(self.net, names)
        if others := [p for p in self.loss.parameters() if p.requires_grad]:
            groups.append({"params": others})
        optimizer = scale_rates(self.optimizer(groups))
        return optimizer, self.scheduler(optimizer, steps)
