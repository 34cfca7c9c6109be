"""Networks of MONAI under the contract: counts, side outputs, padding, position tables, refused options."""

from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets import monai
from medseg.nets.monai import MonaiNet
from medseg.types import DeepOutput

with_einops = pytest.mark.skipif(find_spec("einops") is None, reason="the package einops is absent")
TINY_UNETR = {"feature_size": 4, "hidden_size": 12, "mlp_dim": 16, "num_heads": 2}


def tiny(architecture: str, dims: int = 2, channels: int = 1, classes: int = 2, **arguments: Any) -> MonaiNet:
    torch.manual_seed(0)
    return MonaiNet(
        in_channels=channels, num_classes=classes, architecture=architecture, spatial_dims=dims, **arguments
    )


def count(architecture: str, dims: int, **arguments: Any) -> int:
    with torch.device("cpu" if architecture == "SwinUNETR" else "meta"):
        return sum(parameter.numel() for parameter in tiny(architecture, dims, **arguments).parameters())


@pytest.mark.parametrize(
    ("architecture", "dims", "arguments", "expected"),
    [
        ("DynUNet", 3, {"deep_supervision": True}, 31_190_312),
        ("DynUNet", 2, {"deep_supervision": True}, 10_705_640),
        ("SegResNet", 3, {"options": {"init_filters": 32}}, 18_796_002),
        ("SegResNet", 2, {"options": {"init_filters": 32}}, 6_298_530),
        ("BasicUNetPlusPlus", 3, {"deep_supervision": True}, 6_979_976),
        ("BasicUNetPlusPlus", 3, {}, 6_979_976 - 3 * (32 * 2 + 2)),
        pytest.param("UNETR", 3, {}, 92_783_842, marks=with_einops),
        pytest.param("UNETR", 2, {}, 87_315_394, marks=with_einops),
        pytest.param("SwinUNETR", 2, {"options": {"feature_size": 48}}, 25_137_980, marks=with_einops),
        pytest.param(
            "SwinUNETR", 3, {"options": {"feature_size": 48}}, 62_186_708, marks=[with_einops, pytest.mark.slow]
        ),
    ],
)
def test_parameter_counts_are_pinned(architecture: str, dims: int, arguments: dict[str, Any], expected: int) -> None:
    assert count(architecture, dims, **arguments) == expected


def test_dynunet_answers_on_all_levels_but_the_two_coarsest_with_halving_weights() -> None:
    net = tiny("DynUNet", widths=[4, 4, 8, 8, 8, 8], deep_supervision=True).train()
    output = net(torch.randn(1, 1, 40, 33))
    assert isinstance(output, DeepOutput)
    assert [tuple(one.shape) for one in output.maps] == [(1, 2, 40, 33)] * 4
    assert output.weights == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15])
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(torch.ones(1, 1, 40, 33)), net.train()(torch.ones(1, 1, 40, 33)).maps[0])


def test_dynunet_takes_thick_slices_and_lists_from_a_configuration() -> None:
    options = {
        "strides": [1, [1, 2, 2], 2],
        "kernel_size": [[1, 3, 3], 3, 3],
        "norm_name": ["INSTANCE", {"affine": True}],
    }
    net = tiny("DynUNet", 3, widths=[4, 4, 8], options=options).eval()
    assert net.stride == (2, 4, 4)
    assert net(torch.randn(1, 1, 3, 9, 8)).shape == (1, 2, 3, 9, 8)


def test_nested_outputs_come_with_the_whole_network_first_and_equal_weights() -> None:
    net = tiny("BasicUNetPlusPlus", widths=[4, 4, 4, 8, 8], deep_supervision=True).train()
    image = torch.randn(1, 1, 20, 35)
    output = net(image)
    assert [tuple(one.shape) for one in output.maps] == [(1, 2, 20, 35)] * 4
    assert output.weights is None
    nn.init.zeros_(net.model.final_conv_0_4.weight)
    nn.init.constant_(net.model.final_conv_0_4.bias, 3.0)
    assert (net(image).maps[0] == 3).all()
    assert (net.eval()(image) == 3).all()


@pytest.mark.parametrize("architecture", ["DynUNet", "BasicUNetPlusPlus"])
def test_one_image_of_the_stride_is_enough_in_training(architecture: str) -> None:
    net = tiny(architecture, widths=[4, 4, 4, 8, 8]).train()
    output = net(torch.randn(1, 1, 16, 16))
    assert output.shape == (1, 2, 16, 16)
    output.square().sum().backward()
    assert not [name for name, parameter in net.named_parameters() if parameter.grad is None]


@with_einops
@pytest.mark.parametrize("dims", [2, 3])
def test_unetr_at_the_size_of_its_table_is_the_library_alone(dims: int) -> None:
    net = tiny("UNETR", dims, options={"img_size": 32, **TINY_UNETR}).eval()
    image = torch.randn(1, 1, *[32] * dims)
    with torch.no_grad():
        assert torch.equal(net(image), net.model(image))


@with_einops
def test_unetr_resizes_its_table_linearly_for_other_images() -> None:
    table = "model.vit.patch_embedding.position_embeddings"
    small = tiny("UNETR", options={"img_size": 32, **TINY_UNETR}).eval()
    large = tiny("UNETR", options={"img_size": [64, 96], **TINY_UNETR}).eval()
    state = small.state_dict()
    given = state[table].view(2, 2, 12)
    # Half-pixel aligned bilinear weights from 2 cells to 4 and to 6, written out.
    rows = torch.tensor([0.0, 0.25, 0.75, 1.0])
    columns = torch.tensor([0.0, 0.0, 1 / 3, 2 / 3, 1.0, 1.0])
    mixed = torch.stack([(1 - rows), rows], 1) @ given.permute(2, 0, 1) @ torch.stack([1 - columns, columns])
    large.load_state_dict({**state, table: mixed.permute(1, 2, 0).reshape(1, 24, 12)})
    image = torch.randn(1, 1, 61, 90)
    with torch.no_grad():
        torch.testing.assert_close(small(image), large(image), rtol=1e-4, atol=1e-4)
    small.train()(image).square().sum().backward()
    gradient = small.get_parameter(table).grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


@with_einops
def test_unetr_rounds_its_table_up_and_carries_nothing_unused() -> None:
    net = tiny("UNETR", options={"img_size": [33, 16], **TINY_UNETR}).train()
    assert net.table == (3, 1)
    net(torch.randn(1, 1, 40, 20)).square().sum().backward()
    assert not [name for name, parameter in net.named_parameters() if parameter.grad is None]
    with pytest.raises(ConfigError, match=r"net\.options\.img_size=\(32, 32, 32\): give one side, 2 sides"):
        tiny("UNETR", options={"img_size": [32, 32, 32], **TINY_UNETR})


@with_einops
def test_swin_unetr_takes_sizes_that_the_library_refuses() -> None:
    net = tiny("SwinUNETR", options={"feature_size": 12, "depths": [1, 1, 1, 1], "window_size": 4}).train()
    assert net.stride == (32, 32)
    assert net(torch.randn(1, 1, 30, 21)).shape == (1, 2, 30, 21)


def test_a_missing_package_is_named_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monai, "find_spec", lambda _name: None)
    for architecture in ("SwinUNETR", "UNETR"):
        with pytest.raises(ConfigError, match=rf"{architecture} needs the package einops"):
            tiny(architecture)


@pytest.mark.parametrize(
    ("architecture", "arguments", "message"),
    [
        ("NNUNet", {}, r"net\.architecture='NNUNet'.*DynUNet, SegResNet"),
        ("DynUNet", {"options": {"filtres": [4]}}, r"unknown \['filtres'\]; DynUNet takes act_name, "),
        ("DynUNet", {"options": {"filters": [4, 4, 4]}}, r"unknown \['filters'\]"),
        ("SegResNet", {"options": {"out_channels": 3}}, r"unknown \['out_channels'\]"),
        ("SegResNet", {"options": {"use_conv_final": False}}, r"unknown \['use_conv_final'\]"),
        ("SegResNet", {"widths": [8, 16]}, r"net\.widths: SegResNet has none"),
        ("SegResNet", {"deep_supervision": True}, r"deep_supervision=true: SegResNet has no side outputs"),
        ("SegResNet", {"options": {"blocks_down": [1, 1]}}, r"2 blocks_down needs 1 blocks_up, not 3"),
        ("SegResNet", {"options": {"init_filters": 12}}, r"SegResNet cannot be built: .*change net\.options"),
        ("DynUNet", {"widths": [4, 4]}, r"net\.widths=\[4, 4\].*at least 3 levels"),
        ("DynUNet", {"options": {"strides": [2, 2, 2, 2, 2, 2]}}, r"options\.strides=.*the first must be 1"),
        ("DynUNet", {"options": {"kernel_size": [3, 3]}}, r"options\.kernel_size=.*give 6 entries"),
        ("BasicUNetPlusPlus", {"widths": [4] * 6}, r"five levels; give five"),
        ("DynUNet", {"dims": 4}, r"net\.spatial_dims=4"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(architecture: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        tiny(architecture, **arguments)
    assert "\n" not in str(caught.value)


def test_a_wrong_number_of_channels_names_the_architecture() -> None:
    net = tiny("SegResNet", options={"init_filters": 8})
    image: Tensor = torch.zeros(1, 2, 8, 8)
    with pytest.raises(ConfigError, match=r"SegResNet was built with in_channels=1 but the image has 2 channels"):
        net(image)
