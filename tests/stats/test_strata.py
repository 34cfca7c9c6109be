"""Results by kind of case: who is in which stratum, and what stands there, computed a second way."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import ScoreError
from medseg.stats.bootstrap import mean_interval
from medseg.stats.strata import dividing_columns, strata, stratum_names


def a_frame(sizes: list[int], *, dice: list[float] | None = None, **columns: Any) -> pd.DataFrame:
    """One case per size, a patient each, one class, everything found but for what the columns say."""
    number = len(sizes)
    values = {
        "case": [f"c{i:03d}" for i in range(number)],
        "patient": [f"p{i:03d}" for i in range(number)],
        "domain": "",
        "class_index": 1,
        "class_name": "nodule",
        "reference_size": sizes,
        "prediction_size": sizes,
        "dice": dice or [0.9] * number,
        "hd95_directed_voxel": 2.0,
        "diagonal": 100.0,
        "reference_lesions": [int(size > 0) for size in sizes],
        "detected_lesions": [int(size > 0) for size in sizes],
    }
    return pd.DataFrame({**values, **columns}, index=range(number))


def described(frame: pd.DataFrame, **columns: Any) -> pd.DataFrame:
    return frame[["case", "patient", "domain"]].drop_duplicates("case").assign(**columns)


def test_quartiles_of_the_references_divide_by_size_and_empty_ones_stand_apart() -> None:
    frame = a_frame([50, 10, 20, 30, 40, 60, 70, 80, 0])
    names = stratum_names(frame, by="size")
    assert names.tolist() == [
        "Q3 (50 to 60)", "Q1 (10 to 20)", "Q1 (10 to 20)", "Q2 (30 to 40)", "Q2 (30 to 40)", "Q3 (50 to 60)",
        "Q4 (70 to 80)", "Q4 (70 to 80)", "empty reference",
    ]  # fmt: skip
    assert [found.name[:2] for found in strata(frame, by="size", resamples=50)] == ["Q1", "Q2", "Q3", "Q4", "em"]


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(0, 500), min_size=1, max_size=60))
def test_every_case_is_in_one_size_stratum_and_larger_ones_never_below(sizes: list[int]) -> None:
    frame = a_frame(sizes)
    names = stratum_names(frame, by="size")
    assert (names == "empty reference").tolist() == [size == 0 for size in sizes]
    present = sorted((size, name[:2]) for size, name in zip(sizes, names, strict=True) if size)
    assert [name for _, name in present] == sorted(name for _, name in present)
    assert len(set(present)) == len({size for size, _ in present}), "equal sizes stay together"


def test_thresholds_divide_by_size_instead() -> None:
    names = stratum_names(a_frame([99, 100, 499, 500, 0]), by="size", thresholds=[100, 500])
    assert names.tolist() == ["< 100", "100 to < 500", "100 to < 500", ">= 500", "empty reference"]
    found = strata(a_frame([500, 0, 100, 99]), by="size", thresholds=[100, 500], resamples=50)
    assert [stratum.name for stratum in found] == ["< 100", "100 to < 500", ">= 500", "empty reference"]


@pytest.mark.parametrize("thresholds", [[0], [5, 5], [7, 3], [-1, 2]])
def test_thresholds_that_do_not_increase_are_refused(thresholds: list[float]) -> None:
    with pytest.raises(ScoreError, match="must increase"):
        stratum_names(a_frame([1]), by="size", thresholds=thresholds)


def test_sizes_are_divided_within_each_class() -> None:
    small, large = a_frame([1, 2, 3, 4]), a_frame([100, 200, 300, 400], class_index=2, class_name="cyst")
    frame = pd.concat([small, large]).sort_values(["case", "class_index"], ignore_index=True)
    names = stratum_names(frame, by="size")
    assert [name[:2] for name in names] == ["Q1", "Q1", "Q2", "Q2", "Q3", "Q3", "Q4", "Q4"]
    found = strata(frame, by="size", resamples=50)
    assert [stratum.class_name for stratum in found] == ["nodule"] * 4 + ["cyst"] * 4


def test_attributes_lesions_and_domains_divide_and_what_is_not_stated_is_said_so() -> None:
    frame = a_frame([10] * 4, domain=["B", "", "A", "A"], reference_lesions=[1, 2, 0, 3])
    cases = described(frame, tirads=["10", "", "9", "4a"])[::-1]
    assert stratum_names(frame, by="tirads", cases=cases).tolist() == ["10", "not stated", "9", "4a"]
    order = [found.name for found in strata(frame, by="tirads", cases=cases, resamples=50)]
    assert order == ["4a", "9", "10", "not stated"]
    assert [found.name for found in strata(frame, by="domain", resamples=50)] == ["A", "B", "not stated"]
    order = [found.name for found in strata(frame, by="lesions", resamples=50)]
    assert order == ["single", "multiple", "empty reference"]


def test_a_division_that_is_not_there_is_refused_with_those_that_are() -> None:
    frame = a_frame([10])
    with pytest.raises(ScoreError, match="'label' divides nothing here; choose from size, lesions, domain, tirads"):
        strata(frame, by="label", cases=described(frame, tirads="4"))
    with pytest.raises(ScoreError, match="'patient' divides nothing"):
        strata(frame, by="patient", cases=described(frame))


def test_the_numbers_of_a_stratum_are_those_of_its_cases() -> None:
    rng = np.random.default_rng(0)
    dice = [float("nan"), 0.0, 0.0, *rng.uniform(0.6, 1, 57)]
    frame = a_frame([0, 100, 0, *[100] * 57], dice=dice, patient=[f"p{i // 2}" for i in range(60)])
    frame.loc[1, ["prediction_size", "detected_lesions", "hd95_directed_voxel"]] = [0, 0, np.inf]
    frame.loc[2, "hd95_directed_voxel"] = np.inf
    frame.loc[5, ["reference_lesions", "detected_lesions"]] = [3, 2]
    (found,) = strata(frame, by="view", cases=described(frame, view="single"), seed=3, resamples=500)
    assert (found.n_cases, found.n_patients, found.n_undefined, found.n_empty_reference) == (60, 30, 1, 1)
    assert found.dice == mean_interval(dice[1:], frame["patient"][1:].to_numpy(dtype=str), seed=3, resamples=500)
    assert found.dice.mean == pytest.approx(np.mean(dice[1:]))
    assert found.hd95 == pytest.approx((58 * 2.0 + 2 * 100.0) / 60)
    assert found.n_penalised == 2
    assert found.missed_rate == pytest.approx(1 / 58)
    assert found.missed_lesions == pytest.approx(2 / 60)
    assert found.reliable


def test_what_cannot_be_measured_is_nan_and_few_patients_are_no_reliable_stratum() -> None:
    frame = a_frame([0, 0], dice=[float("nan")] * 2, hd95_directed_voxel=float("nan"))
    (found,) = strata(frame, by="size", resamples=50)
    assert found.dice is None
    assert all(math.isnan(value) for value in (found.hd95, found.missed_rate, found.missed_lesions))
    assert not found.reliable
    (few,) = strata(a_frame([10] * 24, dice=list(np.linspace(0.5, 0.9, 24))), by="lesions", resamples=200)
    assert not few.reliable
    (enough,) = strata(a_frame([10] * 25, dice=list(np.linspace(0.5, 0.9, 25))), by="lesions", resamples=200)
    assert enough.reliable


def test_only_attributes_that_show_something_divide_by_themselves() -> None:
    frame = a_frame([10] * 30)
    cases = described(
        frame, label=["benign", "malignant"] * 15, age=[str(i) for i in range(30)], view="single",
        width=["100", "200"] * 15, sha256_image=["a", "b"] * 15, tirads=["4", ""] * 15, phase=["ED", "ES", ""] * 10,
    )  # fmt: skip
    assert dividing_columns(cases, frame) == ("size", "lesions", "label", "phase")
    assert dividing_columns(None, frame.assign(domain=["A", "B"] * 15)) == ("size", "lesions", "domain")


def test_lesions_that_were_not_counted_divide_nothing_and_miss_nothing() -> None:
    frame = a_frame([10] * 3, reference_lesions=float("nan"), detected_lesions=float("nan"))
    assert dividing_columns(None, frame) == ("size",)
    (found,) = strata(frame, by="lesions", resamples=50)
    assert found.name == "not stated"
    assert math.isnan(found.missed_lesions)
