"""Views of an image: exact ways back, the mean over them, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from medseg.errors import ConfigError
from medseg.evaluation.tta import Tta

SHAPES = ((2, 3, 8, 8), (1, 2, 4, 6, 6), (1, 1, 5, 7))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), shape=st.sampled_from(SHAPES), turns=st.sets(st.sampled_from([1, 2, 3])))
def test_every_flip_and_turn_comes_back_bit_for_bit(seed: int, shape: tuple[int, ...], turns: set[int]) -> None:
    image = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    flips = ["w", "h", "hw"] + (["d", "dhw"] if len(shape) == 5 else [])
    changes = Tta(flips, sorted(turns)).changes
    assert len(changes) == (1 + len(flips)) * (1 + len(turns))
    for change in changes:
        assert torch.equal(change.back(change(image), shape[2:]), image)
    assert torch.equal(changes[0](image), image)


def test_flips_are_of_the_axes_that_they_name() -> None:
    image = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert Tta(["w"]).changes[1](image)[0, 0].tolist() == [[2, 1, 0], [5, 4, 3]]
    assert Tta(["h"]).changes[1](image)[0, 0].tolist() == [[3, 4, 5], [0, 1, 2]]


def test_the_eight_views_of_a_square_are_all_different() -> None:
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    views = [tuple(change(image).flatten().tolist()) for change in Tta(["w"], [1, 2, 3]).changes]
    assert len(set(views)) == 8


def test_a_network_that_treats_every_view_alike_says_the_same_and_another_its_mean() -> None:
    image = torch.rand((1, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    alike = lambda seen: torch.cat([seen, -seen], 1)  # noqa: E731
    plain, mean = Tta(["w"], [1, 2, 3]).logits(alike, image)
    assert torch.allclose(mean.softmax(1), plain.softmax(1), atol=1e-6)
    column = torch.linspace(-2, 2, 6).expand(1, 1, 6, 6)  # says the same on the left whatever the image holds
    fixed = lambda seen: torch.cat([column, -column], 1)  # noqa: E731
    plain, mean = Tta(["w"]).logits(fixed, image)
    by_hand = (fixed(image).softmax(1) + fixed(image).softmax(1).flip(-1)) / 2
    assert torch.allclose(mean.softmax(1), by_hand, atol=1e-6)
    assert not torch.allclose(mean.softmax(1), plain.softmax(1), atol=0.05)


def test_marks_in_the_image_move_with_it() -> None:
    image = torch.zeros((1, 1, 8, 8))
    image[0, 0, 2, 1] = 1.0  # a mark, found by the network wherever it is
    follow = lambda seen: torch.cat([-9 * seen + 1, 9 * seen - 1], 1)  # noqa: E731
    _, mean = Tta(["w", "h", "hw"], [1, 2, 3]).logits(follow, image)
    assert np.argwhere(mean[0].argmax(0).numpy()).tolist() == [[2, 1]]


def test_one_view_is_the_image_itself_and_costs_one_pass() -> None:
    calls: list[torch.Size] = []

    def net(seen: torch.Tensor) -> torch.Tensor:
        calls.append(seen.shape)
        return seen

    plain, mean = Tta().logits(net, torch.rand(2, 2, 4, 4))
    assert mean is plain
    assert len(calls) == 1


def test_scales_are_rounded_to_the_multiple_and_come_back_near_the_image() -> None:
    sizes = []

    def net(seen: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(seen.shape[2:]))
        return torch.cat([seen, -seen], 1)

    rough = torch.rand((1, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    image = functional.interpolate(rough, (64, 96), mode="bilinear")
    plain, mean = Tta(["w"], scales=[0.75, 1.25], multiple=16).logits(net, image)
    assert sizes == [(64, 96), (64, 96), (48, 64), (48, 64), (80, 128), (80, 128)]
    assert (mean.softmax(1) - plain.softmax(1)).abs().max() < 0.05
    assert torch.allclose(mean.softmax(1).sum(1), torch.ones(1, 64, 96), atol=1e-5)


@pytest.mark.parametrize(
    ("tta", "given", "message"),
    [
        (Tta(["w"], [1]), {"size": (32, 40)}, r"a quarter turn of \(32, 40\)"),
        (Tta(scales=[1.5]), {"interactive": True}, "scaling blurs the marks"),
        (Tta(["d"]), {}, "pictures, which have axes h and w"),
    ],
)
def test_views_that_do_not_fit_are_refused_with_the_way_out(tta: Tta, given: dict, message: str) -> None:
    usual = {"size": (32, 32), "whole": True, "interactive": False, "source": "a run"}
    with pytest.raises(ConfigError, match=message):
        tta.check(**{**usual, **given})
    Tta(["w"], [2]).check(**{**usual, **given})


@pytest.mark.parametrize(
    "make", [{"flips": ["x"]}, {"flips": [""]}, {"turns": [4]}, {"scales": [0.0]}, {"multiple": 0}]
)
def test_views_that_do_not_exist_are_refused(make: dict) -> None:
    with pytest.raises(ConfigError, match="tta"):
        Tta(**make)


def test_views_are_written_down_and_read_back() -> None:
    tta = Tta(["w"], [1], [1.5], 16)
    assert Tta(**tta.parameters).changes == tta.changes
