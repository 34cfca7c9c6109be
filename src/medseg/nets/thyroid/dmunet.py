"""DMU-Net: a U-shaped and a mirrored network that learn from each other; the second one watches the margin."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg.nets.adapters import check_channels, checked_choice, checked_widths, crop_to, pad_to_multiple
from medseg.nets.blocks import ConvBlock, PyramidAttention, resize
from medseg.nets.unet import WIDTHS, Encoder, up_stages
from medseg.types import BranchOutput


class UBranch(nn.Module):
    """U-Net with pyramid attention at its bottom.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        widths: channels per level, finest first.
        norm: ``batch``, ``instance`` or ``group``.
    """

    def __init__(self, in_channels: int, num_classes: int, widths: Sequence[int], *, norm: str = "batch") -> None:
        super().__init__()
        self.encoder = Encoder(in_channels, widths, norm=norm)
        self.attention = PyramidAttention(widths[-1])
        self.stages = up_stages(widths, norm=norm)
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last features (B, widths[0], H, W) and logits (B, K, H, W); the sides divide by the stride."""
        *skips, deep = self.encoder(image)
        deep = self.attention(deep)
        for stage, skip in zip(reversed(self.stages), reversed(skips), strict=True):
            deep = stage(deep, skip)
        return deep, self.head(deep)


class MirroredBranch(nn.Module):
    """Inverted U: the grid grows on the way in and shrinks on the way out, with additive skips and a margin head.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        widths: channels of the three stages, from the image's own grid to the largest.
        norm: ``batch``, ``instance`` or ``group``.
        max_scale: how many times the image's side the grid may reach.
        large_side: from above this image side on, at most twice the side, to bound the memory.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int],
        *,
        norm: str = "batch",
        max_scale: int = 4,
        large_side: int = 256,
    ) -> None:
        super().__init__()
        self.max_scale, self.large_side = max_scale, large_side
        self.inward = nn.ModuleList(
            ConvBlock(inputs, outputs, norm=norm) for inputs, outputs in pairwise([in_channels, *widths])
        )
        outward = [*reversed(widths), widths[0]]
        self.outward = nn.ModuleList(ConvBlock(inputs, outputs, norm=norm) for inputs, outputs in pairwise(outward))
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        self.margin = nn.Sequential(ConvBlock(widths[0], widths[0], norm=norm), nn.Conv2d(widths[0], 1, 3, padding=1))
        self.correction = nn.Conv2d(1, num_classes, 1)

    def scales(self, side: int) -> list[int]:
        """Return how many times the image's grid each stage works on, for an image whose longer side is given."""
        most = min(self.max_scale, 2) if side > self.large_side else self.max_scale
        return [min(2**number, most) for number in range(len(self.inward))]

    def forward(self, image: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the last features (B, widths[0], H, W), logits (B, K, H, W) and margin logits (B, 1, H, W).

        Args:
            image: (B, C, H, W).
            side: longer side of the image before padding; it decides how large the grid may grow.
        """
        height, width = image.shape[-2:]
        scales = self.scales(side)
        skips, features = [], image
        for block, scale in zip(self.inward, scales, strict=True):
            features = resize(features, (height * scale, width * scale)) if scale > 1 else features
            features = block(features)
            skips.append(features)
        for number in reversed(range(1, len(scales))):
            features = self.outward[-number - 1](features)
            factor = scales[number] // scales[number - 1]
            features = F.max_pool2d(features, factor) if factor > 1 else features
            features = features + skips[number - 1]
        features = self.outward[-1](features)
        margin = self.margin(features)
        return features, self.head(features) + self.correction(torch.sigmoid(margin)), margin


class Aggregation(nn.Module):
    """Join the branches' last features: 3x3 convolution, a weight per channel from the whole image, 1x1 to K.

    Args:
        inputs: channels of both branches together.
        width: channels after the convolution.
        num_classes: classes K.
        norm: ``batch``, ``instance`` or ``group``.
    """

    def __init__(self, inputs: int, width: int, num_classes: int, *, norm: str = "batch") -> None:
        super().__init__()
        squeezed = max(width // 4, 1)
        self.join = ConvBlock(inputs, width, norm=norm)
        self.squeeze, self.excite = nn.Conv2d(width, squeezed, 1), nn.Conv2d(squeezed, width, 1)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (B, K, H, W) from maps on one grid."""
        joined = self.join(torch.cat(list(features), dim=1))
        mean = joined.mean(dim=(-2, -1), keepdim=True)
        return self.head(joined * torch.sigmoid(self.excite(F.relu(self.squeeze(mean)))))


class DMUNet(nn.Module):
    """DMU-Net: dual-route mirroring U-Net with mutual learning.

    Yang, Geng, Chen, Pang, Han, Lyu and Zhang, Biomed. Signal Process. Control 77:103805, 2022.

    Published in its abstract: a U-shaped and an inversed U-shaped sub-network; a pyramid attention module in one for
    context, a margin refinement module in the other for detail; an aggregation module joins them; mutual learning
    between the two, as in Deep Mutual Learning (Zhang et al., CVPR 2018).

    Our reading: all internals. "Inversed U" is taken as over-complete: three convolutions on one, two and four times
    the image's grid and the mirror image of them, two times at most for large images. Widths: half of ``widths`` in the
    U branch, a quarter, a half and the whole of ``widths[0]`` in the mirrored branch. The margin map is meant to be
    supervised by the morphological gradient of the mask; its sigmoid, through a 1x1 convolution, is added to the
    mirrored branch's logits, for one number added to all classes would change nothing.

    While training it returns a ``BranchOutput``, else the fused logits.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        widths: channels per level of the full-size U-Net that the branches' widths derive from, finest first.
        branches: ``both``, or one alone: ``u`` or ``mirrored``; its logits are then the fused ones.
        max_scale: how many times the image's side the mirrored branch's grid may reach: 1, 2 or 4.
        large_side: images with a longer side than this get at most twice their side.
        norm: ``batch``, ``instance`` or ``group``.

    Raises:
        ConfigError: unknown branches, norm or max_scale, fewer than two widths; in ``forward``, another number of
            channels.
    """

    READING = "our reading: all internals; inversed U taken as over-complete"
    ENCODER = ("u_branch.encoder", "mirrored_branch.inward")
    HEAD = (
        "u_branch.head", "mirrored_branch.head", "mirrored_branch.margin.1", "mirrored_branch.correction",
        "aggregation.head",
    )  # fmt: skip

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int] = WIDTHS,
        branches: str = "both",
        max_scale: int = 4,
        large_side: int = 256,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.branches = checked_choice(branches, ["both", "u", "mirrored"], key="branches")
        checked_choice(str(max_scale), ["1", "2", "4"], key="max_scale")
        full = checked_widths(widths, least=2, net="DMUNet")
        halves, mirrored = [width // 2 for width in full], [full[0] // 4, full[0] // 2, full[0]]
        self.stride = 2 ** (len(full) - 1)
        if branches != "mirrored":
            self.u_branch = UBranch(in_channels, num_classes, halves, norm=norm)
        if branches != "u":
            self.mirrored_branch = MirroredBranch(
                in_channels, num_classes, mirrored, norm=norm, max_scale=max_scale, large_side=large_side
            )
        if branches == "both":
            self.aggregation = Aggregation(halves[0] + mirrored[0], halves[0], num_classes, norm=norm)

    def _outputs(self, image: Tensor) -> BranchOutput:
        side = max(image.shape[-2:])
        padded = pad_to_multiple(image, self.stride)
        if self.branches == "u":
            return BranchOutput(fused=self.u_branch(padded)[1])
        mirrored_features, mirrored_logits, margin = self.mirrored_branch(padded, side)
        if self.branches == "mirrored":
            return BranchOutput(fused=mirrored_logits, margin=margin)
        u_features, u_logits = self.u_branch(padded)
        fused = self.aggregation([u_features, mirrored_features])
        return BranchOutput(fused=fused, branches=[u_logits, mirrored_logits], margin=margin)

    def forward(self, image: Tensor) -> Tensor | BranchOutput:
        """Return logits (B, K, H, W) of images (B, C, H, W) of any size; while training those of each branch too."""
        check_channels(image, self.in_channels, net="DMUNet")
        padded, size = self._outputs(image), image.shape[-2:]
        fused = crop_to(padded.fused, size)
        if not self.training:
            return fused
        return BranchOutput(
            fused=fused,
            branches=[crop_to(logits, size) for logits in padded.branches],
            margin=None if padded.margin is None else crop_to(padded.margin, size),
        )
