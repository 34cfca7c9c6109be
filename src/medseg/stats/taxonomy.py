"""What went wrong, case by case and class by class, told from the columns of the score table by fixed rules.

With r and p the sizes of reference and prediction, and the thresholds of :class:`Rules`:

==================  ================================================================================================
label               rule
==================  ================================================================================================
undefined           no labelled pixel: Dice is undefined
missed              r > 0 and p = 0
false alarm         r = 0 and p > 0
wrong place         both > 0, sensitivity < ``overlap`` and precision < ``overlap``: hardly a pixel in common
missed lesion       both > 0, not wrong place, and fewer lesions detected than there are
false positive      both > 0, and a predicted lesion where there is none
merged              both > 0, and a predicted lesion covers several
split               both > 0, and a lesion is covered by several predicted ones
under-segmentation  both > 0, not wrong place, p / r < ``smaller``
over-segmentation   both > 0, not wrong place, p / r > ``larger``
boundary            both > 0, not wrong place, and Dice < ``dice`` or HD95 > ``hd95`` of the image diagonal
correct             none of these (both empty included)
==================  ================================================================================================

What was not measured (NaN) fulfils no rule. The order of the table is the order of severity: the first rule that holds
gives the primary label, of which a case and class has exactly one; all labels that hold are kept beside it. A ratio p /
r beyond 0.8 or 1.25 alone keeps Dice below 0.89, whatever the place (Dice <= 2 min(r, p) / (r + p)). The families
follow the error analyses of detection work (missed, false, split and merged objects) and the over- and under-
segmentation and boundary errors of Metrics Reloaded (Maier-Hein, Reinke et al., Nature Methods 21, 2024); the
thresholds are ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medseg import scores
from medseg.errors import ScoreError

LABELS = (
    *("undefined", "missed", "false alarm", "wrong place", "missed lesion", "false positive", "merged", "split"),
    *("under-segmentation", "over-segmentation", "boundary", "correct"),
)
"""Labels from the most to the least severe; a primary label is the first that holds."""
CORRECT, UNDEFINED = LABELS[-1], LABELS[0]
SEPARATOR = "; "


@dataclass(frozen=True)
class Rules:
    """Thresholds of the labels.

    Attributes:
        overlap: sensitivity and precision below which a prediction lies elsewhere.
        smaller: ratio of sizes, prediction to reference, below which too little was found.
        larger: ratio above which too much was.
        dice: Dice below which the outline is wrong.
        hd95: share of the image diagonal above which ``hd95_directed_voxel`` says that the outline is wrong.

    Raises:
        ScoreError: a threshold that could never or would always hold.
    """

    overlap: float = 0.1
    smaller: float = 0.8
    larger: float = 1.25
    dice: float = 0.8
    hd95: float = 0.05

    def __post_init__(self) -> None:
        shares = {"overlap": self.overlap, "smaller": self.smaller, "dice": self.dice, "hd95": self.hd95}
        for name, value in shares.items():
            if not 0 < value < 1:
                raise ScoreError(f"taxonomy: {name}={value} must lie between 0 and 1.")
        if self.larger <= 1:
            raise ScoreError(f"taxonomy: larger={self.larger} must be above 1.")


def classify(frame: pd.DataFrame, rules: Rules | None = None) -> pd.DataFrame:
    """Return ``case``, ``patient``, ``class_index``, ``class_name``, ``label`` and ``labels`` of every row of a table.

    Args:
        frame: a score table, one run.
        rules: thresholds; the defaults where not given.

    Returns:
        ``label`` is the primary one, ``labels`` all of them in order, joined by ``; ``.
    """
    held = _held(frame, rules or Rules())
    order = [name for name in LABELS if name != CORRECT]
    table = np.stack([held[name] for name in order], axis=1) if len(frame) else np.zeros((0, len(order)), dtype=bool)
    every = [[name for name, holds in zip(order, row, strict=True) if holds] or [CORRECT] for row in table]
    kept = frame[["case", "patient", "class_index", "class_name"]].copy()
    return kept.assign(label=[names[0] for names in every], labels=[SEPARATOR.join(names) for names in every])


def failure_counts(classified: pd.DataFrame) -> pd.DataFrame:
    """Return how often each label is primary, and how often it holds at all, for every class and label.

    Args:
        classified: of :func:`classify`, one run.

    Returns:
        ``class_index``, ``class_name``, ``label``, ``n`` (primary; sums to the rows of the class), ``share`` of the
        rows, ``patients`` with at least one primary, ``n_any`` and ``share_any`` (label holds, alone or with others).
    """
    rows = []
    for (index, name), part in classified.groupby(["class_index", "class_name"], sort=True):
        sets = [set(text.split(SEPARATOR)) for text in part["labels"]]
        for label in LABELS:
            mine = part[part["label"] == label]
            holding = sum(label in found for found in sets)
            share, share_any = len(mine) / len(part), holding / len(part)
            patients = mine["patient"].nunique()
            rows.append((index, name, label, len(mine), share, patients, holding, share_any))
    columns = ["class_index", "class_name", "label", "n", "share", "patients", "n_any", "share_any"]
    return pd.DataFrame(rows, columns=columns)


def worst_cases(
    frame: pd.DataFrame,
    classified: pd.DataFrame,
    *,
    strata: Mapping[str, pd.Series] | None = None,
    count: int = 20,
) -> pd.DataFrame:
    """Return the rows with the lowest Dice; among equals the largest HD95 first, then by case and class.

    Args:
        frame: a score table, one run.
        classified: its labels, of :func:`classify`.
        strata: what divides to the stratum of every row (``medseg.stats.strata.stratum_names``); a column each.
        count: rows at most.

    Returns:
        ``case``, ``patient``, ``class_index``, ``class_name``, ``dice``, ``hd95_directed_voxel`` (raw: inf where
        exactly one mask is empty), ``label``, ``labels``, then the strata as ``by_NAME``. Rows without a defined Dice
        are left out.
    """
    raw = frame["hd95_directed_voxel"].to_numpy(dtype=np.float64)
    distance = scores.penalised(raw, frame["diagonal"].to_numpy())
    columns = ["case", "patient", "class_index", "class_name", "dice", "hd95_directed_voxel"]
    named = {f"by_{name}": found for name, found in (strata or {}).items()}  # an attribute may be called label
    listed = frame[columns].assign(label=classified["label"], labels=classified["labels"], **named)
    listed = listed.assign(_distance=-np.nan_to_num(distance))[frame["dice"].notna()]
    ordered = listed.sort_values(["dice", "_distance", "case", "class_index"], kind="stable", ignore_index=True)
    return ordered.drop(columns="_distance").head(count)


def _held(frame: pd.DataFrame, rules: Rules) -> dict[str, NDArray[np.bool_]]:
    """Return for every label but ``correct`` in which rows it holds."""
    column = {name: frame[name].to_numpy() for name in frame.columns}
    reference, prediction = column["reference_size"] > 0, column["prediction_size"] > 0
    both = reference & prediction
    elsewhere = both & (column["sensitivity"] < rules.overlap) & (column["precision"] < rules.overlap)
    found = both & ~elsewhere
    ratio = np.divide(column["prediction_size"], column["reference_size"], out=np.ones(len(frame)), where=both)
    far = column["hd95_directed_voxel"] > rules.hd95 * column["diagonal"]  # nan, not measured, is not far
    return {
        "undefined": np.isnan(column["dice"].astype(np.float64)),
        "missed": reference & ~prediction,
        "false alarm": ~reference & prediction,
        "wrong place": elsewhere,
        "missed lesion": found & (column["detected_lesions"] < column["reference_lesions"]),
        "false positive": both & (column["false_lesions"] > 0),
        "merged": both & (column["merged_lesions"] > 0),
        "split": both & (column["split_lesions"] > 0),
        "under-segmentation": found & (ratio < rules.smaller),
        "over-segmentation": found & (ratio > rules.larger),
        "boundary": found & ((column["dice"] < rules.dice) | far),
    }
