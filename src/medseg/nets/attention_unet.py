"""Attention U-Net for pictures and volumes: gates that dim what a skip need not bring."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, checked_choice, checked_widths, crop_to, pad_to_multiple
from medseg.nets.attention_gates import Convs, GatedSkip, enlarge
from medseg.nets.blocks import layer
from medseg.nets.unet import WIDTHS

FORMS = {2: "plain", 3: "released"}


class Stage(nn.Module):
    """One decoder stage: enlarge the grid, put the skip beside it, two convolutions.

    Args:
        deep: channels of the coarser map.
        skip: channels of the skip, also of the result.
        released: resize and keep the channels; else a transposed convolution to the skip's.
        norm: ``batch``, ``instance`` or ``group``.
        spatial_dims: 2 or 3.
    """

    def __init__(self, deep: int, skip: int, *, released: bool, norm: str, spatial_dims: int) -> None:
        super().__init__()
        self.up = None if released else layer("ConvTranspose", spatial_dims)(deep, skip, 2, stride=2)
        inputs = skip + (deep if released else skip)
        self.convs = Convs(inputs, skip, bias=released, norm=norm, spatial_dims=spatial_dims)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Return features (B, skip, *S) from the coarser map (B, deep, *S / 2) and the skip (B, skip, *S)."""
        larger = enlarge(deep, skip.shape[2:]) if self.up is None else self.up(deep)
        return self.convs(torch.cat([skip, larger], dim=1))


def checked_gates(count: int) -> int:
    """Return the number of gates on a skip.

    Raises:
        ConfigError: not 0, 1 or 2.
    """
    if count in (0, 1, 2):
        return count
    raise ConfigError(f"net.gates={count}: give 0, 1 or 2 attention gates on each skip, or null.")


class AttentionUNet(nn.Module):
    """Attention U-Net of Oktay et al., MIDL 2018, arXiv:1804.03999, in 2D and 3D.

    A U-Net whose skips but the finest pass attention gates. The deepest gate is steered by a 1x1 convolution of the
    bottom, each other by the decoder's map one level deeper.

    ``form=released``, the default for volumes, is the authors' program: linear up-sampling, convolutions with biases,
    a merging 1x1 convolution after the gates, two gates for each skip, and deep supervision in which 1x1 scores of
    every decoder level are resized, concatenated and mixed by a last 1x1 convolution; widths 16 to 256. From one
    channel to 4 classes in 3D it has 6,473,322 parameters, 6,214,151 with ``gates=1`` and 5,888,004 with ``gates=0``.

    ``form=plain``, the default for pictures, has the paper's gates in the usual U-Net: transposed convolutions, no
    biases before a normalisation, one gate for each skip, one score; widths 64 to 1024. 34,500,036 parameters from one
    channel to one class.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        widths: channels per level, finest first; None: by the form.
        spatial_dims: 2 for pictures and slices, 3 for volumes.
        form: ``plain``, ``released``, or None: by the number of axes.
        gates: attention gates on each skip: 0, 1 or 2; None: by the form.
        deep_supervision: answer with the mixed scores of all decoder levels; None: by the form.
        norm: ``batch``, ``instance`` or ``group``.

    Raises:
        ConfigError: unknown form, gates or norm, fewer than two widths; in ``forward``, another number of channels.
    """

    READING = ""
    ENCODER, HEAD = ("levels",), ("scores", "mix")

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int] | None = None,
        spatial_dims: int = 2,
        form: str | None = None,
        gates: int | None = None,
        deep_supervision: bool | None = None,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        conv = layer("Conv", spatial_dims)
        released = checked_choice(form or FORMS[spatial_dims], list(FORMS.values()), key="form") == "released"
        if not released:
            self.READING = "our reading: the blocks around the gates, those of the usual U-Net"
        count = checked_gates((2 if released else 1) if gates is None else gates)
        self.in_channels, self.spatial_dims = in_channels, spatial_dims
        default = [width // 4 for width in WIDTHS] if released else WIDTHS
        self.widths = checked_widths(default if widths is None else widths, least=2, net="AttentionUNet")
        self.stride = 2 ** (len(self.widths) - 1)
        *skips, bottom = self.widths
        same: dict[str, Any] = {"norm": norm, "spatial_dims": spatial_dims}
        self.levels = nn.ModuleList(
            Convs(inputs, outputs, bias=released, **same) for inputs, outputs in pairwise([in_channels, *self.widths])
        )
        self.pool = layer("MaxPool", spatial_dims)(2)
        gated = list(pairwise(self.widths))[1:] if count else []
        self.gating = Convs(bottom, bottom, kernel=1, number=1, bias=released, **same) if gated else None
        # of all levels but the finest
        self.gated = nn.ModuleList(GatedSkip(skip, deep, gates=count, merge=released, **same) for skip, deep in gated)
        self.stages = nn.ModuleList(
            Stage(deep, skip, released=released, **same) for skip, deep in pairwise(self.widths)
        )
        deep = released if deep_supervision is None else deep_supervision
        self.scores = nn.ModuleList(conv(skip, num_classes, 1) for skip in (skips if deep else skips[:1]))
        self.mix = conv(num_classes * len(skips), num_classes, 1) if deep else nn.Identity()

    def _decode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return logits of an image whose sides divide by the stride, and the attentions, finest first."""
        features = [self.levels[0](image)]
        for level in self.levels[1:]:
            features.append(level(self.pool(features[-1])))
        *skips, deep = features
        steering = deep if self.gating is None else self.gating(deep)
        maps: list[Tensor] = []
        attentions: list[Tensor] = []
        for number in reversed(range(len(skips))):
            skip = skips[number]
            if number > 0 and self.gated:
                skip, attention = self.gated[number - 1](skip, steering)
                attentions.insert(0, attention)
            steering = deep = self.stages[number](deep, skip)
            maps.insert(0, deep)
        size = image.shape[2:]
        scores = [enlarge(score(part), size) for score, part in zip(self.scores, maps, strict=False)]
        return self.mix(torch.cat(scores, dim=1)), attentions

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, *S) of images (B, C, *S) of any size."""
        check_channels(image, self.in_channels, net="AttentionUNet", spatial_dims=self.spatial_dims)
        return crop_to(self._decode(pad_to_multiple(image, self.stride))[0], image.shape[2:])

    def attention_maps(self, image: Tensor) -> list[Tensor]:
        """Return the attention of each gated level (B, gates, *S), 0..1, finest first, resized to the image."""
        check_channels(image, self.in_channels, net="AttentionUNet", spatial_dims=self.spatial_dims)
        padded = pad_to_multiple(image, self.stride)
        attentions = self._decode(padded)[1]
        return [crop_to(enlarge(attention, padded.shape[2:]), image.shape[2:]) for attention in attentions]
