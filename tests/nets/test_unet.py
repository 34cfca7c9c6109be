"""U-Net's geometry, options and errors, and what all nets share around their layers."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from medseg.errors import ConfigError
from medseg.nets.adapters import crop_to, pad_to_multiple, two_class_logits
from medseg.nets.unet import Encoder, UNet

SMALL = [8, 16, 32]


def test_padding_repeats_the_last_row_and_column_and_cropping_undoes_it() -> None:
    image = torch.arange(12.0).view(1, 1, 3, 4)
    padded = pad_to_multiple(image, 4)
    assert padded.shape == (1, 1, 4, 4)
    assert padded[0, 0, 3].tolist() == [8, 9, 10, 11]
    assert torch.equal(crop_to(padded, (3, 4)), image)
    assert pad_to_multiple(image, 4, mode="constant")[0, 0, 3].tolist() == [0, 0, 0, 0]


def test_an_image_that_fits_is_not_copied() -> None:
    image = torch.zeros(1, 1, 8, 16)
    assert pad_to_multiple(image, 8) is image


def test_padding_works_on_images_smaller_than_the_stride() -> None:
    net = UNet(in_channels=1, num_classes=2, widths=SMALL).eval()
    assert net(torch.zeros(1, 1, 3, 2)).shape == (1, 2, 3, 2)


def test_without_normalisation_every_convolution_has_a_bias_and_the_answer_does_not_know_the_batch() -> None:
    net = UNet(in_channels=1, num_classes=2, widths=SMALL, norm="none").train()
    assert not [layer for layer in net.modules() if "Norm" in type(layer).__name__]
    assert all(layer.bias is not None for layer in net.modules() if isinstance(layer, nn.Conv2d))
    images = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(net(images)[:1], net(images[:1]))


def test_the_bottom_sees_a_sixteenth_and_there_are_23_convolutions() -> None:
    net = UNet(in_channels=1, num_classes=2, widths=[4, 8, 16, 32, 64])
    levels = net.encoder(torch.zeros(2, 1, 64, 32))
    assert [tuple(level.shape[1:]) for level in levels] == [
        (4, 64, 32), (8, 32, 16), (16, 16, 8), (32, 8, 4), (64, 4, 2),
    ]  # fmt: skip
    assert sum(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for module in net.modules()) == 23


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
@pytest.mark.parametrize("up", ["transpose", "bilinear"])
def test_every_norm_and_up_sampling_answers(norm: str, up: str) -> None:
    net = UNet(in_channels=2, num_classes=3, widths=SMALL, norm=norm, up=up).eval()
    assert net(torch.randn(1, 2, 10, 12)).shape == (1, 3, 10, 12)


def test_instance_and_group_norm_do_not_mix_the_images_of_a_batch() -> None:
    images = torch.randn(2, 1, 16, 16)
    for norm in ("instance", "group"):
        net = UNet(in_channels=1, num_classes=2, widths=SMALL, norm=norm).train()
        torch.testing.assert_close(net(images)[:1], net(images[:1]), rtol=1e-4, atol=1e-5)


def test_dropout_acts_while_training_only_and_on_whole_maps() -> None:
    encoder = Encoder(1, [4, 64], dropout=0.5)
    deepest = encoder.train()(torch.randn(2, 1, 16, 16))[-1]
    dropped = (deepest == 0).flatten(2).all(dim=2)
    assert 0.2 < dropped.float().mean() < 0.8
    image = torch.randn(1, 1, 16, 16)
    assert torch.equal(encoder.eval()(image)[-1], encoder(image)[-1])


def test_two_class_logits_choose_the_label() -> None:
    chosen = torch.tensor([[[True, False]]])
    assert two_class_logits(chosen, 3, label=2)[0, :, 0].tolist() == [[-10, 10], [-10, -10], [10, -10]]
    assert two_class_logits(chosen, 1)[0, 0, 0].tolist() == [10, -10]


def test_unknown_choices_and_widths_say_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"net\.norm='layer'.*batch, instance, group"):
        UNet(in_channels=1, num_classes=2, widths=SMALL, norm="layer")
    with pytest.raises(ConfigError, match=r"net\.up='nearest'.*transpose, bilinear"):
        UNet(in_channels=1, num_classes=2, widths=SMALL, up="nearest")
    with pytest.raises(ConfigError, match=r"net\.widths=\[64\].*at least 2 levels"):
        UNet(in_channels=1, num_classes=2, widths=[64])


# ---- volumes


def conv_parameters(widths: list[int], channels: int, classes: int, kernel: int, up: int) -> int:
    """Count a U-Net's parameters by its construction: 3x3 kernels, norms of two, up-convolutions, a 1x1 head."""
    total, inputs = 0, channels
    for width in widths:
        total += inputs * width * kernel + 2 * width + width * width * kernel + 2 * width
        inputs = width
    for skip, deep in pairwise(widths):
        total += deep * skip * up + skip  # with bias
        total += 2 * skip * skip * kernel + 2 * skip + skip * skip * kernel + 2 * skip
    return total + widths[0] * classes + classes


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("widths", [[4, 8, 16], [64, 128, 256, 512, 1024]])
def test_parameters_follow_the_formula_in_both_dimensions(dims: int, widths: list[int]) -> None:
    with torch.device("meta"):
        net = UNet(in_channels=2, num_classes=3, widths=widths, spatial_dims=dims)
    found = sum(parameter.numel() for parameter in net.parameters())
    assert found == conv_parameters(widths, 2, 3, 3**dims, 2**dims)


@pytest.mark.parametrize("up", ["transpose", "bilinear"])
@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_volumes_of_any_size_get_logits_of_their_size(up: str, norm: str) -> None:
    net = UNet(in_channels=2, num_classes=3, widths=[4, 8, 16], spatial_dims=3, up=up, norm=norm).eval()
    assert net(torch.randn(1, 2, 5, 9, 10)).shape == (1, 3, 5, 9, 10)


def test_thick_slices_are_pooled_in_their_plane() -> None:
    pools = [[1, 2, 2], [2, 2, 2]]
    net = UNet(in_channels=1, num_classes=2, widths=[4, 8, 16], spatial_dims=3, pools=pools).eval()
    levels = net.encoder(torch.zeros(1, 1, 6, 16, 8))
    assert [tuple(level.shape[2:]) for level in levels] == [(6, 16, 8), (6, 8, 4), (3, 4, 2)]
    assert net.stride == (2, 4, 4)
    assert net(torch.randn(1, 1, 5, 9, 10)).shape == (1, 2, 5, 9, 10)


def test_wrong_axes_and_pools_say_what_is_expected() -> None:
    with pytest.raises(ConfigError, match=r"net\.pools=\[\[2, 2\]\]: give 2 poolings.*3 factors each"):
        UNet(in_channels=1, num_classes=2, widths=SMALL, spatial_dims=3, pools=[[2, 2]])
    with pytest.raises(ConfigError, match=r"net\.spatial_dims=4: give 2"):
        UNet(in_channels=1, num_classes=2, widths=SMALL, spatial_dims=4)
    with pytest.raises(ConfigError, match=r"shape \(1, 1, 8, 8\); it must be \(batch, 1, depth, height, width\)"):
        UNet(in_channels=1, num_classes=2, widths=SMALL, spatial_dims=3)(torch.zeros(1, 1, 8, 8))
