"""Arithmetic from confusion counts to overlap scores, and what every column of a score table means.

The one place for it, read by ``metrics`` and by ``stats``; NumPy only. Counts are int64 arrays whose last axis is
``COUNTS``; each class is held against all others (one versus rest). Undefined values are NaN; what an empty mask means
is decided here and nowhere else:

======================  ==========  =====================  ====================  ==================
score                   both empty  only reference empty   only prediction empty  no labelled pixel
======================  ==========  =====================  ====================  ==================
Dice, IoU               1           0                      0                      NaN
volumetric similarity   1           0                      0                      NaN
sensitivity             NaN         NaN                    0                      NaN
precision               NaN         0                      0                      NaN
balanced accuracy       NaN         NaN                    half the specificity   NaN
``DISTANCES``           0           inf                    inf                    NaN
``SHARES``              1           0                      0                      NaN
``LESIONS``             0           all predicted false    all reference missed   0
======================  ==========  =====================  ====================  ==================

Where the image is all foreground there is no specificity, nor a balanced accuracy. ``CALIBRATION`` does not depend on
whether a mask is empty; it is NaN where no probabilities are known.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.errors import ScoreError

COUNTS = ("tp", "fp", "fn", "tn")
"""Order of the last axis of every array of counts."""

OVERLAPS = (
    *("dice", "iou", "sensitivity", "specificity", "precision"),
    *("balanced_accuracy", "volumetric_similarity"),
)
"""Scores that the counts alone decide."""

DISTANCES = ("hd_voxel", "hd95_directed_voxel", "hd95_pooled_voxel", "assd_pooled_voxel", "masd_voxel")
"""Distances between the borders of two masks, in the unit of the spacing."""

SHARES = ("nsd_voxel", "boundary_iou", "cldice")
"""Scores in [0, 1] of borders and centre lines."""

LESIONS = (
    *("reference_lesions", "prediction_lesions", "detected_lesions"),
    *("false_lesions", "split_lesions", "merged_lesions"),
)
"""Whole numbers: connected regions of a class, and how those of both masks meet."""

CALIBRATION = ("ece", "brier")
"""Errors of the class's probability against the rest, in [0, 1]."""

MEASURED = (*DISTANCES, *SHARES, *LESIONS, *CALIBRATION)
"""What the counts do not decide: order of the last axis of every array of measurements."""

LOWER_IS_BETTER = frozenset((*DISTANCES, *CALIBRATION))
"""Columns whose small values are the good ones."""

MOVED_BY_EMPTY = ("dice", "iou", "volumetric_similarity", *DISTANCES, *SHARES)
"""Columns in which a case with both masks empty counts as perfect; their means are also given without such cases."""

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Overlap:
    """Overlap scores, each shaped like the counts without their last axis."""

    dice: Floats
    iou: Floats
    sensitivity: Floats
    specificity: Floats
    precision: Floats
    balanced_accuracy: Floats
    volumetric_similarity: Floats


@dataclass(frozen=True)
class Pooled:
    """Numbers of one confusion matrix summed over all pixels of all cases (Table 1 of the 2022 preprint).

    Arrays have one entry per class, background first; a class found neither in truth nor in prediction is NaN.

    Attributes:
        iou: TP / (TP + FP + FN).
        precision: TP / (TP + FP).
        recall: TP / (TP + FN).
        f1: 2 TP / (2 TP + FP + FN), which is 2 IoU / (1 + IoU).
        pixel_accuracy: share of pixels with the right class.
        absent: number of classes found neither in truth nor in prediction.
    """

    iou: Floats
    precision: Floats
    recall: Floats
    f1: Floats
    pixel_accuracy: float
    absent: int

    def headline(self) -> dict[str, float]:
        """Return the preprint's columns by name, as fractions.

        ``b_iou`` is the background, ``n_iou`` the mean over foreground classes (with one, the nodule); ``n_iou`` and
        ``miou`` leave absent classes out. ``f1`` is the mean over all classes, background included, and is NaN with
        an absent class: the preprint's script does both. ``pooled_precision`` and ``pooled_recall`` are the
        foreground's (the preprint's text calls nodule pixels the positive ones); they are not the means over cases that
        the columns ``precision`` and ``sensitivity`` have. ``n_absent_classes`` says how many were left out.
        """
        return {
            "b_iou": float(self.iou[0]),
            "n_iou": mean_of_defined(self.iou[1:]),
            "miou": mean_of_defined(self.iou),
            "pa": self.pixel_accuracy,
            "f1": float(np.mean(self.f1)),
            "pooled_precision": float(np.mean(self.precision[1:])),
            "pooled_recall": float(np.mean(self.recall[1:])),
            "n_absent_classes": self.absent,
        }


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Return the quotient, NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def overlap(counts: ArrayLike) -> Overlap:
    """Return the overlap scores of every entry of ``counts`` (..., 4); empty masks as in the module's table."""
    tp, fp, fn, tn = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    labelled = tp + fp + fn + tn > 0
    reference, prediction, union = tp + fn, tp + fp, tp + fp + fn
    both_empty = labelled & (union == 0)
    missed = (prediction == 0) & (reference > 0)
    sensitivity, specificity = _ratio(tp, reference), _ratio(tn, tn + fp)
    return Overlap(
        dice=np.where(both_empty, 1.0, _ratio(2 * tp, 2 * tp + fp + fn)),
        iou=np.where(both_empty, 1.0, _ratio(tp, union)),
        sensitivity=sensitivity,
        specificity=specificity,
        precision=np.where(missed, 0.0, _ratio(tp, prediction)),
        balanced_accuracy=(sensitivity + specificity) / 2,
        volumetric_similarity=np.where(both_empty, 1.0, 1 - _ratio(np.abs(fn - fp), 2 * tp + fp + fn)),
    )


def pooled(counts: ArrayLike) -> Pooled:
    """Return the pooled numbers of ``counts``, shaped (K, 4), or (N, K, 4), which is summed over cases first.

    A class that a case did not annotate has no counts there, and neither has its background; the pixel accuracy is that
    of the other cases.

    Raises:
        ScoreError: the classes of a case disagree on the number of pixels.
    """
    table = np.asarray(counts, dtype=np.int64)
    cases = table.reshape(-1, *table.shape[-2:])
    covered = cases.sum(axis=2)
    sizes = covered.max(axis=1, keepdims=True)
    broken = ((covered != sizes) & (covered != 0)).any(axis=1)
    if broken.any():
        raise ScoreError(
            f"pooled counts: classes cover {covered[broken][0].tolist()} pixels; every class must cover the same ones, "
            "or none where it was not annotated."
        )
    whole, summed = (covered == sizes).all(axis=1), cases.sum(axis=0)
    pixels = int(sizes[whole].sum())
    scores = overlap(summed)
    absent = summed[:, :3].sum(axis=1) == 0
    return Pooled(
        iou=np.where(absent, np.nan, scores.iou),
        precision=scores.precision,
        recall=scores.sensitivity,
        f1=np.where(absent, np.nan, scores.dice),
        pixel_accuracy=float(cases[whole, :, 0].sum() / pixels) if pixels else float("nan"),
        absent=int(absent.sum()),
    )


def with_background(counts: ArrayLike) -> Counts:
    """Return (..., 2, 4) counts of background and foreground from the foreground's (..., 4) in a two-class problem."""
    foreground = np.asarray(counts, dtype=np.int64)
    return np.stack([foreground[..., [3, 2, 1, 0]], foreground], axis=-2)


def penalised(distances: ArrayLike, diagonals: ArrayLike) -> Floats:
    """Return distances with inf (exactly one mask empty) replaced by the image diagonal; NaN stays NaN."""
    values, limits = np.broadcast_arrays(np.asarray(distances, dtype=np.float64), diagonals)
    return np.where(np.isposinf(values), limits, values)


def mean_of_defined(values: ArrayLike) -> float:
    """Return the mean of what is not NaN; NaN if nothing is."""
    array = np.asarray(values, dtype=np.float64).ravel()
    defined = array[~np.isnan(array)]
    return float(defined.mean()) if defined.size else float("nan")


def means_of(name: str, values: ArrayLike, both_empty: ArrayLike) -> Iterator[tuple[str, float]]:
    """Yield the mean of what is defined, how much was left out and, where it matters, the mean without both empty.

    Args:
        name: of the column.
        values: one for each case and class; distances penalised.
        both_empty: where neither mask has a pixel; shaped like ``values``.
    """
    array = np.asarray(values, dtype=np.float64)
    yield name, mean_of_defined(array)
    yield f"n_left_out_{name}", int(np.isnan(array).sum())
    if name in MOVED_BY_EMPTY:
        yield f"{name}_without_both_empty", mean_of_defined(array[~np.asarray(both_empty)])


def case_means(counts: ArrayLike) -> dict[str, float]:
    """Return means over cases and foreground classes, with the numbers needed to judge them.

    Args:
        counts: (N, C, 4) of N cases and C foreground classes.

    Returns:
        The mean of each of ``OVERLAPS`` where it is defined, after the module's table, with ``n_left_out_<score>``;
        ``dice_without_both_empty`` and its like; ``n`` cases; and, counted over case-class pairs,
        ``n_empty_reference``, ``n_empty_prediction`` (each includes ``n_both_empty``) and ``n_undefined`` (no labelled
        pixel, left out of every mean).
    """
    table = np.asarray(counts, dtype=np.int64)
    found = overlap(table)
    labelled = table.sum(axis=-1) > 0
    no_reference = labelled & (table[..., 0] + table[..., 2] == 0)
    no_prediction = labelled & (table[..., 0] + table[..., 1] == 0)
    both = no_reference & no_prediction
    values = {key: value for name in OVERLAPS for key, value in means_of(name, getattr(found, name), both)}
    return values | {
        "n": len(table),
        "n_empty_reference": int(no_reference.sum()),
        "n_empty_prediction": int(no_prediction.sum()),
        "n_both_empty": int(both.sum()),
        "n_undefined": int((~labelled).sum()),
    }
