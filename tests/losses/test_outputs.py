"""What becomes of side outputs, presence and overlapping structures."""

import math

import pytest
import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.losses.combine import DeepSupervision, WeightedSum, training_loss
from medseg.losses.outputs import presence_loss, structure_loss
from medseg.losses.overlap import Dice
from medseg.losses.pixelwise import CrossEntropy
from medseg.losses.truth import Truth
from medseg.types import IGNORE, BranchOutput, DeepOutput, StructureOutput


class Constant(nn.Module):
    """A loss that is the mean of the first channel."""

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        return logits[:, 0].mean()


def full(value: float, size: int = 8) -> Tensor:
    return torch.full((1, 2, size, size), value)


MASK = torch.zeros(1, 8, 8, dtype=torch.int64)

# ---- side outputs


def test_side_outputs_are_weighed_as_told_or_alike() -> None:
    maps = [full(1.0), full(10.0)]
    assert training_loss(DeepOutput(maps, [1.0, 0.4]), Truth(MASK), Constant()) == pytest.approx(5.0)
    assert training_loss(DeepOutput(maps), Truth(MASK), Constant()) == pytest.approx(5.5)
    with pytest.raises(ValueError, match="zip"):
        training_loss(DeepOutput(maps, [1.0]), Truth(MASK), Constant())


def test_nnunet_weighs_lists_by_halves() -> None:
    maps = [full(1.0), full(10.0, 4), full(100.0, 2)]
    assert DeepSupervision(Constant(), "nnunet").level_weights(3) == pytest.approx([2 / 3, 1 / 3, 0])
    assert DeepSupervision(Constant(), "halved").level_weights(3) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert DeepSupervision(Constant(), "nnunet").level_weights(1) == [1.0]
    for levels, expected in (("equal", 37.0), ("halved", 124 / 7), ("nnunet", 4.0)):
        loss = DeepSupervision(Constant(), levels)
        assert training_loss(DeepOutput(maps), Truth(MASK), loss) == pytest.approx(expected)
        own = DeepOutput(maps, [1.0, 0.4, 0.0])  # a network's own weights stand
        assert training_loss(own, Truth(MASK), loss) == pytest.approx(5.0)
        assert training_loss(maps, Truth(MASK), loss) == pytest.approx(expected)
        assert loss(full(3.0), MASK) == pytest.approx(3.0)
    with pytest.raises(ConfigError, match=r"^loss\.levels=two: choose one of equal, halved, nnunet"):
        DeepSupervision(Constant(), "two")


def test_a_map_of_weight_zero_is_not_computed() -> None:
    # Not even its NaN arrives.
    assert training_loss(DeepOutput([full(1.0), full(math.nan)], [1.0, 0.0]), Truth(MASK), Constant()) == pytest.approx(
        1.0
    )


def test_a_weight_without_a_term_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^loss\.weights names 'dcie', loss\.terms has ce, dice"):
        WeightedSum({"ce": CrossEntropy(), "dice": Dice()}, {"dcie": 1.0})


def test_branches_still_learn_mutually_with_weights_at_hand() -> None:
    output = BranchOutput(full(1.0), [full(1.0), full(1.0)])
    assert training_loss(output, Truth(MASK, torch.ones(1, 8, 8)), Constant()) == pytest.approx(3.0, abs=1e-6)


# ---- presence


def test_presence_is_binary_cross_entropy_of_what_is_in_the_image() -> None:
    mask = torch.zeros(2, 4, 4, dtype=torch.int64)
    mask[0, 0, 0], mask[1, 0, 0] = 1, 2
    presence = torch.tensor([[math.log(3.0), 0.0], [0.0, math.log(9.0)]])
    # p = 3/4 of there, 1/2 of absent, 1/2 of absent, 9/10 of there.
    expected = -(math.log(0.75) + 2 * math.log(0.5) + math.log(0.9)) / 4
    assert presence_loss(presence, mask) == pytest.approx(expected, abs=1e-6)
    deep = DeepOutput([torch.zeros(2, 3, 4, 4)], presence=presence)
    total = training_loss(deep, Truth(mask), CrossEntropy())
    assert total == pytest.approx(math.log(3) + expected, abs=1e-6)


def test_presence_of_what_ignored_pixels_may_hide_is_left_out() -> None:
    mask = torch.zeros(1, 4, 4, dtype=torch.int64)
    mask[0, 0, 0], mask[0, 3] = 1, IGNORE
    presence = torch.tensor([[0.0, 5.0]], requires_grad=True)
    value = presence_loss(presence, mask)
    value.backward()
    assert float(value.detach()) == pytest.approx(math.log(2), abs=1e-6)
    assert presence.grad is not None
    assert presence.grad[0, 0] != 0 and presence.grad[0, 1] == 0
    assert presence_loss(presence, torch.full((1, 4, 4), IGNORE)) == 0


# ---- structures


def test_structures_are_unions_of_labels() -> None:
    mask = torch.zeros(1, 4, 4, dtype=torch.int64)
    mask[0, 0], mask[0, 1, :2] = 1, 2
    members = ((1, 2), (2,))
    target = torch.stack([mask > 0, mask == 2], dim=1).float()
    perfect = structure_loss(StructureOutput(60 * (2 * target - 1), members), mask)
    assert perfect == pytest.approx(0.0, abs=1e-6)
    # p = 1/2 everywhere: cross entropy log 2, Dice (2 * n/2 + 1) / (8 + n + 1) with 6 and 2 pixels.
    flat = structure_loss(StructureOutput(torch.zeros(1, 2, 4, 4), members), mask)
    assert flat == pytest.approx(2 * math.log(2) + 2 - 7 / 15 - 3 / 11, abs=1e-6)
    assert training_loss(StructureOutput(torch.zeros(1, 2, 4, 4), members), Truth(mask), Constant()) == pytest.approx(
        float(flat)
    )


def test_the_gradient_of_a_structure_stays_in_it_and_off_ignored_pixels() -> None:
    torch.manual_seed(0)
    mask = torch.randint(0, 3, (2, 5, 5))
    mask[0, :2] = IGNORE
    maps = torch.randn(2, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    value = structure_loss(StructureOutput(maps, ((1, 2), (2,))), mask)
    value.backward()
    assert maps.grad is not None
    assert torch.all(maps.grad[0, :, :2] == 0) and (maps.grad[0, :, 2:] != 0).any()
    assert torch.autograd.gradcheck(lambda x: structure_loss(StructureOutput(x, ((1, 2), (2,))), mask), (maps,))


def test_images_without_a_label_are_left_out_of_structures() -> None:
    torch.manual_seed(0)
    mask = torch.randint(0, 2, (2, 5, 5))
    maps = torch.randn(2, 1, 5, 5)
    alone = structure_loss(StructureOutput(maps[:1], ((1,),)), mask[:1])
    mask[1] = IGNORE
    assert structure_loss(StructureOutput(maps, ((1,),)), mask) == pytest.approx(float(alone), abs=1e-6)
    assert structure_loss(StructureOutput(maps, ((1,),)), torch.full_like(mask, IGNORE)) == 0
    with pytest.raises(ValueError, match="1 maps for 2 structures"):
        structure_loss(StructureOutput(maps, ((1,), (2,))), mask)
