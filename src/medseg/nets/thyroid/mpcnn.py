"""The multi-output dilated CNN of Kumar et al.: overlapping structures, one sigmoid each."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, crop_to, pad_to_multiple
from medseg.nets.blocks import ConvBlock, resize
from medseg.types import StructureOutput

DILATIONS = (1, 2, 4, 8, 16)
"""Of the trunk's context layers."""


class MPCNN(nn.Module):
    """Multi-output dilated CNN of Kumar et al., IEEE Access 8:63482-63496, 2020.

    Published: a CNN with dilated convolutions and one output ("prong") each for nodule, cystic component and normal
    gland, without seed points. Our reading: the layers. The trunk is two 3x3 convolutions of ``width`` channels,
    pooling, two of 2 ``width``, pooling, then five of 4 ``width`` with dilations 1, 2, 4, 8, 16; a unit of it sees 264
    pixels a side. Each prong has 3x3 convolutions of 2 ``width`` (dilation 2), 2 ``width`` (dilation 4) and ``width``,
    a 1x1 convolution to one map, resized four-fold; such a unit sees 320 pixels. Each 3x3 convolution is followed by
    normalisation and ReLU. 3,432,961 parameters from one channel to one structure.

    The structures overlap: a cyst lies within its nodule. In train mode each has its own map of logits, to be compared
    with the union of its labels. In eval mode the maps make one label map by this rule: a structure is present where
    its probability is above one half, and, if another structure contains it, that is present too (cyst := cyst and
    nodule); of several that are present the last one named wins; a structure stands for the one of its labels that
    none of its parts has. The logits (B, K, *S) follow the same rule with minima for "and": background 0, and for
    structure p min(s_p, -s_q for all q after p), where s_p is already the minimum with its wholes'. Their largest is
    the rule's answer, and with one structure their softmax is its sigmoid. With K = 1 the only map is the answer.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        structures: name to the labels whose union it is, from the whole to its parts, for instance
            ``{gland: [1], nodule: [2, 3], cyst: [3]}``; None: each foreground class by itself.
        width: channels of the finest layers.
        norm: ``batch``, ``instance`` or ``group``.

    Raises:
        ConfigError: structures that do not tell the foreground labels apart, unknown norm; in ``forward``, another
            number of channels.
    """

    READING = "our reading: the layers of trunk and prongs, and how overlapping outputs make one label map"
    probabilistic = False
    """In eval mode the logits tell which structure wins, not how sure it is."""

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        structures: Mapping[str, Sequence[int]] | None = None,
        width: int = 64,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        self.in_channels, self.num_classes, self.spatial_dims = in_channels, num_classes, 2
        foreground = range(1, max(num_classes, 2))
        named = structures or {f"class{label}": [label] for label in foreground}
        self.names = tuple(str(name) for name in named)
        self.members = tuple(tuple(int(label) for label in labels) for labels in named.values())
        self.labels = checked_labels(self.members, foreground)
        fine, middle, coarse = width, 2 * width, 4 * width
        self.trunk = nn.Sequential(
            *(ConvBlock(inputs, outputs, norm=norm) for inputs, outputs in pairwise([in_channels, fine, fine])),
            nn.MaxPool2d(2),
            *(ConvBlock(inputs, outputs, norm=norm) for inputs, outputs in pairwise([fine, middle, middle])),
            nn.MaxPool2d(2),
            *(
                ConvBlock(middle if dilation == 1 else coarse, coarse, dilation=dilation, norm=norm)
                for dilation in DILATIONS
            ),
        )
        self.prongs = nn.ModuleList(
            nn.Sequential(
                ConvBlock(coarse, middle, dilation=2, norm=norm),
                ConvBlock(middle, middle, dilation=4, norm=norm),
                ConvBlock(middle, fine, norm=norm),
                nn.Conv2d(fine, 1, 1),
            )
            for _ in self.members
        )
        self.ENCODER, self.HEAD = ("trunk",), tuple(f"prongs.{number}.3" for number in range(len(self.members)))

    def maps(self, image: Tensor) -> Tensor:
        """Return logits (B, P, H, W), one map a structure, of images (B, C, H, W) of any size."""
        padded = pad_to_multiple(image, 4)
        features = self.trunk(padded)
        maps = torch.cat([prong(features) for prong in self.prongs], dim=1)
        return crop_to(resize(maps, padded.shape[-2:]), image.shape[-2:])

    def forward(self, image: Tensor) -> Tensor | StructureOutput:
        """Return one map of logits a structure in train mode, logits (B, K, H, W) in eval mode."""
        check_channels(image, self.in_channels, net="MPCNN")
        maps = self.maps(image)
        return StructureOutput(maps, self.members) if self.training else self.composed(maps)

    def composed(self, maps: Tensor) -> Tensor:
        """Return logits (B, K, *S) by the rule above of the structures' logits (B, P, *S)."""
        present = list(maps.unbind(1))
        for part, labels in enumerate(self.members):
            for whole in range(part):
                if set(labels) < set(self.members[whole]):
                    present[part] = torch.minimum(present[part], present[whole])
        classes = [torch.zeros_like(present[0])] * (len(present) + 1)
        later: Tensor | None = None
        for number in reversed(range(len(present))):
            own = present[number]
            classes[self.labels[number]] = own if later is None else torch.minimum(own, -later)
            later = own if later is None else torch.maximum(own, later)
        return torch.stack(classes[-self.num_classes :], dim=1)


def checked_labels(members: Sequence[Sequence[int]], foreground: Sequence[int]) -> tuple[int, ...]:
    """Return for each structure the one of its labels that none of its parts has.

    Args:
        members: labels of each structure.
        foreground: labels 1 to K - 1.

    Raises:
        ConfigError: a structure with no such label or several, a label that no structure stands for, a part before
            the whole.
    """
    sets = [set(labels) for labels in members]
    own = [labels - set().union(*(part for part in sets if part < labels)) for labels in sets]
    listed = [list(labels) for labels in members]
    if any(len(labels) != 1 for labels in own) or sorted(label for labels in own for label in labels) != [*foreground]:
        raise ConfigError(
            f"net.structures={listed}: every label from 1 to {max(foreground)} must be the only one of some structure "
            "that none of its parts has, for instance [[1], [2, 3], [3]]."
        )
    if any(whole < part for whole, part in pairwise_before(sets)):
        raise ConfigError(f"net.structures={listed}: name the whole before its parts.")
    return tuple(labels.pop() for labels in own)


def pairwise_before(sets: Sequence[set[int]]) -> list[tuple[set[int], set[int]]]:
    """Return all pairs of sets in which the first stands before the second."""
    return [(sets[first], sets[second]) for second in range(len(sets)) for first in range(second)]
