"""What the pixel classifiers share: features, sampling, class frequencies, tiles."""

from collections.abc import Mapping, Sequence

import numpy as np

from medseg import rng
from medseg.errors import DataError
from medseg.nets.classical.base import Classical
from medseg.nets.classical.basics import log_logits
from medseg.nets.classical.features import FilterBank, sampled

CHUNK = 16384
"""Pixels that are classified together: their features stay in the processor's cache."""


class PixelClassifier(Classical):
    """Base of the pixel classifiers: each pixel alone, from a filter bank around it.

    ``fit`` draws the same number of pixels from each class of each training image (all of a rarer class), so the
    classifier sees classes as equally frequent. ``balance`` b adds b log(true share / drawn share) to each class's
    logit: 0 answers as if classes were equally frequent, 1 as if they were as frequent as in the training side.
    Images, not pixels, are what training and validation share out: neighbouring pixels are no independent samples.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        samples: pixels of each class of each image.
        most: most pixels altogether; beyond, each image gives proportionally fewer.
        coordinates: also use where a pixel lies; see :class:`~medseg.nets.classical.features.FilterBank`.
        seed: of the drawn pixels and the classifier.
        arrays: names of what is learnt, apart from the class shares.
        settings: as in :class:`Classical`; ``balance`` is added.
        candidates: as in :class:`Classical`.

    Raises:
        ConfigError: candidates of an unknown setting; in ``forward``, other channels or not fitted.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        samples: int,
        most: int,
        coordinates: bool,
        seed: int,
        arrays: Sequence[str],
        settings: Mapping[str, float],
        candidates: Mapping[str, Sequence[float]] | None,
    ) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, settings=settings, candidates=candidates)
        self.bank = FilterBank(coordinates=coordinates)
        self.samples, self.most, self.seed = samples, most, seed
        self.arrays = tuple(arrays)
        self.remember(frequency=np.zeros(0), **{name: np.zeros(0) for name in self.arrays})
        self._drawn: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def classes(self) -> int:
        """Number of classes told apart, at least 2."""
        return max(self.num_classes, 2)

    def train_on(self, pixels: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return what the classifier learns from features (N, F) float32 and labels (N,)."""
        raise NotImplementedError

    def scores_of(self, pixels: np.ndarray) -> np.ndarray:
        """Return logits (N, max(K, 2)) of features (N, F) float32, for classes as they were drawn."""
        raise NotImplementedError

    def relearns(self, name: str) -> bool:
        """Tell whether another value of a setting needs another training."""
        return False

    def learn(self, images: list[np.ndarray], masks: list[np.ndarray]) -> None:
        """Draw pixels and train on them.

        Raises:
            DataError: the training pixels have fewer than two classes.
        """
        each = max(1, min(self.samples, self.most // max(1, len(images) * self.classes)))
        drawn = [
            sampled(
                self.bank(image), mask, per_class=each, classes=self.classes,
                draw=rng.generator(self.seed, "pixels", place),
            )
            for place, (image, mask) in enumerate(zip(images, masks, strict=True))
        ]  # fmt: skip
        pixels, labels = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
        if len(np.unique(labels)) < 2:
            raise DataError(f"{len(masks)} training masks have only one class; a pixel classifier needs two.")
        true = sum(np.bincount(mask.ravel(), minlength=256)[: self.classes] for mask in masks)
        share = (true / np.sum(true)) / np.maximum(np.bincount(labels, minlength=self.classes) / len(labels), 1e-12)
        self.remember(frequency=np.where(share > 0, np.log(np.maximum(share, 1e-12)), 0.0))
        self._drawn = pixels, labels
        self.remember(**self.train_on(pixels, labels))

    def adopt(self, name: str, value: float) -> None:
        """Set a setting, and train anew where it needs that."""
        super().adopt(name, value)
        if self.relearns(name) and self._drawn is not None:
            self.remember(**self.train_on(*self._drawn))

    def tune(self, images: list[np.ndarray], masks: list[np.ndarray]) -> None:
        """Choose the settings and let go of the drawn pixels."""
        super().tune(images, masks)
        self._drawn = None

    def logits_of(self, image: np.ndarray) -> np.ndarray:
        """Return logits (K, H, W) float32 of one image (H, W, C)."""
        features = self.bank(image)
        pixels = np.ascontiguousarray(features.reshape(len(features), -1).T)
        parts = [self.scores_of(pixels[start : start + CHUNK]) for start in range(0, len(pixels), CHUNK)]
        scores = np.concatenate(parts) + self.setting("balance") * self.known("frequency")
        return log_logits(scores.T.reshape(self.classes, *image.shape[:2]), self.num_classes)


def spread_over(columns: np.ndarray, present: np.ndarray, classes: int) -> np.ndarray:
    """Return (N, classes) with the columns (N, len(present)) of the classes that are present, else 0."""
    full = np.zeros((len(columns), classes), dtype=np.float64)
    full[:, present] = columns
    return full


def standardiser(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation (F,) float64 of features (N, F); constant features have deviation 1."""
    deviation = pixels.std(axis=0, dtype=np.float64)
    return pixels.mean(axis=0, dtype=np.float64), np.where(deviation > 1e-12, deviation, 1.0)
