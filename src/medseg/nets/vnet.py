"""V-Net in two forms: as released, from a library, and as drawn in the paper."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, checked_choice, checked_widths, crop_to, pad_to_multiple
from medseg.nets.blocks import layer

WIDTHS = (16, 32, 64, 128, 256)
"""Channels of each stage of the drawn network, finest first."""

MOST_CONVS = 3
"""Stages take 1, 2, 3, 3, 3 convolutions, finest first, down and up alike."""


class VNet(nn.Module):
    """V-Net of Milletari, Navab and Ahmadi (3DV 2016, arXiv:1606.04797) as released: MONAI's ``VNet``.

    The authors' released network takes 1, 1, 2, 3, 2 convolutions down and 2, 2, 1, 1 up, fewer than the figure of the
    paper; the library follows it, adds batch normalisation, and has 45,597,930 parameters for one channel and two
    classes with one slope per activation. The library wants a number of channels that divides 16: others are
    completed with empty channels. Its widths are fixed. Batch >= 2 in train mode with very small images.

    Args:
        in_channels: image channels C, at most 16.
        num_classes: classes K.
        spatial_dims: 3, or 2 for the same layers on pictures.
        slopes: ``shared``: one learnt negative slope per activation; ``channel``: one for each channel.
        dropout: probability of dropping a feature map where the library drops some: around the bottom, in the skips.

    Raises:
        ConfigError: more than 16 channels, unknown slopes, dropout out of range; in ``forward``, another number of
            channels.
    """

    READING = ""
    ENCODER = ("model.in_tr", *(f"model.down_tr{width}" for width in (32, 64, 128, 256)))
    HEAD = ("model.out_tr",)
    STRIDE = 16

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 3,
        slopes: str = "shared",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        from monai.networks.nets import VNet as Library

        layer("Conv", spatial_dims)
        checked_choice(slopes, ["shared", "channel"], key="slopes")
        if not 0 <= dropout < 1:
            raise ConfigError(f"net.dropout={dropout}: give a probability from 0 to below 1.")
        taken = next((count for count in (1, 2, 4, 8, 16) if count >= in_channels), None)
        if taken is None:
            raise ConfigError(f"net.in_channels={in_channels}: VNet repeats them to 16; take 16 at most or vnet_paper.")
        self.in_channels, self.spatial_dims, self.empty = in_channels, spatial_dims, taken - in_channels
        self.model = Library(
            spatial_dims=spatial_dims,
            in_channels=taken,
            out_channels=num_classes,
            act="prelu" if slopes == "channel" else ("prelu", {"num_parameters": 1}),
            dropout_prob_down=dropout,
            dropout_prob_up=(dropout, dropout),
        )
        # The library keeps 0.5 in the skips of the two finest stages whatever it is told, and in 2D drops whole
        # pictures of the batch: its layer is always the one for volumes.
        maps = layer("Dropout", spatial_dims)
        for stage in self.model.children():
            for name, part in list(stage.named_children()):
                if isinstance(part, nn.Dropout3d):
                    setattr(stage, name, maps(dropout))

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, *S) of images (B, C, *S) of any size."""
        check_channels(image, self.in_channels, net="VNet", spatial_dims=self.spatial_dims)
        whole = pad_to_multiple(image, self.STRIDE)
        if self.empty:
            whole = torch.cat([whole, whole.new_zeros(len(whole), self.empty, *whole.shape[2:])], dim=1)
        return crop_to(self.model(whole), image.shape[2:])


class Stage(nn.Module):
    """Convolutions with side 5; what entered is added before the last activation.

    Args:
        channels: of result and convolutions.
        inputs: channels that enter; fewer than ``channels`` are repeated in turn for the sum.
        convs: number of convolutions.
        norm: ``none`` or ``batch``.
        spatial_dims: 2 or 3.
    """

    def __init__(self, channels: int, *, inputs: int, convs: int, norm: str, spatial_dims: int) -> None:
        super().__init__()
        entering = [inputs, *[channels] * (convs - 1)]
        conv = layer("Conv", spatial_dims)
        self.convs = nn.ModuleList(conv(before, channels, 5, padding=2) for before in entering)
        self.norms = nn.ModuleList(_norm(norm, channels, spatial_dims) for _ in entering)
        self.slopes = nn.ModuleList(nn.PReLU(channels) for _ in entering)
        self.register_buffer("repeated", torch.arange(channels) % inputs, persistent=False)

    repeated: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, channels, *S) of features (B, inputs, *S)."""
        result, last = features, len(self.convs) - 1
        for number, (conv, norm, slope) in enumerate(zip(self.convs, self.norms, self.slopes, strict=True)):
            result = norm(conv(result))
            if number == last:
                result = result + features.index_select(1, self.repeated)
            result = slope(result)
        return result


def _norm(kind: str, channels: int, spatial_dims: int) -> nn.Module:
    return layer("BatchNorm", spatial_dims)(channels) if kind == "batch" else nn.Identity()


class Resampling(nn.Sequential):
    """A 2x2x2 convolution of stride 2, or a transposed one, with PReLU.

    Args:
        name: ``Conv`` to halve the grid, ``ConvTranspose`` to double it.
        inputs: input channels.
        outputs: output channels.
        norm: ``none`` or ``batch``.
        spatial_dims: 2 or 3.
    """

    def __init__(self, name: str, inputs: int, outputs: int, *, norm: str, spatial_dims: int) -> None:
        conv = layer(name, spatial_dims)(inputs, outputs, 2, stride=2)
        super().__init__(conv, _norm(norm, outputs, spatial_dims), nn.PReLU(outputs))


class VNetPaper(nn.Module):
    """V-Net of Milletari, Navab and Ahmadi (3DV 2016, arXiv:1606.04797) as the paper's figure draws it.

    1, 2, 3, 3, 3 convolutions of side 5 per stage on the way down and 3, 3, 2, 1 on the way up; each stage adds its
    input to the output of its last convolution; strided convolutions between stages; PReLU with one slope a channel; on
    the way up a stage takes the skip and as many up-sampled channels. 65,175,314 parameters for one channel and two
    classes, 65,182,226 with batch normalisation, which the paper does not mention. The soft Dice of the paper, with
    squares in the denominator, is a matter of the loss. Batch 1 works in train mode without normalisation.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        widths: channels per stage, finest first; their number is the depth.
        norm: ``none`` as drawn, or ``batch`` before each activation and sum.
        spatial_dims: 3, or 2 for the same layers on pictures.

    Raises:
        ConfigError: unknown norm, fewer than two widths, a first width below the channels; in ``forward``, another
            number of channels.
    """

    READING = (
        "several image channels are repeated in turn for the first residual sum; PReLU follows each convolution and, "
        "at the end of a stage, the sum"
    )

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int] = WIDTHS,
        norm: str = "none",
        spatial_dims: int = 3,
    ) -> None:
        super().__init__()
        self.in_channels, self.spatial_dims = in_channels, spatial_dims
        self.widths = checked_widths(widths, least=2, net="VNetPaper")
        checked_choice(norm, ["none", "batch"], key="norm")
        if in_channels > self.widths[0]:
            raise ConfigError(
                f"net.widths={list(self.widths)}: the first stage of VNetPaper adds the {in_channels} image channels "
                "to its own; give it at least as many."
            )
        convs = [min(number, MOST_CONVS) for number in range(1, len(self.widths) + 1)]
        self.left = nn.ModuleList(
            Stage(width, inputs=inputs, convs=count, norm=norm, spatial_dims=spatial_dims)
            for width, inputs, count in zip(self.widths, [in_channels, *self.widths[1:]], convs, strict=True)
        )
        self.downs = nn.ModuleList(
            Resampling("Conv", fine, coarse, norm=norm, spatial_dims=spatial_dims)
            for fine, coarse in pairwise(self.widths)
        )
        names = (f"{part}.{number}" for number in range(len(self.widths)) for part in ("left", "downs"))
        self.ENCODER = tuple(names)[:-1]  # behind the deepest stage nothing is halved
        # The map that rises is a stage's result: twice the skip's channels, and at the bottom the last width.
        rising = [*(2 * width for width in self.widths[1:-1]), self.widths[-1]]
        self.ups = nn.ModuleList(
            Resampling("ConvTranspose", deep, skip, norm=norm, spatial_dims=spatial_dims)
            for deep, skip in zip(rising, self.widths[:-1], strict=True)
        )
        self.right = nn.ModuleList(
            Stage(2 * skip, inputs=2 * skip, convs=count, norm=norm, spatial_dims=spatial_dims)
            for skip, count in zip(self.widths[:-1], convs[:-1], strict=True)
        )
        self.head = layer("Conv", spatial_dims)(2 * self.widths[0], num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, *S) of images (B, C, *S) of any size."""
        check_channels(image, self.in_channels, net="VNetPaper", spatial_dims=self.spatial_dims)
        features = [self.left[0](pad_to_multiple(image, 2 ** len(self.downs)))]
        for down, stage in zip(self.downs, self.left[1:], strict=True):
            features.append(stage(down(features[-1])))
        *skips, deep = features
        for up, stage, skip in zip(reversed(self.ups), reversed(self.right), reversed(skips), strict=True):
            deep = stage(torch.cat([up(deep), skip], dim=1))
        return crop_to(self.head(deep), image.shape[2:])
