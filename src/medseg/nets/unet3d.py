"""3D U-Net with valid convolutions, learnt from a few annotated slices, and its tile arithmetic."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, checked_choice, checked_widths, crop_to, pad_to_multiple

WIDTHS = (64, 128, 256, 512)
"""Channels that leave each level of the published network, finest first."""

LOSS = 4
"""Voxels that the two valid convolutions of a level take from every side length."""


def margin(poolings: int) -> int:
    """Return how many voxels the valid network takes from each side of every axis: 44 with three poolings."""
    scale = 2**poolings
    return (LOSS * scale + 2 * LOSS * (scale - 1)) // 2


def tile_side(side: int, poolings: int) -> int:
    """Return the side of the smallest tile whose answer covers ``side`` voxels; only some sides pool evenly.

    Args:
        side: voxels that must be answered along an axis.
        poolings: of the network.
    """
    scale = 2**poolings
    bottom = -(-(side + LOSS * (scale - 1)) // scale) + LOSS
    return scale * bottom + LOSS * (scale - 1)


def mirrored(image: Tensor, before: int, tile: Sequence[int]) -> Tensor:
    """Return the image with its mirror images around it, as often as it takes, without repeating the border.

    Args:
        image: (B, C, *S).
        before: voxels put before each axis.
        tile: sides of the result.
    """
    for axis, (side, whole) in enumerate(zip(image.shape[2:], tile, strict=True), start=2):
        period = max(2 * (side - 1), 1)
        place = torch.arange(-before, whole - before, device=image.device) % period
        image = image.index_select(axis, torch.where(place < side, place, period - place))
    return image


class DoubleConv3d(nn.Sequential):
    """Two 3x3x3 convolutions with bias, each with batch normalisation and ReLU.

    Args:
        inputs: input channels.
        between: channels between the two.
        outputs: output channels.
        padding: 0 for valid convolutions, 1 for those that keep the size.
    """

    def __init__(self, inputs: int, between: int, outputs: int, *, padding: int) -> None:
        layers: list[nn.Module] = []
        for before, after in pairwise([inputs, between, outputs]):
            layers += [nn.Conv3d(before, after, 3, padding=padding), nn.BatchNorm3d(after), nn.ReLU(inplace=True)]
        super().__init__(*layers)


class Synthesis(nn.Module):
    """One step up: 2x2x2 up-convolution that keeps the channels, the middle of the skip beside it, two convolutions.

    Args:
        deep: channels of the coarser map.
        skip: channels of the skip and of the result.
        padding: of the convolutions.
    """

    def __init__(self, deep: int, skip: int, *, padding: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(deep, deep, 2, stride=2, bias=False)
        self.convs = DoubleConv3d(deep + skip, skip, skip, padding=padding)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Return features (B, skip, *S) on the up-sampled grid, less what valid convolutions take."""
        risen = self.up(deep)
        for axis in range(2, skip.ndim):
            start = (skip.shape[axis] - risen.shape[axis]) // 2
            skip = skip.narrow(axis, start, risen.shape[axis])
        return self.convs(torch.cat([skip, risen], dim=1))


class UNet3D(nn.Module):
    """3D U-Net of Cicek, Abdulkadir, Lienkamp, Brox and Ronneberger (MICCAI 2016, arXiv:1606.06650).

    Three poolings; each level doubles its channels in its second convolution, before the pooling. The paper states
    19,069,955 parameters; three input channels, three classes, biases in the convolutions, none in the up-convolutions
    and batch-norm factors left out give exactly that number (19,074,627 with the factors).

    With ``padding="valid"``, as published, a tile of 132x132x116 voxels answers 44x44x28; an image is answered at its
    own size through 44 voxels of its mirror image on each side and a few more behind it to a side that pools evenly.
    A small patch costs much more than its own volume then; ``same`` pads the convolutions instead. Learning from a
    few annotated slices takes no more than masks that are ``IGNORE`` elsewhere, which ``split=sparse_slices`` makes of
    dense ones: every loss here leaves those voxels out, and ``loss=cross_entropy`` with class weights is the loss of
    the paper. Batch 1 works in train mode too.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        widths: channels that leave each level, finest first; even.
        padding: ``valid`` or ``same``.
        spatial_dims: 3.

    Raises:
        ConfigError: unknown padding, widths that are odd or too few, other axes; in ``forward``, another number of
            channels.
    """

    READING = ""
    ENCODER = ("levels",)

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int] = WIDTHS,
        padding: str = "valid",
        spatial_dims: int = 3,
    ) -> None:
        super().__init__()
        if spatial_dims != 3:
            raise ConfigError(
                f"net.spatial_dims={spatial_dims}: UNet3D is for volumes; take net=unet, or view=default."
            )
        self.widths = checked_widths(widths, least=2, net="UNet3D")
        if any(width % 2 for width in self.widths):
            raise ConfigError(f"net.widths={list(self.widths)}: UNet3D halves them within a level; give even numbers.")
        self.in_channels, self.spatial_dims = in_channels, spatial_dims
        self.valid = checked_choice(padding, ["valid", "same"], key="padding") == "valid"
        around = 0 if self.valid else 1
        self.poolings = len(self.widths) - 1
        self.levels = nn.ModuleList(
            DoubleConv3d(inputs, outputs // 2, outputs, padding=around)
            for inputs, outputs in pairwise([in_channels, *self.widths])
        )
        self.pool = nn.MaxPool3d(2)
        self.stages = nn.ModuleList(Synthesis(deep, skip, padding=around) for skip, deep in pairwise(self.widths))
        self.head = nn.Conv3d(self.widths[0], num_classes, 1)

    def tile(self, image: Tensor) -> Tensor:
        """Return logits of a tile whose sides pool evenly; a valid network answers its middle only.

        Args:
            image: (B, C, D, H, W), for a valid network at least ``tile_side(1, poolings)`` voxels a side.
        """
        features = [self.levels[0](image)]
        for level in self.levels[1:]:
            features.append(level(self.pool(features[-1])))
        *skips, deep = features
        for stage, skip in zip(reversed(self.stages), reversed(skips), strict=True):
            deep = stage(deep, skip)
        return self.head(deep)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, D, H, W) of images (B, C, D, H, W) of any size."""
        check_channels(image, self.in_channels, net="UNet3D", spatial_dims=3)
        if self.valid:
            sides = [tile_side(side, self.poolings) for side in image.shape[2:]]
            whole = mirrored(image, margin(self.poolings), sides)
        else:
            whole = pad_to_multiple(image, 2**self.poolings)
        return crop_to(self.tile(whole), image.shape[2:])
