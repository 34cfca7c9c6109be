"""UNet 3+: every decoder level sees all scales; a module that says which classes are in the image at all."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from medseg.nets.adapters import check_channels, checked_widths, crop_to, pad_to_multiple
from medseg.nets.blocks import layer
from medseg.nets.unet import WIDTHS
from medseg.nets.unetpp import biased_conv
from medseg.types import DeepOutput

ABSENT = 110.0
"""How far the logit of a class that is not in the image lies below every other: exp(-104) is 0 in float32 already.

No farther, for a validation loss would be made of the misjudged images alone.
"""


def rescaled(source: int, target: int, spatial_dims: int) -> nn.Module:
    """Return what brings the grid S / 2^source to S / 2^target: max pooling, nothing, or bilinear enlargement."""
    if source == target:
        return nn.Identity()
    if source < target:
        return layer("MaxPool", spatial_dims)(2 ** (target - source))
    return nn.Upsample(scale_factor=2 ** (source - target), mode="bilinear" if spatial_dims == 2 else "trilinear")


class FullScaleNode(nn.Module):
    """One decoder level: a 3x3 convolution on the map of each scale, all side by side, and one over them together.

    Args:
        level: of the decoder, 0 the finest.
        sources: channels of the map that comes from each scale, finest first.
        channels: that each scale contributes.
        norm: ``none``, ``batch``, ``instance`` or ``group``.
        spatial_dims: 2 or 3.
    """

    def __init__(
        self, level: int, sources: Sequence[int], channels: int, *, norm: str = "batch", spatial_dims: int = 2
    ) -> None:
        super().__init__()
        same: dict[str, Any] = {"norm": norm, "spatial_dims": spatial_dims}
        self.branches = nn.ModuleList(
            nn.Sequential(rescaled(scale, level, spatial_dims), *biased_conv(inputs, channels, **same))
            for scale, inputs in enumerate(sources)
        )
        together = channels * len(sources)
        self.join = biased_conv(together, together, **same)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return features (B, channels * scales, *S / 2^level) from one map (B, _, *S / 2^scale) for each scale."""
        parts = [branch(features) for branch, features in zip(self.branches, maps, strict=True)]
        return self.join(torch.cat(parts, dim=1))


class ClassGuide(nn.Module):
    """Classification-guided module: which foreground classes are in the image, told from the deepest map.

    Published for one organ: dropout 0.5, a 1x1 convolution to two maps (absent, present), the maximum of each over the
    image, a sigmoid, and the larger of the two decides. Ours: a pair of maps for every foreground class, and as its
    presence logit the difference of the two maxima. It is above 0 exactly where the published decision is "present",
    and its sigmoid is the softmax of the pair.

    Args:
        inputs: channels of the deepest map.
        num_classes: classes K; with 1 the only channel is the foreground's.
        spatial_dims: 2 or 3.
    """

    def __init__(self, inputs: int, num_classes: int, *, spatial_dims: int = 2) -> None:
        super().__init__()
        self.foreground = max(num_classes - 1, 1)
        self.dropout = nn.Dropout(0.5)
        self.pairs = layer("Conv", spatial_dims)(inputs, 2 * self.foreground, 1)

    def forward(self, deepest: Tensor) -> Tensor:
        """Return presence logits (B, max(K - 1, 1)) from the deepest map (B, inputs, *S')."""
        strongest = self.pairs(self.dropout(deepest)).flatten(2).amax(dim=2)
        absent, present = strongest.unflatten(1, (self.foreground, 2)).unbind(dim=2)
        return present - absent


def silenced(logits: Tensor, presence: Tensor) -> Tensor:
    """Return logits (B, K, *S) in which every class that is called absent has probability 0 everywhere.

    Args:
        logits: (B, K, *S).
        presence: (B, max(K - 1, 1)) logits; above 0 is present. The background of K >= 2 classes is always there.
    """
    there = (presence > 0).view(*presence.shape, *[1] * (logits.ndim - 2))
    background, foreground = logits.split([logits.shape[1] - presence.shape[1], presence.shape[1]], dim=1)
    lowest = logits.detach().amin(1, keepdim=True) - ABSENT
    return torch.cat([background, torch.where(there, foreground, lowest)], dim=1)


class UNet3Plus(nn.Module):
    """UNet 3+ of Huang et al. (ICASSP 2020, arXiv:2004.08790).

    Encoder: two convolutions a level and max pooling. Each decoder level takes one map of every scale: encoder maps of
    the finer levels and its own, decoder maps of the coarser ones, and the bottom. Deep supervision puts a 3x3 head on
    each decoder level and on the bottom, resized to the image, whose losses are summed; the finest is the answer.

    The classification-guided module (:class:`ClassGuide`) is trained by its own loss only: which of two numbers is
    larger has no gradient, so training maps are not gated. In evaluation the classes that it calls absent have
    probability 0. The released program multiplies logits by 0 instead, which gives a probability of one half. Deciding
    about whole images, it suits whole pictures rather than patches that leave organs out.

    With 3 channels and 1 class 26,971,777 parameters, 26,989,637 with deep supervision, 26,991,687 with the module
    too (published: 26.97 M).

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        widths: channels per encoder level, finest first.
        channels: that each scale contributes to a decoder level; ``widths[0]`` if not given (64, published).
        deep_supervision: whether coarser levels have heads while training.
        classification_guided: whether the classification-guided module is there.
        norm: ``batch`` (published), ``none``, ``instance`` or ``group``.
        spatial_dims: 2 for pictures and slices (published), 3 for volumes.

    Raises:
        ConfigError: unknown norm, fewer than two widths; in ``forward``, another number of channels.
    """

    READING = ""
    HEAD = ("head", "sides", "guide")

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int] = WIDTHS,
        channels: int | None = None,
        deep_supervision: bool = True,
        classification_guided: bool = True,
        norm: str = "batch",
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        self.in_channels, self.spatial_dims = in_channels, spatial_dims
        self.widths = checked_widths(widths, least=2, net="UNet3Plus")
        self.deep_supervision = deep_supervision
        bottom = len(self.widths) - 1
        self.stride = 2**bottom
        channels = channels or self.widths[0]
        together = channels * len(self.widths)
        same: dict[str, Any] = {"norm": norm, "spatial_dims": spatial_dims}
        self.pool = layer("MaxPool", spatial_dims)(2)
        self.encoder = nn.ModuleList(
            nn.Sequential(*biased_conv(inputs, width, **same), *biased_conv(width, width, **same))
            for inputs, width in pairwise([in_channels, *self.widths])
        )
        self.decoder = nn.ModuleList()
        for level in range(bottom):
            coarser = [together] * (bottom - level - 1)
            sources = [*self.widths[: level + 1], *coarser, self.widths[-1]]
            self.decoder.append(FullScaleNode(level, sources, channels, **same))
        head = layer("Conv", spatial_dims)
        self.head = head(together, num_classes, 3, padding=1)
        sides = [together] * (bottom - 1) + [self.widths[-1]] if deep_supervision else []
        self.sides = nn.ModuleList(
            nn.Sequential(head(inputs, num_classes, 3, padding=1), rescaled(level, 0, spatial_dims))
            for level, inputs in enumerate(sides, start=1)
        )
        if classification_guided:
            self.READING = "our reading: the classification-guided module for several classes, and gating in evaluation"
        self.guide = (
            ClassGuide(self.widths[-1], num_classes, spatial_dims=spatial_dims) if classification_guided else None
        )

    def features(self, image: Tensor) -> list[Tensor]:
        """Return the decoder's maps, finest first, and the bottom, for an image whose sides divide by the stride."""
        encoded = [self.encoder[0](image)]
        for convolutions in self.encoder[1:]:
            encoded.append(convolutions(self.pool(encoded[-1])))
        decoded = [encoded[-1]]
        for level in reversed(range(len(self.decoder))):
            decoded.insert(0, self.decoder[level]([*encoded[: level + 1], *decoded]))
        return decoded

    def forward(self, image: Tensor) -> Tensor | DeepOutput:
        """Return logits (B, K, *S) of images (B, C, *S) of any size; while training those of all levels and presence.

        Without deep supervision and module it is one map in training too.
        """
        check_channels(image, self.in_channels, net="UNet3Plus", spatial_dims=self.spatial_dims)
        size = image.shape[2:]
        finest, *others = self.features(pad_to_multiple(image, self.stride))
        logits = crop_to(self.head(finest), size)
        presence = None if self.guide is None else self.guide(others[-1])
        if not self.training:
            return logits if presence is None else silenced(logits, presence)
        if presence is None and not self.deep_supervision:
            return logits
        sides = [crop_to(side(features), size) for side, features in zip(self.sides, others, strict=False)]
        maps = [logits, *sides]
        return DeepOutput(maps, [1.0] * len(maps), presence=presence)
