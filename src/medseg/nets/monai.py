"""Networks of MONAI under the contract of the other nets."""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, checked_choice, checked_widths, crop_to, pad_to_multiple
from medseg.nets.blocks import layer
from medseg.nets.deep import checked_factors, halving_weights, resized, roomy
from medseg.nets.libraries import build, checked_options
from medseg.types import DeepOutput

ARCHITECTURES = ("DynUNet", "SegResNet", "SwinUNETR", "UNETR", "BasicUNetPlusPlus")
"""Class names in monai.networks.nets."""

WITH_EINOPS = ("SwinUNETR", "UNETR")
"""Those that need a package which the library itself does not ask for, and notices only in the forward pass."""

DYNUNET_WIDTHS = (32, 64, 128, 256, 320, 320)
NESTED_WIDTHS = (32, 32, 64, 128, 256)
UNETR_SIDE = {2: 256, 3: 96}
"""Side of the image that UNETR's position table is made for where none is given, by the number of axes."""

OURS = {
    "DynUNet": ("filters", "upsample_kernel_size", "deep_supervision"),
    "SegResNet": ("norm_name", "num_groups", "use_conv_final"),
    "SwinUNETR": ("norm_layer",),
    "UNETR": ("save_attn",),
    "BasicUNetPlusPlus": ("features", "deep_supervision"),
}
"""Arguments of the library that the wrapper sets itself, or that would break the contract."""

PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "DynUNet": (("input_block", "downsamples", "bottleneck"), ("output_block", "deep_supervision_heads")),
    "SegResNet": (("convInit", "down_layers"), ("conv_final",)),
    "SwinUNETR": (("swinViT",), ("out",)),
    "UNETR": (("vit",), ("out",)),
    "BasicUNetPlusPlus": (
        tuple(f"conv_{depth}_0" for depth in range(5)),
        tuple(f"final_conv_0_{level}" for level in range(1, 5)),
    ),
}
"""The library's names of the encoder and of what answers."""


class Plan(NamedTuple):
    """How a network is to be built.

    Attributes:
        arguments: of the library's constructor, beyond axes, channels and classes.
        stride: of the deepest map along each axis.
    """

    arguments: dict[str, Any]
    stride: tuple[int, ...]


class MonaiNet(nn.Module):
    """A network of MONAI, for pictures and for volumes of any size.

    Images are padded to the network's stride by repeating the last row, column and slice, and to more than one element
    in the deepest map, which instance normalisation needs. DynUNet's kernels and strides follow from its widths unless
    ``options`` has them; its decoder levels but the two coarsest may answer in training (``deep_supervision``), with
    nnU-Net's weights 1, 1/2, 1/4, ... to a sum of 1. The four nested outputs of BasicUNetPlusPlus weigh the same; its
    unused heads are left out. UNETR learns its position table for images of ``img_size`` (a multiple of 16 a side) and
    takes it linearly resized for others, so the patch size is the best choice; normalisations of its library class
    that nothing calls are left out.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        architecture: class name in the library, see ``ARCHITECTURES``.
        spatial_dims: 2 for pictures and slices, 3 for volumes.
        widths: channels per level, finest first, of DynUNet and (five) of BasicUNetPlusPlus; None: the library's way.
        deep_supervision: side outputs while training, of DynUNet and BasicUNetPlusPlus.
        options: further arguments of the library's class.

    Raises:
        ConfigError: unknown architecture or option, widths or side outputs where there are none, arguments that the
            library refuses, no package einops; in ``forward``, another number of channels.
    """

    READING = ""

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        architecture: str = "DynUNet",
        spatial_dims: int = 3,
        widths: Sequence[int] | None = None,
        deep_supervision: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        from monai.networks import nets

        layer("Conv", spatial_dims)
        network = getattr(nets, checked_choice(architecture, ARCHITECTURES, key="architecture"))
        _refuse_unfit(architecture, widths=widths, deep_supervision=deep_supervision)
        ours = ("spatial_dims", "in_channels", "out_channels", *OURS[architecture])
        given = checked_options(options, network, ours=ours)
        self.in_channels, self.spatial_dims, self.architecture = in_channels, spatial_dims, architecture
        self.deep_supervision = deep_supervision
        plan = PLANS[architecture](given, spatial_dims, widths, deep_supervision)
        self.stride = plan.stride
        axes = {"spatial_dims": spatial_dims, "in_channels": in_channels, "out_channels": num_classes}
        self.model = build(network, {**axes, **plan.arguments}, what=architecture)
        self.ENCODER, self.HEAD = (tuple(f"model.{name}" for name in part) for part in PARTS[architecture])
        self.table = tuple(getattr(self.model, "feat_size", ()))
        _leave_out(self.model, architecture, deep_supervision=deep_supervision)

    def forward(self, image: Tensor) -> Tensor | DeepOutput:
        """Return logits (B, K, *S) of images (B, C, *S) of any size; while training also side outputs."""
        check_channels(image, self.in_channels, net=self.architecture, spatial_dims=self.spatial_dims)
        size = image.shape[2:]
        whole = pad_to_multiple(image, roomy(size, self.stride))
        output = self._unetr(whole) if self.architecture == "UNETR" else self.model(whole)
        if self.training and self.deep_supervision:
            return self._side_outputs(output, size)
        return crop_to(output[-1] if isinstance(output, list) else output, size)

    def _side_outputs(self, output: Tensor | list[Tensor], size: Sequence[int]) -> DeepOutput:
        if isinstance(output, list):  # nested U-Nets, the whole one last
            return DeepOutput([crop_to(one, size) for one in reversed(output)])
        maps = [crop_to(one, size) for one in output.unbind(1)]
        return DeepOutput(maps, halving_weights(len(maps)))

    def _unetr(self, image: Tensor) -> Tensor:
        """Run UNETR with its position table resized to the image's grid of 16-pixel patches."""
        grid = tuple(side // step for side, step in zip(image.shape[2:], self.stride, strict=True))
        self.model.proj_view_shape = [*grid, self.model.hidden_size]
        if grid == self.table:
            return self.model(image)
        name = "vit.patch_embedding.position_embeddings"
        table = self.model.get_parameter(name)
        there = table.transpose(1, 2).unflatten(2, self.table)
        return torch.func.functional_call(
            self.model, {name: resized(there, grid).flatten(2).transpose(1, 2)}, (image,), strict=False
        )


def _refuse_unfit(architecture: str, *, widths: Sequence[int] | None, deep_supervision: bool) -> None:
    scaled = ("DynUNet", "BasicUNetPlusPlus")
    if architecture in WITH_EINOPS and find_spec("einops") is None:
        raise ConfigError(f"net.architecture={architecture} needs the package einops; install it (pip install einops).")
    if architecture in scaled:
        return
    if widths is not None:
        raise ConfigError(f"net.widths: {architecture} has none; leave null and use net.options (feature sizes).")
    if deep_supervision:
        raise ConfigError(f"net.deep_supervision=true: {architecture} has no side outputs; {', '.join(scaled)} have.")


def _leave_out(model: nn.Module, architecture: str, *, deep_supervision: bool) -> None:
    """Take out layers with parameters that nothing calls: they would make distributed training wait for gradients."""
    if architecture == "UNETR":
        for block in model.get_submodule("vit.blocks").children():
            block.norm_cross_attn = nn.Identity()
    if architecture == "BasicUNetPlusPlus" and not deep_supervision:
        for number in (1, 2, 3):
            setattr(model, f"final_conv_0_{number}", nn.Identity())


def _dynunet(options: dict[str, Any], dims: int, widths: Sequence[int] | None, deep: bool) -> Plan:
    filters = checked_widths(DYNUNET_WIDTHS if widths is None else widths, least=3, net="DynUNet")
    levels = len(filters)
    same: dict[str, Any] = {"count": levels, "spatial_dims": dims}
    kernels = checked_factors(options.get("kernel_size"), default=[3] * levels, key="options.kernel_size", **same)
    steps = checked_factors(options.get("strides"), default=[1] + [2] * (levels - 1), key="options.strides", **same)
    if max(steps[0]) > 1:
        raise ConfigError(f"net.options.strides={[list(step) for step in steps]}: the first must be 1, for full size.")
    arguments = {
        "deep_supr_num": max(levels - 3, 1),
        **options,
        "kernel_size": kernels,
        "strides": steps,
        "upsample_kernel_size": steps[1:],
        "filters": filters,
        "deep_supervision": deep,
    }
    return Plan(arguments, tuple(prod(step[axis] for step in steps) for axis in range(dims)))


def _segresnet(options: dict[str, Any], dims: int, widths: Sequence[int] | None, deep: bool) -> Plan:
    down, up = len(options.get("blocks_down", (1, 2, 2, 4))), len(options.get("blocks_up", (1, 1, 1)))
    if up != down - 1:
        raise ConfigError(f"net.options: SegResNet with {down} blocks_down needs {down - 1} blocks_up, not {up}.")
    return Plan(options, (2**up,) * dims)


def _swin_unetr(options: dict[str, Any], dims: int, widths: Sequence[int] | None, deep: bool) -> Plan:
    return Plan(options, (options.get("patch_size", 2) ** 5,) * dims)


def _unetr(options: dict[str, Any], dims: int, widths: Sequence[int] | None, deep: bool) -> Plan:
    side = options.get("img_size")
    sides = (UNETR_SIDE[dims] if side is None else side,) * dims if side is None or isinstance(side, int) else side
    if len(sides) != dims or min(sides) < 1:
        raise ConfigError(f"net.options.img_size={side}: give one side, {dims} sides, or null.")
    return Plan({**options, "img_size": tuple(-(-one // 16) * 16 for one in sides)}, (16,) * dims)


def _nested(options: dict[str, Any], dims: int, widths: Sequence[int] | None, deep: bool) -> Plan:
    features = checked_widths(NESTED_WIDTHS if widths is None else widths, least=5, net="BasicUNetPlusPlus")
    if len(features) != 5:
        raise ConfigError(f"net.widths={list(features)}: BasicUNetPlusPlus has five levels; give five.")
    # The sixth number is the width of the last node of the finest level.
    return Plan({**options, "features": (*features, features[0]), "deep_supervision": deep}, (16,) * dims)


PLANS: dict[str, Callable[[dict[str, Any], int, Sequence[int] | None, bool], Plan]] = {
    "DynUNet": _dynunet,
    "SegResNet": _segresnet,
    "SwinUNETR": _swin_unetr,
    "UNETR": _unetr,
    "BasicUNetPlusPlus": _nested,
}
