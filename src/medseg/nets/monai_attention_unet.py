"""MONAI's Attention U-Net under the contract of the other nets."""

from collections.abc import Sequence

from torch import Tensor, nn

from medseg.nets.adapters import check_channels, checked_widths, crop_to, pad_to_multiple
from medseg.nets.blocks import layer
from medseg.nets.unet import WIDTHS


class MonaiAttentionUNet(nn.Module):
    """``monai.networks.nets.AttentionUnet``, which differs from the paper (Oktay et al. 2018) in six ways.

    Strided convolutions instead of pooling; gates after the up-convolution, on equal grids; gates on every level, the
    first too; normalisation within psi; merging convolutions with PReLU and instance normalisation; neither a
    convolution after a gate nor deep supervision. 31,739,250 parameters in 2D from one channel to two classes. For the
    paper's network see :class:`medseg.nets.attention_unet.AttentionUNet`.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        widths: channels per level, finest first.
        dropout: probability of dropping, in every convolution block.
        spatial_dims: 2 for pictures and slices, 3 for volumes.

    Raises:
        ConfigError: fewer than two widths, another number of axes; in ``forward``, another number of channels.
    """

    READING = ""
    HEAD = ("model.model.2",)

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int] = WIDTHS,
        dropout: float = 0.0,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        from monai.networks.nets import AttentionUnet

        layer("Conv", spatial_dims)  # refuses other numbers of axes
        self.in_channels, self.spatial_dims = in_channels, spatial_dims
        self.widths = checked_widths(widths, least=2, net="MonaiAttentionUNet")
        self.stride = 2 ** (len(self.widths) - 1)
        self.model = AttentionUnet(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=num_classes,
            channels=self.widths,
            strides=[2] * (len(self.widths) - 1),
            dropout=dropout,
        )
        # Each level lies within the one above it: a convolution and the next level, at the bottom a convolution alone.
        inside = ["model.model.1" + ".submodule.1" * depth + ".submodule" for depth in range(len(self.widths) - 1)]
        self.ENCODER = ("model.model.0", *(f"{name}.0" for name in inside[:-1]), inside[-1])

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, *S) of images (B, C, *S) of any size."""
        check_channels(image, self.in_channels, net="MonaiAttentionUNet", spatial_dims=self.spatial_dims)
        return crop_to(self.model(pad_to_multiple(image, self.stride)), image.shape[2:])
