"""MSAC-Unet: a U-Net whose levels look at three receptive fields and weigh them."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg.nets.adapters import check_channels, checked_widths, crop_to, pad_to_multiple
from medseg.nets.blocks import ConvBlock
from medseg.nets.unet import WIDTHS

SCALES = 3
"""Receptive fields that one block compares: 3, 5 and 7 pixels a side."""


class ScaleAttention(nn.Module):
    """Weigh the scales of one image against each other, from the means of all their channels.

    Args:
        channels: of all scales together.
        scales: how many there are.
    """

    def __init__(self, channels: int, scales: int = SCALES) -> None:
        super().__init__()
        squeezed = max(channels // 16, 32)  # fewer can all be dead behind the ReLU, as the means hardly differ
        # Without normalisation: one number an image and channel has no variance.
        self.squeeze, self.score = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, scales, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return weights (B, scales, 1, 1), their sum 1, for maps (B, C_scale, H, W) of every scale."""
        means = torch.cat([features.mean(dim=(-2, -1), keepdim=True) for features in maps], dim=1)
        return torch.softmax(self.score(F.relu(self.squeeze(means))), dim=1)


class MultiscaleAttention(nn.Module):
    """Multiscale attentional convolution: three convolutions in a row, all three results side by side, weighed.

    A half, a quarter and a quarter of the channels come from the first, second and third convolution. Each part is
    multiplied by three times its scale's weight, so equal weights change nothing; a 1x1 convolution mixes the parts,
    and a 1x1 projection of the input is added before the last ReLU.

    Args:
        inputs: input channels.
        outputs: output channels.
        norm: ``batch``, ``instance`` or ``group``.
    """

    def __init__(self, inputs: int, outputs: int, *, norm: str = "batch") -> None:
        super().__init__()
        parts = [outputs // 2, outputs // 4, outputs - outputs // 2 - outputs // 4]
        self.cascade = nn.ModuleList(
            ConvBlock(before, after, norm=norm) for before, after in pairwise([inputs, *parts])
        )
        self.attention = ScaleAttention(outputs)
        self.mix = ConvBlock(outputs, outputs, kernel=1, norm=norm, activation=False)
        self.shortcut = ConvBlock(inputs, outputs, kernel=1, norm=norm, activation=False)

    def scales(self, features: Tensor) -> list[Tensor]:
        """Return the maps of the three receptive fields, the smallest first."""
        maps: list[Tensor] = []
        for block in self.cascade:
            maps.append(block(maps[-1] if maps else features))
        return maps

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, outputs, H, W)."""
        maps = self.scales(features)
        weights = SCALES * self.attention(maps)
        weighed = [one * weights[:, number : number + 1] for number, one in enumerate(maps)]
        return F.relu(self.mix(torch.cat(weighed, dim=1)) + self.shortcut(features))


class MSACUNet(nn.Module):
    """MSAC-Unet of Wang, Zhou, Fu, Shen and Bai (Ultrasonic Imaging 45(4):159-174, 2023).

    Published in its abstract: multiscale attentional convolution, cascaded convolutions and self-attention that join
    features of several receptive fields, stands in every encoder and decoder level of a U-Net instead of the standard
    convolution.

    Our reading: the inside of that block (:class:`MultiscaleAttention`), one block in place of a level's two
    convolutions, and as the attention one weight per scale and image, a softmax over the scales.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        widths: channels per level, finest first.
        norm: ``batch``, ``instance`` or ``group``.
        dropout: probability of dropping a feature map of the deepest level.

    Raises:
        ConfigError: unknown norm, fewer than two widths; in ``forward``, another number of channels.
    """

    READING = "our reading: the inside of the multiscale attentional convolution, one in place of two convolutions"

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int] = WIDTHS,
        norm: str = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_channels, self.spatial_dims = in_channels, 2
        self.widths = checked_widths(widths, least=2, net="MSACUNet")
        self.stride = 2 ** (len(self.widths) - 1)
        self.encoder = nn.ModuleList(
            MultiscaleAttention(inputs, width, norm=norm) for inputs, width in pairwise([in_channels, *self.widths])
        )
        self.pool, self.dropout = nn.MaxPool2d(2), nn.Dropout2d(dropout)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(deep, skip, 2, stride=2) for skip, deep in pairwise(self.widths))
        self.decoder = nn.ModuleList(MultiscaleAttention(2 * skip, skip, norm=norm) for skip in self.widths[:-1])
        self.head = nn.Conv2d(self.widths[0], num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of images (B, C, H, W) of any size."""
        check_channels(image, self.in_channels, net="MSACUNet")
        skips = [self.encoder[0](pad_to_multiple(image, self.stride))]
        for level in self.encoder[1:]:
            skips.append(level(self.pool(skips[-1])))
        deep = self.dropout(skips.pop())
        for up, level in zip(reversed(self.ups), reversed(self.decoder), strict=True):
            deep = level(torch.cat([skips.pop(), up(deep)], dim=1))
        return crop_to(self.head(deep), image.shape[-2:])
