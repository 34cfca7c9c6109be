"""Cases to samples to batches."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import albumentations
import numpy as np
import torch
from torch.utils.data import Dataset

from medseg.data.augment import augmented
from medseg.data.cache import Cache
from medseg.data.cases import Case, spacing_of
from medseg.errors import ConfigError
from medseg.rng import derive
from medseg.types import Batch, Sample


class CaseDataset(Dataset[Sample]):
    """The cases of one side.

    Args:
        cache: where their pixels are.
        cases: the side's cases; ``Sample["index"]`` is the position in this list.
        mean: of image / 255, one number or one per channel.
        std: likewise, positive.
        seed: root seed of the augmentation.
        augmentation: from ``augment.compose``, or None.
        evaluation: whether samples carry ``truth`` (native uint8 (H, W)) and ``geometry``.
        unit: unit of distances; decides which spacing the geometry states.

    Raises:
        ConfigError: mean or std do not fit the channels.
        DataError: the unit is physical and a case has no spacing.
    """

    def __init__(
        self,
        cache: Cache,
        cases: Sequence[Case],
        *,
        mean: float | Sequence[float],
        std: float | Sequence[float],
        seed: int,
        augmentation: albumentations.Compose | None = None,
        evaluation: bool = False,
        unit: str = "px",
    ) -> None:
        self.cache, self.cases, self.seed = cache, tuple(cases), seed
        self.augmentation, self.evaluation = augmentation, evaluation
        self._spacings = [spacing_of(case, unit=unit) for case in self.cases]
        self._normalised = normalisation(mean, std, channels=cache.channels)

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.cases)

    def __getitem__(self, place: tuple[int, int] | int) -> Sample:
        """Return the sample of ``(epoch, index)``; a bare index means epoch 0."""
        epoch, index = place if isinstance(place, tuple) else (0, place)
        case = self.cases[index]
        image, mask = self.cache.image(case.id), self.cache.mask(case.id)
        if self.augmentation is not None:
            seed = derive(self.seed, "augment", epoch, case.id)
            image, mask = augmented(self.augmentation, image, mask, seed=seed)
        sample: dict[str, object] = {
            "image": torch.from_numpy(self._normalised(image)),
            "mask": torch.from_numpy(mask.astype(np.int64)),
            "index": index,
            "case": case.id,
            "patient": case.patient,
        }
        if self.evaluation:
            sample["truth"] = self.cache.truth(case.id)
            sample["geometry"] = replace(self.cache.geometry(case.id), spacing=self._spacings[index])
        return sample  # type: ignore[return-value]


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
    for name in ("case", "patient", "truth", "geometry"):
        if name in samples[0]:
            batch[name] = [sample[name] for sample in samples]  # type: ignore[literal-required, typeddict-item]
    return batch  # type: ignore[return-value]
