"""Source, split, cache, view and loaders behind Lightning's datamodule interface."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medseg.data import predictions
from medseg.data.augment.contract import Augmentation
from medseg.data.cache import Reading
from medseg.data.cases import Case, annotated_classes
from medseg.data.checks import check_settings
from medseg.data.dataset import CaseDataset, Side, normalisation
from medseg.data.files import read_case
from medseg.data.loading import checked_workers, loader
from medseg.data.missing import Missing
from medseg.data.prepared import Prepared, Source, Splitter, prepare
from medseg.data.preprocess import Preprocess
from medseg.data.splits import Split
from medseg.data.summary import summary
from medseg.data.views import View, default
from medseg.data.weight_maps import WeightMap, WeightStore, open_weights
from medseg.errors import ConfigError
from medseg.types import IGNORE, Batch, DataCard, Geometry, Sample

if TYPE_CHECKING:
    from medseg.data.volumes.preprocess import VolumePreprocess


class SegmentationData(LightningDataModule):
    """Images with masks, divided by patient, preprocessed once, served in an order that depends on the seed alone.

    Pictures and volumes go the same way: ``card.spatial_dims`` says which they are, ``view`` what the network sees of
    them. Evaluation serves whole images, volumes one at a time.

    Args:
        card: what other rooms may know of the data.
        source: returns the cases.
        split: returns cases and :class:`Split`.
        preprocess: deterministic steps and size, or spacing and normalisation of volumes.
        augment: random changes to training samples.
        batch_size: global batch; each of several processes takes its share. Training drops the last incomplete one.
        seed: root seed of order, patches and augmentation.
        cache_root: folder of cache entries.
        mean: of image / 255, one number or one per channel; pictures only.
        std: likewise.
        labels: value in the mask file to class index, or to ``types.IGNORE`` for pixels without a label.
        threshold: grey level that separates the classes of JPEG masks.
        num_workers: loader processes; 0 is fastest while the network is slower than the augmentation. ``auto`` is 0
            until whoever knows the network sets the attribute.
        view: how cases become training samples; pictures whole and patches of volumes if not given.
        missing: what happens to missing modalities; refused if not given.
        cache_limit_gb: of all cache entries together in 1e9 bytes; None is no limit.
        about: where the data come from, for the commands that list and prepare datasets; not used here.

    Attributes:
        split: the :class:`Split`.
        digest: of the dataset's files and patients.
        weight_map: makes the pixel weights that the loss wants, which then are in every batch of the sides train and
            val as ``weight``; None, or set by whoever knows the loss before the data are prepared.
        plain_samples: whether training samples are not augmented, and no last batch is left out; for what is fitted
            without gradients.

    Everything that needs the files prepares them on first use.

    Raises:
        ConfigError: numbers, labels, view, preprocessing and card do not fit together.
    """

    def __init__(
        self,
        *,
        card: DataCard,
        source: Source,
        split: Splitter,
        preprocess: "Preprocess | VolumePreprocess",
        augment: Augmentation,
        batch_size: int,
        seed: int,
        cache_root: str | Path,
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.25,
        labels: Mapping[int, int] | None = None,
        threshold: int = 127,
        num_workers: int | str = 0,
        view: View | None = None,
        missing: Missing | None = None,
        cache_limit_gb: float | None = 20.0,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.auto_workers = num_workers == "auto"
        workers = checked_workers(num_workers, batch_size=batch_size)
        self.card, self.source, self.splitter = card, source, split
        self.preprocess, self.augment = preprocess, augment
        self.batch_size, self.num_workers, self.seed = batch_size, workers, seed
        self.cache_root, self.mean, self.std = Path(cache_root), mean, std
        declared = {0: 0, 255: 1} if labels is None else labels
        self.labels = {int(value): int(index) for value, index in declared.items()}
        self.threshold, self.cache_limit_gb = threshold, cache_limit_gb
        self.view = view or default(dims=card.spatial_dims, samples=f"in_{card.spatial_dims}d", size=card.patch)
        self.missing = missing or Missing()
        check_settings(card, preprocess=preprocess, labels=self.labels)
        self.view.check(card.spatial_dims, name=card.name)
        self.missing.check_channels(card.in_channels)
        self.weight_map: WeightMap | None = None
        self.plain_samples = False
        self._weights: WeightStore | None = None
        self._prepared: Prepared | None = None

    @property
    def is_volume(self) -> bool:
        """Whether the cases have three axes."""
        return self.card.spatial_dims == 3

    @property
    def input_channels(self) -> int:
        """Channels that the network gets: the image's, and planes that tell which are missing."""
        return self.card.in_channels + self.missing.extra_channels

    def prepare_data(self) -> None:
        """List, check, split and cache the cases; safe when several processes call it at once."""
        _ = self.prepared
        self._weighted()

    def setup(self, stage: str | None = None) -> None:
        """Do the same in this process; a cache that is there is only opened."""
        self.prepare_data()

    @property
    def prepared(self) -> Prepared:
        """Split, digest, cases and store, made on first use."""
        if self._prepared is None:
            classes = tuple(self.card.classes)
            self._prepared = prepare(
                self.source, self.splitter, card=self.card, missing=self.missing,
                reading=Reading(self.preprocess, self.card.in_channels, self.labels, self.threshold, classes),
                root=self.cache_root, limit_gb=self.cache_limit_gb,
            )  # fmt: skip
        return self._prepared

    def _weighted(self) -> WeightStore | None:
        """Return the pixel weights of all cases, None where the loss wants none."""
        if self.weight_map is None or self._weights is not None:
            return self._weights
        if self.view.dims != self.card.spatial_dims:
            raise ConfigError(
                f"view: slices of data={self.card.name} carry no pixel weights, which the loss wants; use "
                "view=patches, or another loss."
            )
        self._weights = open_weights(
            self.prepared.store,  # type: ignore[arg-type]  # both caches have a folder
            list(self.prepared.cases), self.weight_map,
            root=self.cache_root, name=self.card.name, limit_gb=self.cache_limit_gb,
        )  # fmt: skip
        return self._weights

    @property
    def split(self) -> Split:
        """Which case serves which side."""
        return self.prepared.split

    def declare_leaky(self) -> None:
        """Flag the split as leaky, for instance after an audit whose findings were allowed: every output says so."""
        self._prepared = self.prepared.leaky()

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the dataset's ids, files and patients, the same for every split and recipe."""
        return self.prepared.digest

    def cases(self, side: str) -> list[Case]:
        """Return the cases of ``train``, ``val`` or ``test``; ``Batch["index"]`` counts in this list."""
        return self.prepared.of(side)

    def partly_annotated(self, *sides: str) -> bool:
        """Return whether some case of these sides does not annotate every class."""
        classes = self.card.classes
        return not all(all(annotated_classes(case, classes=classes)) for side in sides for case in self.cases(side))

    def patients(self) -> dict[str, str]:
        """Return the patient of every case by its id, of all sides."""
        return {identifier: case.patient for identifier, case in self.prepared.cases.items()}

    def read(self, case: Case) -> tuple[np.ndarray, np.ndarray]:
        """Return native image and label map (uint8) of a case, decoded from its files.

        A picture is uint8 (H, W, C), a volume float32 (C, D, H, W).
        """
        if self.is_volume:
            from medseg.data.volumes.cases import read_volume_case

            volume = read_volume_case(case, channels=self.card.in_channels, labels=self.labels)
            assert volume.labels is not None  # the list was checked
            return volume.image, volume.labels
        return read_case(case, channels=self.card.in_channels, labels=self.labels, threshold=self.threshold)

    def save_prediction(self, folder: Path, case: str, labels: np.ndarray) -> Path:
        """Write the native label map of a case: PNG, or NIfTI with the geometry of the case's first image."""
        return predictions.save_prediction(folder, self.prepared.cases[case], labels, declared=self.labels)

    def load_prediction(self, folder: Path, case: str) -> np.ndarray:
        """Return the native label map, uint8, that :meth:`save_prediction` wrote."""
        found = self.prepared.cases[case]
        return predictions.load_prediction(folder, found, declared=self.labels, spatial_dims=self.card.spatial_dims)

    def network_input(
        self,
        image: np.ndarray,
        *,
        spacing: Sequence[float] | None = None,
        available: np.ndarray | None = None,
        case_id: str = "",
    ) -> tuple[Tensor, Geometry]:
        """Return a native image as the network's input, float32 (C, *S), and the way back.

        Args:
            image: uint8 (H, W, C), or float32 (C, D, H, W) of a volume.
            spacing: (z, y, x) of a volume's voxels in mm.
            available: (C,) bool, all if not given.
            case_id: for steps that treat every case in its own way.
        """
        there = np.ones(self.card.in_channels, bool) if available is None else available
        if isinstance(self.preprocess, Preprocess):
            small, _, geometry = self.preprocess.do(image, case_id=case_id)
            small = self._normalisation()(small)
        else:
            small, _, geometry = self.preprocess.do(image, None, spacing=spacing or (1.0, 1.0, 1.0), available=there)
            # As the cache would have kept it.
            small = small.astype(np.float16).astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(self.missing.apply(small, there))), geometry

    def input_size(self) -> tuple[int, ...]:
        """Return what the network sees at once, for instance to count its operations."""
        if isinstance(self.preprocess, Preprocess):
            return self.view.input_size(self.preprocess.size)
        first = next(iter(self.prepared.cases))
        return self.view.input_size(self.prepared.store.geometry(first).size)

    def _normalisation(self) -> Callable[[np.ndarray], np.ndarray]:
        return normalisation(self.mean, self.std, channels=self.card.in_channels)

    def side(self, side: str, *, augment: bool = False) -> Side:
        """Return what datasets are made of."""
        return Side(
            store=self.prepared.store,
            cases=tuple(self.cases(side)),
            seed=self.seed,
            augmentation=self.augment if augment and not (self.plain_samples or self.augment.empty) else None,
            normalised=None if self.is_volume else self._normalisation(),
            missing=self.missing,
            unit=self.card.unit,
            sparse=IGNORE in self.labels.values(),
            weights=None if side == "test" else self._weighted(),
            classes=tuple(self.card.classes),
        )

    def dataset(self, side: str, *, augment: bool = False, evaluation: bool = True) -> Dataset[Sample]:
        """Return a side as a dataset of samples: whole images for evaluation, else what the view makes of them."""
        if evaluation and not augment:
            return CaseDataset(self.side(side), evaluation=True)
        return self.view.training(self.side(side, augment=augment))

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return shuffled, augmented batches; the order changes with the epoch."""
        return self._loader(self.dataset("train", augment=True, evaluation=False), train=True)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Return the val side in order of its ids; an empty list, which Lightning skips, if it has no case."""
        return self._loader(self.dataset("val")) if self.cases("val") else []

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test side in order of its ids."""
        return self.evaluation_dataloader("test")

    def evaluation_dataloader(self, side: str) -> DataLoader[Batch]:
        """Return any side in order of its ids, unaugmented, with native truth and geometry."""
        return self._loader(self.dataset(side))

    def _loader(self, dataset: Dataset[Sample], *, train: bool = False) -> DataLoader[Batch]:
        return loader(
            dataset,
            batch_size=self.batch_size,
            seed=self.seed,
            train=train,
            full_batches=not self.plain_samples,
            singly=self.is_volume and not train,
            num_workers=self.num_workers,
            trainer=self.trainer,
        )

    def summary(self) -> dict[str, object]:
        """Return counts of cases and patients, prevalence (share of native pixels or voxels) and sizes by side."""
        return summary(self.card, self.prepared)
