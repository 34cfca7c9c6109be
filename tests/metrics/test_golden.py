"""Reference vectors of the metric contract: worked out by hand, or published by the tools named beside them.

Masks of 64 x 64 with a pixel size of (1, 1) and a tolerance of 1 unless said otherwise. How other tools answer the same
masks is in ``test_cross_checks``.
"""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg.metrics.boundary import boundary_iou
from medseg.metrics.calibration import reliability_bins
from medseg.metrics.lesion import match_lesions
from medseg.metrics.overlap import confusion_counts
from medseg.metrics.skeleton import cldice
from medseg.metrics.surface import border_distances, diagonal
from medseg.scores import overlap, penalised, pooled

inf, nan = math.inf, math.nan


def square(top, left, height, width=None, size=64):
    mask = np.zeros((size, size), bool)
    mask[top : top + height, left : left + (width or height)] = True
    return mask


def overlap_of(prediction, truth):
    found = overlap(confusion_counts(prediction, truth, 2)[1])
    return tuple(float(value) for value in (found.dice, found.iou, found.sensitivity, found.precision))


NAMES = ("hd", "hd95_directed_voxel", "hd95_pooled_voxel", "assd", "masd")


def distances_of(prediction, truth, *, spacing=None):
    found = border_distances(prediction, truth, spacing=spacing)
    return (*(getattr(found, name) for name in NAMES), found.nsd(1))


EMPTY, PIXEL = np.zeros((64, 64), bool), square(30, 30, 1)
FAR = square(0, 0, 10)
FAR[55, 5] = True
SECOND = square(0, 0, 10) | square(35, 35, 4)

OVERLAP = {  # prediction, truth, (Dice, IoU, sensitivity, precision)
    "both empty": (EMPTY, EMPTY, (1, 1, nan, nan)),
    "reference empty": (PIXEL, EMPTY, (0, 0, nan, 0)),
    "prediction empty": (EMPTY, PIXEL, (0, 0, 0, 0)),
    "10x10 shifted by 1": (square(11, 10, 10), square(10, 10, 10), (0.9, 9 / 11, 0.9, 0.9)),
    "20x20 against its centre 10x10": (square(10, 10, 20), square(15, 15, 10), (0.4, 0.25, 1, 0.25)),
    "a far pixel": (FAR, square(0, 0, 10), (200 / 201, 100 / 101, 1, 100 / 101)),
}


@pytest.mark.parametrize("name", OVERLAP)
def test_overlap_vectors(name):
    prediction, truth, expected = OVERLAP[name]
    assert overlap_of(prediction, truth) == pytest.approx(expected, abs=1e-12, nan_ok=True)


DISTANCES = {  # prediction, truth, spacing, (HD, HD95 directed, HD95 pooled, ASSD, MASD, NSD)
    "both empty": (EMPTY, EMPTY, None, (0, 0, 0, 0, 0, 1)),
    "reference empty": (PIXEL, EMPTY, None, (inf, inf, inf, inf, inf, 0)),
    "prediction empty": (EMPTY, PIXEL, None, (inf, inf, inf, inf, inf, 0)),
    "10x10 shifted by 1": (square(11, 10, 10), square(10, 10, 10), None, (1, 1, 1, 0.5, 0.5, 1)),
    "the same, spacing (3, 1)": (square(11, 10, 10), square(10, 10, 10), (3, 1), (3, 3, 3, 4 / 3, 4 / 3, 5 / 9)),
    "two pixels 3-4-5 apart": (square(10, 10, 1), square(13, 14, 1), None, (5, 5, 5, 5, 5, 0)),
    "20x20 against its centre 10x10": (
        *(square(10, 10, 20), square(15, 15, 10), None),
        (math.sqrt(50), 6.570110, 6.403124, 5.268128, 5.197568, 0),
    ),
    "a far pixel": (FAR, square(0, 0, 10), None, (46, 0, 0, 46 / 73, 46 / 37 / 2, 72 / 73)),
    "a missed second lesion": (
        square(0, 0, 10),
        SECOND,
        None,
        (41.012193, 40.070467, 39.522044, 5.558746, 4.863903, 72 / 84),
    ),
}


@pytest.mark.parametrize("name", DISTANCES)
def test_distance_vectors(name):
    prediction, truth, spacing, expected = DISTANCES[name]
    found = distances_of(prediction, truth, spacing=spacing)
    for measure, ours, number in zip((*NAMES, "nsd"), found, expected, strict=True):
        assert ours == pytest.approx(number, abs=1e-6), measure


@pytest.mark.parametrize("name", ["reference empty", "prediction empty"])
def test_what_does_not_exist_costs_the_diagonal_in_a_mean(name):
    prediction, truth, *_ = DISTANCES[name]
    assert diagonal((64, 64)) == pytest.approx(90.5097, abs=5e-5)
    assert penalised(distances_of(prediction, truth)[:5], diagonal((64, 64))) == pytest.approx([90.5097] * 5, abs=5e-5)


@pytest.mark.parametrize("measure", [boundary_iou, cldice, lambda *pair: match_lesions(*pair).f1])
def test_shares_of_empty_masks(measure):
    assert measure(EMPTY, EMPTY) == 1
    assert measure(PIXEL, EMPTY) == measure(EMPTY, PIXEL) == 0


def test_slabs_in_a_volume():
    """0:50 against 0:51 of 100^3 at (2, 1, 1), the test vector of DeepMind's surface-distance, on voxel centres.

    Borders have 39008 and 39404 voxels. From the far face of the longer slab all 10000 voxels lie 2 away; from the
    shorter one's, the 96^2 inner ones 2, a ring of 388 finds the other's side at 1, the rim lies on it.
    """
    truth, prediction = np.zeros((2, 100, 100, 100), bool)
    truth[:50], prediction[:51] = True, True
    found = border_distances(prediction, truth, spacing=(2, 1, 1))
    assert (found.to_truth.size, found.to_prediction.size) == (39404, 39008)
    assert (found.hd, found.hd95_directed_voxel, found.hd95_pooled_voxel) == (2, 2, 2)
    assert found.assd == pytest.approx((20000 + 96**2 * 2 + 388) / 78412)
    assert found.masd == pytest.approx((20000 / 39404 + (96**2 * 2 + 388) / 39008) / 2)
    assert found.nsd(1) == pytest.approx(1 - (10000 + 96**2) / 78412)
    assert overlap_of(prediction, truth)[0] == pytest.approx(100 / 101)


def test_micro_dice_hides_a_missed_small_nodule():
    """A nodule of 100 pixels found, one of 1 pixel missed: 200 / 201 = .995 over all pixels, .5 over images."""
    big, small = square(10, 10, 10), PIXEL
    counts = np.stack([confusion_counts(big, big, 2), confusion_counts(EMPTY, small, 2)])
    assert pooled(counts).f1[1] == pytest.approx(0.995, abs=5e-4)
    assert overlap(counts[:, 1]).dice.mean() == pytest.approx(0.5)


def test_means_of_batch_means_overweigh_a_short_last_batch():
    """A batch of 37 hits and a last one of 13 misses: .74 over cases, .50 over batches."""
    hit, miss = (confusion_counts(PIXEL, truth, 2)[1] for truth in (PIXEL, EMPTY))
    dice = overlap(np.stack([hit] * 37 + [miss] * 13)).dice
    assert dice.mean() == pytest.approx(0.74)
    assert np.mean([dice[:37].mean(), dice[37:].mean()]) == pytest.approx(0.5)


def blob(shape, seed, *, shift=0.0):
    draw = np.random.default_rng(seed)
    field, other = (ndimage.gaussian_filter(draw.normal(size=shape), 2) for _ in range(2))
    return field / field.std() + shift * other / other.std() > 0.5


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    spacing=st.one_of(
        st.tuples(*[st.floats(0.1, 5)] * 2), st.tuples(*[st.floats(0.1, 5)] * 3), st.just((0.7, 0.7)), st.just(None)
    ),
    factor=st.floats(0.1, 10),
)
def test_laws_of_distances(seed, spacing, factor):
    """Symmetry, growth with the pixel size, order of the numbers, NSD growing with the tolerance, spacing included."""
    shape = (18, 21) if spacing is None or len(spacing) == 2 else (7, 9, 8)
    prediction, truth = blob(shape, seed), blob(shape, seed, shift=0.6)
    prediction.flat[0] = truth.flat[-1] = True
    found = border_distances(prediction, truth, spacing=spacing)
    swapped = border_distances(truth, prediction, spacing=spacing)
    grown = border_distances(prediction, truth, spacing=np.multiply(spacing or (1.0,) * len(shape), factor))
    for name in NAMES:
        assert getattr(swapped, name) == pytest.approx(getattr(found, name))
        assert getattr(grown, name) == pytest.approx(getattr(found, name) * factor)
    for smaller in (found.hd95_directed_voxel, found.hd95_pooled_voxel, found.assd, found.masd):
        assert found.hd + 1e-9 >= smaller >= 0
    assert found.hd <= diagonal(shape, spacing)
    tolerances = sorted({0.0, 0.5, 1.0, 2.0, found.hd})
    shares = [found.nsd(tolerance) for tolerance in tolerances]
    assert shares == sorted(shares)
    assert found.nsd(found.hd) == 1
    assert grown.nsd(2 * factor * (1 + 1e-9)) == found.nsd(2 * (1 + 1e-9))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), shape=st.sampled_from([(24, 27), (8, 10, 9)]))
def test_laws_of_shares(seed, shape):
    """Symmetric, within 0 to 1, 1 for equal masks; lesions swap their roles with the masks."""
    prediction, truth = blob(shape, seed), blob(shape, seed, shift=0.6)
    prediction.flat[0] = truth.flat[-1] = True
    for measure in (boundary_iou, cldice):
        assert measure(prediction, truth) == pytest.approx(measure(truth, prediction))
        assert 0 <= measure(prediction, truth) <= 1
        assert measure(truth, truth) == 1
    found, swapped = match_lesions(prediction, truth), match_lesions(truth, prediction)
    assert (found.missed_lesions, found.split_lesions) == (swapped.false_lesions, swapped.merged_lesions)
    assert match_lesions(truth, truth).f1 == 1


def peak_bytes(work):
    work()  # imports and caches are not what is measured
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def ellipsoids(shape):
    grids = np.ogrid[tuple(slice(-1, 1, size * 1j) for size in shape)]
    radius = np.sqrt(sum(grid**2 for grid in grids))
    return radius < 0.6, np.roll(radius < 0.58, 2, axis=0)


FLAT, DEEP = (1024, 1024), (256, 256, 128)


@pytest.mark.parametrize(
    ("measure", "limit", "shape"),
    [
        (border_distances, 10, FLAT),
        (boundary_iou, 20, FLAT),
        (match_lesions, 30, FLAT),
        pytest.param(cldice, 30, FLAT, marks=pytest.mark.slow),  # thinning takes one pass for each layer
        pytest.param(border_distances, 10, DEEP, marks=pytest.mark.slow),
        pytest.param(boundary_iou, 20, DEEP, marks=pytest.mark.slow),
        pytest.param(match_lesions, 30, DEEP, marks=pytest.mark.slow),
    ],
)
def test_memory_is_a_few_bytes_a_pixel(measure, limit, shape):
    """An all-pairs distance took over 24 GB at 1024^2; these stay within a few bytes a pixel of the masks' box.

    The trees for distances lie outside what is traced: about 0.1 kB for each border pixel.
    """
    prediction, truth = ellipsoids(shape)
    spans = [np.ptp(where) + 1 for where in np.nonzero(prediction | truth)]
    assert peak_bytes(lambda: measure(prediction, truth)) < limit * math.prod(int(span) for span in spans) + 2**20


def test_calibration_of_a_volume_takes_piece_after_piece():
    probability, truth = np.full((64, 256, 256), 0.25, np.float32), np.zeros((64, 256, 256), bool)
    assert peak_bytes(lambda: reliability_bins(probability, truth)) < 4 * truth.size
