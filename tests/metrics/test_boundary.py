"""Boundary IoU against the erosions of its definition, hand-counted bands, and what a big inside cannot hide."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg.errors import ScoreError
from medseg.metrics.boundary import band_width, boundary_iou


def square(top, left, side, size=64):
    mask = np.zeros((size, size), np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def by_erosion(prediction, truth, width):
    """Return the number as the authors' definition reads: a frame of zeros, ``width`` erosions by a full block."""
    block = np.ones((3,) * prediction.ndim, bool)
    bands = []
    for mask in (prediction, truth):
        inside = mask.astype(bool)
        bands.append(inside & ~ndimage.binary_erosion(inside, block, iterations=width, border_value=0))
    union = (bands[0] | bands[1]).sum()
    return (bands[0] & bands[1]).sum() / union if union else 1.0


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(17, 23), (1, 9), (30, 31), (7, 8, 9), (12, 5, 1)]),
    width=st.integers(1, 6),
)
def test_equals_the_erosions_of_the_definition(seed, shape, width):
    draw = np.random.default_rng(seed)
    prediction, truth = (ndimage.gaussian_filter(draw.normal(size=shape), 1.5) > 0 for _ in range(2))
    assert boundary_iou(prediction, truth, width=width) == pytest.approx(by_erosion(prediction, truth, width))


@pytest.mark.parametrize("width", [1, 3])
def test_equals_opencvs_erosion_at_the_image_edge(width):
    prediction, truth = square(0, 0, 20, 40), square(2, 0, 20, 40)
    block = np.ones((3, 3), np.uint8)
    framed = [cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0) for mask in (prediction, truth)]
    bands = [(mask - cv2.erode(mask, block, iterations=width))[1:-1, 1:-1] for mask in framed]
    expected = (bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum()
    assert boundary_iou(prediction, truth, width=width) == expected


def test_rings_of_a_shifted_square_counted_by_hand():
    """Two rings of 76 pixels share 19 on either side."""
    assert boundary_iou(square(10, 10, 20), square(11, 10, 20), width=1) == pytest.approx(38 / (76 + 76 - 38))


def test_a_band_as_thick_as_the_masks_gives_their_iou():
    prediction, truth = square(10, 10, 20), square(13, 14, 20)
    assert boundary_iou(prediction, truth, width=10) == pytest.approx(
        (prediction & truth).sum() / (prediction | truth).sum()
    )


def test_the_same_error_weighs_the_same_in_a_big_and_a_small_nodule():
    """What plain IoU hides: a rim of 2 pixels around 40 x 40 costs as much as around 20 x 20, within a few points."""
    pairs = [(square(20, 20, side, 128), square(18, 18, side + 4, 128)) for side in (20, 80)]
    plain = [first.sum() / second.sum() for first, second in pairs]
    ours = [boundary_iou(*pair, width=3) for pair in pairs]
    assert plain[1] - plain[0] > 0.2
    assert abs(ours[1] - ours[0]) < 0.03


def test_default_width_is_two_percent_of_the_whole_images_diagonal():
    assert band_width((64, 64)) == 2  # 1.81
    assert band_width((10, 10)) == 1
    assert band_width((1024, 1024)) == 29
    assert band_width((64, 128, 128)) == 4
    pair = square(10, 10, 20), square(12, 13, 20)
    assert boundary_iou(*pair) == boundary_iou(*pair, width=2) != boundary_iou(*pair, width=1)


EMPTY = np.zeros((64, 64), bool)


@pytest.mark.parametrize("shape", [(64, 64), (8, 9, 10)])
def test_empty_masks(shape):
    nothing, something = np.zeros((2, *shape), bool)
    something.flat[5] = True
    assert boundary_iou(nothing, nothing) == 1
    assert boundary_iou(something, nothing) == boundary_iou(nothing, something) == 0
    assert boundary_iou(something, something) == 1


@pytest.mark.parametrize(
    ("prediction", "truth", "width", "message"),
    [
        (EMPTY, EMPTY[:5], None, r"masks are \(64, 64\) and \(5, 64\)"),
        (EMPTY, EMPTY, 0, "width=0; give a band of at least 1 pixel"),
        (EMPTY, np.full((64, 64), 2, np.uint8), None, "truth of dtype uint8 is not a mask of 0 and 1"),
        (np.full((64, 64), np.nan), EMPTY, None, "prediction of dtype float64"),
    ],
)
def test_bad_input_is_named(prediction, truth, width, message):
    with pytest.raises(ScoreError, match=message):
        boundary_iou(prediction, truth, width=width)
