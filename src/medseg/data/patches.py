"""Training samples that are parts of a case: patches of pictures and volumes, slices of volumes."""

from collections.abc import Callable, Sequence

import numpy as np
from torch.utils.data import Dataset

from medseg.data.dataset import Side
from medseg.errors import ConfigError
from medseg.rng import derive, generator
from medseg.types import Sample


class PatchDataset(Dataset[Sample]):
    """Patches drawn at random; which one comes depends on (seed, epoch, index) alone.

    The cases take turns over the epochs, so that each is seen equally often. With probability ``foreground`` a class
    of the case is drawn, then one of its voxels, and the patch is placed at random around it; otherwise anywhere. In a
    case with ignored voxels every patch holds a labelled one; a case without any labelled voxel is never drawn.

    Args:
        side: the cases.
        size: of a patch along each axis of S; larger than a case, it is filled with repeated edges that are ignored.
        count: samples of an epoch.
        foreground: share of patches that are placed around foreground.
        squeeze: axis of S along which the patch is one voxel thick and that is dropped: slices.

    Raises:
        ConfigError: a number is impossible.
        DataError: no case has a labelled voxel.
    """

    def __init__(
        self, side: Side, *, size: Sequence[int], count: int, foreground: float = 0.33, squeeze: int | None = None
    ) -> None:
        if not 0 <= foreground <= 1 or count < 1:
            raise ConfigError(
                f"view.foreground={foreground}, view.epoch_samples={count}: give a share in [0, 1] and at least 1."
            )
        self.side, self.size, self.count = side, tuple(size), count
        self.foreground, self.squeeze = foreground, squeeze
        self._drawable = side.drawable()

    def __len__(self) -> int:
        """Return the samples of an epoch."""
        return self.count

    def __getitem__(self, place: tuple[int, int] | int) -> Sample:
        """Return the sample of ``(epoch, index)``; a bare index means epoch 0."""
        epoch, index = place if isinstance(place, tuple) else (0, place)
        number = self._drawable[(epoch * self.count + index) % len(self._drawable)]
        case = self.side.cases[number].id
        start = self._start(case, generator(self.side.seed, "patch", epoch, index))
        image, mask = self.side.store.patch(case, start, self.size)
        seed = derive(self.side.seed, "augment patch", epoch, index)
        if self.squeeze is None:
            weights = self.side.weights
            codes = None if weights is None else weights.patch(case, start, self.size)
            return self.side.sample(number, image, mask, seed=seed, codes=codes)  # type: ignore[return-value]
        return self._slice(number, image, mask, seed)

    def _slice(self, number: int, image: np.ndarray, mask: np.ndarray, seed: int) -> Sample:
        """Return a sample of two axes from float32 (C, D, H, W) one voxel thick."""
        flat, labels = image.take(0, axis=1 + self.squeeze), np.ascontiguousarray(mask.take(0, axis=self.squeeze))
        if self.side.augmentation is not None:
            flat, labels = _augmented_slice(self.side.augmentation, flat, labels, seed)
        return self.side.sample(number, flat, labels, seed=seed, augment=False)  # type: ignore[return-value]

    def _start(self, case: str, rng: np.random.Generator) -> list[int]:
        """Return where the patch begins along each axis."""
        shape = self.side.store.geometry(case).size
        forced = rng.random() < self.foreground
        points = self.side.store.points(case)
        classes = [label for label in points if label > 0]
        chosen: np.ndarray | None = None
        if forced and classes:
            chosen = points[classes[rng.integers(len(classes))]]
        elif self.side.store.sparse(case):
            chosen = np.concatenate(list(points.values()))
        anchor = None if chosen is None else chosen[rng.integers(len(chosen))]
        return [
            _placed(rng, side, own, None if anchor is None else int(anchor[axis]))
            for axis, (side, own) in enumerate(zip(shape, self.size, strict=True))
        ]


def _placed(rng: np.random.Generator, side: int, own: int, anchor: int | None) -> int:
    """Return a start of ``own`` voxels on an axis of ``side``; they hold the anchor if there is one."""
    last = max(side - own, 0)
    first = 0
    if anchor is not None:
        first, last = max(0, anchor - own + 1), min(anchor, last)
    return int(rng.integers(first, last + 1))


def _augmented_slice(
    augmentation: Callable[..., tuple[np.ndarray, np.ndarray]], image: np.ndarray, mask: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return a float32 slice (C, H, W) and its mask augmented.

    Transforms of pictures take grey values for shares of full scale, so each channel is brought to [0, 1] and back.
    """
    low = image.min(axis=(1, 2), keepdims=True)
    spread = np.maximum(image.max(axis=(1, 2), keepdims=True) - low, 1e-6)
    unit = np.ascontiguousarray(((image - low) / spread).transpose(1, 2, 0), np.float32)
    changed, moved = augmentation(unit, mask, seed=seed)
    return changed.transpose(2, 0, 1) * spread + low, moved
