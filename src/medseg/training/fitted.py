"""Baselines that learn in one pass without gradients, or not at all, under the same trainer."""

from typing import Any

import numpy as np
from torch import Tensor

from medseg.training.module import SegmentationModule
from medseg.types import Batch


class FittedModule(SegmentationModule):
    """Collect the training images of one epoch and hand them to the network's ``fit``.

    Set ``trainer.max_epochs=1`` and ``augment=none`` with it. A network without ``fit`` learns nothing and is only
    scored. The arguments are those of :class:`SegmentationModule`; loss, optimizer and scheduler stay unused.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._images: list[np.ndarray] = []
        self._masks: list[np.ndarray] = []

    def training_step(self, batch: Batch, batch_index: int) -> Tensor | None:
        """Collect one batch; fit after the last one, before validation scores the result."""
        if hasattr(self.net, "fit"):
            self._images += list(batch["image"].movedim(1, -1).cpu().numpy())
            self._masks += list(batch["mask"].cpu().numpy().astype(np.uint8))
            if batch_index + 1 == self.trainer.num_training_batches:
                self.net.fit(self._images, self._masks)
        return None

    def configure_optimizers(self) -> None:
        """There is nothing to optimise by gradients."""
