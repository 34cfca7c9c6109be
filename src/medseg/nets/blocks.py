"""Building blocks of the nets: normalisation, convolution blocks, the up-sampling stage, pyramid attention.

Convolutions before a normalisation have no bias. Weights start from PyTorch's defaults.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg.nets.adapters import checked_choice

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
    "group": lambda channels: nn.GroupNorm(math.gcd(8, channels), channels),
}


def normalisation(kind: str, channels: int) -> nn.Module:
    """Return a normalisation layer: ``batch``, ``instance`` (affine) or ``group`` (at most 8 groups).

    Raises:
        ConfigError: another kind.
    """
    return NORMS[checked_choice(kind, list(NORMS), key="norm")](channels)


class ConvBlock(nn.Sequential):
    """Same-padded square convolution, normalisation, ReLU.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: side of the kernel, odd.
        dilation: distance between kernel taps.
        groups: channel groups that do not mix; ``inputs`` makes it depthwise.
        norm: see :func:`normalisation`.
        activation: whether the ReLU is there.
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
    ) -> None:
        padding = dilation * (kernel // 2)
        layers = [
            nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, groups=groups, bias=False),
            normalisation(norm, outputs),
        ]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if activation else []))


class DoubleConv(nn.Sequential):
    """Two 3x3 :class:`ConvBlock` in a row.

    Args:
        inputs: input channels.
        outputs: output channels.
        between: channels between the two, by default ``outputs``.
        norm: see :func:`normalisation`.
    """

    def __init__(self, inputs: int, outputs: int, *, between: int | None = None, norm: str = "batch") -> None:
        between = between or outputs
        super().__init__(ConvBlock(inputs, between, norm=norm), ConvBlock(between, outputs, norm=norm))


class ResidualConv(nn.Module):
    """A :class:`DoubleConv` beside a 1x1 projection with normalisation; the sum goes through a ReLU.

    Args:
        inputs: input channels.
        outputs: output channels.
        norm: see :func:`normalisation`.
    """

    def __init__(self, inputs: int, outputs: int, *, norm: str = "batch") -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvBlock(inputs, outputs, norm=norm), ConvBlock(outputs, outputs, norm=norm, activation=False)
        )
        self.shortcut = ConvBlock(inputs, outputs, kernel=1, norm=norm, activation=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, outputs, H, W)."""
        return F.relu(self.body(features) + self.shortcut(features))


class UpStage(nn.Module):
    """One decoder stage: double the grid, put the skip beside it, two convolutions.

    ``transpose`` learns a 2x2 transposed convolution to the skip's channels. ``bilinear`` keeps the channels, so the
    deeper map must come with as many as the skip, and the first convolution gives ``skip`` channels.

    Args:
        deep: channels of the coarser map.
        skip: channels of the skip.
        outputs: channels of the result.
        norm: see :func:`normalisation`.
        up: ``transpose`` or ``bilinear``.
    """

    def __init__(self, deep: int, skip: int, outputs: int, *, norm: str = "batch", up: str = "transpose") -> None:
        super().__init__()
        if checked_choice(up, ["transpose", "bilinear"], key="up") == "transpose":
            self.up: nn.Module = nn.ConvTranspose2d(deep, skip, 2, stride=2)
            self.convs = DoubleConv(2 * skip, outputs, norm=norm)
        else:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear")
            self.convs = DoubleConv(deep + skip, outputs, between=skip, norm=norm)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Return features (B, outputs, H, W) from the coarser map (B, deep, H/2, W/2) and the skip (B, skip, H, W)."""
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
