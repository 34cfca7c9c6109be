"""Watershed, active contour and GrabCut: what separates, what fits an outline, what stays within its box."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg.errors import ConfigError
from medseg.nets.classical.blobs import disc
from medseg.nets.classical.clicks import BoxMarks
from medseg.nets.classical.contour import ActiveContour, chan_vese, geodesic, level_set
from medseg.nets.classical.grabcut import GrabCut, core_of, eight_bit, grabcut
from medseg.nets.classical.pieces import largest, nearest, nearest_pixel
from medseg.nets.classical.watershed import Watershed, ringed, separated
from medseg.nets.thyroid.marks import AxisMarks


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def scene(noise: float = 0.3, radius: float = 14) -> tuple[np.ndarray, np.ndarray]:
    """A dark noisy disc: (80, 88) float32 and where it is."""
    truth = disc((80, 88), (36, 40), radius)
    return np.where(truth, -1.0, 0.5).astype(np.float32) + noise * rng().standard_normal(truth.shape).astype(
        np.float32
    ), truth


def test_touching_discs_come_apart() -> None:
    both = disc((60, 70), (30, 22), 12) | disc((60, 70), (30, 44), 12)
    assert ndimage.label(both)[1] == 1
    numbered = separated(both, least=6)
    assert sorted(np.unique(numbered)) == [0, 1, 2]
    assert np.array_equal(numbered > 0, both)
    assert numbered[30, 22] != numbered[30, 44]
    for number, centre in ((numbered[30, 22], (30, 22)), (numbered[30, 44], (30, 44))):
        assert dice(numbered == number, disc(both.shape, centre, 12)) > 0.95
    assert separated(disc((60, 70), (30, 30), 12), least=6).max() == 1, "one disc stays one"
    assert not separated(np.zeros((9, 9), bool)).any()


def test_the_watershed_line_runs_along_the_edge() -> None:
    image, truth = scene()
    found = ringed(ndimage.gaussian_filter(image, 2), [(36, 40)], inner=7, outer=28)
    assert dice(found, truth) > 0.93
    assert found[36, 40]
    assert not (found & ~disc(truth.shape, (36, 40), 28)).any()
    assert not ringed(np.zeros((10, 10)), [(5, 5)], inner=1, outer=99)[0].any(), "the frame is outside then"


@pytest.mark.parametrize("mode", ["gradient", "distance"])
@pytest.mark.parametrize("seeds", ["auto", "click"])
def test_a_watershed_finds_a_disc(mode: str, seeds: str) -> None:
    image, truth = scene()
    net = Watershed(in_channels=1, num_classes=2, mode=mode, seeds=seeds)
    net.fit([image[..., None]], [truth.astype(np.uint8)])
    assert net.mean_dice([image[..., None]], [truth.astype(np.uint8)]) > 0.9


def test_the_distance_mode_takes_one_of_two_touching_discs() -> None:
    one, other = disc((70, 80), (35, 28), 12), disc((70, 80), (35, 50), 12)
    image = np.where(one | other, -1.0, 1.0).astype(np.float32)
    net = Watershed(in_channels=1, num_classes=2, mode="distance", seeds="click", sigma=0.0, reach=3.0)
    net.fit([image[..., None]], [one.astype(np.uint8)])
    found = net.answer(net.mark(torch.from_numpy(image)[None, None], [np.array([[35.0, 28.0]])])) == 1
    assert dice(found, one) > 0.95
    assert not found[35, 50]


def test_a_speckle_under_the_click_does_not_lose_the_region() -> None:
    image, truth = scene(noise=0.0)
    image[36, 40] = 5.0
    net = Watershed(in_channels=1, num_classes=2, mode="distance", seeds="click", sigma=0.0)
    net.fit([image[..., None]], [truth.astype(np.uint8)])
    found = net.answer(net.mark(torch.from_numpy(image)[None, None], [np.array([[36.0, 40.0]])])) == 1
    assert dice(found, truth) > 0.9


def test_chan_vese_finds_a_noisy_disc_from_a_wrong_start() -> None:
    image, truth = scene(noise=0.5)
    for start in (disc(truth.shape, (36, 40), 6), disc(truth.shape, (30, 46), 14)):
        assert dice(start, truth) < 0.75
        assert dice(chan_vese(image, start, iterations=80, smoothing=2), truth) > 0.95


def test_the_level_set_of_chan_vese_finds_it_too_and_a_dear_outline_is_shorter() -> None:
    image, truth = scene(noise=0.5)
    smooth = ndimage.gaussian_filter(image, 1.5)
    for start in (disc(truth.shape, (36, 40), 6), disc(truth.shape, (30, 46), 14)):
        assert dice(level_set(smooth, start, iterations=80, length=0.25), truth) > 0.95
    cheap, dear = (level_set(image, disc(truth.shape, (36, 40), 6), iterations=80, length=mu) for mu in (0.0, 0.5))
    assert edge_of(cheap) > 2 * edge_of(dear)


def edge_of(region: np.ndarray) -> int:
    """Pixels of a region that touch its outside."""
    return int((region & ~ndimage.binary_erosion(region)).sum())


def test_a_geodesic_contour_shrinks_onto_an_edge() -> None:
    image, truth = scene(noise=0.05)
    start = disc(truth.shape, (36, 40), 24)
    found = geodesic(image, start, iterations=60, smoothing=1)
    assert dice(found, truth) > 0.9
    assert not (found & ~ndimage.binary_dilation(start, iterations=2)).any()


@pytest.mark.parametrize("method", ["chan_vese", "level_set", "geodesic"])
@pytest.mark.parametrize("seeds", ["auto", "click"])
def test_an_active_contour_finds_a_disc(method: str, seeds: str) -> None:
    image, truth = scene(noise=0.1)
    net = ActiveContour(in_channels=1, num_classes=2, method=method, seeds=seeds)
    net.fit([image[..., None]], [truth.astype(np.uint8)])
    assert net.mean_dice([image[..., None]], [truth.astype(np.uint8)]) > 0.88


@given(seed=st.integers(0, 500), top=st.integers(0, 20), left=st.integers(0, 20), high=st.integers(1, 30),
       wide=st.integers(1, 30), core=st.sampled_from([0.0, 0.7]), side=st.sampled_from([0, 96]))  # fmt: skip
@settings(max_examples=25, deadline=None, derandomize=True)
def test_grabcut_labels_nothing_outside_its_box(
    seed: int, top: int, left: int, high: int, wide: int, core: float, side: int
) -> None:
    colours = np.random.default_rng(seed).integers(0, 256, (50, 50, 3)).astype(np.uint8)
    box = np.zeros((50, 50), bool)
    box[top : top + high, left : left + wide] = True
    found = grabcut(colours, box, iterations=2, seed=0, core=core, side=side)
    assert found.shape == box.shape
    assert not (found & ~box).any()


def test_grabcut_finds_what_differs_in_colour() -> None:
    truth = disc((60, 64), (30, 30), 12)
    colours = np.where(truth[..., None], (200, 180, 40), (30, 60, 90)) + rng().normal(0, 12, (60, 64, 3))
    box = np.zeros(truth.shape, bool)
    box[14:47, 14:47] = True
    found = grabcut(colours.clip(0, 255).astype(np.uint8), box, iterations=5, seed=0)
    assert dice(box, truth) < 0.75
    assert dice(found, truth) > 0.97


def test_weak_contrast_empties_plain_grabcut_and_the_core_prevents_it() -> None:
    """Why the core is there: OpenCV's price of an outline is made for photographs."""
    image, truth = scene(noise=3.0, radius=9)
    colours, box = eight_bit(image[..., None]), np.zeros(truth.shape, bool)
    box[26:47, 30:51] = True
    plain, cored = (grabcut(colours, box, iterations=5, seed=0, core=core) for core in (0.0, 0.7))
    assert not plain.any()
    assert dice(cored, truth) > 0.8
    assert not (core_of(box, 0.7) & ~cored).any()


def test_the_core_is_an_ellipse_of_the_given_share() -> None:
    box = np.zeros((60, 90), bool)
    box[10:50, 20:80] = True
    core = core_of(box, 0.5)
    assert core.sum() == pytest.approx(np.pi * 10 * 15, rel=0.03)
    assert np.argwhere(core).mean(axis=0).tolist() == [29.5, 49.5]
    assert not core_of(box, 0.0).any()


def test_boxes_without_room_for_a_model_stay_as_they_are() -> None:
    colours = rng().integers(0, 256, (20, 20, 3)).astype(np.uint8)
    small = np.zeros((20, 20), bool)
    small[3:6, 4:8] = True
    assert np.array_equal(grabcut(colours, small, iterations=1, seed=0), small)
    everything = grabcut(colours, np.ones((20, 20), bool), iterations=1, seed=0)
    assert not everything[[0, -1]].any()
    assert not grabcut(colours, np.zeros((20, 20), bool), iterations=1, seed=0).any()


def test_grabcut_does_not_depend_on_what_ran_before() -> None:
    import cv2

    colours, box = rng().integers(0, 256, (50, 50, 3)).astype(np.uint8), np.zeros((50, 50), bool)
    box[10:40, 8:35] = True
    answers = []
    for before in (1, 2):
        cv2.setRNGSeed(before)
        answers.append(grabcut(colours, box, iterations=3, seed=0, core=0.3))
    assert np.array_equal(*answers)


def test_a_users_box_holds_its_region_and_every_region_has_one() -> None:
    mask = np.zeros((128, 256), np.uint8)
    mask[10:20, 30:50], mask[60:90, 100:130], mask[0:4, 0:4], mask[100, 100] = 1, 1, 1, 2
    points = BoxMarks(slack=2.0)(mask, rng(), jitter=False)
    assert points.tolist() == [[0, 0], [5, 5], [8, 28], [21, 51], [58, 98], [91, 131]]
    assert BoxMarks()(np.zeros((8, 8), np.uint8), rng(), jitter=False).shape == (0, 2)
    drawn = [BoxMarks()(mask, np.random.default_rng(seed), jitter=True) for seed in range(5)]
    assert all(((one >= 0) & (one <= [127, 255])).all() for one in drawn)
    assert not np.array_equal(drawn[0], drawn[1])


def test_boxes_come_from_a_user_or_a_threshold_and_the_system_says_which() -> None:
    image, truth = scene()
    pairs = [image[..., None]], [truth.astype(np.uint8)]
    user, marks = GrabCut(in_channels=1, num_classes=2), GrabCut(in_channels=1, num_classes=2, prompt=AxisMarks())
    alone = GrabCut(in_channels=1, num_classes=2, box="auto")
    assert user.interaction == "a box around each region, simulated from the truth"
    assert marks.interaction == "four axis ends of each region, simulated from the truth"
    assert alone.interaction == "none"
    assert not hasattr(alone, "prompt")
    # A user's box has some slack, which the blurred copies of the image fill in part; alone it has a Dice of 0.78.
    for net, least in ((user, 0.88), (marks, 0.95), (alone, 0.95)):
        net.fit(*pairs)
        assert net.mean_dice(*pairs) > least
    assert not user.answer(torch.from_numpy(image)[None, None]).any(), "no box, no region"


def test_two_boxes_find_two_regions() -> None:
    truth = disc((80, 120), (40, 30), 12) | disc((80, 120), (40, 88), 12)
    image = np.where(truth, -1.0, 0.5).astype(np.float32) + 0.2 * rng().standard_normal(truth.shape).astype(np.float32)
    net = GrabCut(in_channels=1, num_classes=2)
    net.fit([image[..., None]], [truth.astype(np.uint8)])
    assert net.mean_dice([image[..., None]], [truth.astype(np.uint8)]) > 0.93


def test_pieces() -> None:
    two = np.zeros((10, 10), bool)
    two[1:3, 1:3], two[5:9, 5:9] = True, True
    assert largest(two).sum() == 16
    assert nearest(two, (0, 0)).sum() == 4
    assert nearest_pixel(two, (9, 9)) == (8, 8)
    assert not largest(np.zeros((3, 3), bool)).any()
    assert not nearest(np.zeros((3, 3), bool), (1, 1)).any()


def test_faults_are_named() -> None:
    with pytest.raises(ConfigError, match=r"net\.mode='deep' is unknown; choose one of gradient, distance"):
        Watershed(in_channels=1, num_classes=2, mode="deep")
    with pytest.raises(ConfigError, match=r"net\.iterations=0 moves nothing"):
        ActiveContour(in_channels=1, num_classes=2, iterations=0)
    with pytest.raises(ConfigError, match=r"net\.length=-1 rewards a longer outline"):
        ActiveContour(in_channels=1, num_classes=2, length=-1)
    with pytest.raises(ConfigError, match=r"net\.core=1\.5 within \[0, 1\)"):
        GrabCut(in_channels=1, num_classes=2, core=1.5)
    with pytest.raises(ConfigError, match=r"net\.prompt is a user, but net\.box=auto asks none"):
        GrabCut(in_channels=1, num_classes=2, box="auto", prompt=BoxMarks())
    with pytest.raises(ConfigError, match=r"GrabCut got 3 marks for an image; it needs 2 for each box"):
        GrabCut(in_channels=1, num_classes=2).mark(torch.zeros(1, 1, 9, 9), [np.zeros((3, 2))])
    with pytest.raises(ConfigError, match=r"slack=-1\.0 and deviation=2\.0 must be >= 0"):
        BoxMarks(slack=-1.0)
