"""The random walker: what a walk meets first, from seeds that it always keeps."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg.errors import ConfigError
from medseg.nets.classical.blobs import disc
from medseg.nets.classical.random_walker import RandomWalker, arrival


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


def at(size: tuple[int, int], *places: tuple[int, int]) -> np.ndarray:
    chosen = np.zeros(size, dtype=bool)
    chosen[tuple(np.array(places).T)] = True
    return chosen


def frame(size: tuple[int, int]) -> np.ndarray:
    return ~np.pad(np.ones((size[0] - 2, size[1] - 2), dtype=bool), 1)


def simulated(grey: np.ndarray, start: tuple[int, int], inside: np.ndarray, outside: np.ndarray, beta: float) -> float:
    """Return how many of 4000 walks, walked step by step, end inside."""
    draw, ended = np.random.default_rng(0), 0
    for _ in range(4000):
        place = start
        while not (inside[place] or outside[place]):
            near = [(place[0] + down, place[1] + right) for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1))]
            near = [one for one in near if 0 <= one[0] < grey.shape[0] and 0 <= one[1] < grey.shape[1]]
            weight = np.array([np.exp(-beta * (grey[place] - grey[one]) ** 2 / 10) for one in near])
            place = near[draw.choice(len(near), p=weight / weight.sum())]
        ended += inside[place]
    return ended / 4000


@pytest.mark.slow
def test_the_probability_is_the_share_of_walks_that_end_inside() -> None:
    grey = np.random.default_rng(1).standard_normal((4, 5))
    inside, outside = at(grey.shape, (0, 0)), at(grey.shape, (3, 4), (3, 0))
    found = arrival(grey, inside, outside, beta=5.0)
    for start in ((1, 2), (0, 4), (2, 1)):
        assert found[start] == pytest.approx(simulated(grey, start, inside, outside, 5.0), abs=0.03)


def test_on_a_flat_line_the_probability_falls_evenly_from_seed_to_seed() -> None:
    found = arrival(np.full((1, 11), 7.0), at((1, 11), (0, 0)), at((1, 11), (0, 10)), beta=130.0)
    np.testing.assert_allclose(found[0], np.linspace(1, 0, 11), atol=1e-6)


def test_a_line_weighs_its_steps_as_resistances_in_series() -> None:
    grey = 3 * np.random.default_rng(2).uniform(0.2, 1.0, (1, 9)).cumsum(axis=1)
    resistance = np.exp(2.0 * np.diff(grey[0]) ** 2 / 10)
    wanted = 1 - np.concatenate([[0], np.cumsum(resistance)]) / resistance.sum()
    assert (np.abs(wanted[1:-1] - 0.5) < 0.49).sum() >= 3, "steps that can be told apart"
    assert not np.allclose(wanted, np.linspace(1, 0, 9), atol=0.02)
    found = arrival(grey, at(grey.shape, (0, 0)), at(grey.shape, (0, 8)), beta=2.0)
    np.testing.assert_allclose(found[0], wanted, atol=1e-6)


@given(seed=st.integers(0, 1000), beta=st.floats(0.0, 3000.0))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_seeds_are_reproduced_and_both_probabilities_sum_to_one(seed: int, beta: float) -> None:
    draw = np.random.default_rng(seed)
    grey = ndimage.gaussian_filter(draw.standard_normal((17, 21)), 1) * 3
    kind = draw.choice(3, grey.shape, p=[0.9, 0.05, 0.05])
    kind[0, 0], kind[16, 20] = 1, 2
    inside, outside = kind == 1, kind == 2
    found, other = arrival(grey, inside, outside, beta=beta), arrival(grey, outside, inside, beta=beta)
    assert (found[inside] == 1).all()
    assert (found[outside] == 0).all()
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found + other, 1, atol=1e-6)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_every_part_of_the_answer_has_a_seed_and_no_hole(seed: int) -> None:
    grey = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((24, 30)), 1) * 3
    inside = at(grey.shape, (8, 9), (15, 20))
    found = arrival(grey, inside, frame(grey.shape), beta=130.0) > 0.5
    numbered, count = ndimage.label(found)
    assert set(numbered[inside]) == set(range(1, count + 1))
    assert np.array_equal(ndimage.binary_fill_holes(found), found)


def test_two_flat_halves_with_a_seed_each_are_split_at_the_edge() -> None:
    grey = np.zeros((20, 24))
    grey[:, 7:] = 1  # nowhere near the middle between the seeds
    found = arrival(grey, at(grey.shape, (3, 1)), at(grey.shape, (10, 22)), beta=130.0) > 0.5
    assert np.array_equal(found, grey == 0)


def test_a_noisy_disc_is_found_from_its_centre() -> None:
    truth = disc((64, 64), (30, 34), 15)
    grey = truth + 0.15 * np.random.default_rng(0).standard_normal(truth.shape)
    found = arrival(grey / grey.std(), at(truth.shape, (30, 34)), frame(truth.shape), beta=130.0) > 0.5
    assert dice(found, truth) > 0.95


def test_where_everything_is_a_seed_or_nothing_is_outside_there_is_no_walk() -> None:
    half = np.arange(12).reshape(3, 4) < 5
    assert np.array_equal(arrival(np.zeros((3, 4)), half, ~half, beta=130.0), half)
    alone = arrival(np.zeros((3, 4)), at((3, 4), (1, 1)), np.zeros((3, 4), bool), beta=130.0)
    np.testing.assert_allclose(alone, 1)


def walker(**arguments: object) -> RandomWalker:
    net = RandomWalker(in_channels=1, num_classes=2, **{"sigma": 0.0, "beta": 130.0, **arguments})
    truth = disc((64, 64), (30, 30), 10)
    net.fit([np.where(truth, 0.0, 5.0).astype(np.float32)[..., None]], [truth.astype(np.uint8)])
    return net


def two_discs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    one, other = disc((64, 64), (20, 18), 10), disc((64, 64), (42, 46), 8)
    noise = 0.5 * np.random.default_rng(3).standard_normal(one.shape)
    return np.where(one | other, 0.0, 5.0) + noise, one, other


def clicked(net: RandomWalker, grey: np.ndarray, points: list[list[float]]) -> np.ndarray:
    image = torch.from_numpy(grey.astype(np.float32))[None, None]
    return net(net.mark(image, [np.array(points).reshape(-1, 2)])).argmax(1)[0].numpy().astype(bool)


def test_every_click_gets_its_region_and_no_click_none() -> None:
    grey, one, other = two_discs()
    net = walker()
    assert dice(clicked(net, grey, [[20, 18], [42, 46]]), one | other) > 0.95
    assert dice(clicked(net, grey, [[20, 18]]), one) > 0.95
    assert not clicked(net, grey, []).any()


def test_the_order_of_the_seeds_does_not_matter() -> None:
    grey, _, _ = two_discs()
    seeds = [(20, 18), (42, 46), (18, 22), (5, 60)]
    net = walker()
    answers = [net.from_seeds(grey, order) for order in (seeds, seeds[::-1], [seeds[place] for place in (2, 0, 3, 1)])]
    assert np.array_equal(answers[0], answers[1])
    assert np.array_equal(answers[0], answers[2])


def test_the_walk_in_a_window_is_the_walk_in_the_whole_image() -> None:
    grey, _, _ = two_discs()
    net = walker(reach=1.5)
    inside, outside = net.seeded(grey.shape, [(20, 18)])
    whole = arrival(grey / grey.std(), inside, outside, beta=130.0)
    assert np.array_equal(net.from_seeds(grey, [(20, 18)]), whole > 0.5)
    window = (slice(0, 40), slice(0, 38))  # with a rim of background
    part = arrival(grey[window] / grey.std(), inside[window], outside[window], beta=130.0)
    assert outside[39].all()
    assert outside[:, 37].all()
    np.testing.assert_allclose(part, whole[window], atol=1e-9)


def test_seeds_lie_at_the_distances_that_were_asked_for() -> None:
    inside, outside = walker(inner=0.5, reach=2.0).seeded((64, 64), [(30, 32)])
    distance = np.hypot(*(np.indices((64, 64)) - np.array([30, 32])[:, None, None]))
    radius = np.sqrt(disc((64, 64), (30, 30), 10).sum() / np.pi)
    assert np.array_equal(inside, distance <= 0.5 * radius)
    assert np.array_equal(outside, distance > 2 * radius)
    inside, outside = walker(inner=0.0, reach=50.0).seeded((64, 64), [(30, 32), (40, 12)])
    assert np.array_equal(inside, at((64, 64), (30, 32), (40, 12)))
    assert np.array_equal(outside, frame((64, 64)))


def test_gain_and_offset_of_the_grey_do_not_matter() -> None:
    grey, _, _ = two_discs()
    net = walker()
    assert np.array_equal(net.from_seeds(grey, [(20, 18)]), net.from_seeds(-8 * grey + 100, [(20, 18)]))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (7, 3), (40, 40)])
def test_flat_and_tiny_images_are_answered(size: tuple[int, int]) -> None:
    for reach in (0.5, 2.0, 100.0):
        net = walker(reach=reach)
        found = net.from_seeds(np.full(size, 3.0, np.float32), [(size[0] // 2, size[1] // 2)])
        assert found.shape == size
        assert found[size[0] // 2, size[1] // 2]


def test_it_says_what_it_was_given_and_finds_a_seed_itself_when_asked() -> None:
    assert walker().interaction == "one click in each region, simulated from the truth"
    alone = walker(seeds="auto")
    assert alone.interaction == "none"
    truth = disc((64, 64), (36, 26), 10)
    image = torch.from_numpy(np.where(truth, 0.0, 5.0).astype(np.float32))[None, None]
    assert dice(alone(image).argmax(1)[0].numpy().astype(bool), truth) > 0.95


def test_faults_are_named() -> None:
    for wrong in ({"beta": -1.0}, {"inner": 2.0, "reach": 2.0}, {"inner": -0.1}):
        with pytest.raises(ConfigError, match=r"^net\.beta=.* net\.inner=.* net\.reach=.*above\.$"):
            RandomWalker(in_channels=1, num_classes=2, **wrong)
    with pytest.raises(ConfigError, match=r"net\.seeds='guess' is unknown"):
        RandomWalker(in_channels=1, num_classes=2, seeds="guess")
