"""k-means."""

from collections.abc import Mapping, Sequence

import numpy as np

from medseg.nets.classical.clusters import Clustering, Model
from medseg.nets.classical.fuzzy import squared_distances


class KMeans(Clustering):
    """k-means of smoothed grey values or colours.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        clusters: at least K.
        sigma: pixels of the Gaussian before; 0 none.
        scope: clusters of the ``training`` side, or of each ``image``.
        samples: most pixels that clusters are sought among.
        seed: of the pixels and the start.
        candidates: values of ``clusters`` and ``sigma`` that ``tune`` tries.

    Raises:
        ConfigError: as in :class:`Clustering`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        clusters: int = 3,
        sigma: float = 1.0,
        scope: str = "training",
        samples: int = 20000,
        seed: int = 0,
        candidates: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(
            in_channels=in_channels, num_classes=num_classes, scope=scope, samples=samples, seed=seed,
            arrays=("centres",), settings={"clusters": clusters, "sigma": sigma}, candidates=candidates,
        )  # fmt: skip

    def model_of(self, values: np.ndarray) -> Model:
        """Return the centres of points (N, F), darkest first."""
        from sklearn.cluster import KMeans as Lloyd

        centres = Lloyd(self.count, n_init=4, random_state=self.seed).fit(values).cluster_centers_
        return {"centres": centres[np.argsort(centres.mean(axis=1), kind="stable")]}

    def scores_of(self, values: np.ndarray, model: Model) -> np.ndarray:
        """Return minus the squared distance to each centre, (clusters, H, W)."""
        points = values.reshape(-1, values.shape[-1])
        return -squared_distances(points, model["centres"]).T.reshape(-1, *values.shape[:2])
