"""Operations and times of a forward pass: counted by hand, waited for, and without traces on the network."""

import logging
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medseg.commands.forward_cost import MARKED, forward_cost, interaction_of, kind_of
from medseg.nets.classical.ellipse import EllipseMarks
from medseg.nets.classical.threshold import Threshold
from medseg.nets.unet import UNet
from medseg.training.cost import gigaflops, milliseconds
from tiny import make_data, make_module, make_trainer


def test_a_convolution_costs_what_one_counts_by_hand() -> None:
    layer = nn.Conv2d(3, 5, 3, padding=1)
    image = torch.zeros(1, 3, 20, 30)
    assert gigaflops(lambda: layer(image)) == pytest.approx(2 * 9 * 3 * 5 * 20 * 30 / 1e9)


@pytest.mark.parametrize("error", [NotImplementedError("no rule for it"), AssertionError()])
def test_what_cannot_be_counted_is_none_and_said(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def answer() -> None:
        raise error

    with caplog.at_level(logging.WARNING):
        assert gigaflops(answer) is None
    assert (str(error) or "AssertionError") in caplog.text


def test_time_is_the_median_after_the_warm_up() -> None:
    seconds = iter([0.2, 0.01, 0.01, 0.01, 0.2])
    found = milliseconds(lambda: time.sleep(next(seconds)), device=torch.device("cpu"), warmup=1, repeats=4)
    assert 10 <= found < 100


def test_a_slow_system_is_asked_three_times_and_a_fast_one_often() -> None:
    calls: list[int] = []
    milliseconds(lambda: calls.append(0), device=torch.device("cpu"), warmup=2, repeats=9)
    assert len(calls) == 11
    calls.clear()
    milliseconds(lambda: calls.append(0), device=torch.device("cpu"), warmup=0, repeats=9, budget=0.0)
    assert len(calls) == 3


def parts_of(tmp_path: Any, net: nn.Module) -> Any:
    return SimpleNamespace(module=make_module(net), data=make_data(tmp_path), trainer=make_trainer(tmp_path, 1))


def test_measuring_leaves_the_network_as_it_was(tmp_path: Any) -> None:
    parts = parts_of(tmp_path, UNet(in_channels=1, num_classes=2, widths=[4, 8], dropout=0.5))
    module = parts.module.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    gflops, spent = forward_cost(parts)
    assert gflops is not None and gflops > 0
    assert spent > 0
    assert module.net.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


class Counting(EllipseMarks):
    """Remembers what it was asked with."""

    def forward(self, image: Tensor) -> Tensor:
        self.seen = tuple(image.shape), bool(image[:, -1].any())
        return super().forward(image)


def test_an_interactive_system_is_measured_with_its_marks_and_a_classical_one_is_not_counted(tmp_path: Any) -> None:
    net = Counting(in_channels=1, num_classes=2)
    gflops, spent = forward_cost(parts_of(tmp_path, net))
    assert gflops is None
    assert spent > 0
    assert net.seen == ((1, 2, 32, 32), True)


def test_kind_and_interaction_are_told_from_the_network() -> None:
    unet = UNet(in_channels=1, num_classes=2, widths=[4, 8])
    ellipse, threshold = EllipseMarks(in_channels=1, num_classes=2), Threshold(in_channels=1, num_classes=2)
    assert [kind_of(net) for net in (unet, ellipse, threshold)] == ["deep", "classical", "classical"]
    assert interaction_of(unet) == interaction_of(threshold) == "none"
    assert interaction_of(ellipse) in (MARKED, getattr(ellipse, "interaction", ""))
    unet.interaction = "a click"  # type: ignore[assignment]
    assert interaction_of(unet) == "a click"


def test_the_measured_sample_shows_an_object(tmp_path: Any) -> None:
    from medseg.commands.forward_cost import one_image

    batch = one_image(make_data(tmp_path))
    assert batch["image"].shape == (1, 1, 32, 32)
    assert np.isin(1, batch["mask"].numpy())
