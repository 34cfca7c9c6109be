"""TF-Unet: a U-Net whose deepest levels pass Transformer layers."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, checked_widths, crop_to, pad_to_multiple
from medseg.nets.blocks import UpStage, layer
from medseg.nets.unet import Encoder
from medseg.types import DeepOutput

WIDTHS = (32, 64, 128, 256, 320, 320)
"""Channels per level of our reading, finest first; the last three (1/8, 1/16 and the bottom) have Transformers."""

POSITIONS = 8
"""Side of the grid on which positions are learnt; it is resized to the map."""


def windows_of(tokens: Tensor, side: int) -> Tensor:
    """Return tokens (B, *S, C), whose sides divide by ``side``, as windows (B * windows, side^dims, C)."""
    batch, *sides, channels = tokens.shape
    split = tokens.reshape(batch, *(part for length in sides for part in (length // side, side)), channels)
    axes = range(1, 2 * len(sides) + 1)
    return split.permute(0, *axes[::2], *axes[1::2], -1).reshape(-1, side ** len(sides), channels)


def joined(windows: Tensor, sides: Sequence[int], side: int) -> Tensor:
    """Return the windows of :func:`windows_of` as tokens (B, *sides, C) again."""
    dims, channels = len(sides), windows.shape[-1]
    counts = [length // side for length in sides]
    split = windows.reshape(-1, *counts, *[side] * dims, channels)
    axes = [axis for number in range(1, dims + 1) for axis in (number, number + dims)]
    return split.permute(0, *axes, -1).reshape(-1, *sides, channels)


class Attention(nn.Module):
    """Multi-head self-attention among all places of a small map, or inside the windows of a large one.

    Args:
        channels: C.
        heads: that divide the channels.
        global_tokens: up to so many places everything sees everything.
        window: side of the windows above that; a map that does not divide is filled up with places that nobody sees.
    """

    def __init__(self, channels: int, heads: int, *, global_tokens: int = 1024, window: int = 7) -> None:
        super().__init__()
        self.heads, self.global_tokens, self.window = heads, global_tokens, window
        self.queries_keys_values = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def _among(self, tokens: Tensor, visible: Tensor | None = None) -> Tensor:
        """Return the attended tokens (B, N, C); ``visible`` (B, N) bool says which of them may be looked at."""
        parts = self.queries_keys_values(tokens).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = parts.movedim(2, 0).transpose(2, 3)  # each (B, heads, N, C / heads)
        mask = None if visible is None else visible[:, None, None]
        return self.out(F.scaled_dot_product_attention(queries, keys, values, mask).transpose(1, 2).flatten(2))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the attended tokens (B, *S, C)."""
        batch, *sides, _ = tokens.shape
        if prod(sides) <= self.global_tokens:
            return self._among(tokens.flatten(1, -2)).view_as(tokens)
        missing = [-length % self.window for length in sides]
        filled = [length + more for length, more in zip(sides, missing, strict=True)]
        padding = [0, 0, *(amount for more in reversed(missing) for amount in (0, more))]
        visible = None
        if any(missing):
            real = F.pad(torch.ones(1, *sides, 1, device=tokens.device), padding)
            visible = windows_of(real, self.window)[..., 0].bool().repeat(batch, 1)
        attended = self._among(windows_of(F.pad(tokens, padding), self.window), visible)
        return joined(attended, filled, self.window)[(slice(None), *(slice(length) for length in sides))]


class TransformerLayer(nn.Module):
    """Attention and a two-layer perceptron, each after a LayerNorm and added to its input (pre-norm, GELU).

    Args:
        channels: C; the perceptron has four times as many inside.
        heads: of the attention.
        options: of the :class:`Attention`.
    """

    def __init__(self, channels: int, heads: int, **options: Any) -> None:
        super().__init__()
        self.attention_norm, self.perceptron_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = Attention(channels, heads, **options)
        self.perceptron = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (B, *S, C)."""
        tokens = tokens + self.attention(self.attention_norm(tokens))
        return tokens + self.perceptron(self.perceptron_norm(tokens))


class TransformerStage(nn.Module):
    """Transformer layers over the places of a map, with learnt positions; their sum is residual to the map.

    Args:
        channels: C.
        depth: how many layers.
        heads: of each attention.
        positions: whether each place gets a learnt vector, resized from a grid of 8 a side.
        spatial_dims: 2 or 3.
        options: of each :class:`Attention`.
    """

    def __init__(
        self, channels: int, depth: int, heads: int, *, positions: bool = True, spatial_dims: int = 2, **options: Any
    ) -> None:
        super().__init__()
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        self.position = nn.Parameter(torch.ones(1, channels, *[POSITIONS] * spatial_dims)) if positions else None
        if self.position is not None:
            nn.init.trunc_normal_(self.position, std=0.02)
        self.layers = nn.Sequential(*(TransformerLayer(channels, heads, **options) for _ in range(depth)))

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, C, *S)."""
        if self.position is not None:
            features = features + F.interpolate(self.position, size=features.shape[2:], mode=self.mode)
        return self.layers(features.movedim(1, -1)).movedim(-1, 1)


class TFUNet(nn.Module):
    """TF-Unet of Fu, Zhang, Luo, Sun, Deng and Xia (Math. Biosci. Eng. 19(5):5207-5222, 2022).

    Published in its abstract: convolutions extract features and encode the space, Transformers add long-range
    dependence to the high-level features, at several scales.

    Our reading: everything else. A U-Net whose three deepest encoder levels pass Transformer layers after their
    convolutions (2, 2 and 4 of them, with 4, 8 and 8 heads); the result goes on to the skip and to the next level. Up
    to 1024 places all see each other, in larger maps those of one window of 7 a side, without shifting. Each of the
    finest three decoder levels has a head while training, with weights 1, 1/2 and 1/4 over their sum. Without its
    Transformers it is this package's U-Net at the same widths, to the last parameter.

    With batch normalisation a training batch of 1 works as long as the bottom has more than one place.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        widths: channels per level, finest first.
        depths: Transformer layers of the deepest levels, the last at the bottom; 0 leaves a level out.
        heads: attention heads of the same levels.
        positions: whether the Transformers know where a place is.
        global_tokens: places up to which attention is among all.
        window: side of the attention windows above that.
        deep_supervision: whether coarser decoder levels have heads while training.
        norm: ``batch``, ``instance`` or ``group``.
        dropout: probability of dropping a feature map of the deepest level before its Transformer.
        spatial_dims: 2 for pictures and slices, 3 for volumes.

    Raises:
        ConfigError: unknown norm, fewer than two widths, depths and heads that do not fit the widths; in ``forward``,
            another number of channels.
    """

    HEAD = ("head", "sides")
    READING = "our reading: number, place and kind of the Transformer layers, the widths, deep supervision"

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int] = WIDTHS,
        depths: Sequence[int] = (2, 2, 4),
        heads: Sequence[int] = (4, 8, 8),
        positions: bool = True,
        global_tokens: int = 1024,
        window: int = 7,
        deep_supervision: bool = True,
        norm: str = "batch",
        dropout: float = 0.0,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        self.in_channels, self.spatial_dims = in_channels, spatial_dims
        self.widths = checked_widths(widths, least=2, net="TFUNet")
        self.stride = 2 ** (len(self.widths) - 1)
        same: dict[str, Any] = {"norm": norm, "spatial_dims": spatial_dims}
        self.encoder = Encoder(in_channels, self.widths, dropout=dropout, **same)
        options: dict[str, Any] = {"positions": positions, "global_tokens": global_tokens, "window": window}
        levels = range(len(self.widths))
        self.ENCODER = tuple(f"{part}.{level}" for level in levels for part in ("encoder.levels", "transformers"))
        self.transformers = nn.ModuleList(
            TransformerStage(width, layers, number, spatial_dims=spatial_dims, **options) if layers else nn.Identity()
            for width, layers, number in zip(
                self.widths, *checked_transformers(self.widths, depths, heads), strict=True
            )
        )
        self.stages = nn.ModuleList(UpStage(deep, skip, skip, **same) for skip, deep in pairwise(self.widths))
        head, mode = layer("Conv", spatial_dims), "bilinear" if spatial_dims == 2 else "trilinear"
        self.head = head(self.widths[0], num_classes, 1)
        self.sides = nn.ModuleList(
            nn.Sequential(head(width, num_classes, 1), nn.Upsample(scale_factor=2**level, mode=mode))
            for level, width in enumerate(self.widths[1:-1][:2] if deep_supervision else [], start=1)
        )

    def features(self, image: Tensor) -> list[Tensor]:
        """Return the decoder's maps (B, widths[k], *S / 2^k), finest first, of an image that fits the stride."""
        maps: list[Tensor] = []
        for number, (level, transformer) in enumerate(zip(self.encoder.levels, self.transformers, strict=True)):
            features = level(self.encoder.pools[number - 1](maps[-1]) if maps else image)
            if number == len(self.widths) - 1:
                features = self.encoder.dropout(features)
            maps.append(transformer(features))
        for number in reversed(range(len(self.stages))):
            maps[number] = self.stages[number](maps[number + 1], maps[number])
        return maps[:-1]

    def forward(self, image: Tensor) -> Tensor | DeepOutput:
        """Return logits (B, K, *S) of images (B, C, *S) of any size; while training also those of coarser levels."""
        check_channels(image, self.in_channels, net="TFUNet", spatial_dims=self.spatial_dims)
        size = image.shape[2:]
        maps = self.features(pad_to_multiple(image, self.stride))
        logits = crop_to(self.head(maps[0]), size)
        if not self.training or not self.sides:
            return logits
        sides = [crop_to(side(features), size) for side, features in zip(self.sides, maps[1:], strict=False)]
        shares = [0.5**level for level in range(len(sides) + 1)]
        return DeepOutput([logits, *sides], weights=[share / sum(shares) for share in shares])


def checked_transformers(
    widths: Sequence[int], depths: Sequence[int], heads: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Return the Transformer layers of every level and their heads, from those of the deepest levels.

    Raises:
        ConfigError: not as many heads as depths, more of them than levels, or heads that do not divide a width.
    """
    without = [0] * (len(widths) - len(depths))
    layers, numbers = [*without, *depths], [*without, *heads]
    if not len(layers) == len(numbers) == len(widths):
        raise ConfigError(
            f"net.depths={list(depths)} and net.heads={list(heads)} must be equally many, at most one for each of the "
            f"{len(widths)} net.widths."
        )
    for width, depth, number in zip(widths, layers, numbers, strict=True):
        if depth and (number < 1 or width % number):
            raise ConfigError(f"net.heads={list(heads)}: {number} heads do not divide the {width} channels of a level.")
    return layers, numbers
