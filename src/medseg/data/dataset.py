"""Cases to samples to batches."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from medseg.data.augment.contract import Augmentation
from medseg.data.cases import Case, annotated_classes, spacing_of
from medseg.data.missing import Missing, available_channels
from medseg.data.weight_maps import WeightStore, moved_alike
from medseg.errors import ConfigError, DataError
from medseg.rng import derive
from medseg.types import Batch, Geometry, Sample

LOG = logging.getLogger(__name__)


class Store(Protocol):
    """What datasets ask of a cache, whether it holds pictures or volumes."""

    channels: int

    def image(self, case: str) -> np.ndarray:
        """Return the preprocessed image: uint8 (H, W, C), or float32 (C, D, H, W)."""
        ...

    def mask(self, case: str) -> np.ndarray:
        """Return the preprocessed label map, uint8 (*S)."""
        ...

    def truth(self, case: str) -> np.ndarray:
        """Return the native label map, uint8."""
        ...

    def geometry(self, case: str) -> Geometry:
        """Return the way back to the native grid."""
        ...

    def patch(self, case: str, start: Sequence[int], size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return a part of image and mask, reading no more than it; the image's edge is repeated beyond its end."""
        ...

    def points(self, case: str) -> Mapping[int, np.ndarray]:
        """Return places (N, axes) of voxels by label; label 0 only in a sparsely labelled case."""
        ...

    def sparse(self, case: str) -> bool:
        """Tell whether the preprocessed mask holds ignored voxels."""
        ...


@dataclass(frozen=True)
class Side:
    """The cases of one side and how their pixels become the network's input.

    Attributes:
        store: where the pixels are.
        cases: in order; ``Sample["index"]`` counts in it.
        seed: root seed of whatever is random.
        augmentation: of training samples, or None.
        normalised: makes a float32 (C, H, W) of a picture's uint8 (H, W, C); None for volumes.
        missing: what happens to missing modalities.
        unit: unit of distances; decides which spacing the geometry states.
        sparse: whether pixels of a mask may be ignored.
        weights: pixel weights, where the loss wants them.
        classes: K names, background first; without them every case counts as annotated throughout.
    """

    store: Store
    cases: tuple[Case, ...]
    seed: int
    augmentation: Augmentation | None = None
    normalised: Callable[[np.ndarray], np.ndarray] | None = None
    missing: Missing = field(default_factory=lambda: Missing("zero"))
    unit: str = "px"
    sparse: bool = False
    weights: WeightStore | None = None
    classes: tuple[str, ...] = ()

    @cached_property
    def available(self) -> list[np.ndarray]:
        """Which channels each case has, (C,) bool."""
        return [available_channels(case, channels=self.store.channels) for case in self.cases]

    @cached_property
    def annotated(self) -> np.ndarray | None:
        """Which classes each case annotates, (cases, K) bool; None where every case annotates all."""
        if not self.classes:
            return None
        known = [annotated_classes(case, classes=self.classes) for case in self.cases]
        return None if all(map(all, known)) else np.array(known)

    def drawable(self) -> list[int]:
        """Return the places of the cases that have a labelled pixel, and say which have none.

        Raises:
            DataError: none has one.
        """
        store = self.store
        labelled = [not store.sparse(case.id) or bool(store.points(case.id)) for case in self.cases]
        empty = [case.id for case, there in zip(self.cases, labelled, strict=True) if not there]
        if empty and len(empty) == len(self.cases):
            raise DataError("no training case has a labelled pixel; check data.labels and the column labelled_slices.")
        if empty:
            LOG.warning("%d training case(s) have no labelled pixel and are never drawn: %s", len(empty), empty)
        return [number for number, there in enumerate(labelled) if there]

    def sample(
        self,
        index: int,
        image: np.ndarray,
        mask: np.ndarray,
        *,
        seed: int | None,
        augment: bool = True,
        codes: np.ndarray | None = None,
    ) -> dict[str, object]:
        """Return a sample of the case ``index`` from preprocessed pixels.

        Args:
            index: of the case.
            image: uint8 (H, W, C) of a picture, else float32 (H, W, C) of a slice or (C, D, H, W) of a volume.
            mask: uint8 (*S).
            seed: of the sample's changes; None for evaluation.
            augment: whether a training sample is still to be augmented.
            codes: uint8 (*S) of the pixel weights, from ``weights``, where there are some.
        """
        if seed is not None and augment and self.augmentation is not None:
            if codes is None:
                image, mask = self.augmentation(image, mask, seed=seed)
            else:
                image, mask, codes = moved_alike(self.augmentation, image, mask, codes, seed=seed)
        case = self.cases[index]
        image = self.channels_first(image)
        image = self.missing.apply(image, self.available[index], seed=seed)
        sample: dict[str, object] = {
            "image": torch.from_numpy(np.ascontiguousarray(image)),
            "mask": torch.from_numpy(mask.astype(np.int64)),
            "index": index,
            "case": case.id,
            "patient": case.patient,
        }
        if codes is not None and self.weights is not None:
            sample["weight"] = torch.from_numpy(self.weights.weights(case.id, codes))
        if self.annotated is not None:
            sample["annotated"] = torch.from_numpy(self.annotated[index].copy())
        return sample

    def channels_first(self, image: np.ndarray) -> np.ndarray:
        """Return float32 (C, *S); pictures are normalised."""
        if self.normalised is not None:
            return self.normalised(image)
        return image.astype(np.float32, copy=False)


class CaseDataset(Dataset[Sample]):
    """The cases of one side, whole.

    Args:
        side: the cases.
        evaluation: whether samples carry ``truth`` (native uint8) and ``geometry`` instead of being augmented.

    Raises:
        DataError: the unit is physical and a picture has no spacing.
    """

    def __init__(self, side: Side, *, evaluation: bool = False) -> None:
        self.side, self.evaluation = side, evaluation
        self._spacings = [
            spacing_of(case, unit=side.unit) if side.normalised is not None else None for case in side.cases
        ]

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.side.cases)

    def __getitem__(self, place: tuple[int, int] | int) -> Sample:
        """Return the sample of ``(epoch, index)``; a bare index means epoch 0."""
        epoch, index = place if isinstance(place, tuple) else (0, place)
        side, case = self.side, self.side.cases[index]
        image, mask = side.store.image(case.id), side.store.mask(case.id)
        seed = None if self.evaluation else derive(side.seed, "augment", epoch, case.id)
        codes = None if side.weights is None else side.weights.codes(case.id)
        sample = side.sample(index, image, mask, seed=seed, codes=codes)
        if self.evaluation:
            sample["truth"] = side.store.truth(case.id)
            sample["geometry"] = self._geometry(index)
        return sample  # type: ignore[return-value]

    def _geometry(self, index: int) -> Geometry:
        """Return the geometry with the spacing in the unit of distances."""
        geometry = self.side.store.geometry(self.side.cases[index].id)
        spacing: tuple[float, ...] | None = self._spacings[index]
        if spacing is None:  # a volume's own, in mm
            spacing = (1.0,) * len(geometry.size) if self.side.unit == "px" else geometry.spacing
        return replace(geometry, spacing=spacing)


def normalisation(
    mean: float | Sequence[float], std: float | Sequence[float], *, channels: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Return what makes a uint8 image (H, W, C) the network's float32 (C, H, W): (image / 255 - mean) / std.

    Raises:
        ConfigError: mean or std do not fit the channels.
    """
    centre, spread = _per_channel(mean, "mean", channels), _per_channel(std, "std", channels)
    if (spread <= 0).any():
        raise ConfigError(f"data.std={std}: every channel needs a positive value.")
    # A partial, not a closure: loader processes that are spawned receive it pickled.
    return partial(_normalised, scale=1 / (255 * spread), offset=centre / spread)


def _normalised(image: np.ndarray, *, scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
    values = np.multiply(image, scale, dtype=np.float32)
    values -= offset
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _per_channel(value: float | Sequence[float], name: str, channels: int) -> np.ndarray:
    values = np.atleast_1d(np.asarray(value, np.float32))
    if values.shape not in ((1,), (channels,)):
        raise ConfigError(f"data.{name}={value}: give one number or one for each of the {channels} channel(s).")
    return values


def collate(samples: Sequence[Sample]) -> Batch:
    """Return samples as one batch (``types.Batch``): tensors stacked, everything else listed."""
    batch: dict[str, object] = {
        "image": torch.stack([sample["image"] for sample in samples]),
        "mask": torch.stack([sample["mask"] for sample in samples]),
        "index": torch.tensor([sample["index"] for sample in samples], dtype=torch.int64),
    }
    if "weight" in samples[0]:
        batch["weight"] = torch.stack([sample["weight"] for sample in samples])  # type: ignore[typeddict-item]
    if "annotated" in samples[0]:
        batch["annotated"] = torch.stack([sample["annotated"] for sample in samples])
    for name in ("case", "patient", "truth", "geometry"):
        if name in samples[0]:
            batch[name] = [sample[name] for sample in samples]  # type: ignore[literal-required, typeddict-item]
    return batch  # type: ignore[return-value]
