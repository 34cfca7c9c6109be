"""Augmentation of pictures: image and mask move alike, labels stay labels, seeds decide, physics has its signs."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import albumentations
import cv2
import numpy as np
import pytest
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from medseg.commands.configuration import compose as compose_config
from medseg.data.augment.pictures import Pictures, compose
from medseg.data.augment.probe import Depth, ProbeAngle
from medseg.data.augment.tone import Tone, gaussian_rows
from medseg.data.augment.ultrasound import DepthGain, Reverberation, Shadow, Speckle, speckle_decibels
from medseg.data.augment.warp import Warp, backward_matrix, elastic_map, resampled
from medseg.errors import ConfigError
from medseg.rng import generator
from medseg.types import IGNORE

CONF = Path(__file__).resolve().parents[2] / "conf" / "augment"
OPTIONS = sorted(path.stem for path in CONF.glob("*.yaml"))


@cache
def node(option: str) -> Any:
    return compose_config("train", [f"augment={option}"]).augment.in_2d


def configured(option: str, *, always: bool = False) -> Pictures:
    """Return the augmentation of an option, on demand with every transform certain."""
    augmentation = instantiate(node(option))
    for transform in augmentation.transforms if always else []:
        transform.p = 1.0
    return augmentation


def picture(seed: int, size: tuple[int, int], channels: int = 1, kind: type = np.uint8) -> np.ndarray:
    noise = generator(seed, "picture").normal(110, 45, (*size, channels))
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.0).reshape(*size, channels)
    return np.clip(smooth, 1, 254).astype(np.uint8) if kind is np.uint8 else ((smooth - 110) / 20).astype(np.float32)


def disc(size: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (np.hypot(rows - centre[0], columns - centre[1]) <= radius).astype(np.uint8)


def centroid(weights: np.ndarray) -> np.ndarray:
    places = np.indices(weights.shape).reshape(2, -1)
    return places @ weights.ravel() / weights.sum()


# ---- every option


@pytest.mark.parametrize("option", OPTIONS)
@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    size=st.tuples(st.integers(17, 70), st.integers(17, 70)),
    channels=st.sampled_from([1, 3, 5]),
    kind=st.sampled_from([np.uint8, np.float32]),
)
def test_every_transform_keeps_shape_type_and_labels(
    option: str, seed: int, size: tuple[int, int], channels: int, kind: type
) -> None:
    image = picture(seed, size, channels, kind)
    mask = generator(seed, "mask").choice(np.array([0, 3, IGNORE], np.uint8), size)
    before = image.copy(), mask.copy()
    for transform in configured(option, always=True).transforms:
        changed, labels = compose([transform])(image, mask, seed=seed)
        assert (changed.shape, changed.dtype) == (image.shape, image.dtype), transform
        assert (labels.shape, labels.dtype) == (mask.shape, mask.dtype), transform
        assert np.isfinite(changed).all(), transform
        assert set(np.unique(labels)) <= {0, 3, IGNORE}, transform
        assert np.array_equal(image, before[0]), transform
        assert np.array_equal(mask, before[1]), transform


@pytest.mark.parametrize("option", OPTIONS)
def test_image_and_mask_of_every_option_move_alike(option: str) -> None:
    moves = [
        item for item in configured(option, always=True).transforms if isinstance(item, albumentations.DualTransform)
    ]
    augmentation, size = compose(moves), (96, 83)
    for seed in range(20):
        mask = disc(size, (44.0, 47.0), 13)
        image, labels = augmentation(mask[..., None] * np.uint8(250), mask, seed=seed)
        if labels.sum() > 100:
            assert np.abs(centroid(image[..., 0].astype(float)) - centroid(labels.astype(float))).max() < 0.6
            assert image[..., 0].sum() / 250 == pytest.approx(labels.sum(), rel=0.06)


@pytest.mark.parametrize("option", OPTIONS)
def test_seeds_decide_alone(option: str) -> None:
    image, mask = picture(0, (41, 36)), disc((41, 36), (20, 18), 9)
    first, second = configured(option), configured(option)
    for seed in range(5):
        first(image, mask, seed=seed + 100)  # what was drawn before must not matter
        one, other = first(image, mask, seed=seed), second(image, mask, seed=seed)
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[1], other[1])
    results = {first(image, mask, seed=seed)[0].tobytes() for seed in range(20)}
    assert len(results) == 1 if option == "none" else len(results) > 10
    assert first.empty is (option == "none")


DIGEST = """
import hashlib, sys
import numpy as np
from hydra.utils import instantiate
from medseg.commands.configuration import compose
image = (np.arange(40 * 33) % 251).astype(np.uint8).reshape(40, 33, 1)
digest = hashlib.sha256()
for option in sys.argv[1:]:
    augmentation = instantiate(compose("train", [f"augment={option}"]).augment.in_2d)
    for seed in range(6):
        for part in augmentation(image, image[..., 0] // 100, seed=seed):
            digest.update(part.tobytes())
import medseg.data.augment.volumes
import medseg.data.augment.volume_warp
assert "monai" not in sys.modules, "training on pictures would pay for importing MONAI"
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_a_fresh_process_draws_the_same_and_pictures_do_not_import_monai(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        subprocess.run([sys.executable, "-c", DIGEST, *OPTIONS], capture_output=True, text=True, check=False)
        for _ in range(2)
    ]
    assert [run.returncode for run in runs] == [0, 0], runs[0].stderr
    assert runs[0].stdout == runs[1].stdout
    assert len(runs[0].stdout) == 65


def test_a_large_angle_comes_with_any_gamma() -> None:
    warp, tone = Warp(rotate=[-40, 40]), Tone(gamma=[0.5, 2])
    both, image = compose([warp, tone]), picture(1, (8, 8))
    angles, gammas = [], []
    for seed in range(1500):
        both(image, image[..., 0], seed=seed)
        matrix = warp.params["source"]
        angles.append(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
        gammas.append(np.log(tone.params["tone"].gamma))
    assert abs(np.corrcoef(angles, gammas)[0, 1]) < 4 / 1500**0.5
    assert stats.kstest(angles, stats.uniform(-40, 80).cdf).pvalue > 1e-3
    assert stats.kstest(gammas, stats.uniform(-np.log(2), 2 * np.log(2)).cdf).pvalue > 1e-3


def test_a_part_with_a_chance_happens_that_often_and_leaves_the_others_their_draws() -> None:
    image = picture(2, (20, 20))
    certain, seldom = (Warp(rotate=[5, 40], scale=[0.5, 2], chance=chance) for chance in (None, {"rotate": 0.3}))
    happened = 0
    for seed in range(300):
        for warp in (certain, seldom):
            compose([warp])(image, image[..., 0], seed=seed)
        matrices = [np.asarray(warp.params["source"])[:, :2] for warp in (certain, seldom)]
        assert np.linalg.det(matrices[0]) == pytest.approx(np.linalg.det(matrices[1]))
        happened += abs(matrices[1][0, 1]) > 1e-9
    assert 60 < happened < 120


@pytest.mark.parametrize("rotate", [0, 1e-6])  # by flips, and within the matrix
def test_mirrors_fall_on_each_axis_as_often_as_stated(rotate: float) -> None:
    image = np.dstack([np.arange(16, dtype=np.uint8).reshape(4, 4)] * 6)
    mirror = compose([Warp(mirror={"columns": 0.7, "rows": 0.3}, rotate=rotate)])
    expected = {0: 0.21, 3: 0.49, 12: 0.09, 15: 0.21}
    seen: Counter[int] = Counter()
    for seed in range(400):
        changed, labels = mirror(image, image[..., 0], seed=seed)
        assert (changed == labels[..., None]).all()
        seen[int(labels[0, 0])] += 1
    flips = {0: image, 3: image[:, ::-1], 12: image[::-1], 15: image[::-1, ::-1]}
    assert all(seen[corner] / 400 == pytest.approx(share, abs=0.08) for corner, share in expected.items())
    assert {int(flipped[0, 0, 0]) for flipped in flips.values()} == set(seen)


STILL: list[Callable[[], albumentations.BasicTransform]] = [
    Warp,
    Tone,
    partial(Shadow, drop=0, slope=0, p=1),
    partial(DepthGain, gain=0, overall=0, p=1),
    partial(Speckle, strength=0, p=1),
    partial(Reverberation, drop=1000, p=1),
    partial(Depth, factor=1, p=1),
    partial(ProbeAngle, tilt=0, bend=0, p=1),
]


@pytest.mark.parametrize("make", STILL, ids=lambda make: getattr(make, "func", make).__name__)
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_ranges_of_nothing_change_nothing(make: Callable[[], albumentations.BasicTransform], kind: type) -> None:
    image, mask = picture(3, (33, 46), 3, kind), disc((33, 46), (15, 20), 8)
    changed, labels = compose([make])(image, mask, seed=1)
    assert np.abs(changed.astype(float) - image).max() <= (0 if kind is np.uint8 else 1e-5)
    assert np.array_equal(labels, mask)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(Warp, scale=[0, 1]), r"Warp: scale=\[0, 1\]: give \[smallest, largest\] within 0.1 and 10"),
        (partial(Warp, rotate=[5, -5]), r"rotate=\[5, -5\]"),
        (partial(Warp, rotate="much"), "rotate=much"),
        (partial(Warp, elastic=0.4), "elastic=0.4.*within 0 and 0.25"),
        (partial(Warp, points=1), "points=1"),
        (partial(Warp, chance={"turn": 0.5}), "chance.turn=0.5: give one of rotate, scale, shift, elastic"),
        (partial(Warp, mirror={"rows": 2}), "mirror.rows=2: give one of columns, rows"),
        (partial(Tone, chance={"gamma": 2}), "chance.gamma=2"),
        (partial(Tone, noise=[-1, 0]), "noise"),
        (partial(Tone, gama=1), "Tone.*gama"),
        (partial(Shadow, dynamic_range=0), "Shadow: dynamic_range=0: give a positive number"),
        (partial(DepthGain, sliders=0), "sliders=0"),
        (partial(Depth, factor=[1, 2, 3]), "factor"),
    ],
)
def test_impossible_settings_are_named(make: Callable[[], albumentations.BasicTransform], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose([make])


# ---- warp


@pytest.mark.parametrize("side", [8, 9])
def test_a_quarter_turn_is_counter_clockwise_and_exact(side: int) -> None:
    image = picture(4, (side, side), 2)
    changed, labels = compose([Warp(rotate=90)])(image, image[..., 0], seed=0)
    assert np.array_equal(changed, np.rot90(image))
    assert np.array_equal(labels, np.rot90(image[..., 0]))


def test_scale_and_shift_go_where_they_say() -> None:
    size, mask = (101, 81), disc((101, 81), (50, 40), 12)
    _, larger = compose([Warp(scale=1.5)])(mask[..., None], mask, seed=0)
    assert larger.sum() / mask.sum() == pytest.approx(1.5**2, rel=0.03)
    assert np.allclose(centroid(larger), (50, 40), atol=0.1)
    moved = cv2.warpAffine(
        mask, backward_matrix(size, shift=(0.1, -0.2)), size[::-1], flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    )
    assert np.allclose(centroid(moved), (50 + 10.1, 40 - 16.2), atol=0.6)


def test_beyond_the_border_is_what_was_asked_for() -> None:
    image, mask = np.full((40, 40, 5), 90, np.uint8), np.ones((40, 40), np.uint8)
    changed, labels = compose([Warp(scale=0.5, fill=7, fill_mask=IGNORE)])(image, mask, seed=0)
    assert set(np.unique(labels)) == {1, IGNORE}
    assert (changed[0, 0] == 7).all()
    slices = picture(5, (40, 40), 1, np.float32)
    changed, _ = compose([Warp(scale=0.5, fill=None)])(slices, mask, seed=0)
    assert changed[0, 0, 0] == slices.min()


def test_the_map_without_displacement_is_the_matrix() -> None:
    matrix = backward_matrix((30, 47), degrees=20, scale=1.2, shift=(0.1, 0.05))
    places = elastic_map(matrix, np.zeros((5, 5, 2)), (30, 47))
    rows, columns = np.mgrid[:30, :47]
    expected = np.einsum("ij,jhw->hwi", matrix, np.stack([columns, rows, np.ones_like(rows)]))
    assert np.abs(places - expected).max() < 1e-4


def test_resampling_agrees_with_scipy_by_matrix_and_by_map() -> None:
    image, labels = picture(8, (52, 61), 1, np.float32), generator(8, "labels").integers(0, 9, (52, 61), dtype=np.uint8)
    matrix = backward_matrix((52, 61), degrees=23, scale=0.9, shift=(0.05, -0.1))
    grid = generator(8, "grid").uniform(-0.2, 0.2, (5, 5, 2))
    for source in (matrix, elastic_map(matrix, grid, (52, 61))):
        places = source if source.ndim == 3 else elastic_map(matrix, np.zeros_like(grid), (52, 61))
        rows, columns = places[..., 1], places[..., 0]
        inside = (rows > 0) & (rows < 51) & (columns > 0) & (columns < 60)
        nearest = resampled(labels, source, interpolation=cv2.INTER_NEAREST, fill=0)
        assert (nearest != ndimage.map_coordinates(labels, [rows, columns], order=0))[inside].mean() < 0.01
        linear = resampled(image, source, interpolation=cv2.INTER_LINEAR, fill=0)[..., 0]
        expected = ndimage.map_coordinates(image[..., 0], [rows, columns], order=1)
        assert np.abs(linear - expected)[inside].max() < 0.1  # OpenCV rounds places to 1/32 of a pixel


def test_elastic_displacements_are_as_large_as_stated_and_smooth() -> None:
    grid = np.zeros((8, 8, 2))
    grid[4, 4] = 0.2, -0.1
    still = backward_matrix((256, 128))
    moved = elastic_map(still, grid, (256, 128)) - elastic_map(still, np.zeros_like(grid), (256, 128))
    # A point stands amid its cell; cells are 16 columns and 32 rows.
    assert moved[143, 71] == pytest.approx((0.2 * 16, -0.1 * 32), rel=0.1)
    assert np.abs(np.diff(moved, 2, axis=0)).max() < 0.05
    assert np.abs(moved[:, :40]).max() == 0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**30))
def test_the_strongest_elastic_deformation_folds_nothing(seed: int) -> None:
    grid = generator(seed, "grid").uniform(-0.25, 0.25, (8, 8, 2))
    places = elastic_map(backward_matrix((64, 64)), grid, (64, 64))
    across, down = np.diff(places, axis=1)[:63], np.diff(places, axis=0)[:, :63]
    assert (across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]).min() > 0


def test_a_disc_deformed_stays_in_one_piece() -> None:
    mask, elastic = disc((96, 96), (48, 48), 25), compose([Warp(elastic=0.25)])
    for seed in range(20):
        _, labels = elastic(mask[..., None], mask, seed=seed)
        assert not np.array_equal(labels, mask)
        assert cv2.connectedComponents(labels)[0] == 2
        assert cv2.connectedComponents(1 - labels)[0] == 2


# ---- tone


def test_levels_follow_the_formula_and_keep_their_order() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    settings_ = {"gamma": [1.3, 1.3], "gain": 0.9, "brightness": 0.05, "contrast": 0.8}
    changed, _ = compose([Tone(**settings_)])(ramp, ramp[..., 0], seed=0)
    expected = 255 * (np.arange(256) / 255) ** 1.3 * 0.9 + 0.05 * 255
    expected = expected.mean() + 0.8 * (expected - expected.mean())
    assert np.abs(changed.ravel() - np.clip(expected, 0, 255)).max() <= 0.51
    assert (np.diff(changed.ravel().astype(int)) >= 0).all()


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("inverted", [False, True])
def test_statistics_are_kept_where_asked_and_order_always(kind: type, inverted: bool) -> None:
    image = picture(6, (64, 64), 1, kind)
    tone = Tone(gamma=1.4, inverted=inverted, keep_statistics=True)
    changed, _ = compose([tone])(image, image[..., 0].astype(np.uint8), seed=0)
    assert abs(float(changed.mean()) - float(image.mean())) < 0.02 * float(image.std())
    assert changed.std() == pytest.approx(image.std(), rel=0.02)
    order = np.argsort(image.ravel(), kind="stable")
    assert (np.diff(changed.ravel()[order].astype(float)) >= -1e-6).all()
    # A gamma above 1 spreads the bright levels, its negative the dark ones: skewness goes up, or down.
    skewness = stats.skew(changed.ravel().astype(float)) - stats.skew(image.ravel().astype(float))
    assert (-1 if inverted else 1) * skewness > 0.03


def test_slices_are_changed_relative_to_their_own_channel() -> None:
    image = picture(7, (40, 40), 2, np.float32)
    image[..., 1] = 100 * image[..., 1] + 1000
    changed, _ = compose([Tone(brightness=0.5, contrast=1.5)])(image, image[..., 0].astype(np.uint8), seed=0)
    for channel in range(2):
        before, after = image[..., channel], changed[..., channel]
        assert after.std() == pytest.approx(1.5 * before.std(), rel=1e-3)
        assert after.mean() == pytest.approx(before.mean() + 0.5 * before.std(), rel=1e-3)
    noisy, _ = compose([Tone(noise=0.1)])(image, image[..., 0].astype(np.uint8), seed=0)
    assert np.std(noisy - image, axis=(0, 1)) == pytest.approx(0.1 * image.std((0, 1)), rel=0.05)


def test_noise_is_gaussian_white_and_new_in_each_sample() -> None:
    samples = np.stack([gaussian_rows(generator(seed, "noise"), 128, 128) for seed in range(40)])
    flat = samples.ravel()
    count = flat.size
    for value, spread in (
        (flat.mean(), 1),
        (flat.var() - 1, 2**0.5),
        (stats.skew(flat), 6**0.5),
        (stats.kurtosis(flat), 24**0.5),
    ):
        # Numbers of one pool occur more than once, which widens the error of each figure a little.
        assert abs(value) < 6 * spread / count**0.5
    assert (np.abs(flat) > 3).mean() == pytest.approx(2 * stats.norm.sf(3), rel=0.15)
    for sample in samples[:10]:
        spectrum = np.abs(np.fft.fft2(sample)) ** 2
        correlation = np.fft.ifft2(spectrum).real / sample.size
        correlation[0, 0] = 0
        # The largest of 16 384 correlations of independent noise is about 4.2 / 128.
        assert np.abs(correlation).max() < 6.5 / 128
    between = np.corrcoef(samples.reshape(40, -1)) - np.eye(40)
    assert np.abs(between).max() < 5.5 / 128
    # No two rows of a picture are the same, not even shifted by a few pixels.
    rows = np.corrcoef(samples[0]) - np.eye(128)
    assert np.abs(rows).max() < 0.6


def test_noise_of_a_picture_is_independent_between_channels_and_unbiased_by_rounding() -> None:
    image = np.full((96, 96, 3), 120, np.uint8)
    changed, _ = compose([Tone(noise=0.05)])(image, image[..., 0], seed=3)
    errors = changed.astype(float) - 120
    assert errors.mean() == pytest.approx(0, abs=0.3)
    assert errors.std() == pytest.approx(0.05 * 255, rel=0.03)
    assert np.abs(np.corrcoef(errors.reshape(-1, 3).T) - np.eye(3)).max() < 0.05


# ---- ultrasound


def test_a_shadow_darkens_below_its_top_more_and_more_and_nothing_else() -> None:
    flat = np.full((120, 90, 1), 200, np.uint8)
    shadow = compose([Shadow(top=0.3, width=0.2, spread=0, drop=6, slope=30, p=1)])
    for seed in range(12):
        loss = 200 - shadow(flat, flat[..., 0], seed=seed)[0][..., 0].astype(int)
        assert not loss[:37].any()
        assert (np.diff(loss, axis=0) >= 0).all()
        columns = np.flatnonzero(loss.any(axis=0))
        assert len(columns) <= 0.2 * 90 + 1
        assert (np.diff(columns) == 1).all()
    # Full in its middle: 6 dB and 30 dB a height, of 60 dB over 255 levels.
    wide = compose([Shadow(top=0.3, width=1, spread=0, drop=6, slope=30, p=1)])
    deepest = max(int(200 - wide(flat, flat[..., 0], seed=seed)[0][-1].min()) for seed in range(5))
    assert deepest == pytest.approx((6 + 30 * (119 - 36) / 120) * 255 / 60, abs=2)
    fan = compose([Shadow(top=0.1, width=0.1, spread=15, drop=10, slope=0, p=1)])
    dark = fan(flat, flat[..., 0], seed=4)[0][..., 0] < 200
    assert dark[110].sum() > 2 * dark[20].sum() > 0


def test_depth_gain_is_one_smooth_curve_for_all_columns_and_black_stays_black() -> None:
    gain = DepthGain(gain=[-6, 6], overall=0, p=1)
    image = np.full((200, 30, 1), 120, np.uint8)
    image[:, 20:] = 0
    changed = compose([gain])(image, image[..., 0], seed=2)[0][..., 0].astype(int)
    assert not changed[:, 20:].any()
    assert (changed[:, :20] == changed[:, :1]).all()
    curve = changed[:, 0] - 120
    assert np.abs(curve).max() <= 6 * 255 / 60 * 1.3  # the cubic may overshoot its sliders a little
    assert np.abs(np.diff(curve)).max() <= 3
    assert curve.max() - curve.min() > 5
    louder = compose([DepthGain(gain=0, overall=6, p=1)])(image, image[..., 0], seed=0)[0]
    assert (louder[:, :20] == 120 + round(6 * 255 / 60)).all()


def test_gain_keeps_the_order_of_grey_levels() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 8, axis=0)
    for overall in (-20, -5, 5, 20):
        changed = compose([DepthGain(gain=0, overall=overall, p=1)])(ramp, ramp[..., 0], seed=0)[0]
        assert (np.diff(changed.astype(int), axis=1) >= 0).all()


def test_speckle_has_the_deviation_of_log_rayleigh_and_the_cell_it_was_given() -> None:
    field = speckle_decibels(generator(0, "speckle"), (512, 512), axial=1.0, lateral=3.0)
    assert field.std() == pytest.approx(20 / np.log(10) * np.pi / 24**0.5, rel=0.03)
    assert field.mean() == pytest.approx(0, abs=0.15)
    # Independent of how it is made: the modulus of complex normal numbers.
    numbers = generator(1, "oracle").normal(size=(2, 10**5))
    oracle = 20 * np.log10(np.hypot(*numbers))
    assert stats.skew(field.ravel()) == pytest.approx(stats.skew(oracle), abs=0.25)
    spectrum = np.abs(np.fft.fft2(field - field.mean())) ** 2
    correlation = np.fft.ifft2(spectrum).real
    correlation /= correlation[0, 0]
    lengths = [np.interp(-0.5, -line, np.arange(12)) for line in (correlation[:12, 0], correlation[0, :12])]
    assert lengths[1] / lengths[0] == pytest.approx(3, rel=0.15)
    flat = np.full((256, 256, 1), 128, np.uint8)
    changed = compose([Speckle(strength=0.5, p=1)])(flat, flat[..., 0], seed=0)[0]
    assert changed.std() == pytest.approx(0.5 * 5.57 * 255 / 60, rel=0.05)


def test_reverberation_repeats_a_near_line_weaker_each_time_and_darkens_nothing() -> None:
    image = np.full((100, 20, 1), 10, np.uint8)
    image[10] = 240
    echo = compose([Reverberation(depth=0.1, drop=12, echoes=3, p=1)])
    changed = echo(image, image[..., 0], seed=0)[0][:, 0, 0].astype(int)
    assert [changed[10 * n] for n in (2, 3, 4)] == [240 - round(n * 12 * 255 / 60) for n in (1, 2, 3)]
    assert (changed >= 10).all()
    assert np.flatnonzero(changed > 10).tolist() == [10, 20, 30, 40]


def test_depth_moves_rows_from_the_surface_on_and_columns_only_if_asked() -> None:
    mask = disc((120, 80), (40, 60), 9)
    for lateral, column in ((False, 60.0), (True, 39.5 + 20.5 / 1.25)):
        depth = compose([Depth(factor=1.25, lateral=lateral, p=1)])
        image, labels = depth(mask[..., None] * np.uint8(200), mask, seed=0)
        assert np.allclose(centroid(labels.astype(float)), (40 / 1.25, column), atol=0.4)
        assert np.allclose(centroid(image[..., 0].astype(float)), (40 / 1.25, column), atol=0.4)
        assert labels.sum() / mask.sum() == pytest.approx(1 / 1.25 ** (2 if lateral else 1), rel=0.05)


def test_the_probe_tilts_about_its_surface() -> None:
    mask = disc((120, 81), (60, 40), 8)
    _, labels = compose([ProbeAngle(tilt=10, p=1)])(mask[..., None], mask, seed=0)
    angle = np.radians(10)
    # Counter-clockwise as displayed about (row 0, column 40): what lies below swings to the right.
    assert np.allclose(centroid(labels.astype(float)), (60 * np.cos(angle), 40 + 60 * np.sin(angle)), atol=0.4)


def test_a_bent_probe_fans_out_keeps_depth_along_its_lines_and_can_be_straightened() -> None:
    size, middle = (120, 100), 49.5
    bend = np.radians(25)
    radius = 100 / (2 * bend)
    mask = disc(size, (60, 70), 7)
    image, labels = compose([ProbeAngle(tilt=0, bend=25, p=1)])(mask[..., None] * np.uint8(200), mask, seed=0)
    angle = (70 - middle) / radius
    expected = ((radius + 60) * np.cos(angle) - radius, middle + (radius + 60) * np.sin(angle))
    assert np.allclose(centroid(labels.astype(float)), expected, atol=0.6)
    assert np.allclose(centroid(image[..., 0].astype(float)), expected, atol=0.6)
    _, back = compose([ProbeAngle(tilt=0, bend=-25, p=1)])(image, labels, seed=0)
    assert (back != mask).mean() < 0.004
