"""Arithmetic from confusion counts to overlap scores; the one place for it, read by ``metrics`` and by ``stats``.

NumPy only. Counts are int64 arrays whose last axis is ``COUNTS``; each class is held against all others (one versus
rest). Undefined values are NaN; what an empty mask means is decided here and nowhere else:

=====================  ====  ===  ===========  =========
masks                  Dice  IoU  sensitivity  precision
=====================  ====  ===  ===========  =========
both empty             1     1    NaN          NaN
only reference empty   0     0    NaN          0
only prediction empty  0     0    0            0
no labelled pixel      NaN   NaN  NaN          NaN
=====================  ====  ===  ===========  =========
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.errors import ScoreError

COUNTS = ("tp", "fp", "fn", "tn")
"""Order of the last axis of every array of counts."""

DISTANCES = ("hd", "hd95_directed_voxel", "assd")
"""Order of the last axis of every array of surface distances."""

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
        an absent class: the preprint's script does both. ``precision`` and ``recall`` are the foreground's (the
        preprint's text calls nodule pixels the positive ones). ``n_absent_classes`` says how many were left out.
        """
        return {
            "b_iou": float(self.iou[0]),
            "n_iou": mean_of_defined(self.iou[1:]),
            "miou": mean_of_defined(self.iou),
            "pa": self.pixel_accuracy,
            "f1": float(np.mean(self.f1)),
            "precision": float(np.mean(self.precision[1:])),
            "recall": float(np.mean(self.recall[1:])),
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
    return Overlap(
        dice=np.where(both_empty, 1.0, _ratio(2 * tp, 2 * tp + fp + fn)),
        iou=np.where(both_empty, 1.0, _ratio(tp, union)),
        sensitivity=_ratio(tp, reference),
        specificity=_ratio(tn, tn + fp),
        precision=np.where(missed, 0.0, _ratio(tp, prediction)),
    )


def pooled(counts: ArrayLike) -> Pooled:
    """Return the pooled numbers of ``counts``, shaped (K, 4), or (N, K, 4), which is summed over cases first.

    Raises:
        ScoreError: the classes of a case disagree on the number of pixels.
    """
    table = np.asarray(counts, dtype=np.int64)
    summed = table.reshape(-1, *table.shape[-2:]).sum(axis=0)
    sizes = summed.sum(axis=1)
    if (sizes != sizes[0]).any():
        raise ScoreError(f"pooled counts: classes cover {sizes.tolist()} pixels; every class must cover the same ones.")
    scores = overlap(summed)
    absent = summed[:, :3].sum(axis=1) == 0
    return Pooled(
        iou=np.where(absent, np.nan, scores.iou),
        precision=scores.precision,
        recall=scores.sensitivity,
        f1=np.where(absent, np.nan, scores.dice),
        pixel_accuracy=float(summed[:, 0].sum() / sizes[0]) if sizes[0] else float("nan"),
        absent=int(absent.sum()),
    )


def with_background(counts: ArrayLike) -> Counts:
    """Return (..., 2, 4) counts of background and foreground from the foreground's (..., 4) in a two-class problem."""
    foreground = np.asarray(counts, dtype=np.int64)
    return np.stack([foreground[..., [3, 2, 1, 0]], foreground], axis=-2)


def f1_of_iou(iou: ArrayLike) -> Floats:
    """Return F1 = 2 IoU / (1 + IoU): both come from the same three counts."""
    values = np.asarray(iou, dtype=np.float64)
    return 2 * values / (1 + values)


def pixel_accuracy_of_ious(background: float, foreground: float) -> float:
    """Return the pixel accuracy that two classes' IoUs leave no choice about.

    With two classes both IoUs have the same errors e (FP of one is FN of the other), so TP_c = e IoU_c / (1 - IoU_c)
    and the three parts sum to all pixels: e = 1 / (1 + I_b / (1 - I_b) + I_f / (1 - I_f)).
    """
    if background == 1 or foreground == 1:
        return 1.0
    error = 1 / (1 + background / (1 - background) + foreground / (1 - foreground))
    return 1 - error


def penalised(distances: ArrayLike, diagonals: ArrayLike) -> Floats:
    """Return distances with inf (exactly one mask empty) replaced by the image diagonal; NaN stays NaN."""
    values, limits = np.broadcast_arrays(np.asarray(distances, dtype=np.float64), diagonals)
    return np.where(np.isposinf(values), limits, values)


def mean_of_defined(values: ArrayLike) -> float:
    """Return the mean of what is not NaN; NaN if nothing is."""
    array = np.asarray(values, dtype=np.float64).ravel()
    defined = array[~np.isnan(array)]
    return float(defined.mean()) if defined.size else float("nan")


def case_means(counts: ArrayLike) -> dict[str, float]:
    """Return means over cases and foreground classes, with the numbers needed to judge them.

    Args:
        counts: (N, C, 4) of N cases and C foreground classes.

    Returns:
        ``dice`` and ``iou`` (both empty counts as 1); ``dice_without_both_empty``; ``sensitivity`` and ``specificity``
        where defined; ``n`` cases; and, counted over case-class pairs, ``n_empty_reference``, ``n_empty_prediction``
        (each includes ``n_both_empty``) and ``n_undefined`` (no labelled pixel, left out of Dice and IoU).
    """
    table = np.asarray(counts, dtype=np.int64)
    scores = overlap(table)
    labelled = table.sum(axis=-1) > 0
    no_reference = labelled & (table[..., 0] + table[..., 2] == 0)
    no_prediction = labelled & (table[..., 0] + table[..., 1] == 0)
    return {
        "dice": mean_of_defined(scores.dice),
        "iou": mean_of_defined(scores.iou),
        "dice_without_both_empty": mean_of_defined(scores.dice[~(no_reference & no_prediction)]),
        "sensitivity": mean_of_defined(scores.sensitivity),
        "specificity": mean_of_defined(scores.specificity),
        "n": len(table),
        "n_empty_reference": int(no_reference.sum()),
        "n_empty_prediction": int(no_prediction.sum()),
        "n_both_empty": int((no_reference & no_prediction).sum()),
        "n_undefined": int((~labelled).sum()),
    }
