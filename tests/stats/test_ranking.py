"""Ranks and their stability, against scipy, scikit-posthocs and published tables."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from medseg.stats.ranking import critical_difference, first_shares, iman_davenport, kendall_taus, rank, rank_sets


@dataclass(frozen=True)
class FakePair:
    """What the rank sets read of a pair."""

    first: str
    second: str
    p_holm: float
    rank_biserial: float


def fake_pairs(**p_values: float) -> list[FakePair]:
    """``AB=0.01`` is a pair in which A is better than B with this p-value."""
    return [FakePair(name[0], name[1], p, 0.5) for name, p in p_values.items()]


def test_rank_sets_leave_what_the_tests_leave() -> None:
    low, high = rank_sets("ABC", fake_pairs(AB=0.2, AC=0.01, BC=0.01), alpha=0.05)
    assert [(low[name], high[name]) for name in "ABC"] == [(1, 2), (1, 2), (3, 3)]


def test_the_direction_of_a_pair_is_that_of_its_effect() -> None:
    low, high = rank_sets("AB", [FakePair("A", "B", 0.01, -0.4)], alpha=0.05)
    assert (low, high) == ({"A": 2, "B": 1}, {"A": 2, "B": 1})


def test_no_pair_is_told_apart_where_the_test_over_all_methods_finds_nothing() -> None:
    low, high = rank_sets("ABC", fake_pairs(AB=0.01, AC=0.01, BC=0.01), alpha=0.05, p_friedman=0.2)
    assert set(low.values()) == {1} and set(high.values()) == {3}


def test_ties_for_the_first_place_are_divided() -> None:
    sampled = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.2, 0.2]])
    np.testing.assert_allclose(first_shares(sampled), [(1 + 1 / 2 + 1 / 3) / 3, (1 / 2 + 1 / 3) / 3, 1 / 9])


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=5))
def test_kendalls_tau_is_that_of_scipy_ties_included(rows: list[list[int]]) -> None:
    full = np.array([3.0, 2.0, 2.0, 0.0])
    found = kendall_taus(np.array(rows, dtype=float), full)
    expected = [stats.kendalltau(row, full).statistic for row in rows]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_iman_and_davenport_by_hand() -> None:
    values = np.random.default_rng(0).normal(size=(4, 12)) + np.array([0, 0.2, 0.8, 1.0])[:, None]
    ranks = np.apply_along_axis(stats.rankdata, 0, -values).mean(axis=1)
    chi2 = 12 * 12 / (4 * 5) * ((ranks - 2.5) ** 2).sum()
    expected = stats.f.sf(11 * chi2 / (12 * 3 - chi2), 3, 33)
    assert iman_davenport(values) == pytest.approx(expected)


def test_iman_and_davenport_at_its_ends() -> None:
    alike, ordered = np.ones((3, 5)), np.tile([[1.0], [2.0], [3.0]], 5)
    assert iman_davenport(alike) == 1.0
    assert iman_davenport(ordered) == 0.0
    assert np.isnan(iman_davenport(ordered[:2]))


@pytest.mark.parametrize(("count", "q"), [(3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_the_critical_difference_has_demsars_quantiles(count: int, q: float) -> None:
    """Demsar, JMLR 2006, table 5 (a), alpha 0.05."""
    expected = q * np.sqrt(count * (count + 1) / (6 * 50))
    assert critical_difference(count, 50, alpha=0.05) == pytest.approx(expected, abs=2e-4)


def test_the_critical_difference_is_where_nemenyis_test_turns() -> None:
    """scikit-posthocs' p-values of the same mean ranks lie on the right side of alpha."""
    posthocs = pytest.importorskip("scikit_posthocs")
    values = np.random.default_rng(3).normal(size=(4, 20)) + np.array([0, 0.3, 0.6, 3.0])[:, None]
    p_values = posthocs.posthoc_nemenyi_friedman(values.T).to_numpy()
    ranks = np.apply_along_axis(stats.rankdata, 0, values).mean(axis=1)
    apart = np.abs(ranks[:, None] - ranks[None, :])
    limit = critical_difference(4, 20, alpha=0.05)
    assert ((p_values < 0.05) == (apart > limit)).all()
    assert (apart > limit).any() and (apart[~np.eye(4, dtype=bool)] < limit).any()


def test_a_ranking_puts_everything_together() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0.8, 0.02, (3, 2, 30)) + np.array([0, 0.1, 0.05])[:, None, None]
    sampled = np.stack([values.mean(axis=(1, 2))] * 9 + [np.array([0.9, 0.8, 0.7])])
    found = rank(values, "ABC", sampled, fake_pairs(BA=0.001, CA=0.001, BC=0.3), alpha=0.05)
    assert found.order == ("B", "C", "A")
    assert found.p_first == pytest.approx({"A": 0.1, "B": 0.9, "C": 0})
    assert [found.rank_low["A"], found.rank_high["A"]] == [3, 3]
    assert [found.rank_low["B"], found.rank_high["C"]] == [1, 2]
    assert sum(found.mean_ranks.values()) == pytest.approx(6)
    assert found.mean_ranks["B"] < found.mean_ranks["C"] < found.mean_ranks["A"]
    # The last sample has the order A, B, C: of three pairs only B before C is as in the full ranking.
    assert found.kendall_tau == pytest.approx((9 * 1 - 1 / 3) / 10)
    assert found.p_friedman < 0.001
