"""FCN-32s, 16s, 8s: counts, bilinear starts, alignment, stages, VGG weights."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from medseg.errors import ConfigError
from medseg.nets.fcn import FCN, as_convolutions, bilinear_kernel, upsampling

SMALL = 0.0625


def small(stride: int = 8, classes: int = 2, **options: object) -> FCN:
    torch.manual_seed(0)
    return FCN(in_channels=3, num_classes=classes, stride=stride, **{"width": SMALL, **options})


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (21, {32: 136_152_917, 16: 134_815_994, 8: 134_489_759}),
        (2, {32: 134_285_122, 16: 134_273_924, 8: 134_271_430}),
        (1, {32: 134_268_737, 16: 134_266_194, 8: 134_265_699}),
    ],
)
@pytest.mark.parametrize("style", ["clean", "caffe"])
def test_parameters(classes: int, expected: dict[int, int], style: str) -> None:
    for stride, number in expected.items():
        with torch.device("meta"):
            net = FCN(in_channels=3, num_classes=classes, stride=stride, style=style)
        assert sum(parameter.numel() for parameter in net.parameters()) == number


def test_bilinear_kernels_sum_to_the_square_of_their_stride() -> None:
    for step in (2, 8, 16, 32):
        assert bilinear_kernel(2 * step).sum().item() == pytest.approx(step**2)
    assert bilinear_kernel(4)[0].tolist() == [0.0625, 0.1875, 0.1875, 0.0625]


@pytest.mark.parametrize("step", [2, 8])
def test_upsampling_starts_as_bilinear_interpolation_inside(step: int) -> None:
    maps = torch.rand(1, 3, 6, 7)
    expected = functional.interpolate(maps, scale_factor=step, mode="bilinear", align_corners=False)
    inside = (..., slice(step, -step), slice(step, -step))
    torch.testing.assert_close(upsampling(3, step, cropped=True)(maps)[inside], expected[inside])


def test_constant_scores_stay_constant_away_from_the_border() -> None:
    answer = upsampling(2, 32, cropped=False)(torch.full((1, 2, 4, 4), 3.0))
    assert answer.shape[-2:] == (160, 160)
    torch.testing.assert_close(answer[..., 32:-32, 32:-32], torch.full((1, 2, 96, 96), 3.0))


@pytest.mark.parametrize("stride", [32, 16, 8])
@pytest.mark.parametrize("style", ["clean", "caffe"])
def test_a_fresh_net_answers_zero_at_the_image_size(stride: int, style: str) -> None:
    net = small(stride, style=style).eval()
    logits = net(torch.rand(2, 3, 45, 70))
    assert logits.shape == (2, 2, 45, 70)
    assert not logits.any()


@pytest.mark.parametrize("stride", [32, 16, 8])
@pytest.mark.parametrize("style", ["clean", "caffe"])
def test_the_streams_are_aligned(stride: int, style: str) -> None:
    """A bright square in the middle: what each stream alone answers has its centre of mass there too."""
    net = small(stride, 1, style=style).eval()
    for module in net.trunk.modules():
        if isinstance(module, nn.Conv2d):
            # Each layer takes the mean of its inputs: the trunk blurs, the poolings take maxima.
            nn.init.constant_(module.weight, 1 / (module.in_channels * module.kernel_size[0] ** 2))
    image = torch.zeros(1, 3, 256, 256)
    image[..., 96:160, 96:160] = 1
    for number, score in enumerate(net.scores):
        for other in net.scores:
            nn.init.constant_(other.weight, float(other is score))
        with torch.no_grad():
            answer = net(image)[0, 0].clamp(min=0)
        places = torch.arange(256.0)
        for axis in (0, 1):
            profile = answer.sum(1 - axis)
            middle = float((profile * places).sum() / profile.sum())
            # Poolings that keep an odd row are not symmetric; a crop that is off by one moves the middle by one.
            assert middle == pytest.approx(127.5, abs=0.5 if style == "caffe" else 0.01), (number, axis)


def test_clean_scores_lie_on_grids_of_32_16_and_8() -> None:
    net = small()
    assert [tuple(part.shape[-2:]) for part in net.trunk(torch.zeros(1, 3, 64, 96))] == [(2, 3), (4, 6), (8, 12)]


def test_fc6_sees_404_pixels() -> None:
    side, jump = 1, 1
    for layer in [*small().trunk.features, small().trunk.fc6]:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            kernel = layer.kernel_size if isinstance(layer.kernel_size, int) else layer.kernel_size[0]
            side += (kernel - 1) * jump
            jump *= layer.stride if isinstance(layer.stride, int) else layer.stride[0]
    assert (side, jump) == (404, 32)


def test_training_at_once_scales_the_skips() -> None:
    plain, scaled = small(zero_scores=False).eval(), small(zero_scores=False, at_once=True).eval()
    for number, factor in ((1, 0.01), (2, 0.0001)):
        for net in (plain, scaled):
            for score in net.scores:
                nn.init.zeros_(score.weight)
                nn.init.zeros_(score.bias)
            nn.init.ones_(net.scores[number].weight)
        image = torch.rand(1, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(scaled(image), plain(image) * factor)


@pytest.mark.parametrize(
    ("deconv", "learns"), [("learned", [True] * 3), ("inner", [True, True, False]), ("fixed", [False] * 3)]
)
def test_the_transposed_convolutions_learn_as_told(deconv: str, learns: list[bool]) -> None:
    assert [up.weight.requires_grad for up in small(deconv=deconv).ups] == learns


def test_a_coarser_stage_starts_the_next_with_its_answer(tmp_path: Path) -> None:
    coarse = small(32, zero_scores=False).eval()
    torch.save({"state_dict": {f"net.{name}": value for name, value in coarse.state_dict().items()}}, tmp_path / "a.pt")
    finer = small(16, encoder_weights=str(tmp_path / "a.pt")).eval()
    torch.testing.assert_close(finer.scores[0].weight, coarse.scores[0].weight)
    assert not finer.scores[1].weight.any()
    torch.testing.assert_close(finer.ups[1].weight, small(16).ups[1].weight)
    image = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        torch.testing.assert_close(finer.trunk(image)[0], coarse.trunk(image)[0])


def test_vgg_weights_load_with_their_linear_layers_as_convolutions(tmp_path: Path) -> None:
    net = small()
    tensors = {f"features.{name}": value + 1 for name, value in net.trunk.features.state_dict().items()}
    linear6 = torch.rand(net.trunk.units, net.trunk.fc6.in_channels * 49)
    linear7 = torch.rand(net.trunk.units, net.trunk.units)
    tensors |= {"classifier.0.weight": linear6, "classifier.0.bias": torch.rand(net.trunk.units)}
    tensors |= {"classifier.3.weight": linear7, "classifier.3.bias": torch.rand(net.trunk.units)}
    tensors |= {"classifier.6.weight": torch.rand(1000, net.trunk.units), "classifier.6.bias": torch.rand(1000)}
    torch.save(tensors, tmp_path / "vgg.pth")
    loaded = small(encoder_weights=str(tmp_path / "vgg.pth")).trunk
    features = torch.rand(1, net.trunk.fc6.in_channels, 7, 7)
    expected = functional.linear(features.flatten(1), linear6, tensors["classifier.0.bias"])
    found = functional.conv2d(features, loaded.fc6.weight, loaded.fc6.bias).flatten(1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(loaded.fc7.weight[..., 0, 0], linear7)
    torch.testing.assert_close(loaded.features[28].weight, tensors["features.28.weight"])
    grey = FCN(in_channels=1, num_classes=2, width=SMALL, encoder_weights=str(tmp_path / "vgg.pth"))
    torch.testing.assert_close(grey.trunk.features[0].weight, tensors["features.0.weight"].sum(1, keepdim=True))


def test_names_agree_with_torchvision() -> None:
    from torchvision.models import vgg16

    with torch.device("meta"):
        theirs, ours = vgg16(weights=None).state_dict(), FCN(in_channels=3, num_classes=2).trunk.state_dict()
    found = {name: value.shape for name, value in as_convolutions(theirs).items() if "classifier.6" not in name}
    assert found == {name: value.shape for name, value in ours.items()}


def test_unknown_choices_and_missing_weights_say_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"net\.stride=4.*32, 16, 8"):
        small(4)
    with pytest.raises(ConfigError, match=r"net\.style='torch'.*clean, caffe"):
        small(style="torch")
    with pytest.raises(ConfigError, match=r"net\.deconv='no'.*learned, inner, fixed"):
        small(deconv="no")
    with pytest.raises(ConfigError, match=r"net\.encoder_weights=.*no such file"):
        small(encoder_weights=str(tmp_path / "none.pt"))
