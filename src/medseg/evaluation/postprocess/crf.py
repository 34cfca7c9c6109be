"""A fully connected conditional random field, solved by mean field with filters.

The field of Kraehenbuehl and Koltun, NeurIPS 2011 (equations 2 and 3): unary terms from the network's probabilities, a
Potts penalty for each pair of pixels with different labels, weighed by a Gaussian of their distance (smoothness) and by
a Gaussian of distance and difference in grey value (appearance). Mean field (their algorithm 1) needs, for each
class, the probabilities filtered by the two Gaussians. The appearance filter runs in a bilateral grid (Chen, Paris and
Durand, ACM TOG 26(3):103, 2007) instead of their permutohedral lattice: splat, blur, read out; one cell a standard
deviation. Filters are normalised to a mean over the neighbourhood, so that their weights do not depend on its size; a
pixel's own share in it is left in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError, ScoreError
from medseg.evaluation.postprocess.contract import Probabilities

Filter = Callable[[NDArray[np.float32]], NDArray[np.float32]]

MARGIN = 3
"""Empty cells around a bilateral grid, as far as its blur reaches."""

BLUR = (1 - 1 / 12 - 1 / 6) ** 0.5
"""Deviation of the grid's blur in cells: with the variance that splatting into the nearest cell (a box, 1/12) and
reading between cells (a triangle, 1/6) add, it is 1."""


@dataclass(frozen=True)
class DenseCrf:
    """Mean field over all pairs of pixels. Fast on pictures; some minutes for a large volume.

    Attributes:
        near: standard deviation of the smoothness filter, in the spacing's unit.
        near_weight: of the smoothness filter.
        far: standard deviation in space of the appearance filter, in the spacing's unit.
        tone: its standard deviation in grey value, whose whole range is 1.
        far_weight: of the appearance filter; 0 looks at no image.
        iterations: of mean field.
        fars: spatial deviations tried on validation.
        weights: weights of the appearance filter tried on validation.
    """

    name: ClassVar[str] = "dense_crf"
    needs_image: ClassVar[bool] = True

    near: float = 3.0
    near_weight: float = 1.0
    far: float = 30.0
    tone: float = 0.1
    far_weight: float = 3.0
    iterations: int = 5
    fars: Sequence[float] = (10, 30)
    weights: Sequence[float] = (1, 3)

    def __post_init__(self) -> None:
        widths = [self.near, self.far, self.tone, *self.fars]
        weights = [self.near_weight, self.far_weight, *self.weights]
        if min(widths) <= 0 or min(weights) < 0 or self.iterations < 1:
            raise ConfigError(
                f"postprocess.{self.name}: deviations {widths} are above 0, weights {weights} not below 0, "
                f"iterations={self.iterations} at least 1."
            )

    def __call__(
        self, probabilities: Probabilities, *, spacing: Sequence[float], image: NDArray[np.float32] | None = None
    ) -> Probabilities:
        """Return the mean-field marginals (K, *S).

        Raises:
            ScoreError: the image is missing or of another shape.
        """
        filters: list[tuple[float, Filter]] = []
        if self.near_weight:
            filters.append((self.near_weight, smoothing([self.near / side for side in spacing])))
        if self.far_weight:
            if image is None or image.shape != probabilities.shape[1:]:
                found = None if image is None else image.shape
                raise ScoreError(
                    f"{self.name}: an image of {probabilities.shape[1:]} is needed, got {found}; give the grey image, "
                    "or far_weight=0."
                )
            widths = [self.far / side for side in spacing]
            filters.append((self.far_weight, bilateral_grid(image, widths=widths, tone=self.tone)))
        return mean_field(probabilities, filters, iterations=self.iterations)

    def candidates(self) -> Sequence["DenseCrf"]:
        """Return the step with every pair of deviation and weight."""
        return [replace(self, far=float(far), far_weight=float(weight)) for far in self.fars for weight in self.weights]


def mean_field(
    probabilities: Probabilities, filters: Sequence[tuple[float, Filter]], *, iterations: int
) -> Probabilities:
    """Return marginals (K, *S): Q(l) in proportion to p(l) exp(sum of weight x filtered Q(l)), repeated.

    With the Potts penalty this is algorithm 1 of Kraehenbuehl and Koltun: what all other labels cost is the constant
    sum of the weights less what the label's own neighbours spare it. A class of probability zero stays there.
    """
    marginals = probabilities
    for _ in range(iterations):
        exponent = np.zeros(probabilities.shape, np.float32)
        for weight, smooth in filters:
            for label, values in enumerate(marginals):
                exponent[label] += np.float32(weight) * smooth(values)
        exponent -= exponent.max(axis=0, keepdims=True)
        marginals = probabilities * np.exp(exponent)
        total = marginals.sum(axis=0, keepdims=True)
        # A pixel whose only possible classes were pushed below the smallest number keeps what it had.
        marginals = np.where(total > 0, marginals / np.where(total > 0, total, 1), probabilities)
    return marginals.astype(np.float32, copy=False)


def smoothing(widths: Sequence[float]) -> Filter:
    """Return the Gaussian filter of maps (*S) with these standard deviations in pixels."""
    from scipy import ndimage

    def smooth(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return ndimage.gaussian_filter(values, widths, mode="nearest", truncate=3.0)

    return smooth


def bilateral_grid(guide: NDArray[np.float32], *, widths: Sequence[float], tone: float) -> Filter:
    """Return the normalised bilateral filter of maps (*S) that a guide (*S) steers.

    Args:
        guide: grey values.
        widths: standard deviation along each axis in pixels.
        tone: standard deviation in grey values.
    """
    from scipy import ndimage

    axes = [np.arange(side, dtype=np.float32) / width for side, width in zip(guide.shape, widths, strict=True)]
    grids = [*np.meshgrid(*axes, indexing="ij"), (guide - guide.min()) / tone]
    coordinates = np.stack([values.ravel() + MARGIN for values in grids]).astype(np.float32)
    shape = tuple(int(np.ceil(values.max())) + MARGIN + 1 for values in coordinates)
    cells = np.ravel_multi_index(tuple(np.rint(coordinates).astype(np.intp)), shape)

    def blurred(weights: NDArray[np.float32] | None) -> NDArray[np.float32]:
        splat = np.bincount(cells, weights=weights, minlength=int(np.prod(shape))).reshape(shape).astype(np.float32)
        soft = ndimage.gaussian_filter(splat, BLUR, mode="constant", truncate=float(MARGIN))
        sliced: NDArray[np.float32] = ndimage.map_coordinates(soft, coordinates, order=1, mode="nearest")
        return sliced

    mass = np.maximum(blurred(None), np.finfo(np.float32).tiny)

    def smooth(values: NDArray[np.float32]) -> NDArray[np.float32]:
        spread = np.asarray(blurred(values.ravel()) / mass, dtype=np.float32)
        return spread.reshape(values.shape)

    return smooth
