"""Numbers worked by hand."""

import math
from functools import partial

import pytest
import torch

from medseg.losses.combine import WeightedSum, training_loss
from medseg.losses.mutual import divergence, margin_of, mutual_learning
from medseg.losses.overlap import Dice, dice
from medseg.losses.pixelwise import CrossEntropy, cross_entropy
from medseg.losses.truth import Truth
from medseg.types import BranchOutput


def hard(mask: torch.Tensor) -> torch.Tensor:
    return 50.0 * (2 * torch.nn.functional.one_hot(mask, 2).movedim(-1, 1).float() - 1)


def test_dice_of_a_shifted_square() -> None:
    truth, moved = torch.zeros(2, 1, 32, 32, dtype=torch.int64).unbind(0)
    truth[:, 10:22, 10:22] = 1
    moved[:, 10:22, 12:24] = 1
    # 144 pixels each, 120 shared: Dice 240/288.
    assert dice(hard(moved), truth, smooth=1e-9) == pytest.approx(1 - 240 / 288, abs=1e-6)
    assert dice(hard(moved), truth, smooth=1.0) == pytest.approx(1 - 241 / 289, abs=1e-6)


def test_dice_punishes_a_false_nodule_on_an_empty_mask() -> None:
    empty = torch.zeros(1, 8, 8, dtype=torch.int64)
    assert dice(hard(torch.ones_like(empty)), empty, smooth=1.0) == pytest.approx(1 - 1 / 65, abs=1e-6)
    assert dice(hard(empty), empty, smooth=1.0) == pytest.approx(0.0, abs=1e-6)


def test_dice_is_averaged_over_cases_not_over_the_batch() -> None:
    truth = torch.zeros(2, 8, 8, dtype=torch.int64)
    truth[0] = 1
    truth[1, 0, 0] = 1
    answer = torch.zeros_like(truth)
    answer[0] = 1
    assert dice(hard(answer), truth, smooth=1e-9) == pytest.approx(0.5, abs=1e-6)


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[[[0.0, math.log(3.0)]], [[0.0, 0.0]]]])
    mask = torch.tensor([[[0, 1]]])
    # Probabilities of the truth: 1/2 and 1/4.
    assert cross_entropy(logits, mask) == pytest.approx((math.log(2) + math.log(4)) / 2, abs=1e-6)
    weighted = CrossEntropy([1.0, 3.0])(logits, mask)
    assert weighted == pytest.approx((math.log(2) + 3 * math.log(4)) / 4, abs=1e-6)
    expected = torch.nn.functional.cross_entropy(logits, mask, weight=torch.tensor([1.0, 3.0]))
    assert weighted == pytest.approx(float(expected), abs=1e-6)


def test_weighted_sum_adds_up() -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(1, 2, 4, 4), torch.randint(0, 2, (1, 4, 4))
    both = WeightedSum({"ce": CrossEntropy(), "dice": Dice()}, {"ce": 0.4, "dice": 0.6})
    expected = 0.4 * cross_entropy(logits, mask) + 0.6 * dice(logits, mask)
    assert both(logits, mask) == pytest.approx(float(expected), abs=1e-6)


def test_deep_supervision_is_the_mean_over_resized_maps() -> None:
    mask = torch.ones(1, 8, 8, dtype=torch.int64)
    maps = [torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 4, 4)]
    assert training_loss(maps, Truth(mask), CrossEntropy()) == pytest.approx(math.log(2), abs=1e-6)


def test_a_network_with_a_strange_output_is_refused() -> None:
    with pytest.raises(TypeError, match="returned dict"):
        training_loss({"out": torch.zeros(1)}, Truth(torch.zeros(1, 2, 2)), CrossEntropy())


def test_divergence_vanishes_with_its_gradient_when_branches_agree() -> None:
    torch.manual_seed(0)
    mask = torch.zeros(1, 4, 4, dtype=torch.int64)
    learner = torch.randn(1, 2, 4, 4, requires_grad=True)
    partner = learner.detach().clone().requires_grad_()
    value = divergence(partner, learner, mask)
    value.backward()
    assert float(value.detach()) == pytest.approx(0.0, abs=1e-6)
    assert learner.grad is not None
    assert learner.grad.abs().max() < 1e-6
    assert partner.grad is None


def test_divergence_teaches_the_learner_and_never_the_partner() -> None:
    mask = torch.zeros(1, 1, 1, dtype=torch.int64)
    partner = torch.tensor([[[[0.0]], [[0.0]]]], requires_grad=True)
    learner = torch.tensor([[[[math.log(3.0)]], [[0.0]]]], requires_grad=True)
    value = divergence(partner, learner, mask)
    # KL of (1/2, 1/2) from (3/4, 1/4).
    assert float(value.detach()) == pytest.approx(0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25), abs=1e-6)
    value.backward()
    assert partner.grad is None
    assert learner.grad is not None
    assert learner.grad.abs().sum() > 0


def test_margin_is_the_two_pixel_ring_of_a_square() -> None:
    mask = torch.zeros(1, 9, 9, dtype=torch.int64)
    mask[:, 3:6, 3:6] = 1
    expected = torch.ones(5, 5)
    expected[2, 2] = 0
    assert torch.equal(margin_of(mask)[0, 0, 2:7, 2:7], expected)
    assert margin_of(mask).sum() == 24


def test_mutual_learning_is_three_losses_a_margin_and_nothing_else_when_branches_agree() -> None:
    mask = torch.zeros(1, 6, 6, dtype=torch.int64)
    mask[:, 2:4, 2:4] = 1
    same = torch.zeros(1, 2, 6, 6)
    output = BranchOutput(fused=same, branches=[same, same.clone()], margin=torch.zeros(1, 1, 6, 6))
    judge = partial(CrossEntropy(), mask=mask)
    assert mutual_learning(output, mask, judge) == pytest.approx(3.5 * math.log(2), abs=1e-5)
    assert training_loss(output, Truth(mask), CrossEntropy()) == pytest.approx(3.5 * math.log(2), abs=1e-5)
