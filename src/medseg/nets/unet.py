"""U-Net with same padding and normalisation."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from medseg.nets.adapters import check_channels, checked_widths, crop_to, pad_to_multiple
from medseg.nets.blocks import DoubleConv, ResidualConv, UpStage

WIDTHS = (64, 128, 256, 512, 1024)
"""Channels per level of the published U-Net, finest first."""


class Encoder(nn.Module):
    """The contracting path: two convolutions a level, 2x2 max pooling between levels.

    Args:
        in_channels: image channels C.
        widths: channels per level, finest first.
        norm: ``batch``, ``instance`` or ``group``.
        dropout: probability of dropping a whole feature map of the deepest level.
        residual: whether each level adds a 1x1 projection of its input before the last ReLU.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        *,
        norm: str = "batch",
        dropout: float = 0.0,
        residual: bool = False,
    ) -> None:
        super().__init__()
        block = ResidualConv if residual else DoubleConv
        self.levels = nn.ModuleList(
            block(inputs, outputs, norm=norm) for inputs, outputs in pairwise([in_channels, *widths])
        )
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features of every level, finest first; level k has sides H / 2^k, W / 2^k."""
        features = [self.levels[0](image)]
        for level in self.levels[1:]:
            features.append(level(self.pool(features[-1])))
        return [*features[:-1], self.dropout(features[-1])]


def up_stages(widths: Sequence[int], *, norm: str = "batch") -> nn.ModuleList:
    """Return the transposed decoder stages that mirror an :class:`Encoder`, finest first."""
    return nn.ModuleList(UpStage(deep, skip, skip, norm=norm) for skip, deep in pairwise(widths))


class UNet(nn.Module):
    """U-Net of Ronneberger, Fischer and Brox (MICCAI 2015, arXiv:1505.04597) in its usual modern form.

    The form differs from the paper in padding the convolutions, so that output and input have one size, and in
    normalising after each of them. Four poolings with the default widths; 31,037,698 parameters from 3 channels to 2
    classes, as the widely used PyTorch port has. Images whose sides do not divide by the stride are padded by
    repeating the last row and column, and the logits are cropped.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        widths: channels per level, finest first; their number is the depth.
        norm: ``batch``, ``instance`` or ``group``.
        up: ``transpose`` for learnt 2x2 up-convolutions, ``bilinear`` for half the bottom's width and resizing.
        dropout: probability of dropping a feature map at the end of the contracting path.

    Raises:
        ConfigError: unknown norm or up, fewer than two widths; in ``forward``, another number of channels.
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
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.widths = checked_widths(widths, least=2, net="UNet")
        self.stride = 2 ** (len(self.widths) - 1)
        *skips, bottom = self.widths
        if up == "transpose":
            incoming, results = [*skips[1:], bottom], skips
        else:  # resizing keeps the channels: each map arrives with as many as the skip that it meets
            incoming, results = skips, [skips[0], *skips[:-1]]
        self.encoder = Encoder(in_channels, [*skips, incoming[-1]], norm=norm, dropout=dropout)
        self.stages = nn.ModuleList(
            UpStage(deep, skip, result, norm=norm, up=up)
            for deep, skip, result in zip(incoming, skips, results, strict=True)
        )
        self.head = nn.Conv2d(skips[0], num_classes, 1)

    def features(self, image: Tensor) -> Tensor:
        """Return the finest decoder features (B, widths[0], H, W) of an image whose sides divide by the stride."""
        *skips, deep = self.encoder(image)
        for stage, skip in zip(reversed(self.stages), reversed(skips), strict=True):
            deep = stage(deep, skip)
        return deep

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of images (B, C, H, W) of any size."""
        check_channels(image, self.in_channels, net="UNet")
        logits = self.head(self.features(pad_to_multiple(image, self.stride)))
        return crop_to(logits, image.shape[-2:])
