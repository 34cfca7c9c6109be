"""The average of the weights is what is validated, chosen and kept, and goes on where it stopped."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from test_resume import KilledError, StopAfter

from medseg.errors import ConfigError
from medseg.journal import Journal, read_journal
from medseg.nets.unet import UNet
from medseg.tracking import CsvTracker
from medseg.training.averaging import Average, MovingAverage, StochasticAverage
from medseg.training.callbacks import Record
from medseg.training.module import SegmentationModule
from medseg.training.schedules import constant
from medseg.training.transfer import Transfer
from tiny import make_data, make_module, make_trainer

State = dict[str, torch.Tensor]


def checkpoints(folder: Path, *, weights_only: bool = False) -> list[ModelCheckpoint]:
    """The two of the default callbacks."""
    given: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False, "save_on_train_epoch_end": True}
    best = ModelCheckpoint(filename="best", monitor="val/dice", mode="max", save_weights_only=weights_only, **given)
    return [best, ModelCheckpoint(filename="last", every_n_epochs=1, **given)]


def trainer(folder: Path, epochs: int, average: Average, *more: Callback, **changes: Any) -> Trainer:
    record = Record(Journal(folder / "metrics.jsonl"), CsvTracker())
    return make_trainer(folder, epochs, callbacks=[*more, average, *checkpoints(folder), record], **changes)


def module(norm: str = "batch", **changes: Any) -> SegmentationModule:
    torch.manual_seed(0)
    net = UNet(in_channels=1, num_classes=2, widths=[4, 8], norm=norm, dropout=0.1)
    return make_module(net, scheduler=constant, **changes)


class Watch(Callback):
    """Keeps the trained weights after every step, and the weights that each validation saw."""

    def __init__(self) -> None:
        self.steps: list[State] = []
        self.validated: list[State] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.steps.append(copied(pl_module.net))

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, number: int) -> None:
        if number == 0:
            self.validated.append(copied(pl_module.net))


def copied(net: torch.nn.Module) -> State:
    return {name: value.clone() for name, value in net.state_dict().items()}


def saved(path: Path, key: str = "state_dict") -> State:
    state = torch.load(path, map_location="cpu", weights_only=True)[key]
    return {name.removeprefix("net."): value for name, value in state.items() if name.startswith("net.")}


def same(one: State, other: State, *, exactly: bool = True, leave: tuple[str, ...] = ()) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if not name.endswith(("num_batches_tracked", *leave)):
            torch.testing.assert_close(value, other[name], **({"rtol": 0, "atol": 0} if exactly else {}), msg=name)


def test_a_moving_average_is_the_formula_over_the_steps(tmp_path: Path) -> None:
    watch, net = Watch(), module()
    trainer(tmp_path, 3, MovingAverage(0.5), watch).fit(net, make_data(tmp_path, batch_size=2))
    expected = watch.steps[0]
    for number, state in enumerate(watch.steps[1:], start=1):
        kept = min(0.5, (1 + number) / (10 + number))
        expected = {
            name: kept * expected[name] + (1 - kept) * value if value.is_floating_point() else value
            for name, value in state.items()
        }
    assert len(watch.steps) > 3
    same(copied(net.net), expected, exactly=False)
    assert not torch.equal(net.net.head.weight, watch.steps[-1]["head.weight"])


def test_a_mean_is_that_of_the_last_epochs_and_before_them_the_trained_weights_count(tmp_path: Path) -> None:
    watch, net = Watch(), module(norm="instance")
    run = trainer(tmp_path, 4, StochasticAverage(start=0.5), watch)
    run.fit(net, make_data(tmp_path, batch_size=2))
    per_epoch = len(watch.steps) // 4
    ends = [watch.steps[per_epoch * (epoch + 1) - 1] for epoch in range(4)]
    mean = {name: (value + ends[3][name]) / 2 for name, value in ends[2].items()}
    same(watch.validated[0], ends[0])
    same(watch.validated[1], ends[1])
    same(watch.validated[2], ends[2])
    same(watch.validated[3], mean, exactly=False)
    same(copied(net.net), mean, exactly=False)


def test_a_mean_gets_batch_norm_statistics_of_its_own(tmp_path: Path) -> None:
    watch, net, images = Watch(), module(), Images()
    trainer(tmp_path, 2, StochasticAverage(start=0.0, norm_batches=2), watch, images).fit(
        net, make_data(tmp_path, batch_size=2)
    )
    first = net.net.encoder.levels[0]
    convolution = next(layer for layer in first.modules() if isinstance(layer, torch.nn.Conv2d))
    norm = next(layer for layer in first.modules() if isinstance(layer, torch.nn.BatchNorm2d))
    with torch.no_grad():
        means = [convolution(image).mean((0, 2, 3)) for image in images.seen[-2:]]
    assert len(images.seen) >= 4
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(norm.running_mean, watch.steps[-1]["encoder.levels.0.0.1.running_mean"], atol=1e-5)
    assert norm.momentum is not None


class Images(Callback):
    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, number: int) -> None:
        self.seen.append(batch["image"].clone())


AVERAGES: dict[str, Callable[[], Average]] = {
    "ema": partial(MovingAverage, 0.9),
    "swa": partial(StochasticAverage, start=0.5, norm_batches=2),
}


@pytest.mark.parametrize("kind", AVERAGES)
def test_the_best_checkpoint_holds_the_weights_whose_score_was_the_best(kind: str, tmp_path: Path) -> None:
    watch, net, data = Watch(), module(), make_data(tmp_path, batch_size=2)
    trainer(tmp_path, 4, AVERAGES[kind](), watch).fit(net, data)
    scores = [row["metrics"]["val/dice"] for row in read_journal(tmp_path / "metrics.jsonl")]
    best = scores.index(max(scores))
    same(saved(tmp_path / "best.ckpt"), watch.validated[best])
    same(saved(tmp_path / "last.ckpt"), watch.validated[-1])
    same(saved(tmp_path / "last.ckpt", "current_model_state"), watch.steps[-1])
    fresh = module()
    fresh.net.load_state_dict(saved(tmp_path / "best.ckpt"))
    found = make_trainer(tmp_path / "again", 1, callbacks=[]).validate(fresh, data, verbose=False)[0]
    assert found["val/dice"] == pytest.approx(max(scores), abs=1e-6)


@pytest.mark.parametrize("stop", [1, 3])
@pytest.mark.parametrize("kind", AVERAGES)
def test_an_average_that_was_stopped_goes_on_as_if_it_was_not(kind: str, stop: int, tmp_path: Path) -> None:
    whole, half, again = module(), module(), module()
    trainer(tmp_path / "whole", 4, AVERAGES[kind]()).fit(whole, make_data(tmp_path, batch_size=2))
    with pytest.raises(KilledError):
        trainer(tmp_path / "halves", 4, AVERAGES[kind](), StopAfter(stop)).fit(half, make_data(tmp_path, batch_size=2))
    last = tmp_path / "halves" / "last.ckpt"
    trainer(tmp_path / "halves", 4, AVERAGES[kind]()).fit(
        again, make_data(tmp_path, batch_size=2), ckpt_path=last, weights_only=True
    )
    same(copied(again.net), copied(whole.net))
    for name in ("best", "last"):
        same(saved(tmp_path / "halves" / f"{name}.ckpt"), saved(tmp_path / "whole" / f"{name}.ckpt"))
    same(saved(last, "current_model_state"), saved(tmp_path / "whole" / "last.ckpt", "current_model_state"))


def test_frozen_norms_keep_their_statistics_in_the_mean(tmp_path: Path) -> None:
    net = module(transfer=Transfer(freeze=["encoder"]))
    before = copied(net.net)
    trainer(tmp_path, 2, StochasticAverage(start=0.0)).fit(net, make_data(tmp_path, batch_size=2))
    same({n: v for n, v in copied(net.net).items() if n.startswith("encoder")},
         {n: v for n, v in before.items() if n.startswith("encoder")})  # fmt: skip


def test_a_checkpoint_that_would_miss_the_average_is_refused(tmp_path: Path) -> None:
    callbacks = [MovingAverage(), *checkpoints(tmp_path, weights_only=True)]
    with pytest.raises(ConfigError, match=r"callbacks\.best\.save_weights_only=false with MovingAverage"):
        make_trainer(tmp_path, 1, callbacks=callbacks).fit(module(), make_data(tmp_path, batch_size=2))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (partial(MovingAverage, 1.0), "decay=1.0"),
        (partial(StochasticAverage, 1.0), "start=1.0"),
        (partial(StochasticAverage, norm_batches=-1), "norm_batches=-1"),
    ],
)
def test_numbers_out_of_range_are_refused(build: Callable[[], Average], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build()
