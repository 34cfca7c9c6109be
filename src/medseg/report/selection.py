"""Which cases are worth looking at: the worst, the median and the best."""

import pandas as pd


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
