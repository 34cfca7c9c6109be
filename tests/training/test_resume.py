"""A training that was stopped and continued ends with the weights of one that was not."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from medseg.data.augment.pictures import compose
from medseg.data.datamodule import SegmentationData
from medseg.data.missing import Missing
from medseg.data.views import Patches
from medseg.journal import read_journal
from medseg.nets.unet import UNet
from medseg.training.module import SegmentationModule
from tiny import make_data, make_module, make_trainer
from tiny_volumes import PATCH, make_volumes


def augmentation() -> object:
    import albumentations

    return compose([albumentations.HorizontalFlip(p=0.5), albumentations.GaussNoise(std_range=(0.05, 0.1), p=1.0)])


@pytest.mark.parametrize("workers", [0, 2])
def test_two_epochs_and_two_more_equal_four(tmp_path: Path, workers: int) -> None:
    changes = {"augment": augmentation(), "num_workers": workers}
    whole = make_module()
    make_trainer(tmp_path / "whole", 4).fit(whole, make_data(tmp_path, **changes))

    half = make_module()
    trainer = make_trainer(tmp_path / "halves", 4)
    trainer.fit_loop.max_epochs = 4
    stop = StopAfter(2)
    trainer.callbacks.insert(0, stop)
    with pytest.raises(KilledError, match="killed"):
        trainer.fit(half, make_data(tmp_path, **changes))
    again = make_module()
    torch.manual_seed(12345)  # what the killed process had drawn is not there to help
    make_trainer(tmp_path / "halves", 4).fit(
        again, make_data(tmp_path, **changes), ckpt_path=tmp_path / "halves" / "last.ckpt", weights_only=True
    )
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, again.net.state_dict()[name]), name
    rows = [read_journal(tmp_path / name / "metrics.jsonl") for name in ("whole", "halves")]
    assert [row["epoch"] for row in rows[1]] == [0, 1, 2, 3]
    for one, other in zip(*rows, strict=True):
        timeless = [{k: v for k, v in row["metrics"].items() if not k.startswith("system/")} for row in (one, other)]
        assert timeless[0] == timeless[1]


def test_patches_of_volumes_go_on_where_they_stopped(tmp_path: Path) -> None:
    view = Patches(size=PATCH, epoch_samples=4, window_batch=8)

    def module() -> SegmentationModule:
        torch.manual_seed(0)
        return make_module(UNet(in_channels=1, num_classes=2, widths=[4, 8], spatial_dims=3), view=view)

    def data(workers: int) -> SegmentationData:
        return make_volumes(tmp_path, view=view, num_workers=workers, missing=Missing("zero", dropout=0.3))

    whole, half, again = module(), module(), module()
    make_trainer(tmp_path / "whole", 3).fit(whole, data(0))
    trainer = make_trainer(tmp_path / "halves", 3)
    trainer.callbacks.insert(0, StopAfter(1))
    with pytest.raises(KilledError, match="killed"):
        trainer.fit(half, data(0))
    last = tmp_path / "halves" / "last.ckpt"
    make_trainer(tmp_path / "halves", 3).fit(again, data(2), ckpt_path=last, weights_only=True)
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, again.net.state_dict()[name]), name


class KilledError(Exception):
    """Stands for a kill in the middle of an epoch."""


class StopAfter(Callback):
    """Fail in the first batch after a number of epochs."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_batch_end(self, trainer: object, *args: object) -> None:
        if trainer.current_epoch == self.epochs:  # type: ignore[attr-defined]
            raise KilledError("killed")


def test_same_seed_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    results = []
    for number, seed in enumerate((0, 0, 1)):
        module = make_module(seed=seed)
        make_trainer(tmp_path / str(number), 1).fit(module, make_data(tmp_path, seed=seed))
        results.append(torch.cat([p.flatten() for p in module.net.parameters()]))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
