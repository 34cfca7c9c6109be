"""Building blocks of the nets: normalisation, convolution blocks, the up-sampling stage, pyramid attention.

Convolutions before a normalisation have no bias; where there is none they have. Weights start from PyTorch's defaults.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import checked_choice

NORMS = ("batch", "instance", "group")


def layer(name: str, spatial_dims: int) -> Any:
    """Return torch's layer for images (2) or volumes (3): ``layer("Conv", 3)`` is ``nn.Conv3d``.

    Raises:
        ConfigError: another number of axes.
    """
    if spatial_dims not in (2, 3):
        raise ConfigError(f"net.spatial_dims={spatial_dims}: give 2 for pictures and slices, 3 for volumes.")
    return getattr(nn, f"{name}{spatial_dims}d")


def normalisation(kind: str, channels: int, *, spatial_dims: int = 2) -> nn.Module:
    """Return a normalisation layer: ``batch``, ``instance`` (affine) or ``group`` (at most 8 groups).

    Raises:
        ConfigError: another kind.
    """
    if checked_choice(kind, NORMS, key="norm") == "batch":
        return layer("BatchNorm", spatial_dims)(channels)
    if kind == "instance":
        return layer("InstanceNorm", spatial_dims)(channels, affine=True)
    return nn.GroupNorm(math.gcd(8, channels), channels)


class ConvBlock(nn.Sequential):
    """Same-padded square convolution, normalisation, ReLU.

    With ``norm="none"`` the convolution has a bias in the normalisation's place.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: side of the kernel, odd.
        dilation: distance between kernel taps.
        groups: channel groups that do not mix; ``inputs`` makes it depthwise.
        norm: ``none``, or see :func:`normalisation`.
        activation: whether the ReLU is there.
        spatial_dims: 2 or 3.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 3,
        dilation: int = 1,
        groups: int = 1,
        norm: str = "batch",
        activation: bool = True,
        spatial_dims: int = 2,
    ) -> None:
        padding = dilation * (kernel // 2)
        conv = layer("Conv", spatial_dims)
        plain = checked_choice(norm, ["none", *NORMS], key="norm") == "none"
        layers = [conv(inputs, outputs, kernel, padding=padding, dilation=dilation, groups=groups, bias=plain)]
        if not plain:
            layers.append(normalisation(norm, outputs, spatial_dims=spatial_dims))
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if activation else []))


class DoubleConv(nn.Sequential):
    """Two 3x3 :class:`ConvBlock` in a row.

    Args:
        inputs: input channels.
        outputs: output channels.
        between: channels between the two, by default ``outputs``.
        norm: see :func:`normalisation`.
        spatial_dims: 2 or 3.
    """

    def __init__(
        self, inputs: int, outputs: int, *, between: int | None = None, norm: str = "batch", spatial_dims: int = 2
    ) -> None:
        between = between or outputs
        super().__init__(
            ConvBlock(inputs, between, norm=norm, spatial_dims=spatial_dims),
            ConvBlock(between, outputs, norm=norm, spatial_dims=spatial_dims),
        )


class ResidualConv(nn.Module):
    """A :class:`DoubleConv` beside a 1x1 projection with normalisation; the sum goes through a ReLU.

    Args:
        inputs: input channels.
        outputs: output channels.
        norm: see :func:`normalisation`.
        spatial_dims: 2 or 3.
    """

    def __init__(self, inputs: int, outputs: int, *, norm: str = "batch", spatial_dims: int = 2) -> None:
        super().__init__()
        same: dict[str, Any] = {"norm": norm, "spatial_dims": spatial_dims}
        self.body = nn.Sequential(
            ConvBlock(inputs, outputs, **same), ConvBlock(outputs, outputs, activation=False, **same)
        )
        self.shortcut = ConvBlock(inputs, outputs, kernel=1, activation=False, **same)

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, outputs, H, W)."""
        return F.relu(self.body(features) + self.shortcut(features))


class UpStage(nn.Module):
    """One decoder stage: enlarge the grid, put the skip beside it, two convolutions.

    ``transpose`` learns a transposed convolution (2x2, or of the pooling's factors) to the skip's channels.
    ``bilinear`` keeps the channels (trilinear in 3D), so the deeper map must come with as many as the skip, and the
    first convolution gives ``skip`` channels.

    Args:
        deep: channels of the coarser map.
        skip: channels of the skip.
        outputs: channels of the result.
        norm: see :func:`normalisation`.
        up: ``transpose`` or ``bilinear``.
        spatial_dims: 2 or 3.
        factor: how much the grid grows, one number or one for each axis.
    """

    def __init__(
        self,
        deep: int,
        skip: int,
        outputs: int,
        *,
        norm: str = "batch",
        up: str = "transpose",
        spatial_dims: int = 2,
        factor: int | Sequence[int] = 2,
    ) -> None:
        super().__init__()
        scale = factor if isinstance(factor, int) else tuple(factor)
        if checked_choice(up, ["transpose", "bilinear"], key="up") == "transpose":
            self.up: nn.Module = layer("ConvTranspose", spatial_dims)(deep, skip, scale, stride=scale)
            self.convs = DoubleConv(2 * skip, outputs, norm=norm, spatial_dims=spatial_dims)
        else:
            self.up = nn.Upsample(scale_factor=scale, mode="bilinear" if spatial_dims == 2 else "trilinear")
            self.convs = DoubleConv(deep + skip, outputs, between=skip, norm=norm, spatial_dims=spatial_dims)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Return features (B, outputs, *S) from the coarser map (B, deep, *S / factor) and the skip (B, skip, *S)."""
        return self.convs(torch.cat([skip, self.up(deep)], dim=1))


def resize(features: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Return maps (B, C, h, w) bilinearly resized to ``size``, pixel areas aligned."""
    return F.interpolate(features, size=tuple(size), mode="bilinear", align_corners=False)


def area_means(features: Tensor, bins: int) -> Tensor:
    """Return the means (B, C, bins, bins) over a grid of nearly equal cells of maps (B, C, H, W).

    The same cells as ``adaptive_avg_pool2d``, as two matrix products: those have a deterministic gradient on a GPU.
    """
    rows, columns = (_averaging(side, bins, features) for side in features.shape[-2:])
    return rows @ features @ columns.T


def _averaging(side: int, bins: int, like: Tensor) -> Tensor:
    edges = [(number * side // bins, -(-(number + 1) * side // bins)) for number in range(bins)]
    position = torch.arange(side, device=like.device)
    inside = torch.stack([(position >= start) & (position < stop) for start, stop in edges]).to(like.dtype)
    return inside / inside.sum(dim=1, keepdim=True)


class PyramidAttention(nn.Module):
    """Gate a map by what surrounds each place: means over 1, 2, 3 and 6 cells a side, resized, through a sigmoid.

    Args:
        channels: of input and output.
    """

    BINS = (1, 2, 3, 6)

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // len(self.BINS), 1)
        # Without normalisation: one cell of one image has no variance.
        self.inlets = nn.ModuleList(nn.Conv2d(channels, inner, 1) for _ in self.BINS)
        self.gate = nn.Conv2d(channels + inner * len(self.BINS), channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, channels, H, W), between once and twice the input."""
        around = [
            resize(F.relu(inlet(area_means(features, bins))), features.shape[-2:])
            for inlet, bins in zip(self.inlets, self.BINS, strict=True)
        ]
        return features + features * torch.sigmoid(self.gate(torch.cat([features, *around], dim=1)))
