"""U-Net whose segmentation maps of several scales are enlarged and added up."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, checked_choice, checked_widths, crop_to, pad_to_multiple
from medseg.nets.blocks import DoubleConv, UpStage, layer
from medseg.nets.unet import Encoder


class AddStage(nn.Module):
    """One decoder stage that adds the skip instead of putting it beside the enlarged map.

    Args:
        deep: channels of the coarser map.
        skip: channels of the skip and of the result.
        norm: ``batch``, ``instance`` or ``group``.
        spatial_dims: 2 or 3.
    """

    def __init__(self, deep: int, skip: int, *, norm: str = "batch", spatial_dims: int = 2) -> None:
        super().__init__()
        self.up = layer("ConvTranspose", spatial_dims)(deep, skip, 2, stride=2)
        self.convs = DoubleConv(skip, skip, norm=norm, spatial_dims=spatial_dims)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Return features (B, skip, *S) from the coarser map (B, deep, *S / 2) and the skip (B, skip, *S)."""
        return self.convs(skip + self.up(deep))


class KayalibayNet(nn.Module):
    """Network of Kayalibay, Jensen and van der Smagt (2017, arXiv:1701.03056), for pictures and for volumes.

    Published: an encoder and decoder in the manner of the U-Net with three-dimensional filters, and two changes of it:
    segmentation maps made at several scales are combined into one, and features may be passed on by adding instead of
    concatenating them.

    The maps of the finest ``scales`` decoder levels come from 1x1 convolutions. From the coarsest on, the sum so far is
    enlarged twice (bi- or trilinearly) and the next finer map is added; the last sum is the answer, so every scale is
    supervised through it.

    Our reading: the number of scales, and the layers around the two changes, which are those of this package's U-Net
    (two convolutions a level with normalisation and ReLU, max pooling, transposed convolutions). The authors train with
    a loss from the Jaccard index.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        widths: channels per level, finest first.
        scales: how many decoder levels give a map, from the finest; at most one less than the widths.
        skips: ``concatenate`` or ``add``.
        norm: ``batch``, ``instance`` or ``group``.
        dropout: probability of dropping a feature map of the deepest level.
        spatial_dims: 2 for pictures and slices, 3 for volumes.

    Raises:
        ConfigError: unknown norm or skips, fewer than two widths, scales that are not there; in ``forward``, another
            number of channels.
    """

    READING = "our reading: the number of scales and the layers around the added maps, taken from the U-Net"
    HEAD = ("heads",)

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int] = (32, 64, 128, 256),
        scales: int = 3,
        skips: str = "concatenate",
        norm: str = "batch",
        dropout: float = 0.0,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        self.in_channels, self.spatial_dims = in_channels, spatial_dims
        self.widths = checked_widths(widths, least=2, net="KayalibayNet")
        self.stride = 2 ** (len(self.widths) - 1)
        if not 1 <= scales < len(self.widths):
            raise ConfigError(
                f"net.scales={scales}: give 1 to {len(self.widths) - 1}, one less than net.widths at most."
            )
        same: dict[str, Any] = {"norm": norm, "spatial_dims": spatial_dims}
        self.encoder = Encoder(in_channels, self.widths, dropout=dropout, **same)
        beside = checked_choice(skips, ["concatenate", "add"], key="skips") == "concatenate"
        self.stages = nn.ModuleList(
            UpStage(deep, skip, skip, **same) if beside else AddStage(deep, skip, **same)
            for skip, deep in pairwise(self.widths)
        )
        head = layer("Conv", spatial_dims)
        self.heads = nn.ModuleList(head(width, num_classes, 1) for width in self.widths[:scales])
        self.enlarge = nn.Upsample(scale_factor=2, mode="bilinear" if spatial_dims == 2 else "trilinear")

    def maps(self, image: Tensor) -> list[Tensor]:
        """Return each scale's own logits (B, K, *S / 2^scale), finest first, of an image that fits the stride."""
        *skips, deep = self.encoder(image)
        maps: list[Tensor] = []
        for level in reversed(range(len(skips))):
            deep = self.stages[level](deep, skips[level])
            if level < len(self.heads):
                maps.insert(0, self.heads[level](deep))
        return maps

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, *S) of images (B, C, *S) of any size."""
        check_channels(image, self.in_channels, net="KayalibayNet", spatial_dims=self.spatial_dims)
        *finer, total = self.maps(pad_to_multiple(image, self.stride))
        for logits in reversed(finer):
            total = logits + self.enlarge(total)
        return crop_to(total, image.shape[2:])
