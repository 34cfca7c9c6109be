"""Lesion by lesion: which connected pieces of the reference were found, and which found pieces are nothing."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.errors import ScoreError
from medseg.metrics.surface import bounding_box, mask_pair

Labels = NDArray[np.int32]


@dataclass(frozen=True)
class LesionCounts:
    """Whole numbers of one case and class, in the order of the score table's lesion columns.

    Attributes:
        reference_lesions: connected pieces of the truth.
        prediction_lesions: connected pieces of the prediction.
        detected_lesions: reference lesions found by the rule of ``match_lesions``.
        false_lesions: prediction pieces that share no pixel with any reference lesion.
        split_lesions: reference lesions that share pixels with two or more prediction pieces.
        merged_lesions: prediction pieces that share pixels with two or more reference lesions.
    """

    reference_lesions: int
    prediction_lesions: int
    detected_lesions: int
    false_lesions: int
    split_lesions: int
    merged_lesions: int

    @property
    def missed_lesions(self) -> int:
        """Reference lesions that were not detected."""
        return self.reference_lesions - self.detected_lesions

    @property
    def f1(self) -> float:
        """2 detected / (2 detected + missed + false); 1 with nothing to find and nothing found."""
        errors = self.missed_lesions + self.false_lesions
        return (
            2 * self.detected_lesions / (2 * self.detected_lesions + errors) if self.detected_lesions + errors else 1.0
        )

    @property
    def missed_rate(self) -> float:
        """Share of the reference lesions that were missed; NaN with nothing to find."""
        return self.missed_lesions / self.reference_lesions if self.reference_lesions else float("nan")


def match_lesions(prediction: NDArray[Any], truth: NDArray[Any], *, overlap: float = 0.0) -> LesionCounts:
    """Count connected pieces of two masks against each other.

    Pieces are connected through faces, edges and corners (8 neighbours in 2D, 26 in 3D). A reference lesion R is
    detected when the prediction covers more than the share ``overlap`` of it, all prediction pieces together:
    |R and P| / |R| > overlap. The default, 0, asks for one shared pixel. In the terms of Metrics Reloaded
    (Maier-Hein, Reinke et al., Nature Methods 21, 2024) this localises by the intersection over the reference and not
    by the IoU of single objects: the masks come from semantic segmentation, without an instance or a score for each
    piece; the question is whether a lesion was pointed at, while Dice and the distances judge the outline; and
    an IoU rule would call one lesion cut in two both missed and twice falsely found. Raise ``overlap`` (0.5, say)
    where a touch is too cheap. No one-to-one assignment is made: splits and merges are counted instead.

    Args:
        prediction: (H, W) or (D, H, W) mask, bool or uint8 with 0 and 1.
        truth: mask of the same shape.
        overlap: share of a lesion that has to be exceeded, 0 <= overlap < 1.

    Raises:
        ScoreError: shapes differ, masks are not 2D or 3D, not binary, or the share is outside [0, 1).
    """
    if not 0 <= overlap < 1:
        raise ScoreError(f"lesion matching: overlap={overlap}; give a share of the reference lesion in [0, 1).")
    first, second = mask_pair(prediction, truth)
    box = bounding_box(first | second)
    if box is None:
        return LesionCounts(0, 0, 0, 0, 0, 0)
    (predicted, found), (true, real) = components(first[box]), components(second[box])
    shared = (predicted > 0) & (true > 0)
    # Only pairs that meet: a full table of pieces against lesions could be huge for speckled masks.
    keys, pixels = np.unique(true[shared].astype(np.int64) * (found + 1) + predicted[shared], return_counts=True)
    lesion, piece = np.divmod(keys, found + 1)
    covered = np.bincount(lesion, weights=pixels, minlength=real + 1)[1:]
    touching, touched = np.bincount(lesion, minlength=real + 1)[1:], np.bincount(piece, minlength=found + 1)[1:]
    size = np.bincount(true.ravel(), minlength=real + 1)[1:]
    return LesionCounts(
        reference_lesions=real,
        prediction_lesions=found,
        detected_lesions=int(np.count_nonzero(covered > overlap * size)),
        false_lesions=int(np.count_nonzero(touched == 0)),
        split_lesions=int(np.count_nonzero(touching >= 2)),
        merged_lesions=int(np.count_nonzero(touched >= 2)),
    )


def components(mask: NDArray[np.uint8]) -> tuple[Labels, int]:
    """Return the fully connected pieces of a (H, W) or (D, H, W) mask of 0 and 1, numbered from 1, and their number."""
    if mask.ndim == 2:
        number, numbered = cv2.connectedComponents(mask, connectivity=8, ltype=cv2.CV_32S)
        return np.asarray(numbered, dtype=np.int32), number - 1
    labels, number = ndimage.label(mask, structure=np.ones((3, 3, 3)), output=np.int32)
    return labels, int(number)
