"""Schedules follow their formulas, keep the ratios of groups, and go on where they stopped."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_resume import KilledError, StopAfter
from torch.optim import Optimizer

from medseg.errors import ConfigError
from medseg.journal import read_journal
from medseg.training import schedules
from tiny import make_data, make_module, make_trainer

STEPS = 40
KINDS: dict[str, Callable[..., object]] = {
    "constant": schedules.constant,
    "poly": schedules.poly,
    "cosine": partial(schedules.cosine, warmup=0.1, floor=0.05),
    "one_cycle": schedules.one_cycle,
    "step": schedules.step,
}


def optimizer(kind: type[Optimizer] = torch.optim.SGD, **changes: float) -> Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.1, 0.01)]
    return kind(groups, lr=0.1, **changes)


def rates(kind: str, optimiser: Optimizer) -> list[tuple[float, ...]]:
    schedule = KINDS[kind](optimiser, STEPS)
    seen = []
    for _ in range(STEPS):
        seen.append(tuple(group["lr"] for group in optimiser.param_groups))
        optimiser.step()
        schedule.step()
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_groups_keep_their_ratio_at_every_step(kind: str) -> None:
    for first, second in rates(kind, optimizer(momentum=0.9)):
        assert first == pytest.approx(10 * second, rel=1e-9)


def test_each_follows_its_formula() -> None:
    firsts = {kind: [pair[0] for pair in rates(kind, optimizer(momentum=0.9))] for kind in KINDS}
    assert firsts["constant"] == [0.1] * STEPS
    assert firsts["poly"] == pytest.approx([0.1 * (1 - t / STEPS) ** 0.9 for t in range(STEPS)])
    cosine = [0.1 * (t + 1) / 4 for t in range(4)]
    cosine += [0.1 * (0.05 + 0.95 * (1 + math.cos(math.pi * (t - 4) / 36)) / 2) for t in range(4, STEPS)]
    assert firsts["cosine"] == pytest.approx(cosine)
    assert firsts["step"] == pytest.approx([0.1] * 20 + [0.01] * 10 + [0.001] * 10)
    peak = max(firsts["one_cycle"])
    assert peak == pytest.approx(0.1)
    assert firsts["one_cycle"].index(peak) == round(0.3 * STEPS) - 1
    assert firsts["one_cycle"][-1] < 1e-5


@given(warmup=st.floats(0, 1), floor=st.floats(0, 1), total=st.integers(1, 60))
def test_a_cosine_stays_between_floor_and_peak_after_its_warmup(warmup: float, floor: float, total: int) -> None:
    optimiser = optimizer()
    schedule = schedules.cosine(optimiser, total, warmup=warmup, floor=floor)
    for step in range(total):
        rate = optimiser.param_groups[0]["lr"]
        assert rate <= 0.1 * (1 + 1e-9)
        if step >= max(1, round(warmup * total)):
            assert rate >= 0.1 * floor * (1 - 1e-9)
        optimiser.step()
        schedule.step()


def test_one_cycle_leaves_an_optimizer_without_momentum_without_it() -> None:
    plain = optimizer(torch.optim.RMSprop)
    schedules.one_cycle(plain, STEPS)
    assert [group["momentum"] for group in plain.param_groups] == [0, 0]
    moving = optimizer(momentum=0.9)
    schedules.one_cycle(moving, STEPS)
    assert moving.param_groups[0]["momentum"] == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (partial(schedules.cosine, floor=1.5), "scheduler.floor=1.5"),
        (partial(schedules.step, drops=[1.5]), r"scheduler.drops=\[1.5\]"),
        (partial(schedules.step, factor=0.0), "factor=0.0"),
        (partial(schedules.plateau, monitor="val/dice", factor=1.0), "factor=1.0"),
        (partial(schedules.plateau, monitor="val/dice", mode="up"), "mode=up"),
    ],
)
def test_numbers_out_of_range_are_refused(build: Callable[..., object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(optimizer(), STEPS)


def falling(**changes: object) -> Callable[..., object]:
    """A plateau that no score can please: the rate falls at every validated epoch but the first."""
    return partial(schedules.plateau, **{"monitor": "val/dice", "mode": "min", "factor": 0.5, "patience": 0, **changes})


def rates_of(module: object) -> list[float]:
    return [group["lr"] for group in module.optimizers().optimizer.param_groups]  # type: ignore[attr-defined]


def test_a_plateau_lowers_the_rate_at_the_end_of_each_epoch_that_is_no_better(tmp_path: Path) -> None:
    make_trainer(tmp_path, 5).fit(make_module(scheduler=falling(monitor="val/loss", mode="max")), make_data(tmp_path))
    rows = [row["metrics"] for row in read_journal(tmp_path / "metrics.jsonl")]
    rate, best = 0.01, -math.inf
    for row in rows:
        better = row["val/loss"] > best * (1 + 1e-4)
        rate, best = (rate, row["val/loss"]) if better else (rate / 2, best)
        assert row["lr"] == pytest.approx(rate)
    assert rate < 0.01


@pytest.mark.parametrize("every", [1, 2])
def test_a_plateau_counts_validated_epochs_only(tmp_path: Path, every: int) -> None:
    module = make_module(scheduler=falling(mode="max", monitor="val/loss", patience=100))
    trainer = make_trainer(tmp_path, 4, check_val_every_n_epoch=every)
    trainer.fit(module, make_data(tmp_path))
    assert trainer.lr_scheduler_configs[0].scheduler.last_epoch == 4 // every


def test_a_plateau_that_was_stopped_goes_on_as_if_it_was_not(tmp_path: Path) -> None:
    whole, half, again = (make_module(scheduler=falling(monitor="val/loss", mode="max")) for _ in range(3))
    make_trainer(tmp_path / "whole", 4).fit(whole, make_data(tmp_path))
    stopped = make_trainer(tmp_path / "halves", 4)
    stopped.callbacks.insert(0, StopAfter(2))
    with pytest.raises(KilledError):
        stopped.fit(half, make_data(tmp_path))
    trainer = make_trainer(tmp_path / "halves", 4)
    trainer.fit(again, make_data(tmp_path), ckpt_path=tmp_path / "halves" / "last.ckpt", weights_only=True)
    assert rates_of(again) == rates_of(whole)
    assert rates_of(whole)[0] < 0.01
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, again.net.state_dict()[name]), name


def test_a_plateau_that_watches_nothing_is_refused_in_the_first_epoch(tmp_path: Path) -> None:
    module = make_module(scheduler=falling(monitor="val/dise"))
    with pytest.raises(ConfigError, match=r"scheduler.monitor=val/dise is not among .*val/dice"):
        make_trainer(tmp_path, 1).fit(module, make_data(tmp_path))
