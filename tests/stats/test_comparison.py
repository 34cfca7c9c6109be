"""The whole comparison on values whose truth is known."""

import json

import numpy as np
import pytest

from medseg.errors import ScoreError
from medseg.stats.comparison import Comparison, as_record, compare
from medseg.stats.evidence import Evidence
from medseg.stats.gate import OUTPERFORMS, Settings

QUICK = Settings(resamples=500)


def evidence(
    *gaps: float, seeds: int = 5, patients: int = 60, higher: bool = True, notes: tuple[str, ...] = ()
) -> Evidence:
    """Methods that are this much better than the first, with the spread of published studies."""
    rng = np.random.default_rng(7)
    methods = len(gaps) + 1
    values = 0.8 + rng.normal(0, 0.08, patients) + rng.normal(0, 0.006, (methods, seeds, 1))
    values = values + rng.normal(0, 0.03, (methods, seeds, patients)) + np.array([0, *gaps])[:, None, None]
    return Evidence(
        metric="dice" if higher else "hd_voxel",
        higher_is_better=higher,
        methods=tuple("ABCDEFGHIJKLMNOPQ"[:methods]),
        seeds=tuple(range(seeds)),
        patients=tuple(f"p{number:02d}" for number in range(patients)),
        folds=np.zeros(patients, dtype=np.int64),
        values=values,
        strata=np.zeros(patients, dtype=np.int64),
        notes=notes,
    )


@pytest.fixture(scope="module")
def clear() -> Comparison:
    return compare(evidence(0.06, 0.0), QUICK)


def test_a_clear_difference_is_claimed_and_the_best_stands_first(clear: Comparison) -> None:
    assert clear.best == "B"
    assert list(clear.means) == list(clear.ranking.order)
    for other in "AC":
        pair = clear.pair("B", other)
        assert (pair.first, pair.verdict, pair.winner) == ("B", OUTPERFORMS, "B")
        assert pair.difference.mean == pytest.approx(clear.means["B"].mean - clear.means[other].mean)
    assert clear.pair("A", "C").verdict != OUTPERFORMS
    assert clear.ranking.rank_high["B"] == 1
    assert clear.ranking.p_first["B"] > 0.99


def test_means_are_those_of_the_values(clear: Comparison) -> None:
    for number, method in enumerate("ABC"):
        assert clear.means[method].mean == pytest.approx(clear.evidence.values[number].mean())
        assert clear.means[method].low < clear.means[method].mean < clear.means[method].high


def test_variance_shares_are_there(clear: Comparison) -> None:
    assert clear.variance is not None
    assert clear.variance.patient > 0.5
    assert clear.notes == ()


def test_where_lower_is_better_the_lowest_mean_is_best_and_the_sign_is_turned() -> None:
    found = compare(evidence(0.06, higher=False), QUICK)
    assert found.ranking.order == ("A", "B")
    (pair,) = found.pairs
    assert (pair.first, pair.winner) == ("A", "A")
    assert pair.difference.mean > 0
    assert found.means["A"].mean < found.means["B"].mean


def test_one_seed_never_claims_and_has_no_variance_shares() -> None:
    found = compare(evidence(0.3, seeds=1), QUICK)
    (pair,) = found.pairs
    assert pair.verdict != OUTPERFORMS and pair.winner is None
    assert any("seed" in reason for reason in pair.reasons)
    assert found.variance is None
    assert "one seed" in found.notes[0]


def test_four_seeds_are_too_few_for_a_claim() -> None:
    (pair,) = compare(evidence(0.3, seeds=4), QUICK).pairs
    assert pair.verdict != OUTPERFORMS


def test_the_order_in_which_methods_are_given_changes_nothing() -> None:
    given = evidence(0.02, 0.01)
    turned = Evidence(**{**vars(given), "methods": given.methods[::-1], "values": given.values[::-1]})
    assert as_record(compare(given, QUICK))["pairs"] == as_record(compare(turned, QUICK))["pairs"]


def test_the_record_is_strict_json_and_holds_the_values() -> None:
    found = compare(evidence(0.01, patients=12, seeds=1), QUICK)
    content = json.loads(json.dumps(as_record(found), allow_nan=False))
    assert content["ranking"]["critical_difference"] is None
    np.testing.assert_allclose(content["evidence"]["values"], found.evidence.values)
    assert content["pairs"][0]["difference"]["mean"] == pytest.approx(found.pairs[0].difference.mean)


def test_one_method_and_broken_values_are_refused() -> None:
    with pytest.raises(ScoreError, match="nothing to compare"):
        compare(evidence(), QUICK)
    broken = evidence(0.1)
    broken.values[1, 2, 3] = np.nan
    with pytest.raises(ScoreError, match="method 'B', seed 2, patient 'p03'"):
        compare(broken, QUICK)
