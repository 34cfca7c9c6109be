"""Region growing from seed points."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import ndimage

from medseg.errors import ConfigError
from medseg.nets.adapters import checked_choice
from medseg.nets.classical.seeded import Seeded

STRUCTURES = {4: ndimage.generate_binary_structure(2, 1), 8: ndimage.generate_binary_structure(2, 2)}

_LEAST = 0.5
"""Share of the class's usual deviation that always joins: a smoothed neighbourhood has next to none of its own."""


def _joined_to(possible: np.ndarray, seed: tuple[int, int], connectivity: int) -> np.ndarray:
    """Return the connected region of ``possible``, taken together with the seed, that has the seed."""
    possible = possible.copy()
    possible[seed] = True
    numbered, _ = ndimage.label(possible, structure=STRUCTURES[connectivity])
    return numbered == numbered[seed]


def _window(seed: tuple[int, int], radius: int) -> tuple[slice, slice]:
    row, column = seed
    return slice(max(row - radius, 0), row + radius + 1), slice(max(column - radius, 0), column + radius + 1)


def flood(grey: np.ndarray, seed: tuple[int, int], *, tolerance: float, connectivity: int = 4) -> np.ndarray:
    """Return the connected pixels with |I - I(seed)| <= tolerance, (H, W) bool; the simplest form of region growing."""
    return _joined_to(np.abs(grey - grey[seed]) <= tolerance, seed, connectivity)


def adaptive(
    grey: np.ndarray, seed: tuple[int, int], *, multiplier: float, least: float = 0.0, connectivity: int = 4,
    radius: int = 2,
) -> np.ndarray:  # fmt: skip
    """Return a region that grows by its own statistics, (H, W) bool.

    It starts as the seed's neighbourhood. In every sweep the pixels that touch it join if they are within
    ``multiplier`` standard deviations of its mean, both recomputed after each sweep, until none joins. A pixel that has
    joined stays. (Adams and Bischof 1994 order single pixels by |I - mean|; sweeps do the same a front at a time.)

    Args:
        grey: (H, W).
        seed: (row, column).
        multiplier: standard deviations.
        least: smallest distance from the mean that always joins, in grey; a flat start has no deviation.
        connectivity: 4 or 8.
        radius: pixels of the start around the seed.
    """
    grown = np.zeros(grey.shape, dtype=bool)
    grown[_window(seed, radius)] = True
    while True:
        values = grey[grown].astype(np.float64)
        near = np.abs(grey - values.mean()) <= max(multiplier * values.std(), least)
        larger = grown | (ndimage.binary_dilation(grown, STRUCTURES[connectivity]) & near)
        if larger.sum() == grown.sum():
            return grown
        grown = larger


def confidence(
    grey: np.ndarray, seed: tuple[int, int], *, multiplier: float, iterations: int = 5, connectivity: int = 4,
    radius: int = 2,
) -> np.ndarray:  # fmt: skip
    """Return the connected pixels within mean +- multiplier * deviation of the region itself, (H, W) bool.

    The bounds come from the seed's neighbourhood first and from the whole region in each further iteration, so that
    the region may also shrink (confidence connected). The seed itself always belongs to it.

    Args:
        grey: (H, W).
        seed: (row, column).
        multiplier: standard deviations.
        iterations: how often the bounds are taken anew.
        connectivity: 4 or 8.
        radius: pixels of the first neighbourhood.
    """
    values = grey[_window(seed, radius)].astype(np.float64)
    region = np.zeros(grey.shape, dtype=bool)
    for _ in range(iterations + 1):
        before = region
        region = _joined_to(np.abs(grey - values.mean()) <= multiplier * values.std(), seed, connectivity)
        if np.array_equal(before, region):
            break
        values = grey[region].astype(np.float64)
    return region


class RegionGrowing(Seeded):
    """Regions that grow from seed points while the grey fits.

    ``fit`` measures the grey spread of the class, which scales the tolerance, and what :class:`Seeded` measures;
    ``tune`` may choose ``tolerance`` and ``sigma``.

    Args:
        in_channels: image channels C; the mean of them is used.
        num_classes: classes K.
        label: the class that is told from all others.
        seeds: ``click`` (a user in each region), ``centroid`` (an oracle) or ``auto``.
        polarity: of the blob that ``auto`` looks for: ``dark``, ``bright`` or ``auto``.
        rule: ``flood``, ``adaptive`` or ``confidence``.
        tolerance: of ``flood`` in the class's typical grey standard deviation; else the multiplier of the region's own.
        sigma: pixels of the Gaussian before; speckle needs some.
        connectivity: 4 or 8 neighbours.
        iterations: of ``confidence``.
        fill_holes: fill enclosed holes as a last step; they are what region growing is known to fail by.
        reach: typical radii from its seed beyond which a region does not go; null: no bound.
        candidates: values of ``tolerance`` and ``sigma`` that ``tune`` tries.

    Raises:
        ConfigError: an unknown rule, connectivity, seeds; in ``forward``, other channels or not fitted.
    """

    READING = "our reading: three rules from one seed a region; the published one takes single pixels from a queue"

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        label: int = 1,
        seeds: str = "click",
        polarity: str = "auto",
        rule: str = "flood",
        tolerance: float = 1.0,
        sigma: float = 2.0,
        connectivity: int = 4,
        iterations: int = 5,
        fill_holes: bool = True,
        reach: float | None = None,
        candidates: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(
            in_channels=in_channels, num_classes=num_classes, label=label, seeds=seeds, polarity=polarity,
            settings={"tolerance": tolerance, "sigma": sigma}, candidates=candidates,
        )  # fmt: skip
        self.rule = checked_choice(rule, ("flood", "adaptive", "confidence"), key="rule")
        if connectivity not in STRUCTURES:
            raise ConfigError(f"net.connectivity={connectivity} is unknown; choose 4 or 8.")
        self.connectivity, self.iterations, self.fill_holes, self.reach = connectivity, iterations, fill_holes, reach

    def from_seeds(self, grey: np.ndarray, seeds: list[tuple[int, int]]) -> np.ndarray:
        """Return the regions (H, W) bool of all seeds in a smoothed image (H, W)."""
        grow = self._rule()
        found = np.zeros(grey.shape, dtype=bool)
        for seed in seeds:
            inside = self._within(grey.shape, seed)
            own = (seed[0] - inside[0].start, seed[1] - inside[1].start)
            found[inside] |= grow(grey[inside], own)
        return ndimage.binary_fill_holes(found) if self.fill_holes else found

    def _within(self, size: tuple[int, ...], seed: tuple[int, int]) -> tuple[slice, slice]:
        """Return the square around a seed that its region stays in."""
        bound = max(size) if self.reach is None else max(2, round(self.reach * self.typical_radius(size)))
        return _window(seed, bound)

    def _rule(self) -> Callable[[np.ndarray, tuple[int, int]], np.ndarray]:
        tolerance, spread = self.setting("tolerance"), float(self.known("spread"))
        if self.rule == "flood":
            return lambda grey, seed: flood(grey, seed, tolerance=tolerance * spread, connectivity=self.connectivity)
        if self.rule == "adaptive":
            return lambda grey, seed: adaptive(
                grey, seed, multiplier=tolerance, least=_LEAST * spread, connectivity=self.connectivity
            )
        return lambda grey, seed: confidence(
            grey, seed, multiplier=tolerance, iterations=self.iterations, connectivity=self.connectivity
        )
