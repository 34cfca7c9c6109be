"""A linear support vector machine of pixels."""

from collections.abc import Mapping, Sequence

import numpy as np

from medseg.errors import ConfigError
from medseg.nets.adapters import CERTAIN
from medseg.nets.classical.pixels import PixelClassifier, standardiser


class LinearSVM(PixelClassifier):
    """Linear support vector machine of pixels, one class against the rest, on scaled features.

    The logits are the signed distances to the separating planes in margins. They are no log probabilities; ``balance``
    moves the planes all the same, which is why validation should choose it.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        cost: C of the hinge loss against the margin.
        samples: training pixels of each class of each image.
        most: most training pixels altogether.
        balance: weight of the classes' true frequency.
        coordinates: also use where a pixel lies.
        seed: of the drawn pixels and the solver.
        candidates: values of ``balance`` and ``cost`` that ``tune`` tries.

    Raises:
        ConfigError: a cost that is not positive; in ``forward``, other channels or not fitted.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        cost: float = 1.0,
        samples: int = 500,
        most: int = 20000,
        balance: float = 0.0,
        coordinates: bool = False,
        seed: int = 0,
        candidates: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(
            in_channels=in_channels, num_classes=num_classes, samples=samples, most=most, coordinates=coordinates,
            seed=seed, arrays=("planes", "offsets", "mean", "deviation"),
            settings={"balance": balance, "cost": cost}, candidates=candidates,
        )  # fmt: skip
        if min([cost, *self.candidates.get("cost", [])]) <= 0:
            raise ConfigError(f"net.cost={cost} must be above 0, and so its candidates.")

    def relearns(self, name: str) -> bool:
        """Tell whether another value of a setting needs other planes."""
        return name == "cost"

    def train_on(self, pixels: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return planes (max(K, 2), F), offsets (max(K, 2),) and how features were scaled."""
        from sklearn.svm import LinearSVC

        mean, deviation = standardiser(pixels)
        machine = LinearSVC(C=self.setting("cost"), dual=False, max_iter=2000, random_state=self.seed)
        machine.fit((pixels - mean) / deviation, labels)
        present = machine.classes_.astype(int)
        planes, offsets = np.zeros((self.classes, pixels.shape[1])), np.full(self.classes, -CERTAIN)
        if len(present) == 2:  # one plane between the two
            half, shift = machine.coef_[0] / 2, machine.intercept_[0] / 2
            planes[present], offsets[present] = np.stack([-half, half]), [-shift, shift]
        else:
            planes[present], offsets[present] = machine.coef_, machine.intercept_
        return {"planes": planes, "offsets": offsets, "mean": mean, "deviation": deviation}

    def scores_of(self, pixels: np.ndarray) -> np.ndarray:
        """Return distances (N, max(K, 2)) of features (N, F) float32 to the planes."""
        scaled = (pixels - self.known("mean")) / self.known("deviation")
        return scaled @ self.known("planes").T + self.known("offsets")
