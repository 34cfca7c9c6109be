"""Everything that one case is asked: counts, border distances, shares, lesions, calibration, class by class.

NumPy only and without any state, so that cases can be measured side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from medseg import scores
from medseg.errors import ScoreError
from medseg.metrics.boundary import boundary_iou
from medseg.metrics.calibration import BINS, brier, ece_of_bins, reliability_bins
from medseg.metrics.lesion import match_lesions
from medseg.metrics.overlap import confusion_counts
from medseg.metrics.skeleton import cldice
from medseg.metrics.surface import border_distances, diagonal
from medseg.types import IGNORE

SHAPES = (*scores.DISTANCES, *scores.SHARES, *scores.LESIONS)
_LESION_PLACES = slice(len(scores.DISTANCES) + len(scores.SHARES), len(SHAPES))

Mask = NDArray[np.bool_]

if TYPE_CHECKING:
    from torch import Tensor

    Table = TypeVar("Table", NDArray[Any], Tensor)


@dataclass(frozen=True)
class CaseMeasures:
    """What one case gives, C = K - 1 foreground classes.

    Attributes:
        counts: (K, 4) int64 in the order of ``medseg.scores.COUNTS``, background included; 0 of what is not annotated
            (:func:`only_annotated`).
        measured: (C, 16) float64 in the order of ``medseg.scores.MEASURED``, raw; NaN where there is nothing to
            measure, which the table in :mod:`medseg.scores` says: a class that is not annotated has no labelled pixel.
        reliability: (C, 15, 3) float64: for each bin of the class's probability the pixels, the sum of their
            probabilities, and how many of them are of the class; NaN without probabilities or labelled pixels.
        diagonal: physical diagonal of the grid, the penalty for a distance that does not exist.
        tolerance: of ``nsd_voxel``.
    """

    counts: NDArray[np.int64]
    measured: NDArray[np.float64]
    reliability: NDArray[np.float64]
    diagonal: float
    tolerance: float


def measure_case(
    prediction: NDArray[Any],
    truth: NDArray[Any],
    *,
    num_classes: int,
    spacing: Sequence[float] | None = None,
    tolerance: float = 1.0,
    probabilities: NDArray[Any] | None = None,
    annotated: Sequence[bool] | Mask | None = None,
) -> CaseMeasures:
    """Return all raw measurements of one case on its native grid.

    Args:
        prediction: (*S) uint8 labels, 2D or 3D.
        truth: (*S) uint8 labels; ``IGNORE`` pixels are left out: not counted, and background to every shape.
        num_classes: classes K, background included.
        spacing: size of a pixel along each axis, 1 each if not given.
        tolerance: of ``nsd_voxel``, in the unit of the spacing.
        probabilities: (K - 1, *S) of the foreground classes, in [0, 1]; None where they are not known.
        annotated: (K,) which classes the case annotates, background always; all of them if not given.

    Raises:
        ScoreError: shapes differ, labels are outside 0..K-1, or a probability is not a number of [0, 1].
    """
    known = np.ones(num_classes, bool) if annotated is None else np.asarray(annotated, bool)
    counts = only_annotated(confusion_counts(prediction, truth, num_classes), known)
    counted = truth != IGNORE
    labelled = known if counted.any() else np.zeros_like(known)
    measured = np.full((num_classes - 1, len(scores.MEASURED)), np.nan)
    reliability = np.full((num_classes - 1, BINS, 3), np.nan)
    if probabilities is not None and len(probabilities) != num_classes - 1:
        raise ScoreError(f"{len(probabilities)} maps of probabilities for {num_classes - 1} foreground classes.")
    for place in range(num_classes - 1):
        if not labelled[place + 1]:
            measured[place, _LESION_PLACES] = 0
            continue
        found, real = (prediction == place + 1) & counted, truth == place + 1
        measured[place, : len(SHAPES)] = _shapes(found, real, spacing, tolerance)
        if probabilities is not None:
            errors, reliability[place] = _calibration(probabilities[place], real, counted)
            measured[place, len(SHAPES) :] = errors
    return CaseMeasures(counts, measured, reliability, diagonal(truth.shape, spacing), float(tolerance))


def only_annotated(counts: "Table", annotated: "Table") -> "Table":
    """Return counts (..., K, 4) with zeros for the classes that a case does not annotate.

    Its background goes with them: the mask calls "background" what may be one of these classes, so that neither a
    background found nor one missed there means anything.

    Args:
        counts: in the order of ``medseg.scores.COUNTS``, background included.
        annotated: (..., K) bool, background True.
    """
    kept = counts * annotated[..., None]
    kept[..., 0, :] *= annotated[..., None].all(-2)
    return kept


def _shapes(found: Mask, real: Mask, spacing: Sequence[float] | None, tolerance: float) -> list[float]:
    """Return distances, shares and lesions of one class, in the order of ``SHAPES``."""
    borders = border_distances(found, real, spacing=spacing)
    values = {
        "hd_voxel": borders.hd,
        "hd95_directed_voxel": borders.hd95_directed_voxel,
        "hd95_pooled_voxel": borders.hd95_pooled_voxel,
        "assd_pooled_voxel": borders.assd,
        "masd_voxel": borders.masd,
        "nsd_voxel": borders.nsd(tolerance),
        "boundary_iou": boundary_iou(found, real),
        "cldice": cldice(found, real),
    }
    lesions = match_lesions(found, real)
    return [*values.values(), *(float(getattr(lesions, name)) for name in scores.LESIONS)]


def _calibration(probability: NDArray[Any], real: Mask, counted: Mask) -> tuple[list[float], NDArray[np.float64]]:
    """Return ECE and Brier score of one class against the rest, and the bins that the first comes from."""
    table = reliability_bins(probability, real, counted=counted)
    return [ece_of_bins(table), brier(probability, real, counted=counted)], table
