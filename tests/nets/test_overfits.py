"""Every deep system learns four cases by heart: what can not do that has a broken path somewhere."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medseg.data.files import read_image, read_mask
from medseg.data.sources.phantom import phantom
from tiny_nets import IN_2D, IN_3D, build, kind, loss_of

pytestmark = pytest.mark.slow
ENOUGH = 0.95
STEPS = 240
EVERY = 12
RATE = 2e-3
RATES = {"mpcnn": 5e-3, "mask_rcnn": 1e-3}
"""Learning rates of systems that need another one than the rest."""
BOUNDS = {"smp_pspnet": 0.88, "smp_deeplabv3": 0.88}
"""What answers at an eighth of 64 pixels, and has no finer skip, can not draw a small nodule's outline."""


@cache
def four_pictures() -> tuple[Tensor, Tensor]:
    """Return images (4, 1, 64, 64) and nodules (4, 64, 64) of four simulated patients."""
    with TemporaryDirectory() as folder:
        cases = phantom(Path(folder), patients=5, images_per_patient=1, size=(120, 120))[:4]
        pairs = [
            (read_image(one.images[0], channels=1), read_mask(one.masks[0], labels={0: 0, 255: 1})) for one in cases
        ]
    images = [cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA) for image, _ in pairs]
    masks = [cv2.resize(mask, (64, 64), interpolation=cv2.INTER_NEAREST) for _, mask in pairs]
    image = torch.from_numpy(np.stack(images)).float()[:, None] / 255
    return (image - 0.25) / 0.2, torch.from_numpy(np.stack(masks)).long()


@cache
def two_volumes() -> tuple[Tensor, Tensor]:
    """Return noisy volumes (2, 1, 16, 16, 16) and the bright ball in each (2, 16, 16, 16)."""
    grid = np.stack(np.indices((16, 16, 16)), -1)
    balls = [np.linalg.norm(grid - centre, axis=-1) < radius for centre, radius in (((8, 9, 7), 5), ((7, 8, 9), 4))]
    mask = torch.from_numpy(np.stack(balls)).long()
    noise = torch.randn(mask.shape, generator=torch.Generator().manual_seed(0))
    return (mask + 0.5 * noise)[:, None], mask


def marks_of(net: nn.Module, image: Tensor, mask: Tensor) -> Tensor:
    if not hasattr(net, "prompt"):
        return image
    rng = np.random.default_rng(0)
    return net.mark(image, [net.prompt(one.numpy().astype(np.uint8), rng, jitter=False) for one in mask])


@torch.no_grad()
def dice(net: nn.Module, image: Tensor, mask: Tensor) -> float:
    """Return the mean Dice of class 1 over the cases, in eval mode."""
    net.eval()
    found, there = net(image).argmax(1) == 1, mask == 1
    net.train()
    axes = tuple(range(1, mask.ndim))
    return float((2 * (found & there).sum(axes) / (found.sum(axes) + there.sum(axes))).mean())


def learnt(option: str, image: Tensor, mask: Tensor) -> float:
    """Return the best Dice that a small network reaches on what it is trained on."""
    net = build(option, dims=mask.ndim - 1).train()
    image = marks_of(net, image, mask)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATES.get(option, RATE), weight_decay=0.0)
    best = 0.0
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        loss_of(net, image, mask).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        if step % EVERY == 0:
            best = max(best, dice(net, image, mask))
            if best >= BOUNDS.get(option, ENOUGH):
                break
    return best


@pytest.mark.parametrize("option", [option for option in IN_2D if kind(option) == "deep"])
def test_four_pictures_are_learnt_by_heart(option: str) -> None:
    assert learnt(option, *four_pictures()) >= BOUNDS.get(option, ENOUGH)


@pytest.mark.parametrize("option", [option for option in IN_3D if kind(option) == "deep"])
def test_two_volumes_are_learnt_by_heart(option: str) -> None:
    assert learnt(option, *two_volumes()) >= ENOUGH
