"""Losses under the name of a paper or its code: their yaml against the formula of the source, written out."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional

from medseg.losses.neighbours import NACL, nacl, shares_around
from medseg.losses.partial_labels import merged
from medseg.types import IGNORE

CONF = Path(__file__).parents[2] / "conf" / "loss"


def made(name: str) -> nn.Module:
    return instantiate(OmegaConf.load(CONF / f"{name}.yaml"))


def pair(classes: int, size: tuple[int, ...] = (6, 7)) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return logits, mask, probabilities and one-hot truth of two cases with very different amounts of foreground."""
    draw = torch.Generator().manual_seed(5)
    logits = 2 * torch.randn(2, classes, *size, generator=draw, dtype=torch.float64)
    mask = torch.randint(0, classes, (2, *size), generator=draw)
    mask[1].view(-1)[3:] = 0
    truth = functional.one_hot(mask, classes).movedim(-1, 1).double()
    return logits, mask, logits.softmax(1), truth


def test_swin_unet_is_its_released_code() -> None:
    # Dice with squares over the flattened batch, smooth 1e-5, the mean of all classes, the background too.
    logits, mask, p, g = pair(3)
    terms = []
    for label in range(3):
        score, target = p[:, label].flatten(), g[:, label].flatten()
        terms.append(1 - (2 * score @ target + 1e-5) / (score @ score + target @ target + 1e-5))
    expected = 0.4 * functional.cross_entropy(logits, mask) + 0.6 * sum(terms) / 3
    assert float(made("swin_unet")(logits, mask)) == pytest.approx(float(expected), abs=1e-12)


def test_unetplusplus_is_its_released_code() -> None:
    # Half the binary cross entropy minus Dice of the flattened batch with smooth 1, here plus 1.
    logits, mask, p, g = pair(2)
    p, g = p[:, 1].flatten(), g[:, 1].flatten()
    dice = (2 * p @ g + 1) / (p.sum() + g.sum() + 1)
    expected = 0.5 * functional.binary_cross_entropy(p, g) - dice + 1
    assert float(made("unetplusplus")(logits, mask)) == pytest.approx(float(expected), abs=1e-12)


def test_vnet_is_the_dice_of_its_paper() -> None:
    logits, mask, p, g = pair(2, size=(4, 5, 6))
    each = [2 * (p[n, 1] * g[n, 1]).sum() / ((p[n, 1] ** 2).sum() + (g[n, 1] ** 2).sum()) for n in range(2)]
    assert float(made("vnet")(logits, mask)) == pytest.approx(float(1 - sum(each) / 2), abs=1e-6)


@pytest.mark.parametrize("axes", [2, 3])
def test_nnunet_is_its_code_in_both_plans(axes: int) -> None:
    # Foreground classes only, smooth 1e-5; one Dice of the batch in 2D, the mean of the cases' in 3D.
    logits, mask, p, g = pair(3, size=(6, 7) if axes == 2 else (3, 4, 5))
    over = (0, 2, 3) if axes == 2 else (2, 3, 4)
    index = (2 * (p * g).sum(over) + 1e-5) / (p.sum(over) + g.sum(over) + 1e-5)
    expected = functional.cross_entropy(logits, mask) + 1 - index[..., 1:].mean()
    loss = made("nnunet")
    assert float(loss(logits, mask)) == pytest.approx(float(expected), abs=1e-12)
    assert loss.level_weights(4) == pytest.approx([4 / 7, 2 / 7, 1 / 7, 0])


@pytest.mark.parametrize(
    ("experiment", "data", "axes"),
    [("nnunet_resenc", [], 2), ("nnunet_resenc_3d", ["data=msd_hippocampus", "split=manifest_fold"], 3)],
)
def test_the_strong_recipe_is_one_experiment(experiment: str, data: list[str], axes: int) -> None:
    from medseg.commands.configuration import choices, compose, freeze

    composed = compose("train", [f"experiment={experiment}", *data])
    chosen = choices(composed)
    config = freeze(composed, chosen)
    assert {chosen[name] for name in ("net", "loss", "augment")} == {"resenc_unet", "nnunet"}
    assert config.net.spatial_dims == config.view.dims == len(config.view.size) == axes
    assert config.view.epoch_samples / config.data.batch_size == 250
    assert (config.trainer.max_epochs, config.trainer.gradient_clip_val) == (1000, 12)
    assert (config.optimizer.lr, config.optimizer.momentum, config.optimizer.nesterov) == (0.01, 0.99, True)
    assert (chosen["scheduler"], config.scheduler.power, config.optimizer.weight_decay) == ("poly", 0.9, 3e-5)
    assert config.callbacks.early_stopping is None


# ---- NACL


def test_the_shares_around_are_counted_inside_the_image_and_among_labels() -> None:
    mask = torch.zeros(1, 4, 4, dtype=torch.int64)
    mask[0, 0, 0] = 1
    mask[0, 3, 3] = IGNORE
    shares = shares_around(mask, 2, size=3)[0, 1]
    assert float(shares[0, 0]) == pytest.approx(1 / 4)  # a corner has four pixels around it
    assert float(shares[0, 1]) == pytest.approx(1 / 6)
    assert float(shares[1, 1]) == pytest.approx(1 / 9)
    assert float(shares_around(mask, 2, size=3)[0, 0, 2, 2]) == pytest.approx(1.0)  # of eight that have a label
    assert torch.all(shares_around(torch.full_like(mask, IGNORE), 2, size=3) == 0)


def test_nacl_by_hand() -> None:
    mask = torch.zeros(1, 3, 3, dtype=torch.int64)
    logits = torch.zeros(1, 2, 3, 3)
    logits[:, 0] = 4.0
    # Everything around is background: u = (1, 0), |4 - 1| and |0 - 0|.
    entropy = float(torch.log1p(torch.exp(torch.tensor(-4.0))))
    assert nacl(logits, mask) == pytest.approx(entropy + 0.1 * 1.5, abs=1e-6)
    assert NACL(alpha=0.2, distance="l2")(logits, mask) == pytest.approx(entropy + 0.2 * 4.5, abs=1e-6)


@pytest.mark.parametrize("size", [(8, 9), (5, 6, 7)])
@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_nacl_is_the_librarys_where_the_border_says_nothing(size: tuple[int, ...], distance: str) -> None:
    from monai.losses import NACLLoss

    draw = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, *size, generator=draw)
    mask = torch.randint(0, 3, (2, *size), generator=draw)
    library = NACLLoss(classes=3, dim=len(size), distance_type=distance)
    shares = library.get_constr_target(mask)
    inner = tuple(slice(1, side - 1) for side in size)
    ours = shares_around(mask, 3, size=3)
    assert torch.allclose(ours[(..., *inner)], shares[(..., *inner)], atol=1e-6)
    # What the library's border lacks to a whole is the only difference of the losses.
    gap = logits - shares / shares.sum(1, keepdim=True)
    penalty = gap.abs().mean() if distance == "l1" else (gap**2).mean()
    expected = functional.cross_entropy(logits, mask) + 0.1 * penalty
    assert nacl(logits, mask, distance=distance) == pytest.approx(float(expected), abs=1e-5)


def test_nacl_leaves_out_a_class_that_a_sample_does_not_annotate() -> None:
    draw = torch.Generator().manual_seed(2)
    logits, mask = torch.randn(2, 3, 6, 6, generator=draw), torch.randint(0, 2, (2, 6, 6), generator=draw)
    two = torch.tensor([[True, True, False]] * 2)
    small = torch.stack([logits[:, [0, 2]].logsumexp(1), logits[:, 1]], dim=1)
    assert nacl(merged(logits, two), mask) == pytest.approx(float(nacl(small, mask)), abs=1e-5)


def test_nacl_prefers_a_right_answer_that_is_not_certain() -> None:
    mask = torch.zeros(1, 6, 6, dtype=torch.int64)
    mask[:, 2:4, 2:4] = 1
    sides = 2 * functional.one_hot(mask, 2).movedim(-1, 1).float() - 1
    wrong, right, certain = (float(nacl(scale * sides, mask)) for scale in (-1.0, 1.0, 20.0))
    assert right < wrong
    assert right < certain
