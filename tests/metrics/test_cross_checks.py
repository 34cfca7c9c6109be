"""What other tools say of the same masks: the same number where the definition agrees, theirs where it does not.

Each check names the definition and the tolerance. A different number of theirs is asserted too, so that a change of
theirs is noticed. Masks of 64 x 64, pixel size (1, 1), tolerance 1 unless said otherwise.
"""

import math
import warnings

import numpy as np
import pytest
import segmentation_models_pytorch.metrics as smp
import SimpleITK as sitk  # noqa: N813
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import (
    compute_average_surface_distance,
    compute_dice,
    compute_hausdorff_distance,
    compute_iou,
    compute_surface_dice,
)
from scipy import ndimage
from torchmetrics.segmentation import DiceScore, HausdorffDistance

from medseg.metrics.overlap import confusion_counts
from medseg.metrics.surface import border_distances
from medseg.scores import overlap

inf, nan = math.inf, math.nan


def square(top, left, height, width=None, size=64):
    mask = np.zeros((size, size), bool)
    mask[top : top + height, left : left + (width or height)] = True
    return mask


def blobs(shape, seed):
    draw = np.random.default_rng(seed)
    field, other = (ndimage.gaussian_filter(draw.normal(size=shape), 3) for _ in range(2))
    return field > 0.02, field + 0.5 * other > 0.02


def dice_of(prediction, truth):
    return float(overlap(confusion_counts(prediction, truth, 2)[1]).dice)


EMPTY, PIXEL = np.zeros((64, 64), bool), square(30, 30, 1)
SHIFTED = square(11, 10, 10), square(10, 10, 10)
NESTED = square(10, 10, 20), square(15, 15, 10)
APART = square(10, 10, 1), square(13, 14, 1)
FAR = square(0, 0, 10), square(0, 0, 10)
FAR[0][55, 5] = True
MISSED = square(0, 0, 10), square(0, 0, 10) | square(35, 35, 4)
BOTH, NO_TRUTH, NO_PREDICTION = (EMPTY, EMPTY), (PIXEL, EMPTY), (EMPTY, PIXEL)


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# MONAI: voxel centres, the larger of two directed percentiles, pooled mean; float32, 1e-5.


def monai(pair, measure, **options):
    tensors = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in pair]
    return measure(*tensors, include_background=True, **options).item()


@pytest.mark.parametrize(
    "pair", [SHIFTED, NESTED, APART, FAR, MISSED], ids=["shifted", "nested", "apart", "far", "missed"]
)
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (3.0, 1.0)])
def test_monai_has_our_definitions_to_1e_5(pair, spacing):
    found = border_distances(*pair, spacing=spacing)
    assert monai(pair, compute_hausdorff_distance, spacing=spacing) == pytest.approx(found.hd, abs=1e-5)
    hd95 = monai(pair, compute_hausdorff_distance, spacing=spacing, percentile=95)
    assert hd95 == pytest.approx(found.hd95_directed_voxel, abs=1e-5)
    assd = monai(pair, compute_average_surface_distance, spacing=spacing, symmetric=True)
    assert assd == pytest.approx(found.assd, abs=1e-5)
    near = monai(pair, compute_surface_dice, spacing=spacing, class_thresholds=[1.0])
    assert near == pytest.approx(found.nsd(1), abs=1e-5)
    assert monai(pair, compute_dice) == pytest.approx(dice_of(*pair), abs=1e-5)


def test_monai_weighs_elements_when_asked_for_subvoxels():
    """NSD by length of surface elements: .7553 for the shift at (3, 1); by pixels, ours and its default, 5/9."""
    options = {"spacing": (3.0, 1.0), "class_thresholds": [1.0], "use_subvoxels": True}
    assert monai(SHIFTED, compute_surface_dice, **options) == pytest.approx(0.755348, abs=1e-4)
    assert border_distances(*SHIFTED, spacing=(3, 1)).nsd(1) == pytest.approx(5 / 9)


MONAI_EMPTY = {  # Dice, HD, HD95, NSD of MONAI; ours are 1, 0, 0, 1 for both empty, else 0, inf, inf, 0
    "both": (BOTH, (nan, nan, nan, nan)),
    "no truth": (NO_TRUTH, (nan, inf, nan, 0)),
    "no prediction": (NO_PREDICTION, (0, inf, nan, 0)),
}


@pytest.mark.parametrize("name", MONAI_EMPTY)
def test_monai_drops_empty_masks_that_we_count(name):
    pair, expected = MONAI_EMPTY[name]
    theirs = (
        monai(pair, compute_dice),
        monai(pair, compute_hausdorff_distance),
        monai(pair, compute_hausdorff_distance, percentile=95),
        monai(pair, compute_surface_dice, class_thresholds=[1.0]),
    )
    assert theirs == pytest.approx(expected, nan_ok=True)
    found = border_distances(*pair)
    ours = (dice_of(*pair), found.hd, found.hd95_directed_voxel, found.nsd(1))
    assert ours == ((1, 0, 0, 1) if name == "both" else (0, inf, inf, 0))


def test_monai_counts_two_empty_masks_only_when_told():
    assert monai(BOTH, compute_dice, ignore_empty=False) == monai(BOTH, compute_iou, ignore_empty=False) == 1
    assert math.isnan(monai(BOTH, compute_iou))


# torchmetrics: plain HD over voxel centres; float32, 1e-5.


def torchmetrics_hd(pair):
    score = HausdorffDistance(num_classes=2, input_format="index", include_background=False)
    score.update(*(torch.from_numpy(mask[None]).long() for mask in pair))
    return score.compute().item()


def torchmetrics_dice(pair):
    score = DiceScore(num_classes=2, input_format="index", include_background=False, average="macro")
    score.update(*(torch.from_numpy(mask[None]).long() for mask in pair))
    return score.compute().item()


@pytest.mark.parametrize(
    "pair", [SHIFTED, NESTED, APART, FAR, MISSED], ids=["shifted", "nested", "apart", "far", "missed"]
)
def test_torchmetrics_has_our_hd_and_dice_to_1e_5(pair):
    assert torchmetrics_hd(pair) == pytest.approx(border_distances(*pair).hd, abs=1e-5)
    assert torchmetrics_dice(pair) == pytest.approx(dice_of(*pair), abs=1e-5)


def test_torchmetrics_has_no_number_for_two_empty_masks():
    assert math.isnan(torchmetrics_dice(BOTH))
    with pytest.raises(RuntimeError):
        torchmetrics_hd(BOTH)
    for pair in (NO_TRUTH, NO_PREDICTION):
        assert (torchmetrics_dice(pair), torchmetrics_hd(pair)) == (0, inf)


# segmentation-models-pytorch: counts of one image, zero_division where a denominator is 0; 1e-6.


def smp_scores(pair, **options):
    counts = smp.get_stats(*(torch.from_numpy(mask[None, None]).long() for mask in pair), mode="binary")
    chosen = {"reduction": "micro-imagewise", **options}
    return tuple(measure(*counts, **chosen).item() for measure in (smp.f1_score, smp.iou_score, smp.sensitivity))


def test_smp_has_our_overlap_and_calls_an_undefined_sensitivity_perfect():
    assert smp_scores(NESTED) == pytest.approx((0.4, 0.25, 1), abs=1e-6)
    found = overlap(confusion_counts(*NESTED, 2)[1])
    assert (float(found.dice), float(found.iou), float(found.sensitivity)) == pytest.approx((0.4, 0.25, 1))
    assert smp_scores(BOTH) == (1, 1, 1)
    assert smp_scores(BOTH, zero_division=0) == (0, 0, 0)
    assert smp_scores(NO_TRUTH) == (0, 0, 1)  # ours: sensitivity NaN
    assert smp_scores(NO_PREDICTION) == (0, 0, 0)
    assert np.isnan(overlap(confusion_counts(*NO_TRUTH, 2)[1]).sensitivity)


# medpy: voxel centres, percentile and mean of the pooled distances; float64, 1e-9.


@pytest.mark.parametrize("spacing", [None, (2.5, 0.8), (2.5, 0.8, 1.1)])
@pytest.mark.parametrize("seed", range(2))
def test_medpy_has_the_pooled_definitions_to_1e_9(seed, spacing):
    metric = pytest.importorskip("medpy.metric.binary")
    pair = blobs((40, 44) if spacing is None or len(spacing) == 2 else (14, 16, 18), seed)
    found = border_distances(*pair, spacing=spacing)
    assert metric.hd(*pair, voxelspacing=spacing) == pytest.approx(found.hd, abs=1e-9)
    assert metric.hd95(*pair, voxelspacing=spacing) == pytest.approx(found.hd95_pooled_voxel, abs=1e-9)
    assert metric.assd(*pair, voxelspacing=spacing) == pytest.approx(found.assd, abs=1e-9)
    directed = [metric.asd(*order, voxelspacing=spacing) for order in (pair, pair[::-1])]
    assert sum(directed) / 2 == pytest.approx(found.masd, abs=1e-9)
    assert metric.dc(*pair) == pytest.approx(dice_of(*pair), abs=1e-12)


@pytest.mark.parametrize(
    ("pair", "theirs", "ours"), [(NESTED, 6.403124, 6.570110), (MISSED, 39.522044, 40.070467), (FAR, 0, 0)]
)
def test_medpys_hd95_is_not_the_directed_one(pair, theirs, ours):
    metric = pytest.importorskip("medpy.metric.binary")
    assert metric.hd95(*pair) == pytest.approx(theirs, abs=1e-5)
    assert border_distances(*pair).hd95_pooled_voxel == pytest.approx(theirs, abs=1e-5)
    assert border_distances(*pair).hd95_directed_voxel == pytest.approx(ours, abs=1e-5)


@pytest.mark.parametrize("pair", [BOTH, NO_TRUTH, NO_PREDICTION])
def test_medpy_has_no_distance_for_an_empty_mask(pair):
    metric = pytest.importorskip("medpy.metric.binary")
    for measure in (metric.hd, metric.hd95, metric.assd):
        with pytest.raises(RuntimeError, match="does not contain any binary object"):
            measure(*pair)


# surface-distance (DeepMind): elements between pixels, weighted by length or area; its numbers differ from ours.


def elements(pair, spacing=(1, 1)):
    tool = pytest.importorskip("surface_distance.metrics")
    prediction, truth = pair
    found = tool.compute_surface_distances(truth, prediction, spacing)
    to_prediction, to_truth = tool.compute_average_surface_distance(found)
    return {
        "hd": tool.compute_robust_hausdorff(found, 100),
        "hd95": tool.compute_robust_hausdorff(found, 95),
        "means": (to_prediction, to_truth),
        "nsd": tool.compute_surface_dice_at_tolerance(found, 1),
        "overlap": tool.compute_surface_overlap_at_tolerance(found, 1),
    }


@pytest.mark.parametrize(
    ("pair", "spacing", "number", "theirs", "ours"),
    [
        (NESTED, (1, 1), "hd95", 6.403124, 6.570110),
        (FAR, (1, 1), "hd95", 45.0, 0.0),
        (SHIFTED, (3, 1), "nsd", 0.755348, 5 / 9),
        (APART, (1, 1), "hd", 5.0, 5.0),
    ],
)
def test_surface_distance_measures_elements(pair, spacing, number, theirs, ours):
    found = border_distances(*pair, spacing=spacing)
    values = {"hd": found.hd, "hd95": found.hd95_directed_voxel, "nsd": found.nsd(1)}
    assert elements(pair, spacing)[number] == pytest.approx(theirs, abs=1e-5)
    assert values[number] == pytest.approx(ours, abs=1e-5)


def test_surface_distance_puts_single_pixels_nearer_on_average():
    """Two pixels 5 apart: the mean of their elements is 4.3301, of their centres 5."""
    assert elements(APART)["means"] == pytest.approx((4.3301, 4.3301), abs=1e-4)
    assert border_distances(*APART).masd == 5


def test_surface_distance_on_its_own_slabs():
    """0:50 against 0:51 of 100^3 at (2, 1, 1), to the three digits of its own test; Dice by counts agrees."""
    truth, prediction = np.zeros((2, 100, 100, 100), bool)
    truth[:50], prediction[:51] = True, True
    theirs = elements((prediction, truth), (2, 1, 1))
    assert theirs["means"] == pytest.approx((0.322, 0.339), abs=1e-3)
    assert (theirs["hd"], theirs["hd95"]) == pytest.approx((2, 2))
    assert theirs["overlap"] == pytest.approx((0.842, 0.830), abs=1e-3)
    assert theirs["nsd"] == pytest.approx(0.836, abs=1e-3)
    assert dice_of(prediction, truth) == pytest.approx(0.990, abs=1e-3)
    ours = border_distances(prediction, truth, spacing=(2, 1, 1))
    assert (ours.hd, ours.hd95_directed_voxel) == (2, 2)
    assert (ours.masd, ours.nsd(1)) == pytest.approx((0.495, 0.755), abs=1e-3)


@pytest.mark.parametrize(("pair", "nsd"), [(BOTH, nan), (NO_TRUTH, 0), (NO_PREDICTION, 0)])
def test_surface_distance_finds_two_empty_masks_infinitely_far_apart(pair, nsd):
    found = elements(pair)
    assert (found["hd"], found["hd95"]) == (inf, inf)
    assert found["nsd"] == pytest.approx(nsd, nan_ok=True)


def test_surface_distances_dice_needs_an_older_numpy_for_two_empty_masks():
    """It means to answer NaN, by a name that numpy 2 has no more."""
    tool = pytest.importorskip("surface_distance.metrics")
    assert tool.compute_dice_coefficient(EMPTY, PIXEL) == tool.compute_dice_coefficient(PIXEL, EMPTY) == 0
    with pytest.raises(AttributeError, match="NaN"):
        tool.compute_dice_coefficient(EMPTY, EMPTY)


# SimpleITK: Hausdorff over all pixels of the filled masks; overlap by counts; 1e-6.


def itk(pair):
    return [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in pair]


def itk_hd(pair):
    tool = sitk.HausdorffDistanceImageFilter()
    tool.Execute(*itk(pair))
    return tool.GetHausdorffDistance()


@pytest.mark.parametrize("pair", [SHIFTED, NESTED, APART, FAR], ids=["shifted", "nested", "apart", "far"])
def test_simpleitk_has_our_hd_where_the_farthest_pixel_is_on_a_border(pair):
    assert itk_hd(pair) == pytest.approx(border_distances(*pair).hd, abs=1e-6)
    tool = sitk.LabelOverlapMeasuresImageFilter()
    tool.Execute(*itk(pair))
    assert tool.GetDiceCoefficient() == pytest.approx(dice_of(*pair), abs=1e-9)


def test_simpleitks_hd_is_of_filled_masks():
    """A square inside a square: the small one's border is 5 deep in the other and still at distance 0 from it."""
    ring = square(10, 10, 20) & ~square(15, 15, 10)
    filled = [ndimage.distance_transform_edt(~mask) for mask in (square(10, 10, 20), ring)]
    expected = max(filled[1][square(10, 10, 20)].max(), filled[0][ring].max())
    assert itk_hd((square(10, 10, 20), ring)) == pytest.approx(expected) == pytest.approx(5)
    core = square(10, 10, 20) & ~square(19, 19, 2)
    assert itk_hd((square(10, 10, 20), core)) == pytest.approx(1)
    assert border_distances(square(10, 10, 20), core).hd == 8  # the hole's border, to the outer one


@pytest.mark.parametrize("pair", [BOTH, NO_TRUTH, NO_PREDICTION])
def test_simpleitk_has_no_hd_for_an_empty_mask(pair):
    with pytest.raises(RuntimeError):
        itk_hd(pair)


# scipy: voxel centres by a distance transform of the whole image; float64, 1e-9.


@pytest.mark.parametrize("spacing", [None, (0.4, 1.7), (3.0, 0.5, 0.5)])
def test_scipys_distance_transform_has_every_number_to_1e_9(spacing):
    pair = blobs((50, 41) if spacing is None or len(spacing) == 2 else (12, 18, 17), 3)
    borders = [mask & ~ndimage.binary_erosion(mask) for mask in pair]
    first = ndimage.distance_transform_edt(~borders[1], sampling=spacing)[borders[0]]
    second = ndimage.distance_transform_edt(~borders[0], sampling=spacing)[borders[1]]
    pooled, found = np.concatenate([first, second]), border_distances(*pair, spacing=spacing)
    assert found.hd == pytest.approx(pooled.max(), abs=1e-9)
    assert found.hd95_directed_voxel == pytest.approx(
        max(np.percentile(side, 95) for side in (first, second)), abs=1e-9
    )
    assert found.hd95_pooled_voxel == pytest.approx(np.percentile(pooled, 95), abs=1e-9)
    assert found.assd == pytest.approx(pooled.mean(), abs=1e-9)
    assert found.masd == pytest.approx((first.mean() + second.mean()) / 2, abs=1e-9)
    assert found.nsd(1) == pytest.approx((pooled <= 1).mean(), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), spacing=st.tuples(*[st.floats(0.1, 5)] * 3), gap=st.integers(0, 9))
def test_near_and_far_voxels_of_a_volume_have_scipys_distances_to_1e_9(seed, spacing, gap):
    """Both ways of finding a neighbour in 3D: looked up within three steps, from a tree beyond; any spacing."""
    pair = [np.pad(mask, ((0, gap), (0, 0), (0, 0))) for mask in blobs((9, 10, 11), seed)]
    pair[1] = np.roll(pair[1], gap, axis=0)
    pair[0][0, 0, 0] = pair[1][-1, -1, -1] = True
    borders = [mask & ~ndimage.binary_erosion(mask) for mask in pair]
    found = border_distances(*pair, spacing=spacing)
    for side, (this, other) in zip((found.to_truth, found.to_prediction), (borders, borders[::-1]), strict=True):
        assert side == pytest.approx(ndimage.distance_transform_edt(~other, sampling=spacing)[this], abs=1e-9)
