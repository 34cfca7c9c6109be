"""Tiny volume datasets and networks, built by hand as the commands build them."""

from functools import partial
from pathlib import Path
from typing import Any

from fake_volumes import write_volume_dataset
from medseg.data import splits
from medseg.data.augment.pictures import compose
from medseg.data.datamodule import SegmentationData
from medseg.data.sources.folder import read_manifest
from medseg.data.views import Patches
from medseg.data.volumes.preprocess import VolumePreprocess
from medseg.types import DataCard

PATCH = (8, 16, 16)


def make_volumes(folder: Path, *, channels: int = 1, prepare: bool = True, **changes: Any) -> SegmentationData:
    """Return six patients with a volume each, written below a folder unless it is there; (z, y, x) is 2 x 1 x 1 mm."""
    root = folder / "volumes"
    if not root.exists():
        write_volume_dataset(root, patients=6, channels=channels, folds=3)
    given: dict[str, Any] = {
        "card": DataCard("fake", channels, 2, ["background", "organ"], 3, "mm", patch=list(PATCH)),
        "source": partial(read_manifest, root),
        "split": partial(splits.manifest_fold, seed=0, test_fold=0, val_fraction=0.3),
        "preprocess": VolumePreprocess(),
        "augment": compose([]),
        "batch_size": 2,
        "seed": 0,
        "cache_root": folder / "cache",
        "labels": {0: 0, 1: 1},
        "view": Patches(size=PATCH, epoch_samples=8),
    }
    data = SegmentationData(**{**given, **changes})
    if prepare:
        data.prepare_data()
    return data
