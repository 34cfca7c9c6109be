"""Baselines without gradients go through the same trainer, journal and scores."""

from pathlib import Path

import numpy as np

from medseg.journal import read_journal
from medseg.nets.classical.ellipse import EllipseMarks
from medseg.nets.classical.threshold import Threshold
from medseg.training.fitted import FittedModule
from tiny import make_data, make_trainer


def fitted(net: object) -> FittedModule:
    from functools import partial

    import torch

    from medseg.losses.overlap import Dice
    from medseg.training.schedules import constant

    return FittedModule(
        net=net, loss=Dice(), optimizer=partial(torch.optim.SGD, lr=1.0), scheduler=constant, num_classes=2,
        channels_last=False,
    )  # fmt: skip


def dice_of(module: FittedModule) -> np.ndarray:
    tp, fp, fn = (module.test_rows.counts[:, 1, place] for place in range(3))
    return 2 * tp / (2 * tp + fp + fn)


def test_a_threshold_is_fitted_on_the_training_side_and_finds_dark_ellipses(tmp_path: Path) -> None:
    data, module = make_data(tmp_path), fitted(Threshold(in_channels=1, num_classes=2))
    trainer = make_trainer(tmp_path, 1, gradient_clip_val=5.0)
    trainer.fit(module, data)
    trainer.test(module, dataloaders=data.evaluation_dataloader("test"), verbose=False)
    # The fake nodules have mean grey 60 in a surrounding of 150.
    assert dice_of(module).mean() > 0.5
    metrics = read_journal(tmp_path / "metrics.jsonl")[0]["metrics"]
    assert "lr" not in metrics
    assert metrics["val/dice"] > 0.4


def test_the_ellipse_through_exact_marks_is_a_strong_baseline(tmp_path: Path) -> None:
    data, module = make_data(tmp_path), fitted(EllipseMarks(in_channels=1, num_classes=2))
    trainer = make_trainer(tmp_path, 1)
    trainer.fit(module, data)
    trainer.test(module, dataloaders=data.evaluation_dataloader("test"), verbose=False)
    assert dice_of(module).mean() > 0.8
