"""Source, split, cache and loaders behind Lightning's datamodule interface."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import albumentations
import cv2
import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from medseg.data.cache import Cache, Reading, content_hashes, dataset_digest, open_cache
from medseg.data.cases import Case, by_id
from medseg.data.checks import check_list
from medseg.data.dataset import CaseDataset, collate
from medseg.data.files import read_case, read_mask, write_mask
from medseg.data.preprocess import Preprocess
from medseg.data.sampler import EpochSampler
from medseg.data.splits import SIDES, Split
from medseg.errors import ConfigError
from medseg.rng import derive
from medseg.types import IGNORE, Batch, DataCard

Splitter = Callable[[Sequence[Case]], tuple[list[Case], Split]]


class SegmentationData(LightningDataModule):
    """Images with masks, divided by patient, preprocessed once, served in an order that depends on the seed alone.

    Args:
        card: what other rooms may know of the data.
        source: returns the cases.
        split: returns cases and :class:`Split`.
        preprocess: deterministic steps and size.
        augment: random changes to training images.
        batch_size: global batch; each of several processes takes its share. Training drops the last incomplete one.
        seed: root seed of order and augmentation.
        cache_root: folder of cache entries.
        mean: of image / 255, one number or one per channel.
        std: likewise.
        labels: value in the mask file to class index.
        threshold: grey level that separates the classes of JPEG masks.
        num_workers: loader processes; 0 is fastest while the network is slower than the augmentation.

    Attributes:
        split: the :class:`Split`.
        digest: of the dataset's files and patients.

    Everything that needs the files prepares them on first use.
    """

    def __init__(
        self,
        *,
        card: DataCard,
        source: Callable[[], list[Case]],
        split: Splitter,
        preprocess: Preprocess,
        augment: albumentations.Compose,
        batch_size: int,
        seed: int,
        cache_root: str | Path,
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.25,
        labels: Mapping[int, int] | None = None,
        threshold: int = 127,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1 or num_workers < 0:
            raise ConfigError(f"data.batch_size={batch_size}, data.num_workers={num_workers}: need >= 1 and >= 0.")
        self.card, self.source, self.splitter = card, source, split
        self.preprocess, self.augment = preprocess, augment
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.cache_root, self.mean, self.std = Path(cache_root), mean, std
        declared = {0: 0, 255: 1} if labels is None else labels
        self.labels = {int(value): int(index) for value, index in declared.items()}
        self.threshold = threshold
        self._state: tuple[Split, str, dict[str, Case], Cache] | None = None

    def prepare_data(self) -> None:
        """List, check, split and cache the cases; safe when several processes call it at once."""
        self._prepared()

    def setup(self, stage: str | None = None) -> None:
        """Do the same in this process; a cache that is there is only opened."""
        self._prepared()

    def _prepared(self) -> tuple[Split, str, dict[str, Case], Cache]:
        if self._state is None:
            originals = self.source()
            check_list(originals, name=self.card.name)
            hashes = content_hashes(originals)
            cases, split = self.splitter(originals)
            reading = Reading(self.preprocess, self.card.in_channels, self.labels, self.threshold)
            cache = open_cache(cases, reading=reading, root=self.cache_root, hashes=hashes, name=self.card.name)
            self._state = split, dataset_digest(originals, hashes), by_id(cases), cache
        return self._state

    @property
    def split(self) -> Split:
        """Which case serves which side."""
        return self._prepared()[0]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the dataset's ids, files and patients, the same for every split and recipe."""
        return self._prepared()[1]

    def cases(self, side: str) -> list[Case]:
        """Return the cases of ``train``, ``val`` or ``test``; ``Batch["index"]`` counts in this list."""
        split, _, cases, _ = self._prepared()
        return [cases[identifier] for identifier in split.sides[side]]

    def read(self, case: Case) -> tuple[np.ndarray, np.ndarray]:
        """Return native image uint8 (H, W, C) and label map uint8 (H, W) of a case, decoded from its files."""
        return read_case(case, channels=self.card.in_channels, labels=self.labels, threshold=self.threshold)

    def write_labels(self, path: Path, labels: np.ndarray) -> None:
        """Write a label map (H, W) as PNG in the encoding of the dataset's own masks, for instance 0 and 255."""
        values = np.zeros(256, np.uint8)
        for value, index in self.labels.items():
            values[index] = value
        write_mask(path, values[labels])

    def read_labels(self, path: Path) -> np.ndarray:
        """Return the label map uint8 (H, W) that :meth:`write_labels` wrote."""
        return read_mask(path, labels=self.labels)

    def dataset(self, side: str, *, augment: bool = False, evaluation: bool = True) -> CaseDataset:
        """Return a side as a dataset of samples."""
        return CaseDataset(
            self._prepared()[3],
            self.cases(side),
            mean=self.mean,
            std=self.std,
            seed=self.seed,
            augmentation=self.augment if augment and len(self.augment.transforms) else None,
            evaluation=evaluation,
            unit=self.card.unit,
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return shuffled, augmented batches; the order changes with the epoch."""
        return self._loader(self.dataset("train", augment=True, evaluation=False), train=True)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Return the val side in order of its ids; an empty list, which Lightning skips, if it has no case."""
        return self._loader(self.dataset("val"), train=False) if self.cases("val") else []

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test side in order of its ids."""
        return self.evaluation_dataloader("test")

    def evaluation_dataloader(self, side: str) -> DataLoader[Batch]:
        """Return any side in order of its ids, unaugmented, with native truth and geometry."""
        return self._loader(self.dataset(side), train=False)

    def _loader(self, dataset: CaseDataset, *, train: bool) -> DataLoader[Batch]:
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        if self.batch_size % world:
            raise ConfigError(
                f"data.batch_size={self.batch_size} is no multiple of the {world} processes; make it one."
            )
        sampler = EpochSampler(
            size=len(dataset),
            seed=self.seed,
            shuffle=train,
            rank=rank,
            world=world,
            drop_last_to=self.batch_size if train else 0,
        )
        if train and trainer is not None:
            # Loader processes ask for their first places as soon as they exist, which in a resumed training is before
            # Lightning tells the sampler the epoch.
            progress: Any = trainer.fit_loop.epoch_progress.current
            sampler.set_epoch(progress.processed)
        if self.num_workers:
            # A worker forked beside OpenCV's own threads waits for ever for threads that it did not inherit.
            cv2.setNumThreads(0)
        on_gpu = trainer is not None and trainer.strategy.root_device.type == "cuda"
        return DataLoader(
            dataset,  # type: ignore[arg-type]  # collate makes batches of its samples
            batch_size=self.batch_size // world,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=on_gpu,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=_one_thread,
            # Of its own, so that the loader takes no number from the global stream that initialises the network.
            generator=torch.Generator().manual_seed(derive(self.seed, "loader")),
        )

    def summary(self) -> dict[str, object]:
        """Return counts of cases and patients, foreground prevalence (share of native pixels) and sizes by side."""
        sides = {side: self.cases(side) for side in SIDES}
        geometry = self._prepared()[3].geometry
        sizes = Counter(geometry(case.id).native_size for cases in sides.values() for case in cases)
        return {
            "name": self.card.name,
            "synthetic": self.card.synthetic,
            "digest": self.digest,
            "cases": {side: len(cases) for side, cases in sides.items()},
            "patients": {side: len({case.patient for case in cases}) for side, cases in sides.items()},
            "prevalence": {side: self._prevalence(cases) for side, cases in sides.items()},
            "sizes": {f"{height}x{width}": count for (height, width), count in sizes.most_common()},
            "split": {
                "name": self.split.name,
                "hash": self.split.hash,
                "leaky": self.split.leaky,
                "seed": self.split.seed,
            },
        }

    def _prevalence(self, cases: Sequence[Case]) -> float | None:
        cache = self._prepared()[3]
        counts = np.zeros(IGNORE + 1, np.int64)
        for case in cases:
            counts += np.bincount(cache.truth(case.id).ravel(), minlength=IGNORE + 1)
        pixels = int(counts[:IGNORE].sum())
        return int(counts[1:IGNORE].sum()) / pixels if pixels else None


def _one_thread(worker: int) -> None:
    """Keep every worker on one thread: more would fight each other for the same cores."""
    torch.set_num_threads(1)
