"""UNet++: a U-Net whose skips are nested nodes, with deep supervision and heads that can be cut off."""

from collections.abc import Sequence
from math import log
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, checked_choice, checked_widths, crop_to, pad_to_multiple
from medseg.nets.blocks import NORMS, layer, normalisation
from medseg.types import DeepOutput

WIDTHS = (32, 64, 128, 256, 512)
"""Channels per depth of the published UNet++, finest first."""


def biased_conv(inputs: int, outputs: int, *, norm: str = "none", spatial_dims: int = 2) -> nn.Sequential:
    """Return a same-padded 3x3 convolution with bias, the normalisation if any, and a ReLU.

    The bias stays before a normalisation too, where it changes nothing: the published parameter counts have it. Weights
    start from He's normal distribution, as in the released programs of UNet++ and UNet 3+.

    Args:
        inputs: input channels.
        outputs: output channels.
        norm: ``none``, ``batch``, ``instance`` or ``group``.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: another normalisation.
    """
    checked_choice(norm, ["none", *NORMS], key="norm")
    norms = [] if norm == "none" else [normalisation(norm, outputs, spatial_dims=spatial_dims)]
    convolution = layer("Conv", spatial_dims)(inputs, outputs, 3, padding=1)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    nn.init.zeros_(convolution.bias)
    return nn.Sequential(convolution, *norms, nn.ReLU(inplace=True))


def mean_probability_logits(maps: Sequence[Tensor]) -> Tensor:
    """Return logits (B, K, *S), float32, of the average of several maps' probabilities.

    Their softmax (K = 1: sigmoid) is the mean of the maps' softmax (sigmoid).
    """
    stacked = torch.stack(list(maps)).float()
    if stacked.shape[2] > 1:
        return stacked.log_softmax(dim=2).logsumexp(dim=0) - log(len(stacked))
    return F.logsigmoid(stacked).logsumexp(dim=0) - F.logsigmoid(-stacked).logsumexp(dim=0)


class UNetPlusPlus(nn.Module):
    """UNet++ of Zhou, Rahman Siddiquee, Tajbakhsh and Liang (DLMIA 2018, arXiv:1807.10165; IEEE TMI 39(6), 2020).

    Node X(i, j) stands at depth i (grid S / 2^i), position j. X(i, 0) is the encoder; every other node is two
    convolutions over X(i, 0), ..., X(i, j - 1) and the enlarged X(i + 1, j - 1). With five widths there are 15 nodes.
    Each node of the finest row but the first has a 1x1 head; all heads are trained, at equal weights.

    Modes in evaluation, as published: ``accurate`` averages the probabilities of all heads, ``fast`` takes the last
    head. A network pruned to level j keeps only the nodes that feed head j (i + position <= j) and answers as that head
    of the full network does; see :meth:`pruned`. ``prune`` at the deepest level is UNet++ without deep supervision.

    9,041,700 parameters with one channel, one class and four heads (published: 9.04 M); pruned to level 1..4 with three
    channels 101,537, 511,681, 2,205,537 and 9,042,177. The published network does not normalise; the dropout of the
    released program is left out.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        widths: channels per depth, finest first.
        norm: ``none``, ``batch``, ``instance`` or ``group``.
        up: ``transpose`` for learnt 2x2 up-convolutions to the finer node's width, ``bilinear`` for resizing.
        mode: ``accurate`` or ``fast``, in evaluation.
        prune: null for the full network, or the level of the only head.
        spatial_dims: 2 for pictures and slices, 3 for volumes.

    Raises:
        ConfigError: unknown norm, up or mode, fewer than two widths, a level that is not there; in ``forward``,
            another number of channels.
    """

    READING = ""
    HEAD = ("heads",)

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int] = WIDTHS,
        norm: str = "none",
        up: str = "transpose",
        mode: str = "accurate",
        prune: int | None = None,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        self.in_channels, self.num_classes, self.spatial_dims = in_channels, num_classes, spatial_dims
        self.widths = checked_widths(widths, least=2, net="UNetPlusPlus")
        self.mode = checked_choice(mode, ["accurate", "fast"], key="mode")
        self.up = checked_choice(up, ["transpose", "bilinear"], key="up")
        self.norm, self.prune = norm, prune
        deepest = len(self.widths) - 1
        # A pruned network pads as the full one does, or the two would differ at the padded border.
        self.stride = 2**deepest
        self.level = deepest if prune is None else self._checked_level(prune)
        self.ENCODER = tuple(f"nodes.{depth}_0" for depth in range(self.level + 1))
        self.pool = layer("MaxPool", spatial_dims)(2)
        self.nodes, self.ups = nn.ModuleDict(), nn.ModuleDict()
        for depth, position in self.places():
            self.nodes[f"{depth}_{position}"] = self._node(depth, position)
            if position:
                self.ups[f"{depth}_{position}"] = self._enlarge(depth)
        levels = range(1, deepest + 1) if prune is None else [self.level]
        head = layer("Conv", spatial_dims)
        self.heads = nn.ModuleDict({str(level): head(self.widths[0], num_classes, 1) for level in levels})

    def places(self) -> list[tuple[int, int]]:
        """Return (depth, position) of every node, each after those that it needs."""
        return [(depth, position) for position in range(self.level + 1) for depth in range(self.level - position + 1)]

    def _checked_level(self, level: int) -> int:
        deepest = len(self.widths) - 1
        if isinstance(level, int) and 1 <= level <= deepest:
            return level
        raise ConfigError(f"net.prune={level!r}: give a level from 1 to {deepest}, or null for the full network.")

    def _node(self, depth: int, position: int) -> nn.Sequential:
        width = self.widths[depth]
        if position:
            inputs = position * width + (width if self.up == "transpose" else self.widths[depth + 1])
        else:
            inputs = self.widths[depth - 1] if depth else self.in_channels
        same: dict[str, Any] = {"norm": self.norm, "spatial_dims": self.spatial_dims}
        return nn.Sequential(*biased_conv(inputs, width, **same), *biased_conv(width, width, **same))

    def _enlarge(self, depth: int) -> nn.Module:
        if self.up == "transpose":
            convolution = layer("ConvTranspose", self.spatial_dims)
            return convolution(self.widths[depth + 1], self.widths[depth], 2, stride=2)
        return nn.Upsample(scale_factor=2, mode="bilinear" if self.spatial_dims == 2 else "trilinear")

    def features(self, image: Tensor) -> dict[tuple[int, int], Tensor]:
        """Return the map of every node by (depth, position), for an image whose sides divide by the stride."""
        maps: dict[tuple[int, int], Tensor] = {}
        for depth, position in self.places():
            name = f"{depth}_{position}"
            if position:
                before = [maps[depth, earlier] for earlier in range(position)]
                inputs = torch.cat([*before, self.ups[name](maps[depth + 1, position - 1])], dim=1)
            else:
                inputs = self.pool(maps[depth - 1, 0]) if depth else image
            maps[depth, position] = self.nodes[name](inputs)
        return maps

    def head_logits(self, image: Tensor) -> dict[int, Tensor]:
        """Return the logits (B, K, *S) of each head by its level, for images (B, C, *S) of any size."""
        check_channels(image, self.in_channels, net="UNetPlusPlus", spatial_dims=self.spatial_dims)
        maps = self.features(pad_to_multiple(image, self.stride))
        return {int(level): crop_to(head(maps[0, int(level)]), image.shape[2:]) for level, head in self.heads.items()}

    def forward(self, image: Tensor) -> Tensor | DeepOutput:
        """Return logits (B, K, *S) of images (B, C, *S) of any size; while training those of all heads, last first."""
        logits = list(self.head_logits(image).values())[::-1]
        if len(logits) == 1:
            return logits[0]
        if self.training:
            return DeepOutput(logits)
        return logits[0] if self.mode == "fast" else mean_probability_logits(logits)

    def pruned(self, level: int) -> "UNetPlusPlus":
        """Return a trained network cut down to one of its levels: it answers exactly as the head of that level does.

        Only the nodes that feed the head are kept, on this network's device, in its precision and mode, with copies of
        its weights and with the same parameters frozen; this network stays as it is. ``mode`` no longer counts, for
        there is one head. Not the same as training with ``prune=level``, where the other heads never helped.

        Args:
            level: 1 to the number of widths - 1; smaller is quicker.

        Raises:
            ConfigError: there is no such head; a network that is already pruned has one only.
        """
        if str(level) not in self.heads:
            raise ConfigError(f"UNetPlusPlus has no head {level!r} to prune to; choose one of {', '.join(self.heads)}.")
        example = next(self.parameters())
        smaller = UNetPlusPlus(
            in_channels=self.in_channels,
            num_classes=self.num_classes,
            widths=self.widths,
            norm=self.norm,
            up=self.up,
            mode=self.mode,
            prune=level,
            spatial_dims=self.spatial_dims,
        )
        smaller = smaller.to(example.device, example.dtype).train(self.training)
        weights, parameters = self.state_dict(), dict(self.named_parameters())
        smaller.load_state_dict({name: weights[name] for name in smaller.state_dict()})
        for name, parameter in smaller.named_parameters():
            parameter.requires_grad_(parameters[name].requires_grad)
        return smaller
