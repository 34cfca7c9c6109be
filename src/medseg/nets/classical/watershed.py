"""Watershed from markers that are found in the image."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from medseg.nets.adapters import checked_choice
from medseg.nets.classical.blobs import disc
from medseg.nets.classical.otsu import otsu_threshold
from medseg.nets.classical.pieces import nearest_pixel
from medseg.nets.classical.seeded import Seeded

_INNER = 0.5


def separated(chosen: np.ndarray, *, least: float = 3.0) -> np.ndarray:
    """Return touching regions numbered apart, (H, W) int, 0 outside.

    Markers are the peaks of the distance to the outline, at least ``least`` pixels apart; the watershed of that
    distance runs through the necks between them.

    Args:
        chosen: (H, W) bool.
        least: smallest distance between two peaks in pixels.
    """
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    depth = ndimage.distance_transform_edt(np.pad(chosen, 1))[1:-1, 1:-1]
    # Plateaus and the rounding of the outline would give one region many peaks.
    depth = ndimage.gaussian_filter(depth, 1.0)
    peaks = peak_local_max(
        depth, min_distance=max(1, round(least)), labels=chosen.astype(np.int32), exclude_border=False
    )
    markers = np.zeros(chosen.shape, dtype=np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-depth, markers, mask=chosen)


def ringed(grey: np.ndarray, seeds: list[tuple[int, int]], *, inner: float, outer: float) -> np.ndarray:
    """Return the watershed regions (H, W) bool that grow from discs around seeds on the gradient of an image.

    Args:
        grey: (H, W), smoothed.
        seeds: (row, column), each its own region.
        inner: radius in pixels of the disc around a seed that is inside.
        outer: pixels from a seed beyond which everything is outside.
    """
    from skimage.segmentation import watershed

    slope = np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1))
    markers = np.zeros(grey.shape, dtype=np.int32)
    far = np.ones(grey.shape, dtype=bool)
    for seed in seeds:
        far &= ~disc(grey.shape, seed, outer)
    if not far.any():  # without an outside everything would be inside: the frame is outside then
        far[[0, -1]], far[:, [0, -1]] = True, True
    markers[far] = 1
    for number, seed in enumerate(seeds, start=2):
        markers[disc(grey.shape, seed, inner)] = number
        markers[seed] = number
    return watershed(slope, markers) > 1


class Watershed(Seeded):
    """Marker-controlled watershed (Beucher and Lantuejoul 1979, Vincent and Soille 1991).

    ``mode="gradient"``: the inner marker is a disc of half the typical radius around the seed, the outer one all that
    is farther than ``reach`` typical radii; the line runs along the steepest edge between. ``mode="distance"``: Otsu's
    threshold within that reach, touching regions separated by :func:`separated`, and the one nearest to the seed.
    ``fit`` measures the typical radius and polarity; ``tune`` may choose ``reach`` and ``sigma``.

    Args:
        in_channels: image channels C; the mean of them is used.
        num_classes: classes K.
        label: the class that is told from all others.
        seeds: ``auto``, or ``click`` or ``centroid`` from the truth.
        polarity: ``dark``, ``bright`` or ``auto``.
        mode: ``gradient`` or ``distance``.
        reach: typical radii from a seed to the outer marker.
        sigma: pixels of the Gaussian before.
        candidates: values of ``reach`` and ``sigma`` that ``tune`` tries.

    Raises:
        ConfigError: an unknown mode, seeds or polarity; in ``forward``, other channels or not fitted.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        label: int = 1,
        seeds: str = "auto",
        polarity: str = "auto",
        mode: str = "gradient",
        reach: float = 2.0,
        sigma: float = 2.0,
        candidates: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(
            in_channels=in_channels, num_classes=num_classes, label=label, seeds=seeds, polarity=polarity,
            settings={"reach": reach, "sigma": sigma}, candidates=candidates,
        )  # fmt: skip
        self.mode = checked_choice(mode, ("gradient", "distance"), key="mode")

    def from_seeds(self, grey: np.ndarray, seeds: list[tuple[int, int]]) -> np.ndarray:
        """Return the regions (H, W) bool of all seeds in a smoothed image (H, W)."""
        radius = self.typical_radius(grey.shape)
        outer = max(self.setting("reach") * radius, 2.0)
        if self.mode == "gradient":
            return ringed(grey, seeds, inner=_INNER * radius, outer=outer)
        found = np.zeros(grey.shape, dtype=bool)
        for seed in seeds:
            near = disc(grey.shape, seed, outer)
            cut = otsu_threshold(grey[near])
            chosen = near & (grey <= cut if bool(self.known("dark")) else grey > cut)
            # A hole of one speckle would tear the distance to the outline apart.
            numbered = separated(ndimage.binary_fill_holes(chosen), least=radius / 2)
            if numbered.any():  # speckle may put the seed's own pixel on the other side of the threshold
                found |= numbered == numbered[nearest_pixel(numbered > 0, seed)]
        return found
