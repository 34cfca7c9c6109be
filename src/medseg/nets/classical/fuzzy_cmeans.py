"""Fuzzy c-means as a system: memberships as class probabilities."""

from collections.abc import Mapping, Sequence

import numpy as np

from medseg.errors import ConfigError
from medseg.nets.classical.basics import LEAST_PROBABILITY, log_logits
from medseg.nets.classical.clusters import Clustering, Model
from medseg.nets.classical.fuzzy import fuzzy_c_means, memberships

_BINS = 256


class FuzzyCMeans(Clustering):
    """Fuzzy c-means; a class's probability is the membership in its clusters.

    With one channel it runs over a histogram of 256 bins, which for 8-bit grey is the same and much quicker. ``alpha``
    makes it spatial: it clusters (x + alpha x') / (1 + alpha) with x' the mean of the 3 x 3 neighbourhood, the quick
    form (Szilagyi et al. 2003) of the neighbourhood term of Ahmed et al. 2002.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        clusters: at least K.
        m: fuzziness above 1.
        alpha: weight of the neighbourhood, at least 0.
        sigma: pixels of the Gaussian before; 0 none.
        scope: clusters of the ``training`` side, or of each ``image``.
        samples: most pixels that clusters are sought among.
        seed: of the pixels.
        candidates: values of ``clusters``, ``sigma`` and ``alpha`` that ``tune`` tries.

    Raises:
        ConfigError: ``m`` <= 1, ``alpha`` < 0; else as in :class:`Clustering`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        clusters: int = 3,
        m: float = 2.0,
        alpha: float = 0.0,
        sigma: float = 0.0,
        scope: str = "training",
        samples: int = 20000,
        seed: int = 0,
        candidates: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(
            in_channels=in_channels, num_classes=num_classes, scope=scope, samples=samples, seed=seed,
            arrays=("centres",), settings={"clusters": clusters, "sigma": sigma, "alpha": alpha},
            candidates=candidates,
        )  # fmt: skip
        if m <= 1 or alpha < 0:
            raise ConfigError(f"net.m={m} must be above 1 and net.alpha={alpha} at least 0.")
        self.m = m

    def values_of(self, image: np.ndarray) -> np.ndarray:
        """Return what is clustered of an image, (H, W, F) float64."""
        from scipy import ndimage

        values, alpha = super().values_of(image), self.setting("alpha")
        if alpha == 0:
            return values
        return (values + alpha * ndimage.uniform_filter(values, (3, 3, 1))) / (1 + alpha)

    def model_of(self, values: np.ndarray) -> Model:
        """Return the centres of points (N, F), darkest first."""
        weights = np.ones(len(values))
        if values.shape[1] == 1:
            weights, edges = np.histogram(values, _BINS)
            values = ((edges[:-1] + edges[1:]) / 2)[:, None]
        return {"centres": fuzzy_c_means(values, weights, clusters=self.count, m=self.m).centres}

    def scores_of(self, values: np.ndarray, model: Model) -> np.ndarray:
        """Return the memberships (clusters, H, W)."""
        points = values.reshape(-1, values.shape[-1])
        return memberships(points, model["centres"], m=self.m).T.reshape(-1, *values.shape[:2])

    def logits_of(self, image: np.ndarray) -> np.ndarray:
        """Return log memberships (K, H, W) float32 of one image (H, W, C)."""
        scores, classes = self._scores(image), self.known("classes")
        parts = [scores[classes == label].sum(axis=0) for label in range(max(self.num_classes, 2))]
        return log_logits(np.log(np.maximum(np.stack(parts), LEAST_PROBABILITY)), self.num_classes)
