"""Mixtures of losses that follow the epochs."""

import pytest
import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.losses.combine import DeepSupervision
from medseg.losses.distance import Boundary
from medseg.losses.overlap import Dice
from medseg.losses.pixelwise import CrossEntropy
from medseg.losses.schedule import Balanced, Rising

MASK = torch.zeros(1, 2, 2, dtype=torch.int64)


class Channel(nn.Module):
    """A loss whose value is the mean of one channel of the logits, times a factor."""

    def __init__(self, channel: int, factor: float = 1.0) -> None:
        super().__init__()
        self.channel, self.factor = channel, factor

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        return self.factor * logits[:, self.channel].mean()


def answer(first: float, second: float) -> Tensor:
    return torch.stack([torch.full((1, 2, 2), first), torch.full((1, 2, 2), second)], dim=1)


def balanced(period: int = 1) -> Balanced:
    return Balanced(Channel(0), Channel(1, factor=100.0), period=period)


# ---- rising


def test_the_boundary_takes_over_epoch_by_epoch() -> None:
    loss = Rising(Channel(0), Channel(1), start=0.01, step=0.01, limit=0.03, period=2)
    shares = []
    for epoch in range(6):
        loss.start_epoch(epoch)
        shares.append(loss.share)
    assert shares == pytest.approx([0.01, 0.01, 0.02, 0.02, 0.03, 0.03])


def test_the_paper_rises_by_a_hundredth_an_epoch() -> None:
    loss = Rising(Dice(), Boundary())
    for epoch, share in ((0, 0.01), (1, 0.02), (39, 0.40), (98, 0.99), (500, 0.99)):
        loss.start_epoch(epoch)
        assert loss.share == pytest.approx(share)


def test_however_often_it_is_called_the_share_stays_that_of_the_epoch() -> None:
    loss = Rising(Channel(0), Channel(1), start=0.25, step=0.25, limit=1.0)
    loss.start_epoch(1)
    assert [float(loss(answer(1.0, 3.0), MASK)) for _ in range(5)] == pytest.approx([2.0] * 5)
    assert float(loss.eval()(answer(1.0, 3.0), MASK)) == pytest.approx(2.0)


def test_a_resumed_training_needs_the_epoch_alone() -> None:
    loss, resumed = (Rising(Channel(0), Channel(1)) for _ in range(2))
    for epoch in range(8):
        loss.start_epoch(epoch)
    resumed.load_state_dict(loss.state_dict())
    resumed.start_epoch(7)
    assert resumed.share == loss.share == pytest.approx(0.08)


def test_the_mixture_is_what_its_share_says() -> None:
    torch.manual_seed(0)
    mask = torch.zeros(1, 8, 8, dtype=torch.int64)
    mask[:, 2:5, 2:5] = 1
    logits = torch.randn(1, 2, 8, 8)
    value = Rising(Dice(), Boundary(), start=0.25)(logits, mask)
    assert value == pytest.approx(0.75 * float(Dice()(logits, mask)) + 0.25 * float(Boundary()(logits, mask)), abs=1e-6)


def test_a_mixture_inside_another_loss_is_found_by_its_method() -> None:
    outer = DeepSupervision(Rising(Channel(0), Channel(1)))
    parts = [part for part in outer.modules() if hasattr(part, "start_epoch")]
    for part in parts:
        part.start_epoch(4)
    assert [part.share for part in parts] == pytest.approx([0.05])


# ---- balanced


def test_the_first_batch_brings_the_other_loss_to_the_size_of_the_main_one() -> None:
    loss = balanced()
    loss.start_epoch(0)
    assert loss(answer(2.0, 1.0), MASK) == pytest.approx(4.0)  # 2 + 0.02 x 100
    assert float(loss.ratio) == pytest.approx(0.02)
    assert loss(answer(4.0, 1.0), MASK) == pytest.approx(4.0 + 2.0)  # the ratio stays within the epoch
    loss.eval()(answer(9.0, 1.0), MASK)  # validation is no training
    loss.start_epoch(1)
    assert float(loss.ratio) == pytest.approx(0.03)  # (2 + 4) / (100 + 100)
    assert loss.train()(answer(2.0, 1.0), MASK) == pytest.approx(2.0 + 3.0)


def test_the_ratio_is_set_anew_after_each_period_of_epochs() -> None:
    loss = balanced(period=2)
    ratios = []
    for epoch, main in enumerate((1.0, 3.0, 5.0, 7.0, 9.0)):
        loss.start_epoch(epoch)
        loss(answer(main, 1.0), MASK)
        ratios.append(float(loss.ratio))
    assert ratios == pytest.approx([0.01, 0.01, 0.02, 0.02, 0.06])


def test_a_batch_in_which_a_loss_is_nothing_sets_no_ratio() -> None:
    loss = balanced()
    loss.start_epoch(0)
    assert loss(answer(2.0, 0.0), MASK) == pytest.approx(2.0)
    assert loss(answer(2.0, 1.0), MASK) == pytest.approx(4.0)
    never = balanced().eval()
    assert never(answer(2.0, 1.0), MASK) == pytest.approx(102.0)  # 1 until it is known


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_resumed_balance_goes_on_as_if_nothing_had_happened(done: int) -> None:
    batches = [answer(2.0, 1.0), answer(4.0, 1.0)]

    def epoch(loss: Balanced, number: int, part: list[Tensor]) -> list[float]:
        loss.start_epoch(number)
        return [float(loss(each, MASK)) for each in part]

    whole = balanced()
    expected = epoch(whole, 0, batches) + epoch(whole, 1, batches)
    first, resumed = balanced(), balanced()
    values = epoch(first, 0, batches) + epoch(first, 1, batches[:done])
    resumed.load_state_dict(first.state_dict())
    values += epoch(resumed, 1, batches[done:])
    assert values == pytest.approx(expected)


def test_what_is_counted_stays_in_the_same_tensors() -> None:
    # A rehearsal before training puts buffers back by the tensors that it met.
    loss = balanced()
    before = [(buffer, buffer.clone()) for buffer in loss.buffers()]
    for epoch in range(2):
        loss.start_epoch(epoch)
        loss(answer(2.0, 1.0), MASK)
    for buffer, value in before:
        assert not torch.equal(buffer, value)
        buffer.copy_(value)
    assert loss.eval()(answer(2.0, 1.0), MASK) == pytest.approx(102.0)


def test_several_calls_in_one_step_can_be_differentiated_together() -> None:
    loss = Balanced(Dice(), CrossEntropy())
    logits = torch.randn(1, 2, 8, 8, requires_grad=True)
    mask = torch.randint(0, 2, (1, 8, 8))
    loss.start_epoch(0)
    (loss(logits, mask) + loss(2 * logits, mask)).backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


# ---- refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rising(Dice(), Boundary(), start=0.5, limit=0.2), r"^loss: start=0\.5, step=0\.01, limit=0\.2"),
        (lambda: Rising(Dice(), Boundary(), period=0), r"^loss\.period=0: give a number of epochs"),
        (lambda: Balanced(Dice(), Dice(), period=-1), r"^loss\.period=-1"),
    ],
)
def test_impossible_schedules_are_refused_in_one_line(make: "type[nn.Module]", message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
