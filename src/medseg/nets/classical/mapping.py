"""Which class a cluster or grey level means, learnt by counting on labelled images."""

import numpy as np

from medseg.types import IGNORE


def counted(clusters: np.ndarray, mask: np.ndarray, count: int, classes: int) -> np.ndarray:
    """Return how many pixels of each cluster have each class, (count, classes) float64; IGNORE is left out.

    Args:
        clusters: (H, W) int, 0..count-1.
        mask: (H, W) uint8 label map.
        count: clusters.
        classes: classes; labels beyond them do not count.
    """
    there = (mask != IGNORE) & (mask < classes)
    pairs = clusters[there].astype(np.int64) * classes + mask[there]
    return np.bincount(pairs, minlength=count * classes).reshape(count, classes).astype(np.float64)


def classes_of_clusters(table: np.ndarray) -> np.ndarray:
    """Return the class (clusters,) int64 of each cluster.

    Every class gets one cluster of its own: the assignment whose Dice between cluster and class, summed over classes,
    is largest (Kuhn 1955, the Hungarian method). Clusters that are left over take the class of most of their pixels.

    Args:
        table: (clusters, classes) pixel counts; at least as many clusters as classes.
    """
    from scipy.optimize import linear_sum_assignment

    together = table.sum(axis=1, keepdims=True) + table.sum(axis=0, keepdims=True)
    dice = 2 * table / np.maximum(together, 1.0)
    classes = table.argmax(axis=1).astype(np.int64)
    rows, columns = linear_sum_assignment(dice, maximize=True)
    # A class that no training pixel has must not take a cluster from one that is there.
    there = table.sum(axis=0)[columns] > 0
    classes[rows[there]] = columns[there]
    return classes
