"""UNet 3+: counts, full-scale skips, side outputs, the classification-guided module."""

import pytest
import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.unet3plus import ClassGuide, UNet3Plus, rescaled, silenced
from medseg.types import DeepOutput

SMALL = [4, 8, 12, 16, 20]


def small(channels: int = 1, classes: int = 2, **arguments) -> UNet3Plus:
    torch.manual_seed(0)
    return UNet3Plus(in_channels=channels, num_classes=classes, **{"widths": SMALL, **arguments})


def count(classes: int = 1, **arguments) -> int:
    with torch.device("meta"):
        net = UNet3Plus(in_channels=3, num_classes=classes, **arguments)
    return sum(parameter.numel() for parameter in net.parameters())


def test_parameters_are_the_published_ones() -> None:
    assert count(deep_supervision=False, classification_guided=False) == 26_971_777
    assert count(classification_guided=False) == 26_989_637
    assert count() == 26_991_687
    guided = count(classes=4) - count(classes=4, classification_guided=False)
    assert guided == 3 * 2 * (1024 + 1)  # two maps for each foreground class


def test_every_decoder_node_joins_five_maps_of_64_channels() -> None:
    with torch.device("meta"):
        net = UNet3Plus(in_channels=3, num_classes=1)
    assert len(net.decoder) == 4
    for level, node in enumerate(net.decoder):
        convolutions = [branch[1] for branch in node.branches]
        assert [one.out_channels for one in convolutions] == [64] * 5
        assert [one.in_channels for one in convolutions] == [
            *[64, 128, 256, 512][: level + 1], *[320] * (3 - level), 1024,
        ]  # fmt: skip
        assert node.join[0].in_channels == node.join[0].out_channels == 320


@pytest.mark.parametrize("source", [0, 1, 2, 3])
@pytest.mark.parametrize("target", [0, 1, 3])
def test_each_scale_arrives_on_the_grid_of_the_level(source: int, target: int) -> None:
    features = torch.randn(1, 2, 32 >> source, 64 >> source)
    arrived = rescaled(source, target, 2)(features)
    assert arrived.shape == (1, 2, 32 >> target, 64 >> target)
    if source == target:
        assert arrived is features
    if source < target:
        assert arrived.max() == features.max()


def test_training_gives_five_maps_of_the_image_size_and_the_presence_of_each_foreground_class() -> None:
    output = small(classes=4).train()(torch.randn(2, 1, 21, 38))
    assert isinstance(output, DeepOutput)
    assert [tuple(one.shape) for one in output.maps] == [(2, 4, 21, 38)] * 5
    assert output.weights == [1.0] * 5  # summed, as published
    assert output.presence.shape == (2, 3)
    assert small(classes=1).train()(torch.randn(2, 1, 16, 16)).presence.shape == (2, 1)


def test_without_supervision_and_module_there_is_one_map() -> None:
    plain = small(deep_supervision=False, classification_guided=False)
    assert isinstance(plain.train()(torch.randn(2, 1, 16, 16)), Tensor)
    guided = small(deep_supervision=False).train()(torch.randn(2, 1, 16, 16))
    assert len(guided.maps) == 1
    assert guided.presence is not None
    supervised = small(classification_guided=False).train()(torch.randn(2, 1, 16, 16))
    assert len(supervised.maps) == 5
    assert supervised.presence is None


def decided(net: UNet3Plus, *present: bool) -> UNet3Plus:
    """Return the net, its module made to call the foreground classes present or not, whatever the image."""
    nn.init.zeros_(net.guide.pairs.weight)
    told = torch.tensor([[-1.0, 1.0] if there else [1.0, -1.0] for there in present])
    net.guide.pairs.bias.data = told.flatten()
    return net.eval()


@torch.no_grad()
def test_absent_everywhere_is_all_background() -> None:
    net = decided(small(classes=3), False, False)
    image = torch.randn(2, 1, 20, 33)
    logits = net(image)
    assert torch.isfinite(logits).all()
    assert torch.isfinite(logits.half()).all()
    probability = logits.softmax(1)
    assert (probability[:, 1:] == 0).all()
    assert (probability[:, 0] == 1).all()
    single = decided(small(classes=1), False)(image)
    assert (single.sigmoid() == 0).all()


@torch.no_grad()
def test_an_absent_class_gives_its_share_to_the_others() -> None:
    net = small(classes=4)
    image = torch.randn(2, 1, 16, 16)
    free = decided(net, True, True, True)(image)
    gated = decided(net, True, False, True)(image)
    assert (gated.softmax(1)[:, 2] == 0).all()
    kept = [0, 1, 3]
    torch.testing.assert_close(gated[:, kept], free[:, kept])
    torch.testing.assert_close(gated.softmax(1)[:, kept], free[:, kept].softmax(1))
    assert (free.softmax(1)[:, 2] > 0).any()


@torch.no_grad()
def test_classes_are_silenced_in_each_image_by_itself() -> None:
    logits = torch.zeros(2, 3, 1, 2)
    gated = silenced(logits, torch.tensor([[1.0, -1.0], [-0.5, 0.5]])).softmax(1)
    assert gated[:, :, 0, 0].tolist() == [[0.5, 0.5, 0.0], [0.5, 0.0, 0.5]]
    assert silenced(logits, torch.full((2, 2), 0.1)).tolist() == logits.tolist()


@torch.no_grad()
def test_presence_is_the_decision_between_the_largest_of_two_maps() -> None:
    guide = ClassGuide(5, 3).eval()
    deepest = torch.randn(7, 5, 4, 6)
    maps = guide.pairs(deepest)
    published = maps.amax((2, 3)).sigmoid().view(7, 2, 2).argmax(2)  # (absent, present) for each class
    assert torch.equal(guide(deepest) > 0, published == 1)
    assert 0 < published.sum() < published.numel()


def test_training_maps_are_not_gated() -> None:
    net = small(classes=2, norm="instance")
    decided(net, False).train()
    assert (net(torch.randn(2, 1, 32, 32)).maps[0] > -1e3).all()


def test_the_modules_loss_trains_the_module_and_the_encoder_only() -> None:
    net = small(classes=3).train()
    output = net(torch.randn(2, 1, 32, 32))
    (output.presence * torch.tensor([[1.0, -2.0], [0.5, 3.0]])).sum().backward()
    assert net.guide.pairs.weight.grad.abs().sum() > 0
    assert net.encoder[0][0].weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in net.decoder.parameters())


def test_volumes_and_wrong_settings() -> None:
    net = small(classes=3, widths=[4, 8, 12], spatial_dims=3, norm="group").eval()
    assert net(torch.randn(1, 1, 5, 9, 6)).shape == (1, 3, 5, 9, 6)
    with pytest.raises(ConfigError, match=r"net\.norm='layer'.*none, batch, instance, group"):
        small(norm="layer")
    with pytest.raises(ConfigError, match=r"net\.widths=\[64\].*UNet3Plus"):
        small(widths=[64])
