"""The choice inside a nested cross-validation: which setting the inner folds prefer, fold by fold."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from medseg.errors import ScoreError

KEYS = ("outer", "seed", "candidate", "inner")


@dataclass(frozen=True)
class Choice:
    """What one outer fold chose.

    Attributes:
        outer: number of the outer fold.
        seed: seed of the trainings.
        chosen: the candidate with the best mean over inner folds; of equal ones the first by name.
        means: mean validation score of every candidate over the inner folds.
        margin: distance of the chosen one to the next best; nan with one candidate.
    """

    outer: int
    seed: int
    chosen: str
    means: Mapping[str, float]
    margin: float


def choose(validation: pd.DataFrame) -> list[Choice]:
    """Return the choice of every outer fold and seed.

    Only validation scores come in, so the outer folds' cases can have no part in the choice.

    Args:
        validation: one row per training: ``outer``, ``inner``, ``seed`` (whole numbers), ``candidate`` (text) and
            ``score``, the validation score of the weights that are kept, higher is better.

    Raises:
        ScoreError: a candidate lacks an inner fold that another one has, a training stands twice, or a score is not
            finite.
    """
    if validation.duplicated(list(KEYS)).any():
        twice = validation[validation.duplicated(list(KEYS))].iloc[0]
        raise ScoreError(f"nested choice: {_named(twice)} stands twice; give each training once.")
    broken = validation[~validation["score"].map(lambda score: abs(float(score)) < float("inf"))]
    if len(broken):
        raise ScoreError(
            f"nested choice: {_named(broken.iloc[0])} has the score {broken.iloc[0]['score']}; train it anew."
        )
    found = []
    for (outer, seed), part in validation.groupby(["outer", "seed"], sort=True):
        _check_complete(part, f"outer fold {outer}, seed {seed}")
        means = part.groupby("candidate", sort=True)["score"].mean()
        ordered = means.sort_values(ascending=False, kind="stable")
        margin = float(ordered.iloc[0] - ordered.iloc[1]) if len(ordered) > 1 else float("nan")
        by_name = {str(name): float(score) for name, score in means.items()}
        found.append(Choice(int(str(outer)), int(str(seed)), str(ordered.index[0]), by_name, margin))
    return found


def _check_complete(part: pd.DataFrame, where: str) -> None:
    wanted = set(part["inner"])
    for candidate, own in part.groupby("candidate", sort=True):
        if missing := sorted(wanted - set(own["inner"])):
            raise ScoreError(
                f"nested choice, {where}: candidate '{candidate}' lacks inner fold {missing[0]}; finish the study."
            )


def _named(row: pd.Series) -> str:
    return f"candidate '{row['candidate']}' of outer fold {row['outer']}, inner fold {row['inner']}, seed {row['seed']}"
