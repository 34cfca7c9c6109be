"""Otsu's threshold, global or local, and several thresholds at once."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from medseg.errors import ConfigError, DataError
from medseg.nets.adapters import checked_choice
from medseg.nets.classical.base import Classical, OneClass
from medseg.nets.classical.basics import grey_of, hard_logits, smoothed
from medseg.nets.classical.blobs import scan_area
from medseg.nets.classical.mapping import classes_of_clusters, counted
from medseg.nets.classical.pieces import largest
from medseg.types import IGNORE

_FINE = 256
"""Histogram bins over an image's own grey range."""


def _upper_edge(centre: np.ndarray | float, grey: np.ndarray) -> np.ndarray:
    """Return the largest value that a bin holds, from its centre.

    The libraries return centres, by which the brighter half of the last dark bin would count as bright.
    """
    edge = np.asarray(centre, dtype=np.float64) + (float(grey.max()) - float(grey.min())) / (2 * _FINE)
    return np.nextafter(edge, -np.inf)  # the edge itself begins the next bin


def otsu_threshold(grey: np.ndarray) -> float:
    """Return the t that maximises the between-class variance of "grey <= t" and "grey > t" (Otsu 1979).

    It is searched over 256 bins of the values' own range, so that it follows a change a x + b, a > 0 of all values.
    Values that are all equal have no threshold; their value is returned, above which there is nothing.
    """
    from skimage.filters import threshold_otsu

    if grey.min() == grey.max():
        return float(grey.flat[0])
    return float(_upper_edge(threshold_otsu(grey.astype(np.float64), nbins=_FINE), grey))


def multi_otsu_thresholds(grey: np.ndarray, levels: int) -> np.ndarray:
    """Return the ``levels`` - 1 thresholds of largest between-class variance (Liao, Chen and Chung 2001).

    Raises:
        DataError: the values fill fewer histogram bins than there are levels.
    """
    from skimage.filters import threshold_multiotsu

    if levels == 2:
        return np.array([otsu_threshold(grey)])
    try:
        return _upper_edge(threshold_multiotsu(grey.astype(np.float64), classes=levels, nbins=_FINE), grey)
    except ValueError as error:
        raise DataError(f"an image has fewer than {levels} grey values; lower net.levels.") from error


class Otsu(OneClass):
    """Each image's own threshold between dark and bright; only the polarity is learnt.

    ``fit`` decides with ``polarity="auto"`` which side of the threshold has the larger mean Dice on the training
    images. ``tune`` may choose ``sigma`` and ``hysteresis``.

    Args:
        in_channels: image channels C; the mean of them is used.
        num_classes: classes K.
        label: the class that is told from all others.
        method: ``global`` threshold; ``local``: Sauvola's, from mean m and deviation s of a window,
            m (1 + k (s / R - 1)) with R half the image's grey range (Sauvola and Pietikainen 2000); or ``mean``: the
            window's mean less ``offset``.
        polarity: the class is ``dark`` or ``bright``, or ``auto``.
        sigma: pixels of the Gaussian before the threshold; 0 none.
        hysteresis: grey standard deviations; pixels up to so far on the wrong side stay where they are joined to
            pixels so far on the right side; 0 is the plain threshold.
        window: pixels of the local thresholds' window.
        k: Sauvola's weight of the deviation.
        offset: grey standard deviations that ``mean`` takes from the window's mean.
        scan_only: ignore what lies outside the scan on an exported screen, for the threshold and in the answer.
        largest_component: keep only the largest connected region.
        candidates: values of ``sigma`` and ``hysteresis`` that ``tune`` tries.

    Raises:
        ConfigError: an unknown method or polarity, an even window, an offset without ``method=mean``; in ``forward``,
            other channels or not fitted.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        label: int = 1,
        method: str = "global",
        polarity: str = "auto",
        sigma: float = 0.0,
        hysteresis: float = 0.0,
        window: int = 51,
        k: float = 0.2,
        offset: float = 0.0,
        scan_only: bool = False,
        largest_component: bool = False,
        candidates: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        settings = {"sigma": sigma, "hysteresis": hysteresis, "bright": float(polarity == "bright")}
        super().__init__(
            in_channels=in_channels, num_classes=num_classes, label=label, settings=settings, candidates=candidates
        )
        self.method = checked_choice(method, ("global", "local", "mean"), key="method")
        self.polarity = checked_choice(polarity, ("dark", "bright", "auto"), key="polarity")
        if window < 3 or window % 2 == 0:
            raise ConfigError(f"net.window={window} has no middle pixel; give an odd number of 3 or more.")
        if offset and method != "mean":
            raise ConfigError(f"net.offset={offset} belongs to net.method=mean, not {method}; give 0, or that method.")
        self.window, self.k, self.offset = window, k, offset
        self.scan_only, self.largest_component = scan_only, largest_component

    def learn(self, images: list[np.ndarray], masks: list[np.ndarray]) -> None:
        """Decide the polarity, if it is open.

        Raises:
            DataError: it is open and no mask has the class.
        """
        if self.polarity != "auto":
            return
        pairs = [(image, mask) for image, mask in zip(images, masks, strict=True) if (mask == self.label).any()]
        if not pairs:
            raise DataError(f"none of {len(masks)} training masks has class {self.label}; set net.polarity.")
        dice = []
        for bright in (0.0, 1.0):
            self.adopt("bright", bright)
            found = [(self.segment(image), mask == self.label, mask != IGNORE) for image, mask in pairs]
            dice.append(np.mean([2 * (a & b & c).sum() / ((a & c).sum() + b.sum()) for a, b, c in found]))
        self.adopt("bright", float(dice[1] > dice[0]))

    def segment(self, image: np.ndarray) -> np.ndarray:
        """Return where the class is, (H, W) bool, in one image (H, W, C)."""
        grey = smoothed(grey_of(image), self.setting("sigma"))
        inside = scan_area(grey) if self.scan_only else np.ones(grey.shape, dtype=bool)
        values = grey[inside]
        if values.min() == values.max():
            return np.zeros(grey.shape, dtype=bool)
        excess = grey - self._threshold(grey, values)
        reach = self.setting("hysteresis") * float(values.std())
        bright = bool(self.setting("bright"))
        if reach > 0:
            distance = excess if bright else -excess
            chosen = _joined(distance > reach, distance > -reach)
        else:
            chosen = excess > 0 if bright else excess <= 0
        chosen = chosen & inside
        return largest(chosen) if self.largest_component else chosen

    def _threshold(self, grey: np.ndarray, values: np.ndarray) -> float | np.ndarray:
        if self.method == "global":
            return otsu_threshold(values)
        from skimage.filters import threshold_local, threshold_sauvola

        if self.method == "mean":
            return threshold_local(grey, self.window, method="mean", offset=self.offset * float(values.std()))
        spread = float(values.max() - values.min()) / 2
        # Sauvola's rule knows no negative grey: it is applied to what lies above the darkest value.
        shift = float(values.min())
        return threshold_sauvola(grey - shift, window_size=self.window, k=self.k, r=spread) + shift


def _joined(sure: np.ndarray, possible: np.ndarray) -> np.ndarray:
    """Return the connected regions of ``possible`` that have a sure pixel."""
    numbered, _ = ndimage.label(possible)
    wanted = np.unique(numbered[sure])
    return np.isin(numbered, wanted[wanted > 0])


class MultiOtsu(Classical):
    """Several thresholds at once in each image; which grey level is which class is learnt.

    ``fit`` counts levels against classes over the training images and assigns them as
    :func:`~medseg.nets.classical.mapping.classes_of_clusters` says. ``tune`` may choose ``sigma``.

    Args:
        in_channels: image channels C; the mean of them is used.
        num_classes: classes K.
        levels: grey levels, at least K.
        sigma: pixels of the Gaussian before the thresholds; 0 none.
        candidates: values of ``sigma`` that ``tune`` tries.

    Raises:
        ConfigError: fewer levels than classes, or more than 5; in ``forward``, other channels or not fitted.
        DataError: an image has fewer grey values than levels.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        levels: int = 3,
        sigma: float = 1.0,
        candidates: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        settings = {"sigma": sigma}
        super().__init__(in_channels=in_channels, num_classes=num_classes, settings=settings, candidates=candidates)
        if not max(num_classes, 2) <= levels <= 5:
            raise ConfigError(
                f"net.levels={levels}: {num_classes} classes need {max(num_classes, 2)} to 5 grey levels."
            )
        self.levels = levels
        self.remember(classes=np.zeros(levels, dtype=np.int64))
        self._pairs: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])

    def learn(self, images: list[np.ndarray], masks: list[np.ndarray]) -> None:
        """Assign grey levels to classes."""
        self._pairs = images, masks
        classes = max(self.num_classes, 2)
        table = sum(
            (
                counted(self._level(image), mask, self.levels, classes)
                for image, mask in zip(images, masks, strict=True)
            ),
            start=np.zeros((self.levels, classes)),
        )
        self.remember(classes=classes_of_clusters(table))

    def adopt(self, name: str, value: float) -> None:
        """Set a setting and learn the classes of its grey levels anew."""
        super().adopt(name, value)
        self.learn(*self._pairs)

    def tune(self, images: list[np.ndarray], masks: list[np.ndarray]) -> None:
        """Choose the settings and let go of the training images."""
        super().tune(images, masks)
        self._pairs = ([], [])

    def _level(self, image: np.ndarray) -> np.ndarray:
        grey = smoothed(grey_of(image), self.setting("sigma"))
        if grey.min() == grey.max():
            return np.zeros(grey.shape, dtype=np.int64)
        return np.digitize(grey, multi_otsu_thresholds(grey, self.levels), right=True)

    def logits_of(self, image: np.ndarray) -> np.ndarray:
        """Return logits (K, H, W) float32 of one image (H, W, C)."""
        return hard_logits(self.known("classes")[self._level(image)], self.num_classes)
