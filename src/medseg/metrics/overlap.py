"""Confusion counts of one label map against another."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ScoreError
from medseg.types import IGNORE


def label_map(labels: NDArray[Any], *, name: str) -> NDArray[np.uint8]:
    """Return ``labels`` as uint8 without changing a value.

    Raises:
        ScoreError: labels are not whole numbers (logits, probabilities, NaN) or do not fit in 0..255.
    """
    if labels.dtype == np.uint8:
        return labels
    if labels.dtype == np.bool_:
        return labels.view(np.uint8)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ScoreError(f"{name} has dtype {labels.dtype}; scores need whole-number labels: take the argmax first.")
    unsigned = labels.view(labels.dtype.str.replace("i", "u"))  # a negative label becomes huge: one pass for both ends
    if labels.size and unsigned.max() > 255:
        raise ScoreError(f"{name} has labels {labels.min()}..{labels.max()}; labels must lie in 0..255.")
    return labels.astype(np.uint8)


def confusion_counts(
    prediction: NDArray[Any], truth: NDArray[Any], num_classes: int, *, ignore: int = IGNORE
) -> NDArray[np.int64]:
    """Return (K, 4) counts in pixels: true positives, false positives, false negatives, true negatives per class.

    Args:
        prediction: (*S) integer labels 0..K-1; uint8 is fastest.
        truth: (*S) integer labels 0..K-1, or ``ignore`` where nothing is counted.
        num_classes: K, background included.
        ignore: the label of pixels left out; not one of 0..K-1.

    Raises:
        ScoreError: shapes differ, or a counted pixel holds a label outside 0..K-1.
    """
    if prediction.shape != truth.shape:
        raise ScoreError(f"prediction is {prediction.shape} but truth is {truth.shape}; score them on one grid.")
    predicted, true = label_map(prediction, name="prediction"), label_map(truth, name="truth")
    valid = true != ignore
    total = int(np.count_nonzero(valid))
    rows, stray_found, stray_real = [], total, total
    for label in range(num_classes):
        here = predicted == label
        if total < true.size:
            here &= valid
        there = true == label
        shared = int(np.count_nonzero(here & there))
        found, real = int(np.count_nonzero(here)), int(np.count_nonzero(there))
        rows.append((shared, found - shared, real - shared, total - found - real + shared))
        stray_found, stray_real = stray_found - found, stray_real - real
    for name, stray in (("prediction", stray_found), ("truth", stray_real)):
        if stray:  # the classes do not share out all counted pixels
            raise ScoreError(f"{name} has {stray} pixel(s) with a label above {num_classes - 1}; check num_classes.")
    return np.array(rows, dtype=np.int64)
