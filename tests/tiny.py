"""Tiny trainings without a config file: parts built by hand, as the commands build them."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from fakes import write_dataset
from medseg.data import splits
from medseg.data.augment.pictures import compose
from medseg.data.datamodule import SegmentationData
from medseg.data.preprocess import Preprocess
from medseg.data.sources.folder import read_manifest
from medseg.journal import Journal
from medseg.losses.combine import WeightedSum
from medseg.losses.overlap import Dice
from medseg.losses.pixelwise import CrossEntropy
from medseg.nets.unet import UNet
from medseg.tracking import CsvTracker
from medseg.training.callbacks import Record
from medseg.training.module import SegmentationModule
from medseg.training.schedules import one_cycle
from medseg.types import DataCard


def make_data(folder: Path, **changes: Any) -> SegmentationData:
    """Return a small dataset, 12 patients with an image each, written below a folder unless it is there."""
    root = folder / "set"
    if not root.exists():
        write_dataset(root, patients=12, images_per_patient=1, folds=4)
    given: dict[str, Any] = {
        "card": DataCard("fake", 1, 2, ["background", "nodule"]),
        "source": partial(read_manifest, root),
        "split": partial(splits.manifest_fold, seed=0, test_fold=0, val_fraction=0.25),
        "preprocess": Preprocess(size=[32, 32]),
        "augment": compose([]),
        "batch_size": 4,
        "seed": 0,
        "cache_root": folder / "cache",
    }
    data = SegmentationData(**{**given, **changes})
    data.prepare_data()
    data.setup()
    return data


def make_module(net: torch.nn.Module | None = None, **changes: Any) -> SegmentationModule:
    """Return a module around a tiny U-Net (or the network given)."""
    torch.manual_seed(0)
    given: dict[str, Any] = {
        "net": net or UNet(in_channels=1, num_classes=2, widths=[4, 8], dropout=0.1),
        "loss": WeightedSum({"ce": CrossEntropy(), "dice": Dice()}),
        "optimizer": partial(torch.optim.AdamW, lr=0.01),
        "scheduler": partial(one_cycle, warmup=0.3),
        "num_classes": 2,
        "seed": 0,
    }
    return SegmentationModule(**{**given, **changes})


def make_trainer(folder: Path, epochs: int, **changes: Any) -> Trainer:
    """Return a CPU trainer that checkpoints every epoch and writes the journal."""
    last = ModelCheckpoint(
        dirpath=folder, filename="last", every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False
    )
    given: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": epochs,
        "callbacks": [last, Record(Journal(folder / "metrics.jsonl"), CsvTracker())],
        "logger": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
    }
    return Trainer(**{**given, **changes})
