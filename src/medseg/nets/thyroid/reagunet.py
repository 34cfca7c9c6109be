"""ReAgU-Net: a U-Net whose skips pass a residual unit and an attention gate."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg.nets.adapters import check_channels, checked_widths, crop_to, pad_to_multiple
from medseg.nets.blocks import ConvBlock, normalisation, resize
from medseg.nets.unet import WIDTHS, Encoder, up_stages


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions with an identity shortcut; ReLU after the sum.

    With the last normalisation's scale and shift at zero, a map that has been through a ReLU passes unchanged.

    Args:
        channels: of input and output.
        norm: ``batch``, ``instance`` or ``group``.
    """

    def __init__(self, channels: int, *, norm: str = "batch") -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvBlock(channels, channels, norm=norm), ConvBlock(channels, channels, norm=norm, activation=False)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, channels, H, W)."""
        return F.relu(features + self.body(features))


class AttentionGate(nn.Module):
    """Additive attention gate of Oktay et al. (MIDL 2018, arXiv:1804.03999), in two dimensions.

    The skip, halved by a 2x2 convolution, and the coarser gating map meet in ``inter`` channels; the sigmoid of one
    number a place, resized to the skip, multiplies it; a 1x1 convolution with normalisation follows.

    Args:
        skip: channels of the fine map.
        gating: channels of the coarse map, on half the grid.
        inter: channels in which the two meet.
        norm: ``batch``, ``instance`` or ``group``.
    """

    def __init__(self, skip: int, gating: int, inter: int, *, norm: str = "batch") -> None:
        super().__init__()
        self.from_skip = nn.Conv2d(skip, inter, 2, stride=2, bias=False)
        self.from_gating = nn.Conv2d(gating, inter, 1)
        self.score = nn.Conv2d(inter, 1, 1)
        self.out = nn.Sequential(nn.Conv2d(skip, skip, 1), normalisation(norm, skip))

    def attention(self, skip: Tensor, gating: Tensor) -> Tensor:
        """Return the attention (B, 1, H, W), 0..1, for a skip (B, skip, H, W) and its gate (B, gating, H/2, W/2)."""
        meeting = F.relu(self.from_skip(skip) + self.from_gating(gating))
        return resize(torch.sigmoid(self.score(meeting)), skip.shape[-2:])

    def forward(self, skip: Tensor, gating: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gated skip (B, skip, H, W) and the attention (B, 1, H, W)."""
        attention = self.attention(skip, gating)
        return self.out(attention * skip), attention


class ReAgUNet(nn.Module):
    """ReAgU-Net: U-Net with residual units and attention gates in its skips.

    Ding, Huang, Shi and Ning, "Automatic Thyroid Ultrasound Image Segmentation Based on U-shaped Network", CISP-BMEI
    2019.

    Published: improved residual units stand in the skip connections between encoder and decoder, and attention gates
    multiply weight maps made from shallow and deep layers.

    Our reading: what "improved" means, and the gate. Each of the four skips passes one residual unit with identity
    shortcut, then a gate of Oktay's type whose gating map is the decoder's one level deeper, then meets the decoder.
    39,749,125 parameters from one channel to one class, 38,703,685 with half the gates' inner channels.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        widths: channels per level, finest first.
        inter: inner channels of a gate relative to its skip.
        residual_in: residual encoder levels too, with 1x1 projection shortcuts (700,352 parameters more).
        norm: ``batch``, ``instance`` or ``group``.
        dropout: probability of dropping a feature map of the deepest level.

    Raises:
        ConfigError: unknown norm, fewer than two widths; in ``forward``, another number of channels.
    """

    READING = "our reading: the inside of the residual unit and the type of the attention gate"

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int] = WIDTHS,
        inter: float = 1.0,
        residual_in: bool = False,
        norm: str = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.widths = checked_widths(widths, least=2, net="ReAgUNet")
        self.stride = 2 ** (len(self.widths) - 1)
        *skips, _ = self.widths
        self.encoder = Encoder(in_channels, self.widths, norm=norm, dropout=dropout, residual=residual_in)
        self.units = nn.ModuleList(ResidualUnit(skip, norm=norm) for skip in skips)
        self.gates = nn.ModuleList(
            AttentionGate(skip, deep, max(int(inter * skip), 1), norm=norm)
            for skip, deep in zip(skips, self.widths[1:], strict=True)
        )
        self.stages = up_stages(self.widths, norm=norm)
        self.head = nn.Conv2d(skips[0], num_classes, 1)

    def _decode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return padded logits and the attention of each level, finest first."""
        *skips, deep = self.encoder(pad_to_multiple(image, self.stride))
        attentions: list[Tensor] = []
        for number in reversed(range(len(skips))):
            gated, attention = self.gates[number](self.units[number](skips[number]), deep)
            deep = self.stages[number](deep, gated)
            attentions.insert(0, attention)
        return self.head(deep), attentions

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of images (B, C, H, W) of any size."""
        check_channels(image, self.in_channels, net="ReAgUNet")
        return crop_to(self._decode(image)[0], image.shape[-2:])

    def attention_maps(self, image: Tensor) -> list[Tensor]:
        """Return the attention of each gate (B, 1, H, W), 0..1, finest level first, resized to the image."""
        check_channels(image, self.in_channels, net="ReAgUNet")
        logits, attentions = self._decode(image)
        return [crop_to(resize(attention, logits.shape[-2:]), image.shape[-2:]) for attention in attentions]
