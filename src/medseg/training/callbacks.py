"""What a trainer writes down while it works: the journal, the tracker, the predictions."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint

from medseg.journal import Journal
from medseg.types import Batch


class MetricSink(Protocol):
    """Something that takes the journal's rows, for instance a tracker."""

    def metrics(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take rows as the journal writes them."""


class Record(Checkpoint):
    """Write each epoch's metrics to the journal and hand the row to a sink.

    It is a ``Checkpoint`` by type because Lightning calls those after the module's own ``on_train_epoch_end``, when
    the epoch's training loss is known. One call an epoch; nothing happens at a step.

    Args:
        journal: the run's append-only metrics file.
        sink: gets the same rows.
    """

    def __init__(self, journal: Journal, sink: MetricSink) -> None:
        self.journal, self.sink = journal, sink
        self._started = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop the rows of epochs that a resumed training is about to repeat."""
        if trainer.is_global_zero:
            self.journal.truncate_after(trainer.current_epoch - 1)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's clock."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch down."""
        if not trainer.is_global_zero:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
        if rates:  # a baseline without gradients has none
            metrics["lr"] = float(rates[0])
        metrics["system/epoch_seconds"] = time.perf_counter() - self._started
        self.sink.metrics([self.journal.log(metrics, epoch=trainer.current_epoch, step=trainer.global_step)])


class SavePredictions(Callback):
    """Hand every predicted native label map of the test loop to a writer.

    Args:
        folder: where the files go.
        write: (folder, case id, uint8 label map) writes one file.
    """

    def __init__(self, folder: Path, write: Callable[[Path, str, np.ndarray], object]) -> None:
        self.folder, self.write = Path(folder), write

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Write the label maps of one batch."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for case, labels in zip(batch["case"], outputs, strict=True):
            self.write(self.folder, case, labels)
