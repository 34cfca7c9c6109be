"""PSPNet, and A-PSPNet, which weights its features by attention."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg.nets.adapters import checked_choice
from medseg.nets.blocks import ConvBlock, area_means, normalisation, resize
from medseg.nets.dilated import EXPANSION, WIDTHS, DilatedNet, dilated_resnet, fully_convolutional_head

BINS = (1, 2, 3, 6)
DROPOUT = 0.1
REDUCTION = 16
CELL_NORMS = ("group", "batch")
ATTENTIONS = ("none", "se", "cbam", "dual")


class PyramidPooling(nn.Module):
    """A map beside its means over 1, 2, 3 and 6 cells a side, each put through a 1x1 convolution and resized.

    Args:
        channels: C of the map; each mean gets a quarter of it.
        cell_norm: normalisation of the one-cell mean, which has no variance over a batch of one image.
    """

    def __init__(self, channels: int, *, cell_norm: str = "group") -> None:
        super().__init__()
        inner = channels // len(BINS)
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, inner, 1, bias=False),
                normalisation(cell_norm if bins == 1 else "batch", inner),
                nn.ReLU(inplace=True),
            )
            for bins in BINS
        )
        self.channels = channels + inner * len(BINS)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, 2 C, h, w) of maps (B, C, h, w)."""
        means = [branch(area_means(features, bins)) for branch, bins in zip(self.branches, BINS, strict=True)]
        return torch.cat([features, *(resize(mean, features.shape[-2:]) for mean in means)], dim=1)


class ChannelGate(nn.Module):
    """A number between 0 and 1 for each channel, from its mean over the map (squeeze and excitation).

    Hu et al., CVPR 2018, arXiv:1709.01507. With ``maximum`` the channel's largest value goes through the same two
    layers and the two are added, as in CBAM (Woo et al., ECCV 2018, arXiv:1807.06521).

    Args:
        channels: C.
        maximum: whether the largest value counts too.
    """

    def __init__(self, channels: int, *, maximum: bool) -> None:
        super().__init__()
        inner = max(channels // REDUCTION, 1)
        self.maximum = maximum
        self.inlet = nn.Linear(channels, inner)
        self.outlet = nn.Linear(inner, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C, 1, 1), 0..1, for maps (B, C, h, w)."""
        told = [features.mean((2, 3)), features.amax((2, 3))][: 2 if self.maximum else 1]
        return sum(self.outlet(F.relu(self.inlet(one))) for one in told).sigmoid()[:, :, None, None]


class SpatialGate(nn.Module):
    """A number between 0 and 1 for each place: a 7x7 convolution of the mean and the maximum over channels (CBAM)."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, 1, h, w), 0..1, for maps (B, C, h, w)."""
        told = torch.cat([features.mean(1, keepdim=True), features.amax(1, keepdim=True)], dim=1)
        return self.score(told).sigmoid()


class Attention(nn.Module):
    """Multiply a map by gates; with all gates at 1 it stays as it is.

    ``se``: channels. ``cbam``: channels, then places of the result. ``dual``: channels and places side by side, the
    two products averaged (as in concurrent squeeze and excitation, Roy et al., MICCAI 2018, arXiv:1803.02579, which
    takes their sum or maximum).

    Args:
        channels: C.
        kind: ``se``, ``cbam`` or ``dual``.
    """

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.channel = ChannelGate(channels, maximum=kind != "se")
        self.spatial = None if kind == "se" else SpatialGate()

    def forward(self, features: Tensor) -> Tensor:
        """Return a map (B, C, h, w)."""
        gated = features * self.channel(features)
        if self.spatial is None:
            return gated
        if self.kind == "cbam":
            return gated * self.spatial(gated)
        return (gated + features * self.spatial(features)) / 2


def attention_of(channels: int, kind: str) -> nn.Module:
    """Return the :class:`Attention` of a kind, or the identity for ``none``."""
    return nn.Identity() if kind == "none" else Attention(channels, kind)


class PyramidHead(nn.Sequential):
    """Pyramid pooling, a 3x3 convolution to a quarter of the map's channels, dropout, the logits.

    Args:
        channels: of the backbone's map.
        num_classes: classes K.
        cell_norm: see :class:`PyramidPooling`.
        kind: of the attention on the backbone's map and on the pyramid's.
    """

    def __init__(self, channels: int, num_classes: int, *, cell_norm: str, kind: str) -> None:
        pyramid = PyramidPooling(channels, cell_norm=cell_norm)
        fused = channels // 4
        super().__init__(
            attention_of(channels, kind),
            pyramid,
            attention_of(pyramid.channels, kind),
            ConvBlock(pyramid.channels, fused),
            nn.Dropout(DROPOUT),
            nn.Conv2d(fused, num_classes, 1),
        )


class PSPNet(DilatedNet):
    """PSPNet: a dilated ResNet, pooled to a pyramid of 1, 2, 3 and 6 cells a side.

    Zhao, Shi, Qi, Wang and Jia, "Pyramid Scene Parsing Network", CVPR 2017, arXiv:1612.01105.

    46,582,850 parameters with two classes, 48,943,172 with the auxiliary head on the third stage. Against the paper:
    the ResNet is torchvision's, with one 7x7 convolution in its stem instead of three 3x3; and where the pyramid
    pools to a single cell the normalisation is over groups of channels, because one cell of one image has no variance
    (``cell_norm=batch`` is the published one and needs 2 images a batch).

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        backbone: ``resnet50`` or ``resnet101``.
        layers: blocks of each stage; None: those of the backbone.
        widths: channels of the stem and inside the blocks of each stage.
        cell_norm: ``group`` or ``batch``, of the one-cell branch.
        aux: whether the auxiliary head is there; it is trained and never asked.
        aux_weight: of its loss; 0.4 as published.
        encoder_weights: None (random), or a local file with weights of the ResNet under torchvision's names. First
            convolutions are inflated.
        attention: ``none``; another kind makes it A-PSPNet, see :class:`APSPNet`.

    Raises:
        ConfigError: unknown backbone, norm or attention, widths or layers of another number, weights that do not fit;
            in ``forward``, another number of channels.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        backbone: str = "resnet50",
        layers: Sequence[int] | None = None,
        widths: Sequence[int] = WIDTHS,
        cell_norm: str = "group",
        aux: bool = True,
        aux_weight: float = 0.4,
        encoder_weights: str | None = None,
        attention: str = "none",
    ) -> None:
        checked_choice(attention, ATTENTIONS, key="attention")
        checked_choice(cell_norm, CELL_NORMS, key="cell_norm")
        trunk = dilated_resnet(in_channels, backbone=backbone, layers=layers, widths=widths, output_stride=8)
        *_, third, fourth = (EXPANSION * width for width in widths)
        super().__init__(
            in_channels,
            trunk,
            PyramidHead(fourth, num_classes, cell_norm=cell_norm, kind=attention),
            auxiliary=fully_convolutional_head(third, num_classes) if aux else None,
            aux_weight=aux_weight,
            stride=8,
            encoder_weights=encoder_weights,
            pools_to_cell=cell_norm == "batch",
        )


class APSPNet(PSPNet):
    """A-PSPNet: PSPNet with attention.

    Gao, Chen and Xie, Journal of CAEIT 15(6):518-523, 2020.

    Published, where it can be read: the title, and that attention is fused into PSPNet. Our reading: gates of CBAM
    (channels through a shared perceptron with reduction 16, then places through a 7x7 convolution) on the backbone's
    map before the pooling and on the pyramid's map before the last convolutions. With ``attention="none"`` it is
    :class:`PSPNet`, weight for weight.

    Args:
        attention: ``none``, ``se``, ``cbam`` or ``dual``, see :class:`Attention`.
        arguments: see :class:`PSPNet`.

    Raises:
        ConfigError: unknown attention, and see :class:`PSPNet`.
    """

    READING = "our reading: the kind of the attention and where it stands; public are the title and one line"

    def __init__(self, *, attention: str = "cbam", **arguments: Any) -> None:
        super().__init__(attention=attention, **arguments)
