"""From a frozen config to the parts of a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from lightning import Trainer
from omegaconf import DictConfig

from medseg.commands.fitting import check_annotated, check_fit, check_selection
from medseg.commands.isolation import one_line_errors
from medseg.commands.probe import probe_workers
from medseg.data.datamodule import SegmentationData
from medseg.journal import Journal
from medseg.training.callbacks import Record
from medseg.training.module import SegmentationModule
from medseg.whole import whole_file


@dataclass(frozen=True)
class Parts:
    """What a run is made of.

    Attributes:
        data: prepared and set up.
        module: the Lightning module around the network.
        trainer: with its callbacks.
        tracker: MLflow, or nothing.
        journal: the run's metrics file.
    """

    data: SegmentationData
    module: SegmentationModule
    trainer: Trainer
    tracker: Any
    journal: Journal


def assemble(config: DictConfig, folder: Path) -> Parts:
    """Build the parts of a run; the data are checked, split and cached here, before anything is trained."""
    data = instantiate(config.data)
    with one_line_errors():
        module = instantiate(config.method)
    check_fit(config, data, module)
    module.take_over()
    data.weight_map, data.plain_samples = getattr(module.loss, "weight_map", None), module.plain_samples
    data.prepare_data()
    data.setup("fit")
    check_selection(config, data)
    check_annotated(data, module)
    tracker = instantiate(config.tracking)
    journal = Journal(folder / "metrics.jsonl")
    chosen = [instantiate(callback) for callback in config.callbacks.values() if callback is not None]
    with one_line_errors():  # no GPU, an impossible number of devices, an unknown precision
        trainer = instantiate(config.trainer, callbacks=[*chosen, Record(journal, tracker)])
    if data.auto_workers:
        data.num_workers = probe_workers(data, module)
    return Parts(data, module, trainer, tracker, journal)


def resume_from(folder: Path) -> str | None:
    """Return the last checkpoint of an interrupted training, or None when there is none."""
    last = folder / "checkpoints" / "last.ckpt"
    return str(last) if last.exists() else None


def best_weights(parts: Parts, folder: Path) -> None:
    """Load the weights that were best on the validation side and leave them as ``weights.pt``.

    Without a validation side nothing was selected, and the last weights are the result.
    """
    import torch

    best = folder / "checkpoints" / "best.ckpt"
    if best.exists():
        state = torch.load(best, map_location="cpu", weights_only=True)["state_dict"]
        parts.module.load_state_dict(state)
    if parts.trainer.is_global_zero:
        with whole_file(folder / "weights.pt") as partial:
            torch.save(parts.module.net.state_dict(), partial)
