"""Attention gates on a skip, as Attention U-Net has them, and the convolutions around them."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg.nets.blocks import layer, normalisation


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
