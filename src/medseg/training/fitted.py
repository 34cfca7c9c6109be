"""Baselines that learn in one pass without gradients, or not at all, under the same trainer."""

import logging
from typing import Any

import numpy as np
from torch import Tensor

from medseg.errors import ConfigError
from medseg.training.module import SegmentationModule
from medseg.types import Batch, offers

LOG = logging.getLogger(__name__)
Pairs = tuple[list[np.ndarray], list[np.ndarray]]


def pictures_of(batch: Batch) -> Pairs:
    """Return a batch as images (H, W, C) float32 and label maps (H, W) uint8; volumes slice by slice."""
    image, mask = batch["image"], batch["mask"]
    if image.ndim == 5:  # (B, C, D, H, W)
        image, mask = image.transpose(1, 2).flatten(0, 1), mask.flatten(0, 1)
    pixels = np.ascontiguousarray(image.movedim(1, -1).cpu().numpy())
    return list(pixels), list(mask.cpu().numpy().astype(np.uint8))


class FittedModule(SegmentationModule):
    """Collect the training images of one epoch, hand them to the network's ``fit``, then tune it on validation.

    The training ends with that epoch, whatever ``trainer.max_epochs`` says, and its samples are not augmented. A
    network without ``fit`` that has nothing to learn is only scored. After the fit, a network with ``tune`` gets the
    images of the validation side, to choose its hyperparameters; without such a side the given ones stay, and the log
    says so. The test side is never seen. The arguments are those of :class:`SegmentationModule`; loss, optimizer and
    scheduler stay unused.

    Raises:
        ConfigError: at the first batch, several processes: each would fit a network to its own share.
    """

    plain_samples = True
    """Every training case counts once, and as it is."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._images: list[np.ndarray] = []
        self._masks: list[np.ndarray] = []

    def training_step(self, batch: Batch, batch_index: int) -> Tensor | None:
        """Collect one batch; fit and tune after the last one, before validation scores the result."""
        if not offers(self.net, "fit"):
            return None
        if self.trainer.world_size > 1:
            raise ConfigError(
                f"method=fitted runs in one process, but there are {self.trainer.world_size}; set trainer.devices=1."
            )
        images, masks = pictures_of(batch)
        self._images += images
        self._masks += masks
        if batch_index + 1 == self.trainer.num_training_batches:
            self.net.fit(self._images, self._masks)
            self._images, self._masks = [], []
            self._tune()
        return None

    def on_train_epoch_end(self) -> None:
        """End the training; a second epoch would fit the same images again."""
        self.trainer.should_stop = True

    def _tune(self) -> None:
        if not offers(self.net, "tune"):
            return
        images, masks = self._validation()
        if images:
            self.net.tune(images, masks)
        else:
            LOG.warning("no validation side: the hyperparameters of %s stay as given", type(self.net).__name__)

    def _validation(self) -> Pairs:
        """Return the images of the validation side; none where it has no case."""
        trainer: Any = self.trainer  # Lightning sets its datamodule without declaring it
        images: list[np.ndarray] = []
        masks: list[np.ndarray] = []
        for batch in [] if trainer.datamodule is None else trainer.datamodule.val_dataloader():
            more_images, more_masks = pictures_of(batch)
            images += more_images
            masks += more_masks
        return images, masks

    def configure_optimizers(self) -> None:
        """There is nothing to optimise by gradients."""
