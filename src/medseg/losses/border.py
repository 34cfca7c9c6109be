"""The U-Net's border weights: pixels between two objects that nearly touch count more.

Ronneberger, Fischer and Brox, MICCAI 2015, arXiv:1505.04597, equation 2:
``w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2))`` with the distances to the nearest and the second nearest
object. The second term counts on background pixels, and vanishes where there are fewer than two objects.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.losses.pixelwise import cross_entropy
from medseg.types import IGNORE

REACH = 6.0
"""Beyond ``d1 + d2`` of as many sigmas the border term is below 2e-8 of w0 and left out."""


class BorderMap:
    """Pixel weights of a label map: class balance plus border term.

    Objects are the connected components (8 neighbours in 2D, 26 in 3D) of each foreground class; distances are
    Euclidean, in pixels of the map, to the nearest pixel of the object.

    Args:
        w0: height of the border term.
        sigma: its width in pixels.
        class_weights: w_c by class; equal weights of 1 if not given.
        balanced: whether w_c is the inverse frequency in the map itself, with mean 1 over its pixels.

    Attributes:
        recipe: what the map is made by, for a cache's key.

    Raises:
        ConfigError: a number is out of its range, or two class weightings are asked for.
    """

    def __init__(
        self,
        *,
        w0: float = 10.0,
        sigma: float = 5.0,
        class_weights: Sequence[float] | None = None,
        balanced: bool = False,
    ) -> None:
        if w0 < 0 or sigma <= 0:
            raise ConfigError(f"loss.w0={w0}, loss.sigma={sigma}: give numbers >= 0 and > 0; the U-Net has 10 and 5.")
        if balanced and class_weights is not None:
            raise ConfigError("loss.balanced and loss.class_weights exclude one another; set one of them off.")
        self.w0, self.sigma, self.balanced = float(w0), float(sigma), balanced
        self.class_weights = None if class_weights is None else [float(weight) for weight in class_weights]
        if self.class_weights is not None and min(self.class_weights) < 0:
            raise ConfigError(f"loss.class_weights={self.class_weights}: no weight may be negative.")
        self.recipe = f"border 1: w0={self.w0} sigma={self.sigma} classes={self.class_weights} balanced={balanced}"

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        """Return weights float32 (*S) of labels uint8 (*S); 0 on ``IGNORE``.

        Raises:
            ConfigError: the labels hold a class without a weight.
        """
        weights = self._class_term(labels)
        background = labels == 0
        weights[background] += border_term(labels, w0=self.w0, sigma=self.sigma)[background]
        return weights

    def _class_term(self, labels: np.ndarray) -> np.ndarray:
        counts = np.bincount(labels.ravel(), minlength=IGNORE + 1)[:IGNORE]
        last = int(np.flatnonzero(counts).max(initial=0))
        by_class = np.ones(IGNORE + 1, np.float32)
        if self.class_weights is not None:
            if last >= len(self.class_weights):
                raise ConfigError(f"loss.class_weights={self.class_weights} has no entry for class {last}; add it.")
            by_class[: len(self.class_weights)] = self.class_weights
        elif self.balanced and counts.any():
            by_class[:IGNORE] = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
        by_class[IGNORE] = 0
        return by_class[labels]


def border_term(labels: np.ndarray, *, w0: float, sigma: float) -> np.ndarray:
    """Return ``w0 exp(-(d1 + d2)^2 / (2 sigma^2))`` of a label map, float32 (*S), on every pixel.

    Each object's distances are computed within its surroundings only, as far as the term reaches.
    """
    from scipy import ndimage

    reach = int(np.ceil(REACH * sigma))
    first, second = (np.full(labels.shape, np.inf, np.float32) for _ in range(2))
    neighbours = np.ones((3,) * labels.ndim, bool)
    for label in np.unique(labels):
        if label in (0, IGNORE):
            continue
        objects, _ = ndimage.label(labels == label, structure=neighbours)
        for number, box in enumerate(ndimage.find_objects(objects), start=1):
            around = tuple(slice(max(side.start - reach, 0), side.stop + reach) for side in box)
            distance = ndimage.distance_transform_edt(objects[around] != number).astype(np.float32)
            nearest, next_nearest = first[around], second[around]
            np.minimum(next_nearest, np.maximum(nearest, distance), out=next_nearest)
            np.minimum(nearest, distance, out=nearest)
    return w0 * np.exp(-((first + second) ** 2) / np.float32(2 * sigma**2))


class BorderCrossEntropy(nn.Module):
    """Cross entropy weighted by a :class:`BorderMap`, normalised by the sum of the weights.

    Args:
        w0: height of the border term.
        sigma: its width in pixels.
        class_weights: class part of the weights; 1 if not given.
        balanced: whether the class part balances the classes of each map.

    Attributes:
        weight_map: makes weights of a label map; whoever serves data computes them once per case.
    """

    def __init__(
        self,
        w0: float = 10.0,
        sigma: float = 5.0,
        class_weights: Sequence[float] | None = None,
        balanced: bool = False,
    ) -> None:
        super().__init__()
        self.weight_map = BorderMap(w0=w0, sigma=sigma, class_weights=class_weights, balanced=balanced)

    def forward(self, logits: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the scalar loss of logits (B, K, *S), mask (B, *S) and weights (B, *S).

        Without weights they are computed from the mask here, on the CPU: right, but slow.
        """
        if weight is None:
            labels = mask.cpu().numpy().astype(np.uint8)
            weight = torch.from_numpy(np.stack([self.weight_map(each) for each in labels])).to(mask.device)
        return cross_entropy(logits, mask, pixels=weight)
