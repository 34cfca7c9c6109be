"""Shape of a U-Net for a patch: where it pools, how wide it is, how much memory a training step takes.

The rules are those of nnU-Net's planner (Isensee et al., Nature Methods 18 (2021) 203-211, supplementary note 2),
written anew: an axis is halved while at least 4 pixels would be left, coarse axes wait until the others are as coarse.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

SMALLEST_SIDE = 4
"""Pixels along each axis at the bottom of the network, at least."""

WIDEST = {2: 512, 3: 320}
"""Channels of the widest level, by spatial axes."""

_MAPS_PER_LEVEL = 9.0  # feature maps kept for the backward pass: two convolutions, norms and ReLUs on either way, skip
_MAPS_AT_ONCE = 6.0  # gradients and buffers alive together at the finest level
_PER_PARAMETER = 16  # bytes: value, gradient and two moments of Adam in float32


@dataclass(frozen=True)
class Topology:
    """A U-Net.

    Attributes:
        widths: channels of each level, finest first.
        pools: factor of each pooling along each axis, one less than levels.
    """

    widths: tuple[int, ...]
    pools: tuple[tuple[int, ...], ...]

    @property
    def stride(self) -> tuple[int, ...]:
        """What every side of a patch must divide by."""
        return tuple(prod(factors) for factors in zip(*self.pools, strict=True))

    @property
    def halves_every_axis(self) -> bool:
        """Whether every pooling is by 2 along every axis, the default of the networks."""
        return all(factor == 2 for pool in self.pools for factor in pool)


def topology(size: Sequence[int], *, spacing: Sequence[float], base_width: int, together: bool = False) -> Topology:
    """Return the deepest network that a patch of ``size`` feeds.

    Args:
        size: sides of the patch, at least one of 8 or more.
        spacing: of its pixels along the same axes, in any unit.
        base_width: channels of the finest level; doubled at every pooling up to ``WIDEST``.
        together: halve all axes or none, as every network for pictures does; the shortest one decides.
    """
    sides, steps = list(size), list(spacing)
    pools: list[tuple[int, ...]] = []
    while fit := [axis for axis, side in enumerate(sides) if side >= 2 * SMALLEST_SIDE]:
        if together and len(fit) < len(sides):
            break
        finest = min(steps[axis] for axis in fit)
        pool = tuple(2 if together or (axis in fit and steps[axis] < 2 * finest) else 1 for axis in range(len(sides)))
        pools.append(pool)
        sides = [side // factor for side, factor in zip(sides, pool, strict=True)]
        steps = [step * factor for step, factor in zip(steps, pool, strict=True)]
    widths = tuple(min(base_width * 2**level, WIDEST[len(sides)]) for level in range(len(pools) + 1))
    return Topology(widths, tuple(pools))


def training_bytes(shape: Topology, size: Sequence[int], *, batch: int, channels: int, classes: int) -> int:
    """Return a rough number of bytes that a training step in float32 takes, framework apart.

    Counts feature maps kept for the backward pass, the image, the logits, and weights with their optimizer. The probe
    measures what it really is.

    Args:
        shape: the network.
        size: sides of the patch.
        batch: patches in a batch.
        channels: of the image.
        classes: of the logits.
    """
    pixels = float(prod(size))
    kept, parameters, below = pixels * (channels + 4 * classes + _MAPS_AT_ONCE * shape.widths[0]), 0.0, channels
    kernel = 3 ** len(size)
    for level, width in enumerate(shape.widths):
        kept += _MAPS_PER_LEVEL * pixels * width
        parameters += kernel * width * (below + width) + 4 * kernel * width * width
        if level < len(shape.pools):
            pixels /= prod(shape.pools[level])
        below = width
    return int(4 * batch * kept + _PER_PARAMETER * parameters)
