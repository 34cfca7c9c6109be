"""Baselines without gradients go through the same trainer, journal and scores."""

import logging
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medseg.data.augment.pictures import compose
from medseg.errors import ConfigError
from medseg.journal import read_journal
from medseg.nets.classical.ellipse import EllipseMarks
from medseg.nets.classical.otsu import Otsu
from medseg.nets.classical.threshold import Threshold
from medseg.training.fitted import FittedModule, pictures_of
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


class Witness(nn.Module):
    """Remembers what it was given, in which order."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, list[np.ndarray], list[np.ndarray]]] = []

    def fit(self, images: list[np.ndarray], masks: list[np.ndarray]) -> None:
        self.calls.append(("fit", images, masks))

    def tune(self, images: list[np.ndarray], masks: list[np.ndarray]) -> None:
        self.calls.append(("tune", images, masks))

    def forward(self, image: Tensor) -> Tensor:
        self.calls.append(("asked", [], []))
        return torch.zeros(len(image), 2, *image.shape[2:])


def keys(images: list[np.ndarray]) -> set[bytes]:
    return {image.tobytes() for image in images}


def side(data: Any, name: str) -> list[np.ndarray]:
    return [sample["image"].movedim(0, -1).numpy() for sample in data.dataset(name)]


def test_it_is_fitted_to_the_training_side_then_tuned_on_validation_then_scored(tmp_path: Path) -> None:
    data, net = make_data(tmp_path), Witness()
    trainer = make_trainer(tmp_path, 1, num_sanity_val_steps=0)
    trainer.fit(fitted(net), data)
    assert [name for name, *_ in net.calls][:3] == ["fit", "tune", "asked"]
    assert [name for name, *_ in net.calls].count("fit") == 1
    (_, train, train_masks), (_, val, val_masks) = net.calls[:2]
    assert keys(train) <= keys(side(data, "train"))
    assert keys(val) == keys(side(data, "val"))
    assert not keys(train + val) & keys(side(data, "test"))
    for images, masks in ((train, train_masks), (val, val_masks)):
        assert len(images) == len(masks)
        assert images[0].dtype == np.float32
        assert images[0].ndim == 3
        assert masks[0].dtype == np.uint8
        assert masks[0].shape == images[0].shape[:2]


def test_training_ends_with_the_first_epoch_however_many_are_allowed(tmp_path: Path) -> None:
    data, net = make_data(tmp_path), Witness()
    trainer = make_trainer(tmp_path, 5, num_sanity_val_steps=0)
    trainer.fit(fitted(net), data)
    assert [name for name, *_ in net.calls].count("fit") == 1
    assert [name for name, *_ in net.calls][-1] == "asked"  # validation scored what was fitted
    assert trainer.current_epoch == 1


def test_without_a_validation_side_the_settings_stay_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, net = make_data(tmp_path), Witness()
    monkeypatch.setattr(data, "val_dataloader", lambda: [])  # noqa: PIE807
    with caplog.at_level(logging.WARNING):
        make_trainer(tmp_path, 1, num_sanity_val_steps=0).fit(fitted(net), data)
    assert [name for name, *_ in net.calls] == ["fit"]
    assert "no validation side: the hyperparameters of Witness stay as given" in caplog.text


def test_what_was_chosen_on_validation_is_in_the_checkpoint(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    net = Otsu(in_channels=1, num_classes=2, sigma=0.0, candidates={"sigma": [1.0]})
    make_trainer(tmp_path, 1, num_sanity_val_steps=0).fit(fitted(net), data)
    assert net.setting("sigma") == 1.0
    other = Otsu(in_channels=1, num_classes=2)
    other.load_state_dict(net.state_dict())
    assert other.setting("sigma") == 1.0
    assert bool(other.fitted)


def test_volumes_are_handed_on_slice_by_slice() -> None:
    volume = torch.arange(2 * 3 * 4 * 5 * 6, dtype=torch.float32).reshape(2, 3, 4, 5, 6)
    mask = torch.arange(2 * 4 * 5 * 6).reshape(2, 4, 5, 6) % 3
    images, masks = pictures_of({"image": volume, "mask": mask})
    assert len(images) == len(masks) == 8
    assert images[5].shape == (5, 6, 3)
    assert np.array_equal(images[5], volume[1, :, 1].movedim(0, -1).numpy())
    assert np.array_equal(masks[5], mask[1, 1].numpy())


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = fitted(Witness())
    trainer = make_trainer(tmp_path, 1)
    monkeypatch.setattr(type(trainer), "world_size", 2)
    module.trainer = trainer
    with pytest.raises(ConfigError, match=r"one process, but there are 2; set trainer\.devices=1"):
        module.training_step({"image": torch.zeros(1, 1, 4, 4), "mask": torch.zeros(1, 4, 4).long()}, 0)


def test_it_is_fitted_to_every_training_case_as_it_is(tmp_path: Path) -> None:
    module = fitted(witness := Witness())
    data = make_data(tmp_path, batch_size=4, augment=compose([A.HorizontalFlip(p=1.0)]))
    training = len(data.cases("train"))
    assert training % 4
    data.plain_samples = module.plain_samples
    make_trainer(tmp_path, 1).fit(module, data)
    assert len(witness.calls[0][1]) == training
    assert keys(witness.calls[0][1]) == keys(side(data, "train"))
