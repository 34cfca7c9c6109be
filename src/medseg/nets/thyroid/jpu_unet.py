"""U-Net with joint pyramid up-sampling of its three deepest levels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg.nets.adapters import check_channels, checked_choice, checked_widths, crop_to, pad_to_multiple
from medseg.nets.blocks import ConvBlock, resize
from medseg.nets.unet import WIDTHS, Encoder, up_stages

DILATIONS = (1, 2, 4, 8)


class SeparableConv(nn.Sequential):
    """Dilated depthwise 3x3 convolution and normalisation, then a 1x1 :class:`~medseg.nets.blocks.ConvBlock`.

    Args:
        inputs: input channels.
        outputs: output channels.
        dilation: distance between kernel taps.
        norm: ``batch``, ``instance`` or ``group``.
    """

    def __init__(self, inputs: int, outputs: int, *, dilation: int, norm: str = "batch") -> None:
        depthwise = ConvBlock(inputs, inputs, dilation=dilation, groups=inputs, norm=norm, activation=False)
        super().__init__(depthwise, ConvBlock(inputs, outputs, kernel=1, norm=norm))


class JointPyramidUpsampling(nn.Module):
    """Joint pyramid up-sampling of Wu, Zhang, Huang, Liang and Yu ("FastFCN", arXiv:1903.11816, 2019).

    Each level goes through a 3x3 convolution to ``width`` channels; the coarser ones are resized to the finest; four
    separable convolutions with dilations 1, 2, 4, 8 look at all of them and their results are stacked.

    Args:
        channels: channels of the levels, finest first.
        width: channels of each branch.
        norm: ``batch``, ``instance`` or ``group``.
    """

    def __init__(self, channels: Sequence[int], width: int, *, norm: str = "batch") -> None:
        super().__init__()
        self.inlets = nn.ModuleList(ConvBlock(inputs, width, norm=norm) for inputs in channels)
        self.branches = nn.ModuleList(
            SeparableConv(len(channels) * width, width, dilation=dilation, norm=norm) for dilation in DILATIONS
        )

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Return (B, 4 width, H, W) on the grid of the first, finest level."""
        grid = levels[0].shape[-2:]
        joined = torch.cat(
            [resize(inlet(level), grid) for inlet, level in zip(self.inlets, levels, strict=True)], dim=1
        )
        return torch.cat([branch(joined) for branch in self.branches], dim=1)


class JPUUNet(nn.Module):
    """Joint up-sampling U-Net: a reading of a row of a review's table whose original paper could not be identified.

    Published, in a review only: U-Net is the backbone; joint up-sampling improves the use of global context and the
    localisation; the network is heavier and slower than U-Net. The paper that the review cites for it describes another
    network. The joint pyramid up-sampling module itself is public (FastFCN, arXiv:1903.11816).

    Our reading: everything else. The module works on the three deepest encoder levels (strides 4, 8 and 16 with the
    default depth). ``augment`` keeps the U-Net whole, puts the module's map beside the decoder's map of the same level
    and reduces both by a 3x3 convolution; only this is heavier than U-Net (35,086,145 parameters against 31,036,481,
    one channel to one class). ``replace`` feeds the module's map, reduced, to the finer decoder stages instead of the
    coarser ones (23,023,681). The review's scores are not to be expected of it.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        widths: channels per level, finest first; at least three.
        width: channels of each branch of the module, by default ``widths[1]`` (128 of 64..1024).
        mode: ``augment`` or ``replace``.
        norm: ``batch``, ``instance`` or ``group``.
        dropout: probability of dropping a feature map of the deepest level.

    Raises:
        ConfigError: unknown mode or norm, fewer than three widths; in ``forward``, another number of channels.
    """

    READING = "our reading: FastFCN's joint pyramid up-sampling on a U-Net; the original paper is unidentified"

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int] = WIDTHS,
        width: int | None = None,
        mode: str = "augment",
        norm: str = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.mode = checked_choice(mode, ["augment", "replace"], key="mode")
        self.widths = checked_widths(widths, least=3, net="JPUUNet")
        self.stride = 2 ** (len(self.widths) - 1)
        self.level = len(self.widths) - 3  # the finest of the three that the module sees
        width = width or self.widths[1]
        kept = self.widths[self.level]
        self.encoder = Encoder(in_channels, self.widths, norm=norm, dropout=dropout)
        self.jpu = JointPyramidUpsampling(self.widths[self.level :], width, norm=norm)
        beside = kept if mode == "augment" else 0
        self.reduce = ConvBlock(beside + len(DILATIONS) * width, kept, norm=norm)
        self.stages = up_stages(self.widths if mode == "augment" else self.widths[: self.level + 1], norm=norm)
        self.head = nn.Conv2d(self.widths[0], num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of images (B, C, H, W) of any size."""
        check_channels(image, self.in_channels, net="JPUUNet")
        levels = self.encoder(pad_to_multiple(image, self.stride))
        joint = self.jpu(levels[self.level :])
        decoded = levels[-1]
        if self.mode == "augment":
            for number in (self.level + 1, self.level):
                decoded = self.stages[number](decoded, levels[number])
            joint = torch.cat([decoded, joint], dim=1)
        decoded = self.reduce(joint)
        for number in reversed(range(self.level)):
            decoded = self.stages[number](decoded, levels[number])
        return crop_to(self.head(decoded), image.shape[-2:])
