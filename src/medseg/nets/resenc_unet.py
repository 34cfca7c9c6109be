"""The U-Net with a residual encoder of the nnU-Net recipe, for pictures and for volumes."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, checked_widths, crop_to, pad_to_multiple
from medseg.nets.blocks import layer, normalisation
from medseg.nets.deep import checked_factors, halving_weights, resized, roomy
from medseg.types import DeepOutput

WIDTHS = (32, 64, 128, 256, 512, 512)
"""Channels per level, finest first, before they are limited to ``MOST``."""

MOST = {2: 512, 3: 320}
"""Channels that no level exceeds, by the number of axes."""

BLOCKS = (1, 3, 4, 6, 6, 6)
"""Residual blocks per level of the encoder, finest first; deeper levels take 6."""

SLOPE = 0.01
"""Negative slope of every LeakyReLU."""

Factors = Sequence[int | Sequence[int]]


class NormConv(nn.Sequential):
    """Convolution, normalisation and, where asked for, LeakyReLU.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: side along each axis, odd.
        stride: along each axis.
        norm: ``instance``, ``batch`` or ``group``.
        active: whether the LeakyReLU is there.
        bias: whether the convolution has a bias.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Sequence[int],
        *,
        stride: Sequence[int] | int = 1,
        norm: str = "instance",
        active: bool = True,
        bias: bool = True,
    ) -> None:
        dims, padding = len(kernel), tuple(side // 2 for side in kernel)
        step = stride if isinstance(stride, int) else tuple(stride)
        conv = layer("Conv", dims)(inputs, outputs, tuple(kernel), stride=step, padding=padding, bias=bias)
        layers = [conv, normalisation(norm, outputs, spatial_dims=dims)]
        super().__init__(*layers, *([nn.LeakyReLU(SLOPE, inplace=True)] if active else []))


class ResidualBlock(nn.Module):
    """Two convolutions beside an average-pooled shortcut, as in ResNet-D (He et al., CVPR 2019, arXiv:1812.01187).

    The first convolution has the stride; the shortcut pools by it, and goes through a 1x1 convolution without bias and
    a normalisation where the number of channels changes. LeakyReLU after the sum.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: side along each axis.
        stride: along each axis.
        norm: ``instance``, ``batch`` or ``group``.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: Sequence[int], *, stride: Sequence[int], norm: str = "instance"
    ) -> None:
        super().__init__()
        dims = len(kernel)
        self.first = NormConv(inputs, outputs, kernel, stride=stride, norm=norm)
        self.second = NormConv(outputs, outputs, kernel, norm=norm, active=False)
        shortcut: list[nn.Module] = []
        if max(stride) > 1:
            shortcut.append(layer("AvgPool", dims)(tuple(stride), tuple(stride)))
        if inputs != outputs:
            shortcut.append(NormConv(inputs, outputs, (1,) * dims, norm=norm, active=False, bias=False))
        self.shortcut = nn.Sequential(*shortcut)
        self.active = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, outputs, *S / stride)."""
        return self.active(self.second(self.first(features)) + self.shortcut(features))


class Rise(nn.Module):
    """One decoder stage: transposed convolution by the level's stride, the skip beside it, one convolution.

    Args:
        deep: channels of the coarser map.
        skip: channels of the skip and of the result.
        kernel: side along each axis.
        stride: how much the grid grows along each axis.
        norm: ``instance``, ``batch`` or ``group``.
    """

    def __init__(self, deep: int, skip: int, kernel: Sequence[int], *, stride: Sequence[int], norm: str) -> None:
        super().__init__()
        self.up = layer("ConvTranspose", len(kernel))(deep, skip, tuple(stride), stride=tuple(stride))
        self.conv = NormConv(2 * skip, skip, kernel, norm=norm)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Return features (B, skip, *S) from (B, deep, *S / stride) and the skip (B, skip, *S)."""
        return self.conv(torch.cat([self.up(deep), skip], dim=1))


class ResEncUNet(nn.Module):
    """Residual-encoder U-Net of "nnU-Net Revisited" (Isensee et al., MICCAI 2024, arXiv:2404.09556).

    The encoder starts with one convolution and takes 1, 3, 4, 6, 6, 6 residual blocks per level, halving the grid in
    the first block of each; the decoder takes one convolution per level; instance normalisation with factors,
    LeakyReLU 0.01. Convolutions have biases. Weights start as in that recipe: normal after He for the LeakyReLU,
    biases zero, and with ``zero_residual`` the last normalisation of each block at zero, so that a block starts as its
    shortcut. In training with ``deep_supervision`` every decoder level but the coarsest answers, with the losses
    weighted 1, 1/2, 1/4, ... to a sum of 1. The presets M, L and XL of the paper are this network on patches and
    batches chosen for 8, 24 and 40 GB.

    What differs: the side outputs are brought to the image's size, where the recipe brings the truth to theirs, and
    the coarsest level has no output of weight 0. Batch 1 works in train mode (with ``instance`` and ``group``).

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        spatial_dims: 2 for pictures and slices, 3 for volumes.
        widths: channels per level, finest first; their number is the depth.
        most: no width is larger; None: 512 in 2D, 320 in 3D.
        blocks: residual blocks per level; None: 1, 3, 4, 6, 6, 6, ...
        strides: of each level, the first included, one number or one for each axis; None: 1, 2, 2, ...
        kernels: side of the convolutions of each level, odd; None: 3. The recipe takes 1 along the axis of thick
            slices until the other axes are as coarse.
        deep_supervision: whether the decoder's coarser levels answer too while training.
        norm: ``instance``, ``batch`` or ``group``.
        zero_residual: whether blocks start as their shortcuts.

    Raises:
        ConfigError: fewer than two widths, blocks, strides or kernels that do not fit, unknown norm; in ``forward``,
            another number of channels.
    """

    ENCODER, HEAD = ("stem", "levels"), ("heads",)
    READING = "layers from the public description of the recipe; side outputs are compared at the image's size"

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 2,
        widths: Sequence[int] = WIDTHS,
        most: int | None = None,
        blocks: Sequence[int] | None = None,
        strides: Factors | None = None,
        kernels: Factors | None = None,
        deep_supervision: bool = True,
        norm: str = "instance",
        zero_residual: bool = True,
    ) -> None:
        super().__init__()
        conv = layer("Conv", spatial_dims)
        self.in_channels, self.spatial_dims, self.deep_supervision = in_channels, spatial_dims, deep_supervision
        limit = MOST[spatial_dims] if most is None else most
        self.widths = tuple(min(width, limit) for width in checked_widths(widths, least=2, net="ResEncUNet"))
        same: dict[str, Any] = {"count": (levels := len(self.widths)), "spatial_dims": spatial_dims}
        steps = checked_factors(strides, default=[1] + [2] * (levels - 1), key="strides", **same)
        sides = checked_factors(kernels, default=[3] * levels, key="kernels", **same)
        if any(side % 2 == 0 for kernel in sides for side in kernel):
            raise ConfigError(f"net.kernels={[list(kernel) for kernel in sides]}: give odd sides.")
        self.stride = tuple(prod(step[axis] for step in steps) for axis in range(spatial_dims))
        self.stem = NormConv(in_channels, self.widths[0], sides[0], norm=norm)
        self.levels = nn.ModuleList(
            _level(inputs, outputs, kernel, step, count, norm)
            for inputs, outputs, kernel, step, count in zip(
                [self.widths[0], *self.widths], self.widths, sides, steps, _checked_blocks(blocks, levels), strict=False
            )
        )
        self.stages = nn.ModuleList(
            Rise(deep, skip, kernel, stride=step, norm=norm)
            for (skip, deep), kernel, step in zip(pairwise(self.widths), sides[1:], steps[1:], strict=True)
        )
        answering = max(levels - 2, 1) if deep_supervision else 1
        self.heads = nn.ModuleList(conv(width, num_classes, 1) for width in self.widths[:answering])
        self._start(zero_residual=zero_residual)

    def _start(self, *, zero_residual: bool) -> None:
        """Give every layer the weights that the recipe starts with."""
        kinds = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
        for module in self.modules():
            if isinstance(module, kinds):
                nn.init.kaiming_normal_(module.weight, a=SLOPE)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, ResidualBlock) and zero_residual:
                nn.init.zeros_(module.second[1].weight)  # type: ignore[arg-type]
                nn.init.zeros_(module.second[1].bias)  # type: ignore[arg-type]

    def answers(self, image: Tensor) -> list[Tensor]:
        """Return the logits (B, K, *s) of every level that has a head, finest first, each on its own grid.

        Args:
            image: (B, C, *S) with sides that divide by the stride.
        """
        skips, deep = [], self.stem(image)
        for level in self.levels:
            deep = level(deep)
            skips.append(deep)
        levels: list[Tensor] = []
        for stage, skip in zip(reversed(self.stages), reversed(skips[:-1]), strict=True):
            deep = stage(deep, skip)
            levels.insert(0, deep)
        return [head(features) for head, features in zip(self.heads, levels, strict=False)]

    def forward(self, image: Tensor) -> Tensor | DeepOutput:
        """Return logits (B, K, *S) of images (B, C, *S) of any size; while training also those of coarser levels."""
        check_channels(image, self.in_channels, net="ResEncUNet", spatial_dims=self.spatial_dims)
        size = image.shape[2:]
        whole = pad_to_multiple(image, roomy(size, self.stride))
        maps = self.answers(whole)
        answering = maps if self.training and self.deep_supervision else maps[:1]
        full = [crop_to(resized(one, whole.shape[2:]), size) for one in answering]
        return DeepOutput(full, halving_weights(len(full))) if self.training and self.deep_supervision else full[0]


def _level(
    inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int], count: int, norm: str
) -> nn.Sequential:
    entering = [(inputs, stride), *[(outputs, (1,) * len(kernel))] * (count - 1)]
    return nn.Sequential(*(ResidualBlock(before, outputs, kernel, stride=step, norm=norm) for before, step in entering))


def _checked_blocks(blocks: Sequence[int] | None, levels: int) -> list[int]:
    if blocks is None:
        return [*BLOCKS, *[BLOCKS[-1]] * levels][:levels]
    whole = [int(count) for count in blocks]
    if len(whole) != levels or min(whole) < 1:
        raise ConfigError(f"net.blocks={whole}: give {levels} positive numbers, one a level of net.widths, or null.")
    return whole
