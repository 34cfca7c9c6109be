"""What becomes of side outputs, presence and overlapping structures; and mixtures that change while training."""

import math

import pytest
import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.losses.combine import DeepSupervision, WeightedSum, training_loss
from medseg.losses.distance import Boundary
from medseg.losses.outputs import presence_loss, structure_loss
from medseg.losses.overlap import Dice
from medseg.losses.pixelwise import CrossEntropy
from medseg.losses.schedule import Balanced, Rising
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
    assert training_loss(DeepOutput(maps, [1.0, 0.4]), MASK, Constant()) == pytest.approx(5.0)
    assert training_loss(DeepOutput(maps), MASK, Constant()) == pytest.approx(5.5)
    with pytest.raises(ValueError, match="zip"):
        training_loss(DeepOutput(maps, [1.0]), MASK, Constant())


def test_nnunet_weighs_lists_by_halves() -> None:
    maps = [full(1.0), full(10.0, 4), full(100.0, 2)]
    assert DeepSupervision(Constant(), "nnunet").level_weights(3) == pytest.approx([2 / 3, 1 / 3, 0])
    assert DeepSupervision(Constant(), "halved").level_weights(3) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert DeepSupervision(Constant(), "nnunet").level_weights(1) == [1.0]
    for levels, expected in (("equal", 37.0), ("halved", 124 / 7), ("nnunet", 4.0)):
        loss = DeepSupervision(Constant(), levels)
        assert training_loss(maps, MASK, loss) == pytest.approx(expected)
        assert loss(full(3.0), MASK) == pytest.approx(3.0)
    with pytest.raises(ConfigError, match=r"^loss\.levels=two: choose one of equal, halved, nnunet"):
        DeepSupervision(Constant(), "two")


def test_a_map_of_weight_zero_is_not_computed() -> None:
    # Not even its NaN arrives.
    assert training_loss(DeepOutput([full(1.0), full(math.nan)], [1.0, 0.0]), MASK, Constant()) == pytest.approx(1.0)


def test_a_weight_without_a_term_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^loss\.weights names 'dcie', loss\.terms has ce, dice"):
        WeightedSum({"ce": CrossEntropy(), "dice": Dice()}, {"dcie": 1.0})


def test_branches_still_learn_mutually_with_weights_at_hand() -> None:
    output = BranchOutput(full(1.0), [full(1.0), full(1.0)])
    assert training_loss(output, MASK, Constant(), torch.ones(1, 8, 8)) == pytest.approx(3.0, abs=1e-6)


# ---- presence


def test_presence_is_binary_cross_entropy_of_what_is_in_the_image() -> None:
    mask = torch.zeros(2, 4, 4, dtype=torch.int64)
    mask[0, 0, 0], mask[1, 0, 0] = 1, 2
    presence = torch.tensor([[math.log(3.0), 0.0], [0.0, math.log(9.0)]])
    # p = 3/4 of there, 1/2 of absent, 1/2 of absent, 9/10 of there.
    expected = -(math.log(0.75) + 2 * math.log(0.5) + math.log(0.9)) / 4
    assert presence_loss(presence, mask) == pytest.approx(expected, abs=1e-6)
    deep = DeepOutput([torch.zeros(2, 3, 4, 4)], presence=presence)
    total = training_loss(deep, mask, CrossEntropy())
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
    assert training_loss(StructureOutput(torch.zeros(1, 2, 4, 4), members), mask, Constant()) == pytest.approx(
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


# ---- mixtures that change


def test_the_boundary_takes_over_step_by_step() -> None:
    loss = Rising(Constant(), Constant(), start=0.01, step=0.01, limit=0.03, period=2)
    shares = []
    for _ in range(8):
        shares.append(round(float(loss.share), 6))
        loss(full(1.0), MASK)
    assert shares == [0.01, 0.01, 0.02, 0.02, 0.03, 0.03, 0.03, 0.03]
    loss.eval()(full(1.0), MASK)
    assert int(loss.calls) == 8  # validation is no training
    resumed = Rising(Constant(), Constant(), limit=0.03, period=2)
    resumed.load_state_dict(loss.state_dict())
    assert float(resumed.share) == pytest.approx(0.03)


def test_the_mixture_is_what_its_share_says() -> None:
    torch.manual_seed(0)
    mask = torch.zeros(1, 8, 8, dtype=torch.int64)
    mask[:, 2:5, 2:5] = 1
    logits = torch.randn(1, 2, 8, 8)
    value = Rising(Dice(), Boundary(), start=0.25)(logits, mask)
    assert value == pytest.approx(0.75 * float(Dice()(logits, mask)) + 0.25 * float(Boundary()(logits, mask)), abs=1e-6)


class Scaled(Constant):
    """A hundred times the other."""

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        return 100 * logits[:, 1].mean()


def test_the_other_loss_is_brought_to_the_size_of_the_main_one() -> None:
    loss = Balanced(Constant(), Scaled(), period=2)
    first = torch.cat([full(2.0)[:, :1], full(1.0)[:, :1]], 1)
    assert loss(first, MASK) == pytest.approx(4.0)  # 2 + 0.02 x 100
    assert float(loss.ratio) == pytest.approx(0.02)
    second = torch.cat([full(4.0)[:, :1], full(1.0)[:, :1]], 1)
    assert loss(second, MASK) == pytest.approx(4.0 + 2.0)
    assert loss(first, MASK) == pytest.approx(2.0 + 3.0)  # (4 + 2) / (100 + 100) since the last setting
    assert float(loss.ratio) == pytest.approx(0.03)
    loss.eval()(first, MASK)
    assert int(loss.calls) == 3


def test_several_calls_in_one_step_can_be_differentiated_together() -> None:
    loss = Balanced(Dice(), CrossEntropy(), period=1)
    logits = torch.randn(1, 2, 8, 8, requires_grad=True)
    mask = torch.randint(0, 2, (1, 8, 8))
    training_loss([logits, 2 * logits], mask, loss).backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rising(Dice(), Boundary(), start=0.5, limit=0.2), r"^loss: start=0\.5, step=0\.01, limit=0\.2"),
        (lambda: Rising(Dice(), Boundary(), period=0), r"^loss\.period=0"),
        (lambda: Balanced(Dice(), Dice(), period=-1), r"^loss\.period=-1"),
    ],
)
def test_impossible_schedules_are_refused(make: "type[nn.Module]", message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
