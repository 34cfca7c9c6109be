"""The exam of the family: every option under conf/loss obeys the same laws."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import Tensor, nn

from medseg.losses.combine import training_loss
from medseg.losses.truth import Truth
from medseg.types import IGNORE, DeepOutput

OPTIONS = sorted((Path(__file__).parents[2] / "conf" / "loss").glob("*.yaml"))
UNBOUNDED = ("boundary",)
"""Options that are negative when the answer is right."""
BY_AXES = ("nnunet",)
"""Options that sum pictures over the batch and volumes by case."""
CALIBRATED = ("nacl",)
"""Options that want an answer to be right, and no more certain than its surroundings are."""


@pytest.fixture(params=OPTIONS, ids=lambda path: path.stem)
def loss(request: pytest.FixtureRequest) -> nn.Module:
    return instantiate(OmegaConf.load(request.param))


def square(size: int = 16, classes: int = 2) -> Tensor:
    mask = torch.zeros(2, size, size, dtype=torch.int64)
    mask[:, 4:10, 5:12] = 1
    if classes == 3:
        mask[:, 11:14, 2:6] = 2
    return mask


def logits_for(mask: Tensor, *, confidence: float, classes: int = 2) -> Tensor:
    one_hot = torch.nn.functional.one_hot(mask.clamp(max=classes - 1), classes).movedim(-1, 1).float()
    return confidence * (2 * one_hot - 1)


@pytest.mark.parametrize("classes", [2, 3])
def test_better_predictions_cost_less(loss: nn.Module, classes: int, request: pytest.FixtureRequest) -> None:
    mask = square(classes=classes)
    perfect, good, bad = (loss(logits_for(mask, confidence=c, classes=classes), mask) for c in (9.0, 1.0, -3.0))
    option = request.node.callspec.params["loss"].stem
    assert good < bad
    assert bool(perfect < good) is (option not in CALIBRATED)
    if option not in UNBOUNDED:
        assert perfect >= -1e-6


def test_gradients_agree_with_finite_differences(loss: nn.Module) -> None:
    torch.manual_seed(0)
    mask = torch.randint(0, 3, (2, 3, 4))
    mask[0, 0, 0] = IGNORE
    logits = torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    loss.double().eval()  # what is counted while training stands still
    assert torch.autograd.gradcheck(lambda x: loss(x, mask), (logits,))


def test_a_step_down_the_gradient_costs_less(loss: nn.Module) -> None:
    torch.manual_seed(0)
    mask = square(classes=3)
    logits = torch.randn(2, 3, 16, 16, requires_grad=True)
    value = loss(logits, mask)
    value.backward()
    assert logits.grad is not None
    down = logits.detach() - 0.1 * logits.grad / logits.grad.norm()
    assert loss(down, mask) < value.detach()


def test_three_dimensions_with_one_slice_equal_two(loss: nn.Module, request: pytest.FixtureRequest) -> None:
    torch.manual_seed(0)
    mask, logits = square(), torch.randn(2, 2, 16, 16)
    if request.node.callspec.params["loss"].stem in BY_AXES:
        mask, logits = mask[:1], logits[:1]
    assert loss(logits, mask) == pytest.approx(float(loss(logits.unsqueeze(2), mask.unsqueeze(1))), abs=1e-6)


def test_ignored_pixels_change_nothing_and_get_no_gradient(loss: nn.Module) -> None:
    torch.manual_seed(0)
    mask = square()
    mask[:, :2] = IGNORE
    logits = torch.randn(2, 2, 16, 16, requires_grad=True)
    other = logits.detach().clone()
    other[:, :, :2] = 77.0
    value = loss(logits, mask)
    assert float(value.detach()) == pytest.approx(float(loss(other, mask).detach()), abs=1e-6)
    value.backward()
    assert logits.grad is not None
    assert torch.all(logits.grad[:, :, :2] == 0)
    assert logits.grad[:, :, 2:].abs().sum() > 0


@pytest.mark.parametrize("fill", [0, 1])
def test_empty_and_full_masks_are_finite_and_still_teach(loss: nn.Module, fill: int) -> None:
    mask = torch.full((2, 8, 8), fill)
    logits = logits_for(1 - mask, confidence=3.0).requires_grad_()
    value = loss(logits, mask)
    value.backward()
    assert torch.isfinite(value)
    assert value > loss(logits_for(mask, confidence=3.0), mask)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().sum() > 0


def test_everything_ignored_costs_nothing_that_is_not_finite(loss: nn.Module) -> None:
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    value = loss(logits, torch.full((1, 4, 4), IGNORE))
    value.backward()
    assert torch.isfinite(value)
    assert logits.grad is not None
    assert torch.all(logits.grad == 0)


@given(
    seed=st.integers(0, 2**16),
    share=st.floats(0, 1),
    classes=st.integers(2, 4),
    size=st.sampled_from([(5, 7), (8, 8), (3, 4, 5)]),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_ignored_neither_counts_nor_learns(
    loss: nn.Module, seed: int, share: float, classes: int, size: tuple[int, ...]
) -> None:
    draw = torch.Generator().manual_seed(seed)
    mask = torch.randint(0, classes, (2, *size), generator=draw)
    ignored = torch.rand(mask.shape, generator=draw) < share
    mask[ignored] = IGNORE
    logits = 2 * torch.randn(2, classes, *size, generator=draw)
    other = logits + ignored.unsqueeze(1) * 50 * torch.randn(logits.shape, generator=draw)
    loss.eval()
    values = []
    for answer in (logits, other):
        leaf = answer.requires_grad_()
        value = loss(leaf, mask)
        value.backward()
        assert torch.isfinite(value)
        assert leaf.grad is not None and torch.isfinite(leaf.grad).all()
        assert torch.all(leaf.grad.movedim(1, -1)[ignored] == 0)
        values.append(float(value.detach()))
    assert values[0] == pytest.approx(values[1], abs=1e-5, rel=1e-5)


@pytest.mark.parametrize("answer", [0, 1])
@pytest.mark.parametrize("fill", [0, 1, IGNORE])
def test_saturated_answers_stay_finite(loss: nn.Module, fill: int, answer: int) -> None:
    mask = torch.full((2, 8, 8), fill)
    logits = logits_for(torch.full((2, 8, 8), answer), confidence=60.0).requires_grad_()
    value = loss(logits, mask)
    value.backward()
    assert torch.isfinite(value)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_an_image_without_labels_does_not_spoil_its_batch(loss: nn.Module) -> None:
    torch.manual_seed(0)
    mask = square()
    mask[1] = IGNORE
    logits = torch.randn(2, 2, 16, 16, requires_grad=True)
    loss(logits, mask).backward()
    assert logits.grad is not None
    assert torch.all(logits.grad[1] == 0)
    assert torch.isfinite(logits.grad[0]).all() and logits.grad[0].abs().sum() > 0


def test_autocast_changes_nothing(loss: nn.Module) -> None:
    torch.manual_seed(0)
    mask, logits = square(), torch.randn(2, 2, 16, 16)
    loss.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, mask)
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(float(loss(logits, mask)), rel=1e-6)


def test_side_outputs_go_through_every_loss(loss: nn.Module) -> None:
    torch.manual_seed(0)
    mask, logits = square(), torch.randn(2, 2, 16, 16)
    one = training_loss(logits, Truth(mask), loss.eval())
    assert training_loss([logits, logits], Truth(mask), loss) == pytest.approx(float(one), rel=1e-5)
    assert training_loss(DeepOutput([logits, logits], [0.25, 0.75]), Truth(mask), loss) == pytest.approx(
        float(one), rel=1e-5
    )


def test_half_precision_logits_are_summed_in_float(loss: nn.Module) -> None:
    mask = torch.zeros(1, 256, 256, dtype=torch.int64)
    mask[:, :200] = 1
    wide = torch.randn(1, 2, 256, 256)
    assert loss(wide.bfloat16(), mask) == pytest.approx(float(loss(wide.bfloat16().float(), mask)), rel=1e-5)
