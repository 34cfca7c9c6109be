"""Parts of Swin-Unet: windowed attention, the block around it, patch merging and patch expanding.

Liu et al., "Swin Transformer", ICCV 2021, arXiv:2103.14030; Cao et al., "Swin-Unet", arXiv:2105.05537. Maps are
(B, H, W, C) here. Names of parameters are those of timm, so that its weights fit.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MLP_RATIO = 4
DEVIATION = 0.02
"""Standard deviation of the truncated normal from which linear layers and position biases start."""


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows with a learned bias for each relative position.

    Args:
        dim: channels C.
        heads: attention heads; divides ``dim``.
        window: side of a window in tokens.
    """

    relative_position_index: Tensor

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=DEVIATION)
        self.register_buffer("relative_position_index", relative_positions(window), persistent=False)

    def bias(self) -> Tensor:
        """Return what is added to the scores of each pair of tokens, (heads, N, N)."""
        return self.relative_position_bias_table[self.relative_position_index].movedim(-1, 0)

    def forward(self, windows: Tensor, apart: Tensor | None = None) -> Tensor:
        """Return windows (B * n, N, C) of the same shape.

        Args:
            windows: N tokens in each of the n windows of B images, windows of one image in a row.
            apart: (n, N, N) bool, True where a token must not see the other; None: all see all.
        """
        many, tokens, dim = windows.shape
        query, key, value = self.qkv(windows).view(many, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.bias()[None]
        if apart is not None:
            bias = bias.masked_fill(apart[:, None], float("-inf")).repeat(many // len(apart), 1, 1, 1)
        # The sum with the bias needs one number format; autocast gives the queries a shorter one.
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        return self.proj(mixed.transpose(1, 2).reshape(many, tokens, dim))


def relative_positions(window: int) -> Tensor:
    """Return for each pair of tokens of a window the row of the bias table, (N, N) int64, N = window^2."""
    rows, columns = (axis.flatten() for axis in torch.meshgrid(*[torch.arange(window)] * 2, indexing="ij"))
    down, right = (axis[:, None] - axis[None, :] + window - 1 for axis in (rows, columns))
    return down * (2 * window - 1) + right


def windows_of(features: Tensor, window: int) -> Tensor:
    """Return the windows (B * n, window^2, C) of a map (B, H, W, C) whose sides divide by ``window``."""
    batch, height, width, channels = features.shape
    grid = features.view(batch, height // window, window, width // window, window, channels)
    return grid.transpose(2, 3).reshape(-1, window * window, channels)


def map_of(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """Return the map (B, H, W, C) that :func:`windows_of` cut."""
    grid = windows.view(-1, height // window, width // window, window, window, windows.shape[-1])
    return grid.transpose(2, 3).reshape(-1, height, width, windows.shape[-1])


def kept_apart(sides: Sequence[int], padded: Sequence[int], shift: Sequence[int], window: int) -> Tensor | None:
    """Return the pairs of tokens in each window that must not see one another, (n, N, N) bool; None if all may.

    After the cyclic shift a window at the border holds tokens of opposite sides of the map, and at its end there may
    be tokens of the padding: each of these groups sees only itself.

    Args:
        sides: (H, W) of the map.
        padded: of the map with its padding.
        shift: of the rolled map along each axis.
        window: side of a window.
    """
    if not any(shift) and tuple(sides) == tuple(padded):
        return None
    rows, columns = (
        torch.where(position < start, 0, torch.where(position < side, 1, 2))
        for side, length, start in zip(sides, padded, shift, strict=True)
        for position in [torch.arange(length)]
    )
    groups = 3 * rows[:, None] + columns[None, :]
    outside = (rows[:, None] == 2) | (columns[None, :] == 2)
    groups = groups.masked_fill(outside, 9).roll([-shift[0], -shift[1]], dims=(0, 1))
    inside = windows_of(groups[None, :, :, None], window)[..., 0]
    return inside[:, :, None] != inside[:, None, :]


class Mlp(nn.Module):
    """Two linear layers with a GELU between them.

    Args:
        dim: channels of input and output.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, MLP_RATIO * dim)
        self.fc2 = nn.Linear(MLP_RATIO * dim, dim)

    def forward(self, features: Tensor) -> Tensor:
        """Return features (..., C)."""
        return self.fc2(F.gelu(self.fc1(features)))


class SwinBlock(nn.Module):
    """Windowed attention and a perceptron, each normalised before and added to its input.

    Maps whose sides do not divide by the window are padded inside, and no token sees the padding. Along an axis that
    fits into one window nothing is shifted.

    Args:
        dim: channels C.
        heads: attention heads.
        window: side of a window.
        shifted: whether the windows are moved by half their side.
        drop_path: probability of leaving a branch out for an image while training.
    """

    def __init__(self, dim: int, heads: int, *, window: int, shifted: bool, drop_path: float = 0.0) -> None:
        super().__init__()
        from torchvision.ops import StochasticDepth

        self.window = window
        self.shift = window // 2 if shifted else 0
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, heads, window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)
        self.drop_path = StochasticDepth(drop_path, "row")

    def attended(self, features: Tensor) -> Tensor:
        """Return the attention branch (B, H, W, C) of a normalised map."""
        height, width = features.shape[1:3]
        below, right = -height % self.window, -width % self.window
        padded = (height + below, width + right)
        shift = [self.shift if side > self.window else 0 for side in padded]
        apart = kept_apart((height, width), padded, shift, self.window)
        rolled = F.pad(features, (0, 0, 0, right, 0, below)).roll([-step for step in shift], dims=(1, 2))
        windows = self.attn(windows_of(rolled, self.window), None if apart is None else apart.to(features.device))
        return map_of(windows, self.window, *padded).roll(shift, dims=(1, 2))[:, :height, :width]

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, H, W, C)."""
        features = features + self.drop_path(self.attended(self.norm1(features)))
        return features + self.drop_path(self.mlp(self.norm2(features)))


class PatchMerging(nn.Module):
    """Halve a map: four neighbours beside each other, normalised, to twice the channels.

    Args:
        dim: channels C of the finer map.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, H / 2, W / 2, 2 C) of a map (B, H, W, C) with even sides."""
        batch, height, width, dim = features.shape
        # Down before right: the published order of the four neighbours.
        cells = features.view(batch, height // 2, 2, width // 2, 2, dim).permute(0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(cells.flatten(3)))


class PatchExpand(nn.Module):
    """Enlarge a map: a linear layer makes the neighbours, which are laid out side by side and normalised.

    Args:
        dim: channels C of the coarser map.
        factor: how much the sides grow.
        outputs: channels of the finer map.
    """

    def __init__(self, dim: int, *, factor: int, outputs: int) -> None:
        super().__init__()
        self.factor = factor
        self.expand = nn.Linear(dim, factor * factor * outputs, bias=False)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, factor H, factor W, outputs) of a map (B, H, W, C)."""
        batch, height, width, _ = features.shape
        cells = self.expand(features).view(batch, height, width, self.factor, self.factor, -1)
        return self.norm(cells.transpose(2, 3).reshape(batch, height * self.factor, width * self.factor, -1))
