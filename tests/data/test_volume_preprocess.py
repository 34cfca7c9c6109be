"""Preprocessing of volumes: labels are never invented, the way back is exact, missing channels stay zero."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_volumes import draw_volume
from medseg.data.volumes.preprocess import VolumePreprocess, undo_labels
from medseg.data.volumes.resample import (
    nearest_indices,
    resample_image,
    resample_labels,
    size_at,
    thick_axis,
)
from medseg.data.volumes.steps import (
    N4,
    ClipScale,
    HistogramMatch,
    Percentiles,
    Window,
    ZScore,
    standard_landmarks,
)
from medseg.errors import ConfigError, DataError
from medseg.types import IGNORE

SPACING = (2.0, 1.0, 1.0)
SIDES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
MILLIMETRES = st.tuples(*[st.floats(0.4, 4.0)] * 3)


def labels_of(seed: int, shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([0, 1, 4, IGNORE], np.uint8), shape)


@settings(max_examples=40, deadline=None)
@given(shape=SIDES, spacing=MILLIMETRES, target=MILLIMETRES, crop=st.booleans(), seed=st.integers(0, 99))
def test_labels_are_never_invented(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    target: tuple[float, float, float],
    crop: bool,
    seed: int,
) -> None:
    labels = labels_of(seed, shape)
    image = np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32) * (labels > 0)
    preprocess = VolumePreprocess(spacing=target, crop_nonzero=crop, interpolation="linear")
    there, moved, geometry = preprocess.do(image, labels, spacing=spacing)
    assert there.shape == (2, *geometry.size) == (2, *moved.shape)
    assert there.dtype == np.float32
    assert moved.dtype == np.uint8
    assert set(np.unique(moved)) <= set(np.unique(labels))
    back = undo_labels(moved, geometry)
    assert back.shape == shape
    assert set(np.unique(back)) <= set(np.unique(labels)) | {0}


@settings(max_examples=40, deadline=None)
@given(shape=SIDES, spacing=MILLIMETRES, crop=st.booleans(), asked=st.booleans(), seed=st.integers(0, 99))
def test_identity_spacing_there_and_back_is_exact(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], crop: bool, asked: bool, seed: int
) -> None:
    labels = labels_of(seed, shape)
    labels[tuple(slice(0, side // 2) for side in shape)] = 0
    image = (labels > 0).astype(np.float32)[None]
    preprocess = VolumePreprocess(spacing=spacing if asked else None, crop_nonzero=crop, normalise=None)
    there, moved, geometry = preprocess.do(image, labels, spacing=spacing)
    assert np.array_equal(undo_labels(moved, geometry), labels)
    z, y, x, depth, height, width = geometry.box
    assert np.array_equal(there[0], image[0, z : z + depth, y : y + height, x : x + width])


@settings(max_examples=60, deadline=None)
@given(old=st.integers(1, 40), new=st.integers(1, 40))
def test_nearest_indices_are_the_voxels_that_hold_the_centres(old: int, new: int) -> None:
    centres = (np.arange(new) + 0.5) * old / new
    expected = np.minimum(np.floor(np.round(centres, 9)).astype(int), old - 1)
    assert nearest_indices(old, new).tolist() == expected.tolist()


def test_labels_agree_with_torch_nearest_exact() -> None:
    import torch
    from torch.nn import functional

    labels = labels_of(1, (5, 9, 8))
    for size in [(10, 9, 16), (3, 4, 5), (7, 18, 3)]:
        theirs = functional.interpolate(torch.from_numpy(labels)[None, None].float(), size, mode="nearest-exact")
        assert np.array_equal(resample_labels(labels, size), theirs[0, 0].numpy().astype(np.uint8))


@pytest.mark.parametrize(("order", "mode"), [(1, "trilinear")])
def test_linear_resampling_agrees_with_torch(order: int, mode: str) -> None:
    import torch
    from torch.nn import functional

    image, _ = draw_volume(1, shape=(6, 8, 10), channels=2)
    ours = resample_image(image, (9, 12, 7), order=order)
    theirs = functional.interpolate(torch.from_numpy(image)[None], (9, 12, 7), mode=mode, align_corners=False)[0]
    assert np.abs(ours - theirs.numpy()).max() < 1e-3


def test_cubic_resampling_keeps_a_smooth_field_and_the_range() -> None:
    places = np.stack(np.meshgrid(*[(np.arange(side) + 0.5) / side for side in (16, 18, 20)], indexing="ij"))
    finer = np.stack(np.meshgrid(*[(np.arange(side) + 0.5) / side for side in (24, 27, 30)], indexing="ij"))
    field, truth = (np.sin(3 * p[0]) * np.cos(2 * p[1]) + p[2] for p in (places, finer))
    found = resample_image(field[None].astype(np.float32), (24, 27, 30))[0]
    inner = (slice(3, -3),) * 3
    assert np.abs(found - truth)[inner].max() < 2e-3
    step = np.zeros((1, 8, 8, 8), np.float32)
    step[..., 4:] = 1
    found = resample_image(step, (8, 8, 13))
    assert 0 <= found.min() <= found.max() <= 1


def test_thick_slices_are_resampled_apart_by_the_nearest_slice() -> None:
    assert thick_axis((10, 1.5, 1.5)) == 0
    assert thick_axis((3, 1, 1)) is None
    assert thick_axis((1, 5, 5)) is None
    assert thick_axis((1, 1, 6)) == 2
    values = np.repeat(np.array([10, 50, 90], np.float32), 36).reshape(1, 3, 6, 6)
    preprocess = VolumePreprocess(spacing=(5, 0.75, 0.75), normalise=None)
    image, _, geometry = preprocess.do(values, spacing=(10, 1.5, 1.5))
    assert geometry.size == (6, 12, 12)
    # No slice between two slices: each is one of the three measured.
    assert image[0, :, 0, 0].tolist() == pytest.approx([10, 10, 50, 50, 90, 90])
    mixed, _, _ = VolumePreprocess(spacing=(5, 0.75, 0.75), normalise=None, thick=99).do(values, spacing=(10, 1.5, 1.5))
    assert len(np.unique(mixed.round(2))) > 3


@pytest.mark.parametrize("order", [1, 3])
def test_slices_resampled_apart_agree_with_scikit_image(order: int) -> None:
    from skimage.transform import resize

    image, _ = draw_volume(2, shape=(4, 12, 10))
    together = resample_image(image, (4, 18, 15), order=order, thick=0)
    for ours, channel in zip(together[0], image[0], strict=True):
        theirs = resize(channel, (18, 15), order=order, mode="edge", anti_aliasing=False, clip=False)
        assert np.abs(ours - np.clip(theirs, image.min(), image.max())).max() < 1e-3


def test_sizes_keep_the_field_of_view() -> None:
    assert size_at((10, 20, 30), (2, 1, 1), (1, 1, 1)) == (20, 20, 30)
    assert size_at((10, 21, 30), (2, 1, 1), (None, 2, 0.5)) == (10, 11, 60)
    assert size_at((1, 2, 3), (1, 1, 1), (50, 50, 50)) == (1, 1, 1)
    with pytest.raises(DataError, match=r"10x20x30 from|spacing of the file or preprocess\.spacing is wrong"):
        size_at((10, 20, 30), (1000, 1000, 1000), (1, 1, 1))


def test_geometry_tells_crop_and_size() -> None:
    image = np.zeros((2, 8, 10, 12), np.float32)
    image[0, 2:5, 3:9, 1:3] = 1
    image[1, 4, 4, 7] = 1
    _, labels, geometry = VolumePreprocess(spacing=(1, 1, 1), crop_nonzero=True).do(
        image, np.ones((8, 10, 12), np.uint8), spacing=SPACING
    )
    assert geometry.native_size == (8, 10, 12)
    assert geometry.box == (2, 3, 1, 3, 6, 7)
    assert geometry.size == (6, 6, 7) == labels.shape
    assert geometry.spacing == SPACING
    back = undo_labels(labels, geometry)
    assert back[2:5, 3:9, 1:8].all()
    assert back.sum() == 3 * 6 * 7
    with pytest.raises(DataError, match="not on the network's grid"):
        undo_labels(labels[1:], geometry)


def test_missing_channels_stay_zero_and_do_not_decide_the_crop() -> None:
    image, labels = draw_volume(3, channels=3)
    image[1] = 77  # whatever stands in for the missing one
    everything = (N4(shrink=2, iterations=(3,)), Percentiles(1, 99), Window(0.5, 1.0))
    for normalise in (ZScore(), ZScore(nonzero=True), Percentiles(), Window(), ClipScale(-5, 5, 1, 2)):
        for spacing in (None, (1, 1, 1)):
            preprocess = VolumePreprocess(
                spacing=spacing, steps=everything, normalise=normalise, crop_nonzero=True, interpolation="linear"
            )
            found, _, geometry = preprocess.do(image, labels, spacing=SPACING, available=[True, False, True])
            assert (found[1] == 0).all()
            assert found[0].std() > 0
    body = np.argwhere(image[0] != 0)
    assert geometry.box[:3] == tuple(body.min(0))
    assert image[1].min() == 77, "the caller's image is not changed"


def test_values_beyond_half_precision_are_refused() -> None:
    image = np.full((1, 2, 2, 2), 1.7e6, np.float32)
    image[0, 0] = 0
    with pytest.raises(ConfigError, match=r"reach 1\.7e\+06, half precision ends at 65504; set preprocess\.normalise"):
        VolumePreprocess(normalise=None).do(image, spacing=SPACING)
    found, _, _ = VolumePreprocess().do(image, spacing=SPACING)
    assert np.isfinite(found.astype(np.float16)).all()


def test_wrong_input_is_refused() -> None:
    image, labels = draw_volume(4)
    preprocess = VolumePreprocess()
    with pytest.raises(DataError, match="image .* and labels .* differ in size"):
        preprocess.do(image, labels[1:], spacing=SPACING)
    with pytest.raises(DataError, match=r"give \(C, D, H, W\)"):
        preprocess.do(image[0], labels, spacing=SPACING)
    with pytest.raises(DataError, match=r"\(z, y, x\) mm"):
        preprocess.do(image, labels, spacing=(1, 0, 1))
    for available in ([False], [True, True]):
        with pytest.raises(DataError, match="availability"):
            preprocess.do(image, labels, spacing=SPACING, available=available)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacing": (1, 1)}, r"preprocess\.spacing"),
        ({"spacing": (1, 0, 1)}, r"preprocess\.spacing"),
        ({"spacing": (1, float("nan"), 1)}, r"preprocess\.spacing"),
        ({"interpolation": "nearest"}, "cubic or linear"),
        ({"steps": [np.abs]}, "no dataclass"),
    ],
)
def test_wrong_configuration_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VolumePreprocess(**options)


def test_recipe_is_one_line_that_tells_every_parameter() -> None:
    lists = VolumePreprocess(spacing=[1, 1.5, None], steps=[N4(iterations=[5, 5]), HistogramMatch([[0, 1]], [1, 99])])
    tuples = VolumePreprocess(spacing=(1, 1.5, None), steps=(N4(iterations=(5, 5)), HistogramMatch(((0, 1),), (1, 99))))
    assert lists.recipe == tuples.recipe
    assert "\n" not in lists.recipe
    changes = [
        {"spacing": (1, 1, 2)}, {"steps": [Window()]}, {"normalise": ZScore(nonzero=True)}, {"normalise": None},
        {"crop_nonzero": True}, {"interpolation": "linear"}, {"thick": 2.0},
    ]  # fmt: skip
    recipes = {VolumePreprocess(**change).recipe for change in [{}, *changes]}
    assert len(recipes) == len(changes) + 1


def test_zscore() -> None:
    image, _ = draw_volume(5, channels=2)
    found = ZScore()(image)
    assert np.allclose(found.mean((1, 2, 3)), 0, atol=1e-4)
    assert np.allclose(found.std((1, 2, 3)), 1, atol=1e-4)
    inside = ZScore(nonzero=True)(image)
    for before, after in zip(image, inside, strict=True):
        assert (after[before == 0] == 0).all()
        assert after[before != 0].mean() == pytest.approx(0, abs=1e-4)
        assert after[before != 0].std() == pytest.approx(1, abs=1e-4)
    assert (ZScore()(np.full((1, 3, 3, 3), 1e6 / 3, np.float32)) == 0).all()
    assert (ZScore(nonzero=True)(np.zeros((1, 3, 3, 3), np.float32)) == 0).all()


def test_zscore_with_an_offset_far_above_the_spread() -> None:
    values = np.random.default_rng(0).normal(1.7e6, 5, (1, 40, 40, 40)).astype(np.float32)
    found = ZScore()(values)
    assert abs(found.mean(dtype=np.float64)) < 1e-2
    assert found.std(dtype=np.float64) == pytest.approx(1, abs=1e-2)


def test_percentiles_window_and_clip_scale() -> None:
    ramp = np.arange(1001, dtype=np.float32).reshape(1, 1, 1, -1)
    found = Percentiles(10, 90)(ramp)[0, 0, 0]
    assert found[100] == pytest.approx(0)
    assert found[900] == pytest.approx(1)
    assert found[500] == pytest.approx(0.5)
    assert (found.min(), found.max()) == (0, 1)
    assert (Percentiles()(np.full((1, 2, 2, 2), 9, np.float32)) == 0).all()
    hounsfield = np.array([-1000, -160, 40, 240, 3000], np.float32).reshape(1, 1, 1, -1)
    assert Window(40, 400)(hounsfield).ravel().tolist() == [0, 0, 0.5, 1, 1]
    assert ClipScale(-200, 300, 50, 100)(hounsfield).ravel() == pytest.approx([-2.5, -2.1, -0.1, 1.9, 2.5])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Percentiles(60, 40),
        lambda: Window(width=0),
        lambda: ClipScale(3, 3),
        lambda: ClipScale(0, 1, 0, 0),
        lambda: N4(shrink=0),
        lambda: N4(iterations=()),
        lambda: HistogramMatch([[0, 1, 2]], [1, 99]),
        lambda: HistogramMatch([[1, 1]], [1, 99]),
    ],
)
def test_steps_refuse_what_makes_no_sense(wrong) -> None:
    with pytest.raises(ConfigError, match="preprocess step"):
        wrong()


def test_histogram_matching_undoes_another_scanner() -> None:
    trained = [draw_volume(seed)[0] for seed in range(3)]
    reference = standard_landmarks(trained)
    assert reference[0][0] == 0
    assert reference[0][-1] == 100
    match = HistogramMatch(reference)
    image, _ = draw_volume(9)
    other = np.where(image > 0, 3 * image + 40, 0).astype(np.float32)
    assert np.abs(match(image) - match(other)).max() < 1e-2
    assert (match(image)[image == 0] == 0).all()
    landmarks = np.percentile(match(image)[image != 0], match.percentiles)
    assert landmarks == pytest.approx(reference[0], abs=0.05)
    with pytest.raises(ConfigError, match="reference has 1 rows, the image 2"):
        match(np.concatenate([image, image]))
    with pytest.raises(ConfigError, match="no image"):
        standard_landmarks([])


def test_histogram_matching_keeps_the_order_of_grey_values() -> None:
    image, _ = draw_volume(9)
    image = np.floor(image / 20).astype(np.float32) * 20  # many equal values, equal landmarks
    values = np.unique(image[image != 0])
    matched = HistogramMatch(standard_landmarks([draw_volume(1)[0]]))(image)
    images = [np.unique(matched[image == value]) for value in values]
    assert all(len(one) == 1 for one in images)
    assert (np.diff(np.concatenate(images)) >= 0).all()
    constant = np.full((1, 2, 2, 2), 5, np.float32)
    assert np.array_equal(HistogramMatch([[0, 1]], [1, 99])(constant), constant)


def test_n4_flattens_a_bias_field() -> None:
    shape = (24, 28, 32)
    truth = np.where(draw_volume(3, shape=shape)[0][0] > 0, 100.0, 0)
    ramp = np.linspace(-0.5, 0.5, shape[2])
    biased = (truth * np.exp(ramp)).astype(np.float32)[None]
    found = N4(shrink=2, iterations=(20, 20))(biased)
    inside = truth > 0
    before = biased[0][inside].std() / biased[0][inside].mean()
    after = found[0][inside].std() / found[0][inside].mean()
    assert after < 0.25 * before
    assert (found[0][~inside] == 0).all()
    assert np.array_equal(found, N4(shrink=2, iterations=(20, 20))(biased)), "the same again, bit for bit"
    constant = np.full((1, 4, 4, 4), 3, np.float32)
    assert np.array_equal(N4()(constant), constant)


def test_steps_are_frozen_and_leave_their_input_alone() -> None:
    image, _ = draw_volume(6)
    steps = [
        ZScore(), ZScore(nonzero=True), Percentiles(), Window(), ClipScale(0, 200), N4(iterations=(2,)),
        HistogramMatch([[0.0, 100.0]], [1, 99]),
    ]  # fmt: skip
    for step in steps:
        kept = image.copy()
        found = step(image)
        assert np.array_equal(image, kept)
        assert found.shape == image.shape
        assert found.dtype == np.float32
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(step, dataclasses.fields(step)[0].name, 0)
