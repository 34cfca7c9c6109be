"""Which cases are worth looking at: the worst, the median and the best; and failure by size."""

import pandas as pd

from medseg.errors import ScoreError

SIZES = {1: ("all",), 2: ("small", "large"), 3: ("small", "medium", "large")}


def select_cases(frame: pd.DataFrame, count: int = 1) -> dict[str, list[str]]:
    """Return case ids under ``worst``, ``median`` and ``best``, none of them twice, each from low to high Dice.

    Cases are ordered by mean Dice over classes, then by id; cases without a defined Dice are left out. With fewer
    than ``3 * count`` cases the median gives way first, then the best.

    Args:
        frame: a score table of one run.
        count: cases of each kind.
    """
    ordered = frame.groupby("case")["dice"].mean().dropna().reset_index().sort_values(["dice", "case"])["case"].tolist()
    worst = ordered[:count]
    best = ordered[max(len(worst), len(ordered) - count) :]
    between = ordered[len(worst) : len(ordered) - len(best)]
    first = max(0, (len(between) - count) // 2)
    return {"worst": worst, "median": between[first : first + count], "best": best}


def patient_means(frame: pd.DataFrame) -> pd.Series:
    """Return each patient's Dice: the mean over their cases of the mean over classes; undefined ones are left out."""
    return frame.groupby(["patient", "case"])["dice"].mean().groupby("patient").mean().dropna()


def size_groups(frame: pd.DataFrame, *, count: int = 3) -> pd.DataFrame:
    """Return how Dice depends on the size of the structure, in groups with equally many rows.

    Args:
        frame: a score table; rows whose reference is empty are left out.
        count: 1, 2 or 3 groups; equal sizes stay together, so there may be fewer.

    Returns:
        One row per group, small to large: ``group``, ``smallest`` and ``largest`` reference in pixels, ``rows``,
        ``patients``, ``dice_mean``, ``dice_median``, share of rows with Dice ``below_half`` and share ``missed``
        (empty prediction).

    Raises:
        ScoreError: no row has a structure in its reference.
    """
    present = frame[(frame["reference_size"] > 0) & frame["dice"].notna()]
    if present.empty:
        raise ScoreError("score table: every reference is empty; failure by size needs cases with a structure.")
    number = pd.qcut(present["reference_size"], min(count, len(present)), labels=False, duplicates="drop")
    parts = [part for _, part in present.groupby(number if number.notna().all() else 0 * present["reference_size"])]
    rows = [
        {
            "group": name,
            "smallest": int(part["reference_size"].min()),
            "largest": int(part["reference_size"].max()),
            "rows": len(part),
            "patients": part["patient"].nunique(),
            "dice_mean": part["dice"].mean(),
            "dice_median": part["dice"].median(),
            "below_half": (part["dice"] < 0.5).mean(),
            "missed": (part["prediction_size"] == 0).mean(),
        }
        for name, part in zip(SIZES[len(parts)], parts, strict=True)
    ]
    return pd.DataFrame(rows)
