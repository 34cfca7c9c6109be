"""k nearest neighbours of pixels."""

from collections.abc import Mapping, Sequence

import numpy as np

from medseg.errors import ConfigError
from medseg.nets.classical.basics import LEAST_PROBABILITY
from medseg.nets.classical.pixels import PixelClassifier, standardiser


class NearestNeighbours(PixelClassifier):
    """k nearest neighbours of pixels; the share of a class among them is its probability.

    The drawn pixels themselves are kept, each feature scaled to mean 0 and deviation 1, and every search goes through
    all of them: in a dozen dimensions and more, search trees gain nothing.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        neighbours: k.
        samples: training pixels of each class of each image.
        most: most training pixels altogether; time grows with it.
        balance: weight of the classes' true frequency.
        coordinates: also use where a pixel lies.
        seed: of the drawn pixels.
        candidates: values of ``balance`` and ``neighbours`` that ``tune`` tries.

    Raises:
        ConfigError: no neighbour; in ``forward``, other channels or not fitted.
    """

    probabilistic = True

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        neighbours: int = 5,
        samples: int = 500,
        most: int = 2500,
        balance: float = 0.5,
        coordinates: bool = False,
        seed: int = 0,
        candidates: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(
            in_channels=in_channels, num_classes=num_classes, samples=samples, most=most, coordinates=coordinates,
            seed=seed, arrays=("points", "labels", "mean", "deviation"),
            settings={"balance": balance, "neighbours": neighbours}, candidates=candidates,
        )  # fmt: skip
        for value in [neighbours, *self.candidates.get("neighbours", [])]:
            if value < 1:
                raise ConfigError(f"net.neighbours={value} asks nobody; give 1 or more.")

    def train_on(self, pixels: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return the points themselves with their labels, and how they were scaled."""
        mean, deviation = standardiser(pixels)
        points = ((pixels - mean) / deviation).astype(np.float32)
        return {"points": points, "labels": labels, "mean": mean, "deviation": deviation}

    def scores_of(self, pixels: np.ndarray) -> np.ndarray:
        """Return log probabilities (N, max(K, 2)) of features (N, F) float32."""
        from sklearn.neighbors import NearestNeighbors

        points, labels = self.known("points"), self.known("labels")
        count = min(int(self.setting("neighbours")), len(points))
        asked = ((pixels - self.known("mean")) / self.known("deviation")).astype(np.float32)
        index = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(points)
        near = labels[index.kneighbors(asked, return_distance=False)]
        share = np.stack([(near == label).mean(axis=1) for label in range(self.classes)], axis=1)
        return np.log(np.maximum(share, LEAST_PROBABILITY))
