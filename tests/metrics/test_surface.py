"""Border distances: hand-computed vectors, two independent tools, and what empty masks and edges mean."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage
from torchmetrics.segmentation import HausdorffDistance

from medseg.errors import ScoreError
from medseg.metrics import surface
from medseg.metrics.surface import border_distances, diagonal, percentile


def square(top, left, height, width=None, size=64):
    mask = np.zeros((size, size), bool)
    mask[top : top + height, left : left + (width or height)] = True
    return mask


def blob(shape, seed, *, shift=0.0):
    """Return an irregular mask that changes smoothly with ``shift``."""
    draw = np.random.default_rng(seed)
    field, other = (ndimage.gaussian_filter(draw.normal(size=shape), min(shape) / 10) for _ in range(2))
    field = field / field.std() + shift * other / other.std()
    return field > 0.7


def values(prediction, truth, **options):
    found = border_distances(prediction, truth, **options)
    return found.hd, found.hd95_directed_voxel, found.assd, found.masd, found.nsd(1)


GOLDEN = {
    "10x10 shifted by 1": (square(10, 10, 10), square(11, 10, 10), None, (1, 1, 0.5, 0.5, 1)),
    "the same, spacing (3, 1)": (square(10, 10, 10), square(11, 10, 10), (3, 1), (3, 3, 4 / 3, 4 / 3, 5 / 9)),
    "two pixels 3-4-5 apart": (square(10, 10, 1), square(13, 14, 1), None, (5, 5, 5, 5, 0)),
    "20x20 against its centre 10x10": (
        *(square(10, 10, 20), square(15, 15, 10), None),
        (math.sqrt(50), 6.570110131, 5.268128168, 5.197568124, 0),
    ),
    "20x20 shifted by (0, 5)": (square(10, 10, 20), square(10, 15, 20), None, (5, 5, 2.5, 2.5, 0.447368421)),
    "20x20 shifted by (3, 4)": (
        *(square(10, 10, 20), square(13, 14, 20), None),
        (5, 4.030776406, 3.231654095, 3.231654095, 0.078947368),
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("tree", [False, True], ids=["table", "tree"])
def test_golden_vectors(name, tree, monkeypatch):
    if tree:
        monkeypatch.setattr(surface, "_PAIRS", 0)
    prediction, truth, spacing, expected = GOLDEN[name]
    assert values(prediction, truth, spacing=spacing) == pytest.approx(expected, abs=1e-8)
    swapped = values(truth, prediction, spacing=spacing)
    assert swapped == pytest.approx(expected, abs=1e-8)


def test_far_pixel_moves_hd_but_not_hd95():
    truth = square(0, 0, 10)
    prediction = truth.copy()
    prediction[55, 5] = True
    hd, hd95, *_ = values(prediction, truth)
    assert (hd, hd95) == (46, 0)


def test_missed_second_lesion():
    truth = square(0, 0, 10) | square(35, 35, 4)
    found = border_distances(square(0, 0, 10), truth)
    assert found.hd == pytest.approx(41.012193, abs=1e-6)
    assert found.hd95_directed_voxel == pytest.approx(40.0705, abs=1e-4)
    pooled = np.concatenate([found.to_truth, found.to_prediction])
    assert np.percentile(pooled, 95) == pytest.approx(39.522, abs=1e-3)  # the other definition, told apart by name


def test_slabs_in_a_volume():
    first, second = np.zeros((2, 100, 100, 100), bool)
    first[:50], second[:51] = True, True
    found = border_distances(first, second, spacing=(2, 1, 1))
    assert (found.hd, found.hd95_directed_voxel) == (2, 2)


def test_discs_differ_by_their_radii():
    rows, columns = np.mgrid[:128, :128] - 64
    radius = np.hypot(rows, columns)
    assert border_distances(radius <= 40, radius <= 25).hd == pytest.approx(15, abs=1)


def both(seed, shape=(48, 40), **spacing):
    prediction, truth = blob(shape, seed), blob(shape, seed, shift=0.4)
    one_hot = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (prediction, truth)]
    return border_distances(prediction, truth, **spacing), one_hot


@pytest.mark.parametrize("spacing", [None, (0.3, 0.3), (3.0, 1.0), (0.7, 1.9)])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_monai_in_2d(seed, spacing):
    check_against_monai(*both(seed, spacing=spacing), spacing)


@pytest.mark.parametrize("spacing", [None, (2.5, 0.8, 1.1)])
def test_agrees_with_monai_in_3d(spacing):
    check_against_monai(*both(5, (20, 24, 18), spacing=spacing), spacing)


def check_against_monai(found, one_hot, spacing):
    options = {"include_background": True, "spacing": spacing}
    hd = compute_hausdorff_distance(*one_hot, **options).item()
    hd95 = compute_hausdorff_distance(*one_hot, percentile=95, **options).item()
    assd = compute_average_surface_distance(*one_hot, symmetric=True, **options).item()
    directed = [compute_average_surface_distance(*pair, **options).item() for pair in (one_hot, one_hot[::-1])]
    near = compute_surface_dice(*one_hot, class_thresholds=[1.0], **options).item()
    ours = (found.hd, found.hd95_directed_voxel, found.assd, found.masd, found.nsd(1.0))
    assert ours == pytest.approx((hd, hd95, assd, sum(directed) / 2, near), abs=1e-5)


@pytest.mark.parametrize("seed", range(2))
def test_hd_agrees_with_torchmetrics(seed):
    prediction, truth = (blob((32, 32), seed, shift=shift) for shift in (0, 0.5))
    oracle = HausdorffDistance(num_classes=2, input_format="index", include_background=False)
    oracle.update(torch.from_numpy(prediction)[None].long(), torch.from_numpy(truth)[None].long())
    assert border_distances(prediction, truth).hd == pytest.approx(oracle.compute().item(), abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), shape=st.sampled_from([(9, 12), (1, 7), (6, 1), (5, 6, 7), (1, 4, 2)]))
def test_table_tree_and_distance_transform_agree(seed, shape):
    draw = np.random.default_rng(seed)
    prediction, truth = draw.random((2, *shape)) < 0.5
    prediction.flat[0] = truth.flat[-1] = True
    spacing = tuple(draw.uniform(0.5, 2, len(shape)))
    by_table, by_tree = border_distances(prediction, truth), border_distances(prediction, truth, spacing=spacing)
    cross = ndimage.generate_binary_structure(len(shape), 1)
    border = [mask & ~ndimage.binary_erosion(mask, cross) for mask in (prediction, truth)]
    for found, steps in ((by_table, None), (by_tree, spacing)):
        to_truth = ndimage.distance_transform_edt(~border[1], sampling=steps)[border[0]]
        to_prediction = ndimage.distance_transform_edt(~border[0], sampling=steps)[border[1]]
        assert np.sort(found.to_truth) == pytest.approx(np.sort(to_truth), abs=1e-9)
        assert np.sort(found.to_prediction) == pytest.approx(np.sort(to_prediction), abs=1e-9)


EMPTY = np.zeros((64, 64), bool)


@pytest.mark.parametrize("shape", [(64, 64), (8, 9, 10)])
def test_both_empty_is_perfect(shape):
    assert values(np.zeros(shape, bool), np.zeros(shape, bool)) == (0, 0, 0, 0, 1)


@pytest.mark.parametrize("pair", [(EMPTY, square(3, 3, 4)), (square(3, 3, 1), EMPTY)], ids=["missed", "false alarm"])
def test_one_empty_is_infinite(pair):
    assert values(*pair) == (math.inf, math.inf, math.inf, math.inf, 0)


def test_image_edge_is_border():
    full = np.ones((10, 10), bool)
    assert border_distances(full, full).to_truth.size == 36


def test_diagonal_is_physical():
    assert diagonal((64, 64)) == pytest.approx(90.5097, abs=1e-4)
    assert diagonal((30, 40), (2.0, 1.0)) == pytest.approx(math.hypot(60, 40))


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=60), st.sampled_from([0, 5, 50, 95, 100]))
def test_percentile_is_numpys(numbers, percent):
    array = np.array(numbers)
    assert percentile(array, percent) == pytest.approx(np.percentile(array, percent), abs=1e-9)


@pytest.mark.parametrize(
    ("prediction", "truth", "spacing", "message"),
    [
        (EMPTY, EMPTY[:5], None, r"masks are \(64, 64\) and \(5, 64\)"),
        (EMPTY[0], EMPTY[0], None, "2D or two 3D"),
        (EMPTY, EMPTY, (1, 0), r"spacing \(1.0, 0.0\)"),
        (EMPTY, EMPTY, (1, 1, 1), "does not fit 2 axes"),
        (EMPTY, np.full((64, 64), 2, np.uint8), None, "truth of dtype uint8 is not a mask of 0 and 1"),
        (np.full((64, 64), np.nan), EMPTY, None, "prediction of dtype float64"),
    ],
)
def test_bad_input_is_named(prediction, truth, spacing, message):
    with pytest.raises(ScoreError, match=message):
        border_distances(prediction, truth, spacing=spacing)
