"""A random forest of pixels, kept as plain arrays."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from medseg.errors import ConfigError
from medseg.nets.classical.basics import LEAST_PROBABILITY
from medseg.nets.classical.pixels import PixelClassifier, spread_over

Trees = dict[str, np.ndarray]
_STEPS = 3
"""Questions between two looks at who has arrived at a leaf; whoever has asks on without moving."""

_WORTH = 0.7
"""Share of pixels still on the way below which the others are let go."""


class Walk(NamedTuple):
    """The nodes as a walk needs them: indices as wide as NumPy's own, both ways side by side (no, yes, no, yes...)."""

    feature: np.ndarray
    threshold: np.ndarray
    following: np.ndarray


def _at_most(thresholds: np.ndarray) -> np.ndarray:
    """Return the largest float32 that is not above each float64: "x <= t" stays the same for every float32 x."""
    rounded = thresholds.astype(np.float32)
    return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def trees_of(forest: Any, classes: int) -> Trees:
    """Return the trees of a fitted scikit-learn forest as arrays over all nodes, one tree after the other.

    ``feature`` int32 and ``threshold`` float32 of a node's question "feature <= threshold"; ``left`` and ``right``
    int32, where to go on if yes and if no; ``share`` float32 (nodes, classes), the class shares of leaves; ``roots``
    int32, where each tree begins. A leaf asks whether its feature 0 is at most infinity and leads to itself.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("feature", "threshold", "left", "right", "share")}
    roots, offset = [], 0
    for tree in (estimator.tree_ for estimator in forest.estimators_):
        leaf = tree.children_left < 0
        own = np.arange(tree.node_count)
        parts["feature"].append(np.where(leaf, 0, tree.feature).astype(np.int32))
        parts["threshold"].append(_at_most(np.where(leaf, np.inf, tree.threshold)))
        parts["left"].append((np.where(leaf, own, tree.children_left) + offset).astype(np.int32))
        parts["right"].append((np.where(leaf, own, tree.children_right) + offset).astype(np.int32))
        values = tree.value[:, 0, :] / tree.value[:, 0, :].sum(axis=1, keepdims=True)
        parts["share"].append(spread_over(values, forest.classes_.astype(int), classes).astype(np.float32))
        roots.append(offset)
        offset += tree.node_count
    return {**{name: np.concatenate(one) for name, one in parts.items()}, "roots": np.array(roots, dtype=np.int32)}


def _leaves(pixels: np.ndarray, root: int, walk: Walk) -> np.ndarray:
    """Return the leaf (N,) that each pixel (N, F) reaches in the tree of a root."""
    count, width = pixels.shape
    flat, leaf = pixels.ravel(), np.empty(count, dtype=np.intp)
    active, node = np.arange(count), np.full(count, root, dtype=np.intp)
    begin = active * width
    while True:
        for _ in range(_STEPS):
            before = node
            yes = flat.take(begin + walk.feature.take(node)) <= walk.threshold.take(node)
            node = walk.following.take(2 * node + yes)
        going = node != before
        left = np.count_nonzero(going)
        if left == 0:
            leaf[active] = node
            return leaf
        if left < _WORTH * len(node):  # let go of those that have arrived, when they are many
            leaf[active[~going]] = node[~going]
            active, node, begin = active[going], node[going], begin[going]


def forest_shares(pixels: np.ndarray, trees: Trees) -> np.ndarray:
    """Return the mean class shares (N, classes) float64 of the leaves that pixels (N, F) float32 reach."""
    total = np.zeros((len(pixels), trees["share"].shape[1]), dtype=np.float64)
    following = np.stack([trees["right"], trees["left"]], axis=1).astype(np.intp).ravel()
    walk = Walk(trees["feature"].astype(np.intp), trees["threshold"], following)
    block = np.ascontiguousarray(pixels)
    for root in trees["roots"]:
        total += trees["share"].take(_leaves(block, int(root), walk), axis=0)
    return total / len(trees["roots"])


class RandomForest(PixelClassifier):
    """Random forest (Breiman 2001) of pixels; the mean of the leaves' class shares is the probability.

    It is grown by scikit-learn and kept as arrays, so that a checkpoint holds numbers only.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        trees: number of trees.
        max_depth: most questions on the way to a leaf.
        leaf: fewest training pixels of a leaf.
        samples: training pixels of each class of each image.
        most: most training pixels altogether.
        balance: weight of the classes' true frequency.
        coordinates: also use where a pixel lies.
        seed: of the drawn pixels and the trees.
        candidates: values of ``balance`` and ``leaf`` that ``tune`` tries.

    Raises:
        ConfigError: no tree or no depth; in ``forward``, other channels or not fitted.
    """

    probabilistic = True
    ARRAYS = ("feature", "threshold", "left", "right", "share", "roots")

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        trees: int = 100,
        max_depth: int = 20,
        leaf: int = 10,
        samples: int = 500,
        most: int = 40000,
        balance: float = 0.5,
        coordinates: bool = False,
        seed: int = 0,
        candidates: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(
            in_channels=in_channels, num_classes=num_classes, samples=samples, most=most, coordinates=coordinates,
            seed=seed, arrays=self.ARRAYS, settings={"balance": balance, "leaf": leaf}, candidates=candidates,
        )  # fmt: skip
        if min(trees, max_depth, leaf) < 1:
            raise ConfigError(f"net.trees={trees}, net.max_depth={max_depth}, net.leaf={leaf}: give 1 or more.")
        self.trees, self.max_depth = trees, max_depth

    def relearns(self, name: str) -> bool:
        """Tell whether another value of a setting needs another forest."""
        return name == "leaf"

    def train_on(self, pixels: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return the trees grown on features (N, F) and labels (N,)."""
        return trees_of(self.grown(pixels, labels), self.classes)

    def grown(self, pixels: np.ndarray, labels: np.ndarray) -> Any:
        """Return the scikit-learn forest of features (N, F) and labels (N,)."""
        from sklearn.ensemble import RandomForestClassifier

        forest = RandomForestClassifier(
            self.trees, max_depth=self.max_depth, min_samples_leaf=int(self.setting("leaf")), random_state=self.seed
        )
        return forest.fit(pixels, labels)

    def scores_of(self, pixels: np.ndarray) -> np.ndarray:
        """Return log probabilities (N, max(K, 2)) of features (N, F) float32."""
        shares = forest_shares(pixels, {name: self.known(name) for name in self.ARRAYS})
        return np.log(np.maximum(shares, LEAST_PROBABILITY))
