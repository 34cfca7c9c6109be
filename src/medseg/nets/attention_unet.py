"""Attention U-Net for pictures and volumes: gates that dim what a skip need not bring."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, checked_choice, checked_widths, crop_to, pad_to_multiple
from medseg.nets.blocks import layer, normalisation
from medseg.nets.unet import WIDTHS

FORMS = {2: "plain", 3: "released"}


def enlarge(features: Tensor, size: Sequence[int]) -> Tensor:
    """Return maps (B, C, *S) bilinearly (trilinearly) resized to ``size``, pixel areas aligned."""
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return F.interpolate(features, size=tuple(size), mode=mode, align_corners=False)


class Convs(nn.Sequential):
    """``number`` same-padded convolutions, each with normalisation and ReLU.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: side of the kernels, odd.
        number: of convolutions.
        bias: whether the convolutions have one, which the normalisation takes away again.
        norm: ``batch``, ``instance`` or ``group``.
        spatial_dims: 2 or 3.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 3,
        number: int = 2,
        bias: bool = False,
        norm: str = "batch",
        spatial_dims: int = 2,
    ) -> None:
        conv = layer("Conv", spatial_dims)
        layers: list[nn.Module] = []
        for count in [inputs, *[outputs] * (number - 1)]:
            layers += [
                conv(count, outputs, kernel, padding=kernel // 2, bias=bias),
                normalisation(norm, outputs, spatial_dims=spatial_dims),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class Gate(nn.Module):
    """Additive grid attention (Oktay et al. 2018, equations 1 and 2).

    The skip x, halved by a 2x2 convolution, and the gating map g on the halved grid meet in ``inter`` channels:
    q = psi(ReLU(Wx x + Wg g + b)) + b', attention a = sigmoid(q) resized to the skip; a x passes a 1x1 convolution W
    with normalisation.

    Args:
        skip: channels of the fine map, also of the result.
        gating: channels of the coarse map, on half the grid.
        norm: ``batch``, ``instance`` or ``group``.
        spatial_dims: 2 or 3.
    """

    def __init__(self, skip: int, gating: int, *, norm: str = "batch", spatial_dims: int = 2) -> None:
        super().__init__()
        conv = layer("Conv", spatial_dims)
        self.from_skip = conv(skip, skip, 2, stride=2, bias=False)
        self.from_gating = conv(gating, skip, 1)
        self.psi = conv(skip, 1, 1)
        self.out = nn.Sequential(conv(skip, skip, 1), normalisation(norm, skip, spatial_dims=spatial_dims))

    def forward(self, skip: Tensor, gating: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gated skip (B, skip, *S) and the attention (B, 1, *S), 0..1."""
        meeting = F.relu(self.from_skip(skip) + self.from_gating(gating))
        attention = enlarge(torch.sigmoid(self.psi(meeting)), skip.shape[2:])
        return self.out(attention * skip), attention


class GatedSkip(nn.Module):
    """One or more gates side by side on one skip, merged.

    Args:
        skip: channels of the fine map, also of the result.
        gating: channels of the coarse map.
        gates: how many.
        merge: a 1x1 convolution with normalisation and ReLU after a single gate too, as the released program has.
        norm: ``batch``, ``instance`` or ``group``.
        spatial_dims: 2 or 3.
    """

    def __init__(self, skip: int, gating: int, *, gates: int, merge: bool, norm: str, spatial_dims: int) -> None:
        super().__init__()
        same: dict[str, Any] = {"norm": norm, "spatial_dims": spatial_dims}
        self.gates = nn.ModuleList(Gate(skip, gating, **same) for _ in range(gates))
        self.merge: nn.Module = nn.Identity()
        if merge or gates > 1:
            self.merge = Convs(gates * skip, skip, kernel=1, number=1, bias=merge, **same)

    def forward(self, skip: Tensor, gating: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gated skip (B, skip, *S) and the attentions (B, gates, *S), 0..1."""
        answers, attentions = zip(*(gate(skip, gating) for gate in self.gates), strict=True)
        return self.merge(torch.cat(answers, dim=1)), torch.cat(attentions, dim=1)


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
