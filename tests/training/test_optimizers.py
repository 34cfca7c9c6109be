"""The optimizers of the configs train, the pairs that are documented go together, and training can be held back."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback, EarlyStopping

from medseg.commands.configuration import CONF, choices, compose, freeze
from medseg.journal import read_journal
from medseg.training.schedules import constant
from tiny import make_data, make_module, make_trainer

OPTIMIZERS = sorted(path.stem for path in (CONF / "optimizer").glob("*.yaml"))
SCHEDULERS = sorted(path.stem for path in (CONF / "scheduler").glob("*.yaml"))


def parts(*overrides: str) -> dict[str, Any]:
    composed = compose("train", list(overrides))
    config = freeze(composed, choices(composed))
    return {"optimizer": instantiate(config.optimizer), "scheduler": instantiate(config.scheduler)}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_lowers_the_loss(optimizer: str, tmp_path: Path) -> None:
    rate = 0.01 if optimizer != "rmsprop" else 0.001
    module = make_module(**parts(f"optimizer={optimizer}", f"optimizer.lr={rate}", "scheduler=constant"))
    make_trainer(tmp_path, 8, limit_val_batches=0).fit(module, make_data(tmp_path, batch_size=2))
    losses = [row["metrics"]["train/loss"] for row in read_journal(tmp_path / "metrics.jsonl")]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_trains_with_the_default_optimizer(scheduler: str, tmp_path: Path) -> None:
    module = make_module(**parts(f"scheduler={scheduler}"))
    make_trainer(tmp_path, 2).fit(module, make_data(tmp_path))
    assert all(torch.isfinite(parameter).all() for parameter in module.net.parameters())


def test_the_pair_of_nnunet_is_what_it_published(tmp_path: Path) -> None:
    module = make_module(**parts("optimizer=sgd", "scheduler=poly", "optimizer.lr=0.01"))
    trainer = make_trainer(tmp_path, 4, limit_val_batches=0)
    trainer.fit(module, make_data(tmp_path))
    (group,) = module.optimizers().optimizer.param_groups  # type: ignore[union-attr]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.99, True, 3e-5)
    rates = [row["metrics"]["lr"] for row in read_journal(tmp_path / "metrics.jsonl")]
    total = trainer.global_step
    each = total // 4
    assert rates == pytest.approx([0.01 * (1 - each * epoch / total) ** 0.9 for epoch in (1, 2, 3, 4)])


class Steps(Callback):
    """Keeps how far each step moved the weights."""

    def __init__(self) -> None:
        self.moved: list[float] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.before = torch.cat([p.detach().flatten().clone() for p in pl_module.net.parameters()])

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        after = torch.cat([p.detach().flatten() for p in pl_module.net.parameters()])
        self.moved.append(float((after - self.before).norm()))


@pytest.mark.parametrize("clip", [0.01, None])
def test_clipped_gradients_move_the_weights_no_further_than_their_norm(clip: float | None, tmp_path: Path) -> None:
    steps = Steps()
    module = make_module(optimizer=lambda groups: torch.optim.SGD(groups, lr=1.0), scheduler=constant)
    trainer = make_trainer(tmp_path, 2, callbacks=[steps], gradient_clip_val=clip, limit_val_batches=0)
    trainer.fit(module, make_data(tmp_path))
    assert steps.moved
    if clip is None:
        assert max(steps.moved) > 0.1
    else:
        assert steps.moved == pytest.approx([clip] * len(steps.moved), rel=1e-3)


def test_early_stopping_ends_a_training_that_gets_no_better(tmp_path: Path) -> None:
    stop = EarlyStopping(monitor="val/dice", mode="max", patience=2, check_on_train_epoch_end=True)
    # A rate of zero: no epoch is better than the first.
    module = make_module(optimizer=lambda groups: torch.optim.SGD(groups, lr=0.0), scheduler=constant)
    module.net.eval()  # statistics would still move
    trainer = make_trainer(tmp_path, 10)
    trainer.callbacks.insert(0, stop)
    trainer.fit(module, make_data(tmp_path))
    assert trainer.current_epoch == 3
