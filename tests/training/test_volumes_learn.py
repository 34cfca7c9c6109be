"""A network learns volumes, in patches and in slices, and is scored on their own grid in millimetres."""

from pathlib import Path

import pytest
import torch
from torch import nn

from medseg.data.views import Patches, Slices, View
from medseg.data.volumes.preprocess import VolumePreprocess
from medseg.nets.unet import UNet
from tiny import make_module, make_trainer
from tiny_volumes import PATCH, make_volumes

VIEWS: list[tuple[View, int]] = [
    (Patches(size=PATCH, epoch_samples=4, foreground=0.5), 3),
    (Slices(size=(16, 16), epoch_samples=8, foreground=0.5), 2),
]


@pytest.mark.slow
@pytest.mark.parametrize(("view", "dims"), VIEWS)
def test_an_organ_is_found_in_volumes_never_seen(tmp_path: Path, view: View, dims: int) -> None:
    preprocess = VolumePreprocess(spacing=(2.0, 1.25, 1.25))
    data = make_volumes(tmp_path, view=view, preprocess=preprocess, batch_size=2 if dims == 3 else 4)
    torch.manual_seed(0)
    net: nn.Module = UNet(in_channels=1, num_classes=2, widths=[8, 16], norm="instance", spatial_dims=dims)
    module = make_module(net, view=view)
    trainer = make_trainer(tmp_path, 25, limit_val_batches=0)
    trainer.fit(module, data)
    trainer.test(module, dataloaders=data.evaluation_dataloader("test"), verbose=False)
    rows = module.test_rows
    tp, fp, fn = (rows.counts[:, 1, column] for column in range(3))
    assert (2 * tp / (2 * tp + fp + fn)).min() > 0.8
    sizes = [data.read(case)[1].size for case in data.cases("test")]
    assert rows.counts[:, 1].sum(1).tolist() == sizes
    assert rows.diagonals[0] == pytest.approx(((12 * 2) ** 2 + 20**2 + 24**2) ** 0.5)
