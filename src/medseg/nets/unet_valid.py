"""U-Net as published in 2015: unpadded convolutions, mirrored surroundings, overlapping tiles."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, checked_widths, crop_to
from medseg.nets.unet import WIDTHS


def mirrored(image: Tensor, before: int, after: Sequence[int]) -> Tensor:
    """Return the image continued by its mirror image, the edge itself not repeated.

    Unlike torch's reflection it goes on to and fro where the image is smaller than what is added; one row alone is
    repeated.

    Args:
        image: (B, C, *S).
        before: pixels added before each axis.
        after: pixels added after each axis.
    """
    for axis, added in enumerate(after, start=2):
        side = image.shape[axis]
        period = max(2 * (side - 1), 1)
        folded = torch.arange(-before, side + added, device=image.device) % period
        image = image.index_select(axis, torch.minimum(folded, period - folded))
    return image


def centre(features: Tensor, size: Sequence[int]) -> Tensor:
    """Return the central part (..., h, w) of maps (..., H, W); the differences of the sides are even."""
    top, left = ((have - want) // 2 for have, want in zip(features.shape[-2:], size, strict=True))
    return features[..., top : top + size[0], left : left + size[1]]


class ValidConvs(nn.Sequential):
    """Two unpadded 3x3 convolutions, each with a ReLU: four rows and columns fewer.

    Args:
        inputs: input channels.
        outputs: output channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3), nn.ReLU(inplace=True), nn.Conv2d(outputs, outputs, 3), nn.ReLU(inplace=True)
        )


class UNetValid(nn.Module):
    """U-Net of Ronneberger, Fischer and Brox, MICCAI 2015, arXiv:1505.04597, in its published form.

    Four poolings, 23 convolutional layers without padding and without normalisation, skips cropped at their centre.
    31,030,658 parameters from one channel to two classes. With b rows at the bottom an input of ``16 b + 60`` rows
    answers for its inner ``16 b - 124``: 572 rows give 388, and 188 the least, 4. :meth:`valid` does just that.

    ``forward`` answers for the whole image: the 92 pixels that are missing on each side, and what completes the
    geometry at the end, are the image's mirror image without repeating the edge. Images smaller than the margin are
    mirrored to and fro.

    With ``tile`` the image is cut in eval mode into overlapping tiles of that side, for less memory. A tile answers for
    n = tile - 184 pixels a side; the tiles stand n - 4 apart, a multiple of 16, where the paper puts them n apart: so
    each pooling cell is the one of the whole image, and the tiled answer is the whole answer.

    Weights start from a normal distribution of standard deviation sqrt(2 / N), N the incoming nodes of a unit; one
    node of a 2x2 up-convolution has as many as there are input channels. Biases start at zero. The dropout acts on the
    deepest features. Batch size 1 works in training too (the paper trains with it).

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        widths: channels per level, finest first; their number is the depth (figures above: five).
        dropout: probability of dropping a value at the end of the contracting path.
        tile: rows and columns of a tile in eval mode, with five widths 16 b + 60 and at least 204; None: no tiles.

    Raises:
        ConfigError: fewer than two widths, a tile that does not fit; in ``forward``, another number of channels.
    """

    READING = ""
    ENCODER = ("levels",)

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int] = WIDTHS,
        dropout: float = 0.5,
        tile: int | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.spatial_dims = in_channels, 2
        self.widths = checked_widths(widths, least=2, net="UNetValid")
        self.stride = 2 ** (len(self.widths) - 1)
        self.margin = 6 * self.stride - 4
        self.tile = self._checked_tile(tile)
        *skips, _ = self.widths
        self.levels = nn.ModuleList(ValidConvs(inputs, outputs) for inputs, outputs in pairwise([in_channels, *widths]))
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(dropout)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(deep, skip, 2, stride=2) for skip, deep in pairwise(self.widths))
        self.convs = nn.ModuleList(ValidConvs(2 * skip, skip) for skip in skips)
        self.head = nn.Conv2d(skips[0], num_classes, 1)
        self.apply(start_weights)

    def input_side(self, side: int) -> int:
        """Return the least input side whose valid answer has at least ``side`` rows (or columns)."""
        bottom = max(math.ceil((side + 8 * self.stride - 4) / self.stride), 8)
        return self.stride * bottom + 4 * (self.stride - 1)

    def _checked_tile(self, tile: int | None) -> int | None:
        least = self.input_side(self.stride)
        if tile is None or (tile >= least and (tile - least) % self.stride == 0):
            return tile
        raise ConfigError(
            f"net.tile={tile}: give {least} or a multiple of {self.stride} more, for instance "
            f"{self.input_side(24 * self.stride + 4)}; null for no tiles."
        )

    def valid(self, image: Tensor) -> Tensor:
        """Return logits (B, K, H - 184, W - 184) of images (B, C, H, W) of sides 16 b + 60, b >= 8 (five widths)."""
        skips = []
        deep = self.levels[0](image)
        for level in self.levels[1:]:
            skips.append(deep)
            deep = level(self.pool(deep))
        deep = self.dropout(deep)
        for up, convs, skip in zip(reversed(self.ups), reversed(self.convs), reversed(skips), strict=True):
            larger = up(deep)
            deep = convs(torch.cat([centre(skip, larger.shape[-2:]), larger], dim=1))
        return self.head(deep)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of images (B, C, H, W) of any size."""
        check_channels(image, self.in_channels, net="UNetValid")
        if self.tile is not None and not self.training:
            return self._tiled(image, self.tile)
        size = image.shape[-2:]
        after = [self.input_side(side) - side - self.margin for side in size]
        return crop_to(self.valid(mirrored(image, self.margin, after)), size)

    def _tiled(self, image: Tensor, tile: int) -> Tensor:
        step = tile - 2 * self.margin - 4
        starts = [range(0, side, step) for side in image.shape[-2:]]
        after = [start[-1] + tile - self.margin - side for start, side in zip(starts, image.shape[-2:], strict=True)]
        around = mirrored(image, self.margin, after)
        rows = []
        for top in starts[0]:
            tiles = [self.valid(around[..., top : top + tile, left : left + tile]) for left in starts[1]]
            rows.append(torch.cat([crop_to(part, (step, step)) for part in tiles], dim=-1))
        return crop_to(torch.cat(rows, dim=-2), image.shape[-2:])


def start_weights(module: nn.Module) -> None:
    """Draw a convolution's weights from N(0, 2 / N), N the incoming nodes of a unit, and put its biases to zero."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        # The 2x2 kernels of an up-convolution with stride 2 do not overlap: one tap for each input channel.
        taps = 1 if isinstance(module, nn.ConvTranspose2d) else math.prod(module.kernel_size)
        nn.init.normal_(module.weight, std=math.sqrt(2 / (module.in_channels * taps)))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
