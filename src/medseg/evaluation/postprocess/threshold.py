"""A threshold on a class's probability other than that of the largest one: a shift of its log odds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.evaluation.postprocess.contract import Probabilities


@dataclass(frozen=True)
class Threshold:
    """Weigh foreground probabilities by (1 - t) / t and bring each pixel's sum back to 1.

    With two classes the foreground wins just where its probability was above t. With more, t is where a class wins
    against all others together if these lay in one. The change is monotone, and it is a change of the calibration:
    ECE and Brier score describe the shifted probabilities. It is the correction for a shifted prior of Saerens, Latinne
    and Decaestecker, Neural Computation 14, 2002, equation 2.4, with the ratio of priors as a free parameter.

    Attributes:
        threshold: t in (0, 1); 0.5 changes nothing.
        class_index: the class that is weighed; None weighs all foreground classes.
        thresholds: those tried on validation.
    """

    name: ClassVar[str] = "threshold"
    needs_image: ClassVar[bool] = False

    threshold: float = 0.5
    class_index: int | None = None
    thresholds: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)

    def __post_init__(self) -> None:
        values = [self.threshold, *self.thresholds]
        if not all(0 < value < 1 for value in values):
            raise ConfigError(f"postprocess.{self.name}: thresholds {values}: each lies between 0 and 1.")
        if self.class_index is not None and self.class_index < 1:
            raise ConfigError(f"postprocess.{self.name}.class_index={self.class_index}: 0 is the background.")

    def __call__(
        self, probabilities: Probabilities, *, spacing: Sequence[float], image: NDArray[np.float32] | None = None
    ) -> Probabilities:
        """Return the weighed probabilities (K, *S)."""
        classes = len(probabilities)
        if self.class_index is not None and self.class_index >= classes:
            raise ConfigError(
                f"postprocess.{self.name}.class_index={self.class_index}: there are classes 1 to {classes - 1}."
            )
        first, last = (1, classes) if self.class_index is None else (self.class_index, self.class_index + 1)
        weighed = probabilities.copy()
        weighed[first:last] *= np.float32((1 - self.threshold) / self.threshold)
        weighed /= weighed.sum(axis=0, keepdims=True)
        return weighed

    def candidates(self) -> Sequence["Threshold"]:
        """Return the step with every threshold."""
        return [replace(self, threshold=float(value)) for value in self.thresholds]
