"""Regions grow from a seed, stay in one piece and grow with the tolerance; users click where they should."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg.errors import ConfigError, DataError
from medseg.nets.classical.blobs import blob_centre, disc, scan_area, typical
from medseg.nets.classical.clicks import ClickMarks, centroid, deepest
from medseg.nets.classical.growing import RegionGrowing, adaptive, confidence, flood

RULES = {
    "flood": lambda grey, seed, value: flood(grey, seed, tolerance=value),
    "adaptive": lambda grey, seed, value: adaptive(grey, seed, multiplier=value),
    "confidence": lambda grey, seed, value: confidence(grey, seed, multiplier=value),
}


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def field(seed: int) -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((32, 40)), 2) * 10


@given(seed=st.integers(0, 1000), row=st.integers(0, 31), column=st.integers(0, 39), value=st.floats(0.0, 3.0))
@settings(max_examples=25, deadline=None, derandomize=True)
@pytest.mark.parametrize("rule", RULES)
def test_what_grows_is_one_piece_with_its_seed(rule: str, seed: int, row: int, column: int, value: float) -> None:
    region = RULES[rule](field(seed), (row, column), value)
    assert region[row, column]
    assert ndimage.label(region)[1] == 1


@given(seed=st.integers(0, 1000), low=st.floats(0.0, 2.0), more=st.floats(0.0, 2.0))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_a_larger_tolerance_never_loses_a_pixel(seed: int, low: float, more: float) -> None:
    grey = field(seed)
    small, large = flood(grey, (15, 20), tolerance=low), flood(grey, (15, 20), tolerance=low + more)
    assert not (small & ~large).any()


def test_without_tolerance_it_is_exactly_the_flat_zone() -> None:
    grey = np.zeros((12, 12))
    grey[2:6, 3:9], grey[8:11, 3:9] = 1, 1  # two zones of one grey that do not touch
    assert np.array_equal(flood(grey, (3, 4), tolerance=0.0), np.pad(np.ones((4, 6), bool), ((2, 6), (3, 3))))


def test_a_diagonal_pair_is_joined_by_eight_neighbours_only() -> None:
    grey = np.ones((4, 4))
    grey[1, 1] = grey[2, 2] = 0
    assert flood(grey, (1, 1), tolerance=0.1, connectivity=4).sum() == 1
    assert flood(grey, (1, 1), tolerance=0.1, connectivity=8).sum() == 2


def test_the_rules_that_measure_their_region_stop_at_its_edge() -> None:
    truth = disc((64, 64), (30, 34), 15)
    grey = np.where(truth, -2.0, 1.0) + 0.3 * np.random.default_rng(0).standard_normal(truth.shape)
    for rule in ("adaptive", "confidence"):
        found = ndimage.binary_fill_holes(RULES[rule](grey, (30, 34), 2.8))
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.95


def grower(**arguments: object) -> RegionGrowing:
    net = RegionGrowing(in_channels=1, num_classes=2, sigma=0.0, **arguments)
    truth = disc((40, 40), (20, 20), 8)
    image = np.where(truth, 0.0, 5.0) + 0.1 * np.random.default_rng(1).standard_normal(truth.shape)
    net.fit([image.astype(np.float32)[..., None]], [truth.astype(np.uint8)])
    return net


def clicked(net: RegionGrowing, grey: np.ndarray, points: list[list[float]]) -> np.ndarray:
    image = torch.from_numpy(grey.astype(np.float32))[None, None]
    return net(net.mark(image, [np.array(points).reshape(-1, 2)])).argmax(1)[0].numpy().astype(bool)


def test_holes_are_filled_when_asked_and_every_click_grows_its_region() -> None:
    grey = np.full((40, 40), 5.0)
    grey[disc(grey.shape, (12, 12), 7)] = 0
    grey[disc(grey.shape, (30, 30), 5)] = 0
    grey[11:14, 11:14] = 5  # a hole in the first
    both = [[12.0, 7.0], [30.0, 30.0]]
    filled, open_ = grower(rule="flood"), grower(rule="flood", fill_holes=False)
    assert clicked(filled, grey, both)[12, 12]
    assert not clicked(open_, grey, both)[12, 12]
    assert clicked(filled, grey, both)[30, 30]
    assert not clicked(filled, grey, both[:1])[30, 30]
    assert not clicked(filled, grey, []).any()


def test_a_region_stays_within_its_reach() -> None:
    found = clicked(grower(reach=1.0), np.zeros((80, 80)), [[40.0, 40.0]])
    rows = np.flatnonzero(found.any(axis=1))
    # 8 of 40 pixels while fitting are 16 of 80.
    assert (rows[0], rows[-1]) == (24, 56)


def test_the_users_click_is_inside_every_region_and_exact_in_evaluation() -> None:
    mask = np.zeros((40, 40), dtype=np.uint8)
    mask[5:20, 5:8], mask[17:20, 5:20] = 1, 1  # an L, its centre of mass lies outside
    mask[30:36, 25:38], mask[0:3, 30:33], mask[39, 0] = 1, 2, 255
    points = ClickMarks()(mask, rng(), jitter=False)
    assert points.shape == (2, 2)
    assert points.tolist() == ClickMarks()(mask, np.random.default_rng(9), jitter=False).tolist()
    for place in ("deepest", "centroid"):
        for jitter in (False, True):
            marks = ClickMarks(place=place)(mask, rng(), jitter=jitter).astype(int)
            assert (mask[tuple(marks.T)] == 1).all()
    assert ClickMarks(label=2)(mask, rng(), jitter=False).tolist() == [[1, 31]]
    assert ClickMarks()(np.zeros((5, 5), np.uint8), rng(), jitter=False).shape == (0, 2)
    drawn = {tuple(ClickMarks()(mask, np.random.default_rng(seed), jitter=True)[1]) for seed in range(12)}
    assert len(drawn) > 1


def test_the_middle_of_a_disc_is_its_deepest_point_and_its_centroid() -> None:
    region = disc((30, 30), (12, 17), 7)
    assert deepest(region).tolist() == [12, 17]
    assert centroid(region).tolist() == [12, 17]


def test_a_found_seed_lies_in_the_blob_of_usual_size_and_grey_not_in_the_darkest() -> None:
    grey = np.full((96, 96), 1.0) + 0.05 * np.random.default_rng(2).standard_normal((96, 96))
    nodule, vessel = disc(grey.shape, (60, 60), 14), disc(grey.shape, (20, 20), 6)
    grey[nodule] -= 0.6
    grey[vessel] -= 1.5
    screen = np.full((120, 120), -1.0)
    screen[10:106, 12:108] = grey
    mask = np.zeros(screen.shape, np.uint8)
    mask[10:106, 12:108] = nodule
    look = typical([screen[..., None].astype(np.float32)], [mask], 1)
    assert look.dark
    assert look.radius == pytest.approx(14 / 120, rel=0.03)
    assert mask[blob_centre(screen, look)] == 1
    assert not typical([-screen[..., None].astype(np.float32)], [mask], 1).dark
    area = scan_area(screen)
    assert area[60, 60]
    assert not area[3, 3]
    assert not area[115, 60]


def test_it_says_what_it_was_given_and_asks_no_user_when_it_finds_seeds_itself() -> None:
    clicks, oracle, alone = (
        RegionGrowing(in_channels=1, num_classes=2, seeds=seeds) for seeds in ("click", "centroid", "auto")
    )
    assert clicks.interaction == "one click in each region, simulated from the truth"
    assert "oracle" in oracle.interaction
    assert alone.interaction == "none"
    assert hasattr(clicks, "prompt")
    assert not hasattr(alone, "prompt")
    mask = disc((40, 40), (20, 20), 8)
    image = torch.from_numpy(np.where(mask, 0.0, 5.0).astype(np.float32))[None, None]
    assert grower(seeds="auto")(image).argmax(1)[0, 20, 20] == 1
    assert not grower()(image).argmax(1).any(), "no click, no region"


def test_faults_are_named() -> None:
    with pytest.raises(ConfigError, match=r"net\.connectivity=6 is unknown; choose 4 or 8"):
        RegionGrowing(in_channels=1, num_classes=2, connectivity=6)
    with pytest.raises(ConfigError, match=r"net\.seeds='guess' is unknown; choose one of click, centroid, auto"):
        RegionGrowing(in_channels=1, num_classes=2, seeds="guess")
    with pytest.raises(ConfigError, match=r"net\.rule='melt' is unknown"):
        RegionGrowing(in_channels=1, num_classes=2, rule="melt")
    with pytest.raises(ConfigError, match=r"net\.prompt\.place='left' is unknown"):
        ClickMarks(place="left")
    with pytest.raises(DataError, match=r"none of 1 training masks has class 1"):
        RegionGrowing(in_channels=1, num_classes=2).fit([np.zeros((4, 4, 1), np.float32)], [np.zeros((4, 4), np.uint8)])
