"""The random walker from seed points."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.nets.classical.blobs import disc
from medseg.nets.classical.seeded import Seeded


def arrival(
    grey: NDArray[np.floating], inside: NDArray[np.bool_], outside: NDArray[np.bool_], *, beta: float
) -> NDArray[np.float64]:
    """Return how probably a random walk from each pixel meets a seed inside before one outside, (H, W) in [0, 1].

    The walk steps to one of four neighbours, to j from i in proportion to w_ij = exp(-beta (g_i - g_j)^2 / 10) + 1e-10:
    the weights of scikit-image without its division by the grey's deviation, so that ``grey`` brings its own unit and
    a cut-out has the weights of the whole. The linear system is solved directly (mode ``bf``), which needs no further
    package, meets the system to rounding and gives the seeds exactly what they were given.

    Args:
        grey: (H, W).
        inside: seeds of the foreground; they win over ``outside``.
        outside: seeds of the background; without any, everything is inside.
        beta: how much a grey difference hinders a step; 0 not at all.
    """
    from skimage.segmentation import random_walker

    seeds = np.where(inside, 2, np.where(outside, 1, 0))
    if seeds.all():
        return inside.astype(np.float64)
    picture = grey.astype(np.float64)
    deviation = float(picture.std())
    if deviation == 0:  # every step is equally likely; the library would divide by the deviation
        picture = np.indices(grey.shape, dtype=np.float64).sum(axis=0)
    found = random_walker(picture, seeds, beta=beta * deviation, mode="bf", return_full_prob=True)
    return found[-1].clip(0.0, 1.0)


class RandomWalker(Seeded):
    """Random walker (Grady, IEEE TPAMI 28(11), 2006): a pixel belongs to the seeds that a walk from it meets first.

    Published: a user draws seeds of each object and of the background. Our reading, with one point a region: seeds of
    the foreground are a disc of ``inner`` typical radii around each point, seeds of the background everything farther
    than ``reach`` typical radii from all points (the image's frame where nothing is). All regions are one foreground:
    several points give what one walk against all of them gives, in whatever order they come. Grey counts in standard
    deviations of the smoothed image. ``fit`` measures what :class:`Seeded` measures; ``tune`` may choose ``beta``,
    ``inner``, ``reach`` and ``sigma``.

    A region has no holes and no part without a seed: the probability has no maximum or minimum between the seeds.

    Args:
        in_channels: image channels C; the mean of them is used.
        num_classes: classes K.
        label: the class that is told from all others.
        seeds: ``click`` (a user in each region), ``centroid`` (an oracle) or ``auto`` (the strongest blob).
        polarity: of the blob that ``auto`` looks for: ``dark``, ``bright`` or ``auto``.
        beta: how much an edge hinders the walk; scikit-image's default is 130.
        inner: typical radii around a point that are foreground for certain; 0: the point alone.
        reach: typical radii from the points beyond which all is background.
        sigma: pixels of the Gaussian before; speckle needs some.
        candidates: values of ``beta``, ``inner``, ``reach`` and ``sigma`` that ``tune`` tries.

    Raises:
        ConfigError: a negative beta, no room between inner and reach, unknown seeds or polarity; in ``forward``, other
            channels or not fitted.
    """

    READING = "seeds are a disc around one point of each region, and all that is far from every point"

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        label: int = 1,
        seeds: str = "click",
        polarity: str = "auto",
        beta: float = 130.0,
        inner: float = 0.25,
        reach: float = 2.0,
        sigma: float = 2.0,
        candidates: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(
            in_channels=in_channels, num_classes=num_classes, label=label, seeds=seeds, polarity=polarity,
            settings={"beta": beta, "inner": inner, "reach": reach, "sigma": sigma}, candidates=candidates,
        )  # fmt: skip
        if beta < 0 or not 0 <= inner < reach:
            raise ConfigError(
                f"net.beta={beta} must be 0 or more, net.inner={inner} within [0, net.reach), net.reach={reach} above."
            )

    def from_seeds(self, grey: np.ndarray, seeds: list[tuple[int, int]]) -> np.ndarray:
        """Return the regions (H, W) bool of all seeds in a smoothed image (H, W)."""
        inside, outside = self.seeded(grey.shape, seeds)
        undecided = ~outside
        # Beyond a rim of background the walk has ended: the rest of the image cannot change the answer.
        window = tuple(
            slice(max(int(places[0]) - 1, 0), int(places[-1]) + 2)
            for axis in (1, 0)
            for places in [np.flatnonzero(undecided.any(axis=axis))]
        )
        unit = max(float(grey.std(dtype=np.float64)), 1e-12)
        found = np.zeros(grey.shape, dtype=bool)
        found[window] = arrival(grey[window] / unit, inside[window], outside[window], beta=self.setting("beta")) > 0.5
        return found

    def seeded(self, size: tuple[int, ...], seeds: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
        """Return the pixels that are inside for certain and those that are outside, each (H, W) bool.

        Args:
            size: (H, W).
            seeds: (row, column) of the points, at least one.
        """
        height, width = size
        radius = self.typical_radius(size)
        inside, near = np.zeros((height, width), dtype=bool), np.zeros((height, width), dtype=bool)
        for seed in seeds:
            inside |= disc((height, width), seed, self.setting("inner") * radius)
            near |= disc((height, width), seed, max(self.setting("reach") * radius, 2.0))
        outside = ~near
        if not outside.any():  # without an outside everything would be inside: the frame is outside then
            outside[[0, -1]], outside[:, [0, -1]] = True, True
        return inside, outside & ~inside
