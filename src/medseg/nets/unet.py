"""U-Net with same padding and normalisation, for pictures and for volumes."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, checked_widths, crop_to, pad_to_multiple
from medseg.nets.blocks import DoubleConv, ResidualConv, UpStage, layer

WIDTHS = (64, 128, 256, 512, 1024)
"""Channels per level of the published U-Net, finest first."""


class Encoder(nn.Module):
    """The contracting path: two convolutions a level, max pooling between levels.

    Args:
        in_channels: image channels C.
        widths: channels per level, finest first.
        norm: ``batch``, ``instance`` or ``group``.
        dropout: probability of dropping a whole feature map of the deepest level.
        residual: whether each level adds a 1x1 projection of its input before the last ReLU.
        spatial_dims: 2 or 3.
        pools: factors of each pooling along each axis; 2 everywhere if not given.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        *,
        norm: str = "batch",
        dropout: float = 0.0,
        residual: bool = False,
        spatial_dims: int = 2,
        pools: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        block = ResidualConv if residual else DoubleConv
        self.levels = nn.ModuleList(
            block(inputs, outputs, norm=norm, spatial_dims=spatial_dims)
            for inputs, outputs in pairwise([in_channels, *widths])
        )
        factors = checked_pools(pools, levels=len(widths), spatial_dims=spatial_dims)
        pooling = layer("MaxPool", spatial_dims)
        self.pools = nn.ModuleList(pooling(factor) for factor in factors)
        self.dropout = layer("Dropout", spatial_dims)(dropout)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features of every level, finest first; with usual pooling level k has the sides S / 2^k."""
        features = [self.levels[0](image)]
        for pool, level in zip(self.pools, self.levels[1:], strict=True):
            features.append(level(pool(features[-1])))
        return [*features[:-1], self.dropout(features[-1])]


def checked_pools(pools: Sequence[Sequence[int]] | None, *, levels: int, spatial_dims: int) -> list[tuple[int, ...]]:
    """Return the factors of each pooling as tuples; 2 along every axis if none are given.

    Raises:
        ConfigError: not one pooling between two levels, or not one positive factor for each axis.
    """
    if pools is None:
        return [(2,) * spatial_dims] * (levels - 1)
    factors = [tuple(int(factor) for factor in pool) for pool in pools]
    if len(factors) != levels - 1 or any(len(pool) != spatial_dims or min(pool) < 1 for pool in factors):
        raise ConfigError(
            f"net.pools={[list(pool) for pool in factors]}: give {levels - 1} poolings (one less than net.widths) of "
            f"{spatial_dims} factors each."
        )
    return factors


def up_stages(widths: Sequence[int], *, norm: str = "batch") -> nn.ModuleList:
    """Return the transposed decoder stages that mirror an :class:`Encoder`, finest first."""
    return nn.ModuleList(UpStage(deep, skip, skip, norm=norm) for skip, deep in pairwise(widths))


class UNet(nn.Module):
    """U-Net of Ronneberger, Fischer and Brox (MICCAI 2015, arXiv:1505.04597) in its usual modern form.

    The form differs from the paper in padding the convolutions, so that output and input have one size, and in
    normalising after each of them. Four poolings with the default widths; 31,037,698 parameters from 3 channels to 2
    classes, as the widely used PyTorch port has. Without normalisation, at the widths 32 to 512 of the comparison with
    UNet++, 7,759,521 from one channel to one class (published: 7.76 M). Images whose sides do not divide by the
    stride are padded by repeating the last row and column, and the logits are cropped.

    With ``spatial_dims=3`` every layer has its three-dimensional form at the same widths. That is not the network of
    Cicek et al. (MICCAI 2016, arXiv:1606.06650), which doubles the channels within a level.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        widths: channels per level, finest first; their number is the depth.
        norm: ``batch``, ``instance``, ``group`` or ``none``.
        up: ``transpose`` for learnt up-convolutions, ``bilinear`` for half the bottom's width and resizing.
        dropout: probability of dropping a feature map at the end of the contracting path.
        spatial_dims: 2 for pictures and slices, 3 for volumes.
        pools: factors of each pooling along each axis, for instance ``[[1, 2, 2], [2, 2, 2]]`` for thick slices with
            three widths; 2 everywhere if not given.

    Raises:
        ConfigError: unknown norm or up, fewer than two widths, pools that do not fit; in ``forward``, another number
            of channels.
    """

    READING = ""

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int] = WIDTHS,
        norm: str = "batch",
        up: str = "transpose",
        dropout: float = 0.0,
        spatial_dims: int = 2,
        pools: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.spatial_dims = in_channels, spatial_dims
        self.widths = checked_widths(widths, least=2, net="UNet")
        factors = checked_pools(pools, levels=len(self.widths), spatial_dims=spatial_dims)
        self.stride = tuple(prod(pool[axis] for pool in factors) for axis in range(spatial_dims))
        *skips, bottom = self.widths
        if up == "transpose":
            incoming, results = [*skips[1:], bottom], skips
        else:  # resizing keeps the channels: each map arrives with as many as the skip that it meets
            incoming, results = skips, [skips[0], *skips[:-1]]
        same: dict[str, Any] = {"norm": norm, "spatial_dims": spatial_dims}
        self.encoder = Encoder(in_channels, [*skips, incoming[-1]], dropout=dropout, pools=factors, **same)
        self.stages = nn.ModuleList(
            UpStage(deep, skip, result, up=up, factor=factor, **same)
            for deep, skip, result, factor in zip(incoming, skips, results, factors, strict=True)
        )
        self.head = layer("Conv", spatial_dims)(skips[0], num_classes, 1)

    def features(self, image: Tensor) -> Tensor:
        """Return the finest decoder features (B, widths[0], *S) of an image whose sides divide by the stride."""
        *skips, deep = self.encoder(image)
        for stage, skip in zip(reversed(self.stages), reversed(skips), strict=True):
            deep = stage(deep, skip)
        return deep

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, *S) of images (B, C, *S) of any size."""
        check_channels(image, self.in_channels, net="UNet", spatial_dims=self.spatial_dims)
        logits = self.head(self.features(pad_to_multiple(image, self.stride)))
        return crop_to(logits, image.shape[2:])
