"""Swin-Unet: a U of shifted-window Transformer blocks."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, crop_to, pad_to_multiple
from medseg.nets.swin_blocks import DEVIATION, PatchExpand, PatchMerging, SwinBlock
from medseg.nets.weights import load_partial, read_weights

PATCH = 4
COLOURS = 3


class SwinStage(nn.Module):
    """Swin blocks in a row, every second one with shifted windows; in the encoder behind a patch merging.

    Args:
        dim: channels C.
        heads: attention heads.
        window: side of a window.
        drop_path: of each block; their number is the depth.
        merging: whether the stage first halves a map of ``dim / 2`` channels.
    """

    def __init__(self, dim: int, heads: int, *, window: int, drop_path: Sequence[float], merging: bool = False) -> None:
        super().__init__()
        self.downsample: nn.Module = PatchMerging(dim // 2) if merging else nn.Identity()
        self.blocks = nn.Sequential(
            *(
                SwinBlock(dim, heads, window=window, shifted=number % 2 == 1, drop_path=rate)
                for number, rate in enumerate(drop_path)
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return a map (B, H, W, C), in the encoder of (B, 2 H, 2 W, C / 2)."""
        return self.blocks(self.downsample(features))


class PatchEmbedding(nn.Module):
    """A convolution of 4x4 px patches and a normalisation over the channels.

    Args:
        in_channels: image channels.
        dim: channels C of the map.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, PATCH, stride=PATCH)
        self.norm = nn.LayerNorm(dim)

    def forward(self, image: Tensor) -> Tensor:
        """Return the map (B, H / 4, W / 4, C) of images (B, in_channels, H, W)."""
        return self.norm(self.proj(image).movedim(1, -1))


class SwinEncoder(nn.Module):
    """The Swin Transformer, under timm's names.

    Args:
        in_channels: image channels.
        dim: channels of the first stage; each further one has twice as many.
        heads: attention heads of each stage.
        window: side of a window.
        drop_path: of each block of each stage.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        *,
        heads: Sequence[int],
        window: int,
        drop_path: Sequence[Sequence[float]],
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(in_channels, dim)
        self.layers = nn.ModuleList(
            SwinStage(dim * 2**level, heads[level], window=window, drop_path=rates, merging=level > 0)
            for level, rates in enumerate(drop_path)
        )
        self.norm = nn.LayerNorm(dim * 2 ** (len(heads) - 1))

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return what enters the blocks of each stage but the last, finest first, and the bottom of the U."""
        features, skips = self.patch_embed(image), []
        for stage in self.layers:
            features = stage.downsample(features)
            skips.append(features)
            features = stage.blocks(features)
        return skips[:-1], self.norm(features)


class SwinUnet(nn.Module):
    """Swin-Unet.

    Cao et al., "Swin-Unet: Unet-like Pure Transformer for Medical Image Segmentation", ECCV Workshops 2022,
    arXiv:2105.05537.

    The encoder is a Swin Transformer (Liu et al., ICCV 2021): Swin-T with two blocks in each of its four stages. The
    decoder mirrors it: patch expanding, the skip beside it, a linear layer back to the stage's channels, Swin blocks.
    The skips are taken before the blocks of each encoder stage, so the finest is the patch embedding. A four-fold
    expansion and a 1x1 convolution without bias make the logits. 27,168,900 parameters with 9 classes.

    Images of any size are padded to whole cells of the coarsest map by repeating the last row and column; maps that
    do not divide by the window are padded inside the blocks, where no token sees the padding.

    A grey image is repeated to three channels, as published. With another number of channels than 1 and 3 the patch
    embedding takes them all, and weights from a file are inflated (see :func:`medseg.nets.weights.inflate`).

    Linear layers start from a truncated normal with deviation 0.02 and without bias, as in the release of Swin.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        dim: channels of the finest stage.
        depths: Swin blocks of each stage, in encoder and decoder.
        heads: attention heads of each stage; each divides its channels.
        window: side of a window in tokens.
        drop_path: probability of leaving out a branch of the deepest block; less in the ones before, from 0.
        encoder_weights: None (random), or a local file with weights of a Swin Transformer of these sizes under the
            names of timm or of its authors. They go to the encoder and, mirrored, into the blocks of the decoder.

    Raises:
        ConfigError: depths and heads of different length, heads that do not divide the channels, a window below 2,
            weights that do not fit; in ``forward``, another number of channels.
    """

    READING = ""

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        dim: int = 96,
        depths: Sequence[int] = (2, 2, 2, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        drop_path: float = 0.2,
        encoder_weights: str | None = None,
    ) -> None:
        super().__init__()
        widths = _checked_stages(dim, depths, heads, window)
        self.in_channels = in_channels
        self.repeat = COLOURS if in_channels == 1 else 1
        self.stride = PATCH * 2 ** (len(widths) - 1)
        rates = _rates(drop_path, depths)
        self.encoder = SwinEncoder(in_channels * self.repeat, dim, heads=heads, window=window, drop_path=rates)
        self.expands = nn.ModuleList(PatchExpand(deep, factor=2, outputs=skip) for skip, deep in pairwise(widths))
        self.merges = nn.ModuleList(nn.Linear(2 * skip, skip) for skip in widths[:-1])
        self.stages = nn.ModuleList(
            SwinStage(skip, count, window=window, drop_path=own)
            for skip, count, own in zip(widths[:-1], heads[:-1], rates[:-1], strict=True)
        )
        self.norm = nn.LayerNorm(dim)
        self.expand = PatchExpand(dim, factor=PATCH, outputs=dim)
        self.head = nn.Conv2d(dim, num_classes, 1, bias=False)
        self.apply(_start)
        if encoder_weights is not None:
            self._load(encoder_weights)

    def _load(self, source: str) -> None:
        """Put the file's weights into the encoder, and those of its blocks into the decoder's of the same level."""
        tensors = named_as_timm(read_weights(Path(source)))
        load_partial(self.encoder, tensors, source=source, in_channels=self.encoder.patch_embed.proj.in_channels)
        for mirrored, stage in zip(self.stages, self.encoder.layers, strict=False):
            own = {name: value for name, value in stage.state_dict().items() if name.startswith("blocks.")}
            mirrored.load_state_dict(own)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of images (B, C, H, W) of any size."""
        check_channels(image, self.in_channels, net="SwinUnet")
        skips, features = self.encoder(pad_to_multiple(image, self.stride).repeat(1, self.repeat, 1, 1))
        for level in reversed(range(len(skips))):
            joined = torch.cat([self.expands[level](features), skips[level]], dim=-1)
            features = self.stages[level](self.merges[level](joined))
        fine = self.expand(self.norm(features))
        return crop_to(self.head(fine.movedim(-1, 1)), image.shape[-2:])


def named_as_timm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of a Swin Transformer under timm's names, where a stage begins with its patch merging.

    Its authors let a stage end with it, so that there ``layers.0`` has one.
    """
    if not any("layers.0.downsample." in name for name in tensors):
        return dict(tensors)

    def moved(found: re.Match[str]) -> str:
        return f"layers.{int(found[1]) + 1}.downsample."

    return {re.sub(r"layers\.(\d+)\.downsample\.", moved, name): value for name, value in tensors.items()}


def _checked_stages(dim: int, depths: Sequence[int], heads: Sequence[int], window: int) -> list[int]:
    widths = [dim * 2**level for level in range(len(depths))]
    if len(depths) < 2 or len(heads) != len(depths) or min(depths) < 1:
        raise ConfigError(
            f"net.depths={list(depths)} and net.heads={list(heads)}: give one number for each stage in both, at least "
            "two stages of at least one block."
        )
    if any(width % count for width, count in zip(widths, heads, strict=True)):
        raise ConfigError(f"net.heads={list(heads)} must divide the channels {widths} of the stages; change net.dim.")
    if window < 2:
        raise ConfigError(f"net.window={window}: a window has at least 2 tokens a side.")
    return widths


def _rates(last: float, depths: Sequence[int]) -> list[list[float]]:
    """Return for each stage the drop-path rate of each block, rising evenly from 0 to ``last``."""
    rates = iter([last * number / max(sum(depths) - 1, 1) for number in range(sum(depths))])
    return [[next(rates) for _ in range(depth)] for depth in depths]


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=DEVIATION)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
