"""clDice of tubes whose centre lines are known, and of masks that thinning erases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.morphology import skeletonize

from medseg.errors import ScoreError
from medseg.metrics.skeleton import cldice, skeleton


def bar(*, thick=5, start=10, stop=50, size=64):
    mask = np.zeros((size, size), bool)
    mask[32 - thick // 2 : 32 + thick // 2 + 1, start:stop] = True
    return mask


def test_width_alone_costs_nothing():
    thin, thick = bar(thick=3), bar(thick=9)
    assert 2 * (thin & thick).sum() / (thin.sum() + thick.sum()) == pytest.approx(0.5)
    assert cldice(thin, thick) == 1


def test_a_gap_costs_its_share_of_the_centre_line():
    whole, broken = bar(thick=1), bar(thick=1)
    broken[:, 25:35] = False
    sensitivity = 30 / 40  # a line is its own skeleton: 10 of its 40 pixels are not covered
    assert cldice(broken, whole) == pytest.approx(2 * sensitivity / (1 + sensitivity))
    assert cldice(whole, broken) == cldice(broken, whole)


def test_a_false_branch_costs_precision():
    truth = bar(thick=1)
    prediction = truth.copy()
    prediction[33:43, 20] = True
    precision = 40 / 50
    assert cldice(prediction, truth) == pytest.approx(2 * precision / (1 + precision))


def test_parallel_tubes_share_no_centre_line():
    assert cldice(bar(thick=3), np.roll(bar(thick=3), 8, axis=0)) == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), shape=st.sampled_from([(30, 34), (12, 14, 16)]))
def test_equals_the_definition_on_the_whole_image(seed, shape):
    """Cropping, and what stands in for erased pieces, leave the published number as it is where nothing is erased."""
    draw = np.random.default_rng(seed)
    prediction, truth = (ndimage.gaussian_filter(draw.normal(size=shape), 2) > 0.1 for _ in range(2))
    lines = [skeletonize(mask) for mask in (prediction, truth)]
    block = np.ones((3,) * len(shape))
    for mask, line in zip((prediction, truth), lines, strict=True):
        labels, pieces = ndimage.label(mask, block)
        for piece in range(1, pieces + 1):
            if not line[labels == piece].any():
                line |= labels == piece
    precision, sensitivity = (lines[0] & truth).sum() / lines[0].sum(), (lines[1] & prediction).sum() / lines[1].sum()
    expected = 2 * precision * sensitivity / (precision + sensitivity) if precision + sensitivity else 0
    assert cldice(prediction, truth) == pytest.approx(expected)


def test_a_tube_in_a_volume_is_cut():
    truth = np.zeros((12, 12, 40), bool)
    truth[4:7, 4:7, 5:35] = True
    prediction = truth.copy()
    prediction[:, :, 15:25] = False
    missed = 10 / np.count_nonzero(skeletonize(truth))
    assert cldice(prediction, truth) == pytest.approx(2 * (1 - missed) / (2 - missed), abs=0.02)
    assert cldice(truth, truth) == 1


def test_a_piece_that_thinning_erases_is_its_own_skeleton():
    cube, tube = np.zeros((2, 10, 12, 30), bool)
    cube[2:4, 2:4, 2:4] = True
    tube[5:8, 5:8, 5:25] = True
    assert not skeletonize(cube).any()  # the tool's trap: without a rule clDice would be 0 / 0
    assert (skeleton(cube) == cube).all()
    assert cldice(cube, cube) == 1
    assert cldice(cube, np.roll(cube, 1, axis=0)) == pytest.approx(0.5)
    assert (skeleton(cube | tube) == (cube | skeletonize(tube))).all()
    assert cldice(tube, cube | tube) < 1  # the erased piece still counts as missed


@pytest.mark.parametrize("shape", [(16, 16), (8, 9, 10)])
def test_empty_masks(shape):
    nothing, something = np.zeros((2, *shape), bool)
    something.flat[5] = True
    assert cldice(nothing, nothing) == 1
    assert cldice(something, nothing) == cldice(nothing, something) == 0
    assert cldice(something, something) == 1


def test_bad_input_is_named():
    with pytest.raises(ScoreError, match=r"masks are \(64, 64\) and \(5, 64\)"):
        cldice(bar(), bar()[:5])
    with pytest.raises(ScoreError, match="truth of dtype float64 is not a mask"):
        cldice(bar(), bar() * 0.5)
