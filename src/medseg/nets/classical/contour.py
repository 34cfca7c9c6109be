"""Active contours: Chan-Vese by morphological operators or by its level set, and geodesic."""

from collections.abc import Mapping, Sequence

import numpy as np

from medseg.errors import ConfigError
from medseg.nets.adapters import checked_choice
from medseg.nets.classical.blobs import disc
from medseg.nets.classical.pieces import nearest
from medseg.nets.classical.seeded import Seeded


def chan_vese(grey: np.ndarray, start: np.ndarray, *, iterations: int, smoothing: int) -> np.ndarray:
    """Return the region (H, W) bool that parts an image into two of little variance each (Chan and Vese 2001).

    Morphological operators replace the level set's differential equation (Marquez-Neila et al. 2014).

    Args:
        grey: (H, W).
        start: (H, W) bool, the first region.
        iterations: steps.
        smoothing: how often the outline is smoothed in each step.
    """
    from skimage.segmentation import morphological_chan_vese

    return morphological_chan_vese(grey, iterations, init_level_set=start, smoothing=smoothing).astype(bool)


def level_set(grey: np.ndarray, start: np.ndarray, *, iterations: int, length: float) -> np.ndarray:
    """Return the region (H, W) bool of least Chan-Vese energy, by the published differential equation.

    Its level set starts at 1 within ``start`` and -1 outside, and stops early once it hardly moves.

    Args:
        grey: (H, W).
        start: (H, W) bool, the first region.
        iterations: steps, at most.
        length: mu of the paper, the price of the outline's length where greys run from 0 to 1.
    """
    from skimage.segmentation import chan_vese as by_level_set

    first = np.where(start, 1.0, -1.0)
    found = by_level_set(grey.astype(np.float64), mu=length, max_num_iter=iterations, init_level_set=first)
    return np.asarray(found, dtype=bool)


def geodesic(grey: np.ndarray, start: np.ndarray, *, iterations: int, smoothing: int) -> np.ndarray:
    """Return the region (H, W) bool whose outline shrinks from ``start`` onto edges (Caselles et al. 1997).

    Args:
        grey: (H, W), smoothed.
        start: (H, W) bool, a region around the one that is sought.
        iterations: steps, each about a pixel.
        smoothing: how often the outline is smoothed in each step.
    """
    from skimage.segmentation import inverse_gaussian_gradient, morphological_geodesic_active_contour

    span = float(grey.max() - grey.min()) or 1.0
    edges = inverse_gaussian_gradient((grey - grey.min()) / span, alpha=200.0, sigma=2.0)
    found = morphological_geodesic_active_contour(
        edges, iterations, init_level_set=start, smoothing=smoothing, balloon=-1, threshold="auto"
    )
    return found.astype(bool)


class ActiveContour(Seeded):
    """An outline that starts as a disc around a seed and moves until it fits.

    It sees a square of ``reach`` typical radii around the seed, for Chan-Vese compares everything it sees. Of what it
    finds, the connected region at the seed is kept. ``fit`` measures the typical radius and polarity; ``tune`` may
    choose ``smoothing``, ``reach`` and ``sigma``.

    Args:
        in_channels: image channels C; the mean of them is used.
        num_classes: classes K.
        label: the class that is told from all others.
        seeds: ``auto``, or ``click`` or ``centroid`` from the truth.
        polarity: ``dark``, ``bright`` or ``auto``.
        method: ``chan_vese`` (by morphological operators) and ``level_set`` (by the differential equation) start with
            the typical radius, ``geodesic`` near the square's sides and shrinks.
        iterations: steps.
        smoothing: how often the outline is smoothed in each step, 0 to 4; nothing to ``level_set``.
        length: price of the outline's length for ``level_set``, mu of the paper; nothing to the others.
        reach: typical radii from the seed to the square's sides.
        sigma: pixels of the Gaussian before.
        candidates: values of ``smoothing``, ``reach`` and ``sigma`` that ``tune`` tries.

    Raises:
        ConfigError: an unknown method, seeds or polarity, no iteration, a negative length; in ``forward``, other
            channels or not fitted.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        label: int = 1,
        seeds: str = "auto",
        polarity: str = "auto",
        method: str = "chan_vese",
        iterations: int = 60,
        smoothing: int = 2,
        length: float = 0.25,
        reach: float = 1.8,
        sigma: float = 2.0,
        candidates: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(
            in_channels=in_channels, num_classes=num_classes, label=label, seeds=seeds, polarity=polarity,
            settings={"smoothing": smoothing, "reach": reach, "sigma": sigma}, candidates=candidates,
        )  # fmt: skip
        self.method = checked_choice(method, ("chan_vese", "level_set", "geodesic"), key="method")
        if iterations < 1:
            raise ConfigError(f"net.iterations={iterations} moves nothing; give 1 or more.")
        if length < 0:
            raise ConfigError(f"net.length={length} rewards a longer outline; give 0 or more.")
        self.iterations, self.length = iterations, length

    def from_seeds(self, grey: np.ndarray, seeds: list[tuple[int, int]]) -> np.ndarray:
        """Return the regions (H, W) bool of all seeds in a smoothed image (H, W)."""
        radius = max(self.typical_radius(grey.shape), 2.0)
        side = max(4, round(self.setting("reach") * radius))
        found = np.zeros(grey.shape, dtype=bool)
        for row, column in seeds:
            top, left = max(row - side, 0), max(column - side, 0)
            window = (slice(top, row + side + 1), slice(left, column + side + 1))
            found[window] |= self._one(grey[window], (row - top, column - left), radius, side)
        return found

    def _one(self, grey: np.ndarray, seed: tuple[int, int], radius: float, side: int) -> np.ndarray:
        smoothing = int(self.setting("smoothing"))
        if self.method == "geodesic":
            start = disc(grey.shape, seed, 0.95 * side)
            region = geodesic(grey, start, iterations=self.iterations, smoothing=smoothing)
        else:
            start = disc(grey.shape, seed, radius)
            if self.method == "level_set":
                return nearest(level_set(grey, start, iterations=self.iterations, length=self.length), seed)
            region = chan_vese(grey, start, iterations=self.iterations, smoothing=smoothing)
        return nearest(region, seed)
