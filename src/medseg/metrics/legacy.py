"""Two published evaluation scripts, rebuilt from their description, to print the numbers they would have printed.

These are not the project's definitions. They let our predictions stand beside published rows, and the same case be
read both ways. Each has one function from native label maps to one image's record and one that aggregates as the
script did.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.errors import ScoreError
from medseg.metrics.overlap import confusion_counts, label_map
from medseg.types import IGNORE

TRFE_SIDE = 224
SEED004_SIDE = 512


@dataclass(frozen=True)
class TrfeImage:
    """One image's numbers as the TRFE script has them, fractions and pixels of the 224 x 224 grid.

    ``hd95`` and ``auc`` are NaN where the reference is empty (the script stops there, TN3K has no such image);
    ``auc`` also where it is the whole image.
    """

    precision: float
    recall: float
    specificity: float
    f1: float
    auc: float
    accuracy: float
    iou: float
    hd95: float
    empty_prediction: bool
    empty_reference: bool


def trfe(prediction: NDArray[Any], truth: NDArray[Any], *, label: int = 1) -> TrfeImage:
    """Return one image's numbers under the protocol of TRFE-Net (Gong et al., ISBI 2021 and CBM 2023) on TN3K.

    Emulated (``visualization/metrics.py`` and ``eval.py`` of the authors' repository): masks of 224 x 224 whatever
    the aspect ratio, the reference resized to the nearest pixel as Pillow does; TP of 0 replaced by 1, in every
    overlap number, so that a missed nodule gets precision 1 and IoU 1 / (1 + FP + FN); HD95 as the larger of
    two 95th percentiles over *all* pixels of each mask, which are 0 inside the other, not over contours; an empty
    prediction given the pixel (0, 0) for HD95 only; AUC of the binary masks, (1 + TPR - FPR) / 2.

    Not known or not emulated: the script thresholds the network's own 224 x 224 output at 0.5, while a native
    prediction is brought there here, to the nearest pixel; its mean absolute error needs probabilities; its loader
    divides a mask by its maximum and truncates, which erases grey pixels of a lossy mask. Which revision of
    the script made a given table is not known.

    Args:
        prediction: (H, W) integer labels on the image's own grid.
        truth: (H, W) integer labels of the same shape.
        label: the class held against the rest.

    Raises:
        ScoreError: not two 2D label maps of one shape, or the truth has unlabelled pixels, which the script has not.
    """
    predicted, true = (_resized(labels, TRFE_SIDE) == label for labels in _label_maps(prediction, truth))
    tp, fp, fn, tn = (float(count) for count in confusion_counts(predicted, true, 2)[1])
    auc = (1 + tp / (tp + fn) - fp / (fp + tn)) / 2 if tp + fn and fp + tn else float("nan")
    tp = tp or 1.0
    precision, recall = tp / (tp + fp), tp / (tp + fn)
    return TrfeImage(
        precision=precision,
        recall=recall,
        specificity=tn / (tn + fp) if tn + fp else float("nan"),
        f1=2 * precision * recall / (precision + recall),
        auc=auc,
        accuracy=(tp + tn) / (tp + fp + fn + tn),
        iou=tp / (tp + fp + fn),
        hd95=_filled_hd95(predicted, true),
        empty_prediction=not predicted.any(),
        empty_reference=not true.any(),
    )


def trfe_means(images: Sequence[TrfeImage]) -> dict[str, float]:
    """Return the numbers of a whole test set as published in the TRFE protocol, as fractions and pixels.

    Every number is the plain mean over images; a NaN stays in the mean, as it does in the script's running sums.
    ``dice`` is 2 IoU / (1 + IoU) of the *mean* IoU, which is what published TN3K tables satisfy (Ozcan et al., BSPC 95,
    2024: eight of nine rows to 0.03 points) and lies 2 to 3 points above ``f1``, the mean of the images' Dice, which is
    what the authors' repository computes under both names. ``n_empty_prediction`` and ``n_empty_reference`` say how
    many images were scored by the replacements above.

    Raises:
        ScoreError: there is no image.
    """
    if not images:
        raise ScoreError("TRFE protocol: no image was scored; give at least one.")
    names = ("precision", "recall", "specificity", "f1", "auc", "accuracy", "iou", "hd95")
    means = {name: float(np.mean([getattr(image, name) for image in images])) for name in names}
    return means | {
        "dice": 2 * means["iou"] / (1 + means["iou"]),
        "n": len(images),
        "n_empty_prediction": sum(image.empty_prediction for image in images),
        "n_empty_reference": sum(image.empty_reference for image in images),
    }


def seed004(prediction: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.int64]:
    """Return one image's (2, 2) matrix, rows reference and columns prediction, as the 2022 preprint's script counts.

    Zhou, Chen and Liu, EasyChair preprint of 4 October 2022, section 6. Emulated: labels are read as black and white
    pictures, resized to 512 x 512 bilinearly, and everything that is not black afterwards is nodule, which widens
    it by about half a pixel of the native grid on every side: +3.2 % of area for a disc of radius 40 at 256 x 256.

    Not known or not emulated: predictions are read at 512 x 512 and not resized; how the authors made them so is not
    said, so a native prediction is brought there to the nearest pixel, and one of 512 x 512 is taken as it is (the
    script silently skips every other size). Pictures have three equal channels and every pixel is counted three times;
    no ratio depends on it, so it is counted once here. A file format that blurs masks would add pixels.

    Args:
        prediction: (H, W) integer labels on the image's own grid; every label but 0 is nodule.
        truth: (H, W) integer labels of the same shape.

    Raises:
        ScoreError: not two 2D label maps of one shape, or the truth has unlabelled pixels, which the script has not.
    """
    predicted, true = _label_maps(prediction, truth)
    picture = np.where(true > 0, 255, 0).astype(np.uint8)
    widened = cv2.resize(picture, (SEED004_SIDE, SEED004_SIDE), interpolation=cv2.INTER_LINEAR) != 0
    tp, fp, fn, tn = confusion_counts(_resized(predicted, SEED004_SIDE) > 0, widened, 2)[1]
    return np.array([[tn, fp], [fn, tp]], dtype=np.int64)


def seed004_table(matrices: Sequence[NDArray[np.int64]]) -> dict[str, float]:
    """Return Table 1's columns, as fractions, from the images' matrices summed over the test set.

    The script's own formulas: IoU of each class, their mean without NaN, PA as the sum of TP over the sum of TP and FP,
    and F1 as the harmonic mean of precision and recall, averaged over both classes and NaN where one has neither
    (``medseg.scores.Pooled`` says 0 for a class that is there and never hit). ``n`` is the number of images.

    Raises:
        ScoreError: there is no image.
    """
    if not len(matrices):
        raise ScoreError("preprint's script: no image was scored; give at least one.")
    matrix = np.sum(matrices, axis=0).astype(np.float64)
    hit, guessed, real = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        iou = hit / (guessed + real - hit)
        precision, recall = hit / guessed, hit / real
        f1 = 2 * precision * recall / (precision + recall)
    return {
        "b_miou": float(iou[0]),
        "n_miou": float(iou[1]),
        "miou": float(np.nanmean(iou)),
        "pa": float(hit.sum() / guessed.sum()),
        "f1s": float(f1.sum() / 2),
        "n": len(matrices),
    }


def _label_maps(prediction: NDArray[Any], truth: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    predicted, true = label_map(prediction, name="prediction"), label_map(truth, name="truth")
    if predicted.shape != true.shape or true.ndim != 2 or not true.size:
        raise ScoreError(
            f"label maps are {predicted.shape} and {true.shape}; this script scores 2D images of one shape."
        )
    if (true == IGNORE).any():
        raise ScoreError(f"truth has unlabelled pixels ({IGNORE}); these scripts know none, leave such cases out.")
    return predicted, true


def _resized(labels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return the labels on a square grid, each pixel from the one under its centre.

    Positions are summed up step by step as Pillow does: on grids where a centre falls on the seam of two pixels,
    the rounding of that sum decides between them.
    """
    rows, columns = (_centres(size / side, side) for size in labels.shape)
    return labels[np.ix_(rows, columns)]


def _centres(step: float, side: int) -> NDArray[np.intp]:
    steps = np.full(side, step)
    steps[0] = 0.5 * step
    return np.cumsum(steps).astype(np.intp)


def _filled_hd95(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return the larger directed 95th percentile over all mask pixels; NaN for an empty truth."""
    if not truth.any():
        return float("nan")
    found = prediction.copy()
    if not found.any():
        found[0, 0] = True
    to_truth, to_found = (ndimage.distance_transform_edt(~mask) for mask in (truth, found))
    return float(max(np.percentile(to_truth[found], 95), np.percentile(to_found[truth], 95)))
