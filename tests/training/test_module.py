"""The module learns, logs exactly what it says, and stops at a loss that is not finite."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.journal import read_journal
from medseg.nets.thyroid.dmunet import DMUNet
from medseg.nets.thyroid.mgunet import MGUNet
from medseg.nets.unet import UNet
from medseg.training.module import LOGGED, NotFiniteError
from tiny import make_data, make_module, make_trainer


def test_four_cases_are_overfitted_and_scored_on_their_own_grid(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    torch.manual_seed(0)
    module = make_module(UNet(in_channels=1, num_classes=2, widths=[8, 16]))
    trainer = make_trainer(tmp_path, 60, limit_train_batches=1, limit_val_batches=0)
    trainer.fit(module, data)
    trainer.test(module, dataloaders=data.evaluation_dataloader("train"), verbose=False)
    rows = module.test_rows
    assert len(rows.index) == len(data.cases("train"))
    dice = 2 * rows.counts[:, 1, 0] / (2 * rows.counts[:, 1, 0] + rows.counts[:, 1, 1] + rows.counts[:, 1, 2])
    assert dice.mean() > 0.85
    # The native images have 40 or 44 rows; every native pixel is counted once.
    assert set(rows.counts[:, 1].sum(1)) <= {40 * 48, 44 * 48}


def test_logged_names_are_exactly_these(tmp_path: Path) -> None:
    make_trainer(tmp_path, 2).fit(make_module(), make_data(tmp_path))
    rows = read_journal(tmp_path / "metrics.jsonl")
    expected = {"train/loss", "val/loss", "lr", "system/epoch_seconds", *(f"val/{name}" for name in LOGGED)}
    assert [set(row["metrics"]) for row in rows] == [expected, expected]
    assert [row["epoch"] for row in rows] == [0, 1]


def test_without_validation_cases_only_training_is_logged(tmp_path: Path) -> None:
    from functools import partial

    from medseg.data.splits import manifest_fold

    data = make_data(tmp_path, split=partial(manifest_fold, seed=0, test_fold=0, val_fraction=0.0))
    make_trainer(tmp_path, 1).fit(make_module(), data)
    assert set(read_journal(tmp_path / "metrics.jsonl")[0]["metrics"]) == {"train/loss", "lr", "system/epoch_seconds"}


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(tmp_path: Path) -> None:
    module = make_module()
    before = {name: value.clone() for name, value in module.net.named_parameters()}
    module.loss.weights["ce"] = float("nan")
    with pytest.raises(NotFiniteError, match=r"training loss is nan at epoch 0.*cases p.*optimizer\.lr"):
        make_trainer(tmp_path, 1).fit(module, make_data(tmp_path))
    assert all(torch.equal(before[name], value) for name, value in module.net.named_parameters())


def test_branch_outputs_are_trained_and_validated(tmp_path: Path) -> None:
    module = make_module(DMUNet(in_channels=1, num_classes=2, widths=[4, 8, 16, 32, 64]))
    make_trainer(tmp_path, 1, limit_train_batches=1).fit(module, make_data(tmp_path))
    assert np.isfinite(read_journal(tmp_path / "metrics.jsonl")[0]["metrics"]["train/loss"])


def test_an_interactive_network_sees_marks_and_its_test_marks_repeat(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    module = make_module(MGUNet(in_channels=1, num_classes=2, widths=[4, 8, 16, 32, 64]))
    batch = next(iter(data.evaluation_dataloader("test")))
    first, second = (module.prompted(batch, jitter=False) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, batch["image"])
    changed = (first != batch["image"]).sum()
    assert 0 < changed < 0.2 * first.numel()


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_precisions_train(tmp_path: Path, precision: str) -> None:
    make_trainer(tmp_path, 1, precision=precision).fit(make_module(), make_data(tmp_path))
    assert np.isfinite(read_journal(tmp_path / "metrics.jsonl")[0]["metrics"]["val/loss"])


def test_accumulation_and_clipping_are_the_trainers(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, 1, accumulate_grad_batches=2, gradient_clip_val=0.1)
    trainer.fit(make_module(), make_data(tmp_path, batch_size=2))
    assert trainer.global_step == 2
