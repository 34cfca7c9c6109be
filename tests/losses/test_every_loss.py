"""The exam of the family: every option under conf/loss obeys the same laws."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from medseg.types import IGNORE

OPTIONS = sorted((Path(__file__).parents[2] / "conf" / "loss").glob("*.yaml"))


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
def test_better_predictions_cost_less(loss: nn.Module, classes: int) -> None:
    mask = square(classes=classes)
    perfect, good, bad = (loss(logits_for(mask, confidence=c, classes=classes), mask) for c in (9.0, 1.0, -3.0))
    assert 0 <= perfect < good < bad


def test_gradients_agree_with_finite_differences(loss: nn.Module) -> None:
    torch.manual_seed(0)
    mask = torch.randint(0, 3, (2, 3, 4))
    mask[0, 0, 0] = IGNORE
    logits = torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss.double()(x, mask), (logits,))


def test_three_dimensions_with_one_slice_equal_two(loss: nn.Module) -> None:
    torch.manual_seed(0)
    mask, logits = square(), torch.randn(2, 2, 16, 16)
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


def test_half_precision_logits_are_summed_in_float(loss: nn.Module) -> None:
    mask = torch.zeros(1, 256, 256, dtype=torch.int64)
    mask[:, :200] = 1
    wide = torch.randn(1, 2, 256, 256)
    assert loss(wide.bfloat16(), mask) == pytest.approx(float(loss(wide.bfloat16().float(), mask)), rel=1e-5)
