"""Lesions found, missed, false, split and merged, in drawn pictures and against a slow count over all pairs."""

import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label

from medseg.errors import ScoreError
from medseg.metrics.lesion import LesionCounts, match_lesions


def picture(*rows):
    """Return a mask from rows of characters: # is foreground."""
    return np.array([[character == "#" for character in row] for row in rows])


CASES = {  # truth, prediction, (reference, prediction, detected, false, split, merged)
    "found": (picture("##...", "##..."), picture(".##..", ".##.."), (1, 1, 1, 0, 0, 0)),
    "missed and false": (picture("##...", "##..."), picture("...##", "....."), (1, 1, 0, 1, 0, 0)),
    "one of two": (picture("#...#"), picture("#...."), (2, 1, 1, 0, 0, 0)),
    "split": (picture("#####"), picture("#.#.#"), (1, 3, 1, 0, 1, 0)),
    "merged": (picture("#.#.#"), picture("#####"), (3, 1, 3, 0, 0, 1)),
    "merged and split": (picture("##.##", "....."), picture("#.###", "....."), (2, 2, 2, 0, 0, 0)),
    "corners join": (picture("#.", ".#"), picture("##", "##"), (1, 1, 1, 0, 0, 0)),
    "both empty": (picture("..."), picture("..."), (0, 0, 0, 0, 0, 0)),
    "nothing to find": (picture("..."), picture("#.#"), (0, 2, 0, 2, 0, 0)),
    "nothing found": (picture("#.#"), picture("..."), (2, 0, 0, 0, 0, 0)),
}


@pytest.mark.parametrize("name", CASES)
def test_drawn_cases(name):
    truth, prediction, expected = CASES[name]
    assert astuple(match_lesions(prediction, truth)) == expected
    volume = [np.stack([mask, np.zeros_like(mask)]) for mask in (prediction, truth)]
    assert astuple(match_lesions(*volume)) == expected  # a slice of a volume


def test_corners_join_across_slices():
    truth = np.zeros((2, 3, 3), bool)
    truth[0, 0, 0] = truth[1, 1, 1] = True
    assert match_lesions(truth, truth).reference_lesions == 1


def test_overlap_is_a_share_of_the_lesion_covered_by_all_pieces_together():
    truth, prediction = picture("##########"), picture("###....##.")
    detected = [match_lesions(prediction, truth, overlap=share).detected_lesions for share in (0, 0.49, 0.5, 0.9)]
    assert detected == [1, 1, 0, 0]  # exactly half is not more than half
    too_little = match_lesions(prediction, truth, overlap=0.9)
    assert (too_little.false_lesions, too_little.missed_lesions, too_little.f1) == (0, 1, 0)


def test_f1_and_missed_rate():
    counts = LesionCounts(5, 6, 3, 2, 0, 0)
    assert counts.f1 == pytest.approx(2 * 3 / (2 * 3 + 2 + 2))
    assert counts.missed_rate == pytest.approx(2 / 5)


@pytest.mark.parametrize(
    ("name", "f1", "missed"),
    [("both empty", 1, math.nan), ("nothing to find", 0, math.nan), ("nothing found", 0, 1), ("found", 1, 0)],
)
def test_empty_policy(name, f1, missed):
    truth, prediction, _ = CASES[name]
    found = match_lesions(prediction, truth)
    assert (found.f1, found.missed_rate) == pytest.approx((f1, missed), nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(14, 17), (1, 20), (5, 7, 8)]),
    overlap=st.sampled_from([0.0, 0.3, 0.7]),
)
def test_equals_a_count_over_all_pairs(seed, shape, overlap):
    draw = np.random.default_rng(seed)
    prediction, truth = draw.random((2, *shape)) < draw.choice([0.1, 0.25])
    pieces, lesions = (label(mask, connectivity=mask.ndim) for mask in (prediction, truth))
    pieces = [pieces == number for number in range(1, pieces.max() + 1)]
    lesions = [lesions == number for number in range(1, lesions.max() + 1)]
    meets = np.array([[(lesion & piece).any() for piece in pieces] for lesion in lesions], bool)
    meets = meets.reshape(len(lesions), len(pieces))
    expected = (
        len(lesions),
        len(pieces),
        sum((lesion & prediction).sum() / lesion.sum() > overlap for lesion in lesions),
        int((~meets.any(axis=0)).sum()),
        int((meets.sum(axis=1) >= 2).sum()),
        int((meets.sum(axis=0) >= 2).sum()),
    )
    assert astuple(match_lesions(prediction, truth, overlap=overlap)) == expected


def test_counts_do_not_depend_on_place():
    draw = np.random.default_rng(0)
    prediction, truth = (ndimage.gaussian_filter(draw.normal(size=(40, 40)), 2) > 0.1 for _ in range(2))
    framed = [np.pad(mask, ((7, 1), (0, 12))) for mask in (prediction, truth)]
    assert match_lesions(*framed) == match_lesions(prediction, truth)


def test_speckle_needs_no_table_of_all_pairs():
    """Ten thousand pieces on either side; a full table of them would take 800 MB."""
    prediction = np.zeros((201, 201), bool)
    prediction[::2, ::2] = True
    found = match_lesions(prediction, prediction)
    assert found.detected_lesions == found.prediction_lesions == 101**2


@pytest.mark.parametrize("overlap", [-0.1, 1.0, math.nan])
def test_a_share_outside_its_range_is_refused(overlap):
    with pytest.raises(ScoreError, match=r"give a share of the reference lesion in \[0, 1\)"):
        match_lesions(np.ones((3, 3), bool), np.ones((3, 3), bool), overlap=overlap)


def test_shapes_must_agree():
    with pytest.raises(ScoreError, match=r"masks are \(3, 3\) and \(3, 4\)"):
        match_lesions(np.ones((3, 3), bool), np.ones((3, 4), bool))
