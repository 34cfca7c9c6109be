"""What deep U-Nets with side outputs share: the weights of the outputs, their size, room at the bottom."""

from collections.abc import Sequence
from math import prod

import torch.nn.functional as F
from torch import Tensor

from medseg.errors import ConfigError


def halving_weights(count: int) -> list[float]:
    """Return weights 1, 1/2, 1/4, ... divided by their sum, as nnU-Net weighs its outputs, finest first."""
    weights = [0.5**number for number in range(count)]
    return [weight / sum(weights) for weight in weights]


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Return maps (B, K, *s) linearly resized to ``size``, pixel areas aligned."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    mode = "bilinear" if maps.ndim == 4 else "trilinear"
    return F.interpolate(maps, size=tuple(size), mode=mode, align_corners=False)


def roomy(size: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
    """Return what each side must divide by, so that the deepest map has more than one element.

    Instance normalisation of one element has no variance, and torch refuses it.

    Args:
        size: sides S of the image.
        stride: of the deepest map along each axis.
    """
    cells = prod(-(-side // step) for side, step in zip(size, stride, strict=True))
    return tuple(stride) if cells > 1 else (*stride[:-1], 2 * stride[-1])


def checked_factors(
    factors: Sequence[int | Sequence[int]] | None, *, count: int, spatial_dims: int, default: Sequence[int], key: str
) -> list[tuple[int, ...]]:
    """Return one factor for each axis, for each of ``count`` levels.

    Args:
        factors: one number, or one for each axis, per level; None takes ``default``.
        count: how many levels.
        spatial_dims: 2 or 3.
        default: one number per level.
        key: config key, for messages.

    Raises:
        ConfigError: another number of levels or axes, or a factor below 1.
    """
    given = default if factors is None else factors
    whole = [
        (int(one),) * spatial_dims if isinstance(one, int) else tuple(int(factor) for factor in one) for one in given
    ]
    if len(whole) != count or any(len(one) != spatial_dims or min(one) < 1 for one in whole):
        raise ConfigError(
            f"net.{key}={[list(one) for one in whole]}: give {count} entries (one for each level of net.widths) of "
            f"{spatial_dims} positive factors each, or null."
        )
    return whole
