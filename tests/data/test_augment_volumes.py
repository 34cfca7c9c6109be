"""Augmentation of volumes: image and labels move alike, labels stay labels, each transform draws for itself."""

import warnings
from collections import Counter
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg.commands.configuration import compose as compose_config
from medseg.data.augment.volume_warp import VolumeWarp, sample_places, volume_matrix
from medseg.data.augment.volumes import Volumes, compose
from medseg.errors import ConfigError
from medseg.rng import generator
from medseg.types import IGNORE

CONF = Path(__file__).resolve().parents[2] / "conf" / "augment"
OPTIONS = sorted(path.stem for path in CONF.glob("*.yaml"))


@cache
def node(option: str) -> Any:
    return compose_config("train", [f"augment={option}"]).augment.in_3d


@cache
def certain(option: str) -> Volumes:
    """Return an option whose transforms all happen."""
    parts = instantiate(node(option).transforms, _convert_="all")
    return compose([partial(part.func, **{**part.keywords, "prob": 1.0}) for part in parts])


def ball(size: tuple[int, ...], centre: tuple[float, ...], radius: float) -> np.ndarray:
    places = np.indices(size).reshape(3, -1) - np.reshape(centre, (3, 1))
    return (np.linalg.norm(places, axis=0) <= radius).reshape(size).astype(np.uint8)


def centroid(weights: np.ndarray) -> np.ndarray:
    return np.indices(weights.shape).reshape(3, -1) @ weights.ravel() / weights.sum()


def smooth(seed: int, size: tuple[int, ...], channels: int = 1) -> np.ndarray:
    noise = generator(seed, "volume").normal(size=(channels, *size))
    return (ndimage.gaussian_filter(noise, (0, 1.5, 1.5, 1.5)) * 10).astype(np.float32)


# ---- every option


@pytest.mark.parametrize("option", OPTIONS)
@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    size=st.tuples(st.integers(5, 13), st.integers(14, 25), st.integers(14, 25)),
    channels=st.sampled_from([1, 3, 5]),
)
def test_every_transform_keeps_shape_type_and_labels(
    option: str, seed: int, size: tuple[int, int, int], channels: int
) -> None:
    image, mask = smooth(seed, size, channels), generator(seed, "mask").choice(np.array([0, 3, IGNORE], np.uint8), size)
    before = image.copy(), mask.copy()
    for part in (image, mask):
        part.setflags(write=False)  # as what a cache hands out
    for transform in certain(option).transforms:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*not writable.*")
            changed, labels = Volumes([transform])(image, mask, seed=seed)
        assert (changed.shape, changed.dtype, type(changed)) == (image.shape, np.float32, np.ndarray), transform
        assert (labels.shape, labels.dtype, type(labels)) == (mask.shape, np.uint8, np.ndarray), transform
        assert np.isfinite(changed).all(), transform
        assert set(np.unique(labels)) <= {0, 3, IGNORE}, transform
    assert np.array_equal(image, before[0])
    assert np.array_equal(mask, before[1])


@pytest.mark.parametrize("option", OPTIONS)
def test_image_and_labels_of_every_option_move_alike(option: str) -> None:
    moves = [part for part in certain(option).transforms if "mask" in getattr(part, "keys", ["mask"])]
    augmentation = Volumes(moves)
    mask = ball((30, 33, 36), (14, 17, 19), 7)
    for seed in range(6):
        image, labels = augmentation(mask[None].astype(np.float32), mask, seed=seed)
        if labels.sum() > 300:
            assert np.abs(centroid(image[0]) - centroid(labels)).max() < 0.5
            # In the plane all slices share their rounding, so that it does not average out.
            assert image.sum() == pytest.approx(labels.sum(), rel=0.12)


@pytest.mark.parametrize("option", OPTIONS)
def test_seeds_decide_alone(option: str) -> None:
    image, mask = smooth(0, (9, 20, 17)), ball((9, 20, 17), (4, 10, 8), 4)
    first, second = (instantiate(node(option)) for _ in range(2))
    for seed in range(3):
        first(image, mask, seed=seed + 100)  # what was drawn before must not matter
        one, other = first(image, mask, seed=seed), second(image, mask, seed=seed)
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[1], other[1])
    results = {first(image, mask, seed=seed)[0].tobytes() for seed in range(12)}
    assert len(results) == 1 if option == "none" else len(results) > 6
    assert first.empty is (option == "none")


def test_transforms_of_one_sample_draw_independently() -> None:
    from monai.transforms import RandFlipd

    both = compose([partial(RandFlipd, ["image", "mask"], prob=0.5, spatial_axis=axis) for axis in (1, 2)])
    image = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    seen = Counter(int(both(image, np.zeros((1, 2, 2), np.uint8), seed=seed)[0][0, 0, 0, 0]) for seed in range(200))
    # Corner 0 means neither flip, 3 both; seeded alike, the two would always agree.
    assert sorted(seen) == [0, 1, 2, 3]
    assert min(seen.values()) > 25


def test_two_warps_in_one_list_draw_independently() -> None:
    warps = [VolumeWarp(rotate=[-90, 90]) for _ in range(2)]
    seen: list[list[float]] = [[], []]
    for number, warp in enumerate(warps):
        draw = warp._draw

        def watched(draw: Any = draw, angles: list[float] = seen[number]) -> dict[str, Any]:
            drawn = draw()
            angles.append(drawn["angles"][0])
            return drawn

        warp._draw = watched  # type: ignore[method-assign]
    both, image = Volumes(warps), np.zeros((1, 3, 4, 4), np.float32)
    for seed in range(60):
        both(image, np.zeros((3, 4, 4), np.uint8), seed=seed)
    assert abs(np.corrcoef(*seen)[0, 1]) < 0.4


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"in_plane": True, "tilt": [-5, 5]}, "tilt=.*in_plane=false"),
        ({"elastic": 0.5}, "VolumeWarp: elastic=0.5"),
        ({"points": 1}, "points=1"),
        ({"prob": 2}, "prob=2"),
        ({"turn": 2}, "VolumeWarp: .*turn"),
    ],
)
def test_impossible_settings_are_named(settings_: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose([partial(VolumeWarp, **settings_)])


def test_a_misspelt_argument_of_monai_is_named() -> None:
    from monai.transforms import RandFlipd

    with pytest.raises(ConfigError, match="augment transform RandFlipd: .*probability"):
        compose([partial(RandFlipd, keys="image", probability=0.5)])


# ---- warp


def warped(image: np.ndarray, mask: np.ndarray, seed: int = 0, **settings_: Any) -> tuple[np.ndarray, np.ndarray]:
    return compose([partial(VolumeWarp, **settings_)])(image, mask, seed=seed)


@pytest.mark.parametrize("in_plane", [False, True])
def test_ranges_of_nothing_change_nothing_and_neither_does_prob_0(in_plane: bool) -> None:
    image, mask = smooth(1, (7, 12, 10), 2), ball((7, 12, 10), (3, 6, 5), 3)
    for settings_ in ({}, {"rotate": [30, 40], "prob": 0.0}, {"rotate": 30, "chance": {"rotate": 0}}):
        changed, labels = warped(image, mask, in_plane=in_plane, **settings_)
        assert np.array_equal(changed, image)
        assert np.array_equal(labels, mask)


@pytest.mark.parametrize("in_plane", [False, True])
def test_a_quarter_turn_in_the_plane_is_that_of_pictures(in_plane: bool) -> None:
    image = smooth(2, (5, 11, 11), 2)
    mask = generator(2, "mask").integers(0, 4, (5, 11, 11), dtype=np.uint8)
    changed, labels = warped(image, mask, rotate=90, in_plane=in_plane)
    assert np.allclose(changed, np.rot90(image, axes=(2, 3)), atol=1e-4)
    assert np.array_equal(labels, np.rot90(mask, axes=(1, 2)))


def test_both_ways_agree_within_the_plane() -> None:
    image, mask = smooth(3, (6, 40, 31)), ball((6, 40, 31), (3, 20, 15), 9)
    one, other = (
        warped(image, mask, seed=4, rotate=[-30, 30], shift=[-0.1, 0.1], in_plane=in_plane, fill=0.0)
        for in_plane in (False, True)
    )
    # The one also shifts along the slices' axis: no more than a tenth of 6, so compare what its middle holds.
    assert abs(int(one[1].sum()) - int(other[1].sum())) < 0.25 * other[1].sum()
    flat = np.repeat(image[:, :1], 6, axis=1)
    one, other = (
        warped(flat, mask, seed=4, rotate=[-30, 30], in_plane=in_plane, fill=0.0)[0][0, 2, 4:-4, 4:-4]
        for in_plane in (False, True)
    )
    assert np.abs(one - other).max() < 0.05 * np.abs(flat).max()


@pytest.mark.parametrize("axis", [1, 2])
def test_angles_turn_about_their_axis(axis: int) -> None:
    cube = generator(5, "cube").normal(size=(9, 9, 9)).astype(np.float32)
    angles = [0.0, 0.0, 0.0]
    angles[axis] = 90.0
    matrix = volume_matrix(cube.shape, angles=angles, scale=1.0, shift=np.zeros(3))
    turned = ndimage.affine_transform(cube, matrix[:, :3], matrix[:, 3], order=1)
    others = [other for other in range(3) if other != axis]
    quarter = [np.rot90(cube, turns, axes=others) for turns in (1, 3)]
    assert min(np.abs(turned - expected)[1:-1, 1:-1, 1:-1].max() for expected in quarter) < 1e-5


def test_voxels_come_from_where_matrix_and_grid_say() -> None:
    size = (12, 17, 21)
    matrix = volume_matrix(size, angles=[12, -7, 9], scale=1.2, shift=np.array([0.1, 0.0, -0.05]))
    grid = generator(6, "grid").uniform(-0.2, 0.2, (4, 4, 4, 3))
    places = sample_places(matrix, grid, size).numpy()
    z, y, x = np.indices(size)
    expected = np.einsum("ij,jdhw->idhw", matrix, np.stack([z, y, x, np.ones(size)]))
    # Each displacement interpolated along one axis after another by OpenCV.
    for axis in range(3):
        field = grid[..., axis] * size[axis] / 4
        for along, side in enumerate(size):
            lines = np.moveaxis(field, along, 0).reshape(field.shape[along], -1)
            lines = cv2.resize(lines, (lines.shape[1], side), interpolation=cv2.INTER_CUBIC)
            rest = [count for other, count in enumerate(field.shape) if other != along]
            field = np.moveaxis(lines.reshape(side, *rest), 0, along)
        expected[axis] += field
    for axis, side in enumerate(size):
        found = ((places[..., 2 - axis] + 1) * side - 1) / 2
        assert np.abs(found - expected[axis]).max() < 1e-3


def test_scale_shift_and_fill_do_what_they_say() -> None:
    mask = ball((31, 31, 31), (15, 15, 15), 6)
    image = mask[None] * np.float32(4) - 1
    larger, labels = warped(image, mask, scale=1.4)
    assert labels.sum() / mask.sum() == pytest.approx(1.4**3, rel=0.06)
    _, moved = warped(image, mask, shift=0.1)
    assert np.allclose(centroid(moved), 15 + 3.1, atol=0.6)
    smaller, labels = warped(image, mask, scale=0.5, fill_mask=IGNORE)
    assert set(np.unique(labels)) == {0, 1, IGNORE}
    assert smaller[0, 0, 0, 0] == -1
    assert warped(image, mask, scale=0.5, fill=7.0)[0][0, 0, 0, 0] == 7


@pytest.mark.parametrize("seed", range(5))
def test_the_strongest_elastic_deformation_folds_nothing(seed: int) -> None:
    grid = generator(seed, "grid").uniform(-0.25, 0.25, (6, 6, 6, 3))
    places = sample_places(np.eye(3, 4), grid, (36, 36, 36)).numpy() * 18
    steps = [np.diff(places, axis=axis)[:35, :35, :35] for axis in (2, 1, 0)]
    assert np.linalg.det(np.stack(steps, axis=-1)).min() > 0


def test_patches_of_few_slices_are_deformed_too() -> None:
    image, mask = smooth(8, (3, 20, 20)), ball((3, 20, 20), (1, 10, 10), 5)
    for in_plane in (False, True):
        changed, labels = warped(image, mask, elastic=0.2, in_plane=in_plane)
        assert not np.array_equal(changed, image)
        assert set(np.unique(labels)) == {0, 1}
