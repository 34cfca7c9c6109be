"""The inner folds choose, the outer folds have no say, and nothing incomplete is chosen from."""

import math
from collections.abc import Callable

import pandas as pd
import pytest

from medseg.errors import ScoreError
from medseg.stats.nested import choose


def trainings(scores: dict[tuple[int, str], list[float]], *, seed: int = 0) -> pd.DataFrame:
    rows = [
        {"outer": outer, "inner": inner, "seed": seed, "candidate": candidate, "score": score}
        for (outer, candidate), values in scores.items()
        for inner, score in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_each_outer_fold_takes_the_best_mean_over_its_inner_folds() -> None:
    table = trainings({(0, "a"): [0.9, 0.5], (0, "b"): [0.75, 0.75], (1, "a"): [0.8, 0.8], (1, "b"): [0.7, 0.85]})
    first, second = choose(table)
    assert (first.chosen, second.chosen) == ("b", "a")  # the largest single score, 0.9, does not decide
    assert first.means == pytest.approx({"a": 0.7, "b": 0.75})
    assert (first.margin, second.margin) == pytest.approx((0.05, 0.025))


def test_of_equal_candidates_the_first_by_name_is_taken_whatever_the_order_of_rows() -> None:
    table = trainings({(0, "b"): [0.5, 0.7], (0, "a"): [0.7, 0.5]})
    assert {choose(table.sample(frac=1, random_state=state))[0].chosen for state in range(5)} == {"a"}


def test_one_candidate_has_no_margin() -> None:
    assert math.isnan(choose(trainings({(0, "a"): [0.5]}))[0].margin)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(index=1), "candidate 'a' lacks inner fold 1"),
        (lambda table: pd.concat([table, table.head(1)]), "inner fold 0, seed 0 stands twice"),
        (lambda table: table.assign(score=float("nan")), "has the score nan"),
    ],
)
def test_what_is_incomplete_is_refused(change: Callable[[pd.DataFrame], pd.DataFrame], message: str) -> None:
    table = trainings({(0, "a"): [0.5, 0.6], (0, "b"): [0.4, 0.7]})
    with pytest.raises(ScoreError, match=message):
        choose(change(table))
