"""A random forest of superpixels instead of pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError, DataError
from medseg.nets.classical.features import FilterBank
from medseg.nets.classical.forest import RandomForest
from medseg.types import IGNORE


def superpixels(
    image: NDArray[np.floating], *, segments: int, compactness: float, sigma: float = 1.0
) -> NDArray[np.int64]:
    """Return the number of each pixel's superpixel, (H, W) from 0 without gaps, in an image (H, W, C).

    SLIC: k-means of place and channels from a regular grid, each centre among the pixels near it; pieces are made
    connected. The library brings the image's range to [0, 1] before. The channels are taken as they come, three of
    them too: a normalised image has no colours that could become Lab.

    Args:
        image: (H, W, C).
        segments: about how many there will be; an image of fewer pixels has one a pixel.
        compactness: weight of place against channels.
        sigma: pixels of the Gaussian before.
    """
    from skimage.segmentation import slic

    return slic(
        image, n_segments=segments, compactness=compactness, sigma=sigma, convert2lab=False, start_label=0,
        channel_axis=-1,
    )  # fmt: skip


def described(features: NDArray[np.float32], numbered: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the features (N, 2 F + 1) of superpixels: means, standard deviations, and the size over the mean size.

    Args:
        features: (F, H, W) of the pixels.
        numbered: (H, W) superpixel of each pixel, 0..N-1.
    """
    flat = numbered.ravel()
    pixels = np.bincount(flat)
    columns = []
    for feature in features.reshape(len(features), -1).astype(np.float64):
        mean = np.bincount(flat, feature) / pixels
        # Not E[x^2] - mean^2: of a flat superpixel that would be rounding alone.
        columns.append((mean, np.sqrt(np.bincount(flat, (feature - mean[flat]) ** 2) / pixels)))
    means, deviations = zip(*columns, strict=True)
    return np.stack([*means, *deviations, pixels / pixels.mean()], axis=1).astype(np.float32)


def majority(mask: NDArray[np.uint8], numbered: NDArray[np.int64], *, classes: int) -> NDArray[np.uint8]:
    """Return the most frequent class (N,) of each superpixel, the lower of equals.

    Pixels with another label, such as IGNORE, do not count; a superpixel of nothing else is IGNORE.

    Args:
        mask: (H, W).
        numbered: (H, W) superpixel of each pixel, 0..N-1.
        classes: number of classes.
    """
    known = mask < classes
    places = numbered[known] * classes + mask[known]
    votes = np.bincount(places, minlength=(int(numbered.max()) + 1) * classes).reshape(-1, classes)
    return np.where(votes.any(axis=1), votes.argmax(axis=1), IGNORE).astype(np.uint8)


@dataclass(frozen=True)
class Row(FilterBank):
    """The bank of superpixels: they come described, as an image of one row whose channels are their features."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the features (F, 1, N) of a row (1, N, F)."""
        return np.moveaxis(image, -1, 0)


class SlicForest(RandomForest):
    """Random forest of SLIC superpixels (Achanta et al., IEEE TPAMI 34(11):2274-2282, 2012).

    The paper makes the superpixels; what is learnt of them is our reading. Each is described by mean and standard
    deviation over it of the pixel classifiers' filter bank and by its size, and has the class most of its labelled
    pixels have. The forest, its ``balance`` and what ``tune`` may choose (``balance``, ``leaf``) are those of
    :class:`~medseg.nets.classical.forest.RandomForest`, with superpixels where that has pixels. All pixels of a
    superpixel get the same logits, so no answer is better than the superpixels' outlines.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        segments: about how many superpixels an image has.
        compactness: weight of place against grey, whose range is 1; more gives squarer superpixels.
        smoothing: pixels of the Gaussian before the superpixels are made; the features are of the image itself.
        trees: number of trees.
        max_depth: most questions on the way to a leaf.
        leaf: fewest training superpixels of a leaf.
        samples: training superpixels of each class of each image; all of a rarer class.
        most: most training superpixels altogether.
        balance: weight of the classes' true frequency.
        coordinates: also use where a superpixel lies and how far it spreads; memorises the acquisition.
        seed: of the drawn superpixels and the trees.
        candidates: values of ``balance`` and ``leaf`` that ``tune`` tries.

    Raises:
        ConfigError: no superpixel, no compactness, no tree or no depth; in ``forward``, other channels or not fitted.
    """

    READING = "what a superpixel is described by, and that a forest classifies it"

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        segments: int = 800,
        compactness: float = 0.1,
        smoothing: float = 1.0,
        trees: int = 100,
        max_depth: int = 20,
        leaf: int = 3,
        samples: int = 50,
        most: int = 40000,
        balance: float = 0.5,
        coordinates: bool = False,
        seed: int = 0,
        candidates: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(
            in_channels=in_channels, num_classes=num_classes, trees=trees, max_depth=max_depth, leaf=leaf,
            samples=samples, most=most, balance=balance, coordinates=coordinates, seed=seed, candidates=candidates,
        )  # fmt: skip
        if segments < 1 or compactness <= 0 or smoothing < 0:
            raise ConfigError(
                f"net.segments={segments} must be 1 or more, net.compactness={compactness} above 0 and "
                f"net.smoothing={smoothing} not negative."
            )
        self.segments, self.compactness, self.smoothing = segments, compactness, smoothing
        self.filters, self.bank = self.bank, Row()

    def split(self, image: np.ndarray) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the superpixels (H, W) of an image (H, W, C), and their features as a row (1, N, F)."""
        numbered = superpixels(image, segments=self.segments, compactness=self.compactness, sigma=self.smoothing)
        return numbered, described(self.filters(image), numbered)[None]

    def learn(self, images: list[np.ndarray], masks: list[np.ndarray]) -> None:
        """Draw superpixels and grow the forest on them.

        Raises:
            DataError: the training superpixels have fewer than two classes.
        """
        rows, labels = [], []
        for image, mask in zip(images, masks, strict=True):
            numbered, row = self.split(image)
            rows.append(row)
            labels.append(majority(mask, numbered, classes=self.classes)[None])
        if len({int(label) for one in labels for label in np.unique(one)} - {IGNORE}) < 2:
            raise DataError(
                f"the superpixels of {len(masks)} training images have only one class by majority; a forest needs two: "
                f"give masks with both, or smaller superpixels (net.segments={self.segments})."
            )
        super().learn(rows, labels)

    def logits_of(self, image: np.ndarray) -> np.ndarray:
        """Return logits (K, H, W) float32 of one image (H, W, C), the same all over a superpixel."""
        numbered, row = self.split(image)
        return super().logits_of(row)[:, 0][:, numbered]
