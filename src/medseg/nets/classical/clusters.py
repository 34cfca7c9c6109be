"""What the clusterings share: pixels to cluster, and which class each cluster means."""

from collections.abc import Mapping, Sequence

import numpy as np

from medseg import rng
from medseg.errors import ConfigError, DataError
from medseg.nets.adapters import checked_choice
from medseg.nets.classical.base import Classical
from medseg.nets.classical.basics import hard_logits, smoothed
from medseg.nets.classical.mapping import classes_of_clusters, counted
from medseg.types import IGNORE

Model = dict[str, np.ndarray]


class Clustering(Classical):
    """Base of the clusterings: clusters of grey values, and which class each of them means.

    ``fit`` finds the clusters among pixels of all training images together without looking at their labels, and then
    counts on the training images which class each means
    (:func:`~medseg.nets.classical.mapping.classes_of_clusters`). With ``scope="image"`` every image, in training and
    evaluation, gets clusters of its own, told apart by their order of brightness.

    Args:
        in_channels: image channels C; all are used.
        num_classes: classes K.
        scope: ``training`` or ``image``.
        samples: most pixels that clusters are sought among.
        seed: of the pixels and the start.
        arrays: names of what a model consists of.
        settings: as in :class:`Classical`; needs ``clusters``.
        candidates: as in :class:`Classical`.

    Raises:
        ConfigError: fewer clusters than classes; an unknown scope; in ``forward``, other channels or not fitted.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        scope: str,
        samples: int,
        seed: int,
        arrays: Sequence[str],
        settings: Mapping[str, float],
        candidates: Mapping[str, Sequence[float]] | None,
    ) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, settings=settings, candidates=candidates)
        self.scope = checked_choice(scope, ("training", "image"), key="scope")
        self.samples, self.seed, self.arrays = samples, seed, tuple(arrays)
        for clusters in [settings["clusters"], *self.candidates.get("clusters", [])]:
            if clusters < max(num_classes, 2):
                raise ConfigError(
                    f"net.clusters={clusters:g} is less than the {max(num_classes, 2)} classes; each needs one."
                )
        self.remember(classes=np.zeros(0, dtype=np.int64), **{name: np.zeros(0) for name in self.arrays})
        self._pairs: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])

    @property
    def count(self) -> int:
        """Number of clusters."""
        return int(self.setting("clusters"))

    def values_of(self, image: np.ndarray) -> np.ndarray:
        """Return what is clustered of an image, (H, W, F) float64."""
        sigma = self.setting("sigma")
        return np.stack([smoothed(one, sigma) for one in np.moveaxis(image, -1, 0)], axis=-1).astype(np.float64)

    def model_of(self, values: np.ndarray) -> Model:
        """Return the clusters of points (N, F), darkest first."""
        raise NotImplementedError

    def scores_of(self, values: np.ndarray, model: Model) -> np.ndarray:
        """Return (clusters, H, W) of values (H, W, F): the cluster of the largest is the pixel's."""
        raise NotImplementedError

    def learn(self, images: list[np.ndarray], masks: list[np.ndarray]) -> None:
        """Find the clusters and their classes.

        Raises:
            DataError: the training pixels have too few different values.
        """
        self._pairs = images, masks
        if self.scope == "training":
            self.remember(**self.model_of(self._pooled(images, masks)))
        classes = max(self.num_classes, 2)
        table = np.zeros((self.count, classes))
        for image, mask in zip(images, masks, strict=True):
            table += counted(self._scores(image).argmax(axis=0), mask, self.count, classes)
        self.remember(classes=classes_of_clusters(table))

    def _pooled(self, images: list[np.ndarray], masks: list[np.ndarray]) -> np.ndarray:
        """Return up to ``samples`` points (N, F), as many from each image, of pixels that count."""
        each = max(1, self.samples // max(1, len(images)))
        points = []
        for place, (image, mask) in enumerate(zip(images, masks, strict=True)):
            values = self.values_of(image)[mask != IGNORE]
            chosen = rng.generator(self.seed, "clusters", place).permutation(len(values))[:each]
            points.append(values[chosen])
        pooled = np.concatenate(points)
        self._enough(pooled)
        return pooled

    def _enough(self, points: np.ndarray) -> None:
        if len(np.unique(points, axis=0)) < self.count:
            raise DataError(f"{len(points)} pixels have fewer than {self.count} different values; lower net.clusters.")

    def _scores(self, image: np.ndarray) -> np.ndarray:
        values = self.values_of(image)
        if self.scope == "training":
            return self.scores_of(values, {name: self.known(name) for name in self.arrays})
        points = values.reshape(-1, values.shape[-1])
        chosen = rng.generator(self.seed, "clusters").permutation(len(points))[: self.samples]
        self._enough(points[chosen])
        return self.scores_of(values, self.model_of(points[chosen]))

    def adopt(self, name: str, value: float) -> None:
        """Set a setting and learn anew what depends on it."""
        super().adopt(name, value)
        if name not in ("beta", "refits") and self._pairs[0]:
            self.learn(*self._pairs)

    def tune(self, images: list[np.ndarray], masks: list[np.ndarray]) -> None:
        """Choose the settings and let go of the training images."""
        super().tune(images, masks)
        self._pairs = ([], [])

    def logits_of(self, image: np.ndarray) -> np.ndarray:
        """Return logits (K, H, W) float32 of +-10 of one image (H, W, C)."""
        return hard_logits(self.known("classes")[self._scores(image).argmax(axis=0)], self.num_classes)
