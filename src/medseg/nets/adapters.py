"""What every net does around its layers: check the channels, pad to its stride, crop back, say what is wrong."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medseg.errors import ConfigError

CERTAIN = 10.0
"""Logit of the class that a baseline without probabilities chooses; the others get the negative."""


def check_channels(image: Tensor, in_channels: int, *, net: str, spatial_dims: int = 2) -> None:
    """Refuse an image whose channel count or number of axes is not the one the net was built for.

    Args:
        image: (B, C, H, W), or (B, C, D, H, W) with ``spatial_dims`` 3.
        in_channels: what the net was built for.
        net: name for the message.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: with both numbers.
    """
    ndim = 2 + spatial_dims
    if image.ndim == ndim and image.shape[1] == in_channels:
        return
    found = f"{image.shape[1]} channels" if image.ndim == ndim else f"shape {tuple(image.shape)}"
    axes = "height, width" if spatial_dims == 2 else "depth, height, width"
    raise ConfigError(
        f"{net} was built with in_channels={in_channels} but the image has {found}; it must be "
        f"(batch, {in_channels}, {axes}): make net.in_channels and the data agree."
    )


def pad_to_multiple(image: Tensor, multiple: int | Sequence[int], *, mode: str = "replicate") -> Tensor:
    """Return the image padded at the end of each axis until every side divides by ``multiple``.

    Undo with :func:`crop_to`. An image that already fits is returned as it is.

    Args:
        image: (B, C, H, W) or (B, C, D, H, W).
        multiple: stride of the net, one number or one for each axis.
        mode: ``replicate`` repeats the last row, column and slice, ``constant`` appends zeros.
    """
    sides = image.shape[2:]
    multiples = [multiple] * len(sides) if isinstance(multiple, int) else multiple
    missing = [-side % step for side, step in zip(sides, multiples, strict=True)]
    if not any(missing):
        return image
    # torch counts from the last axis, with the padding before it and after it.
    return F.pad(image, [amount for after in reversed(missing) for amount in (0, after)], mode=mode)


def crop_to(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Return the first part of a map (..., *S') that covers the unpadded image of ``size`` S."""
    inside: Any = (..., *(slice(side) for side in size))
    return logits[inside]


def checked_widths(widths: Sequence[int], *, least: int, net: str) -> tuple[int, ...]:
    """Return the widths as a tuple of ints.

    Args:
        widths: channels per level, finest first.
        least: how many levels the net needs.
        net: name for the message.

    Raises:
        ConfigError: too few levels, or a width below 4.
    """
    whole = tuple(int(width) for width in widths)
    if len(whole) < least or min(whole) < 4:
        raise ConfigError(
            f"net.widths={list(whole)} does not fit {net}; give at least {least} levels of at least 4 channels, "
            "finest first."
        )
    return whole


def checked_choice(value: str, choices: Sequence[str], *, key: str) -> str:
    """Return the value.

    Raises:
        ConfigError: it is none of the choices.
    """
    if value in choices:
        return value
    raise ConfigError(f"net.{key}={value!r} is unknown; choose one of {', '.join(choices)}.")


def two_class_logits(chosen: Tensor, num_classes: int, *, label: int = 1) -> Tensor:
    """Return logits (B, K, H, W) of +-10 that choose ``label`` where ``chosen`` (B, H, W) bool, else background.

    With K = 1 the only channel is the foreground's.
    """
    values = chosen.float() * 2 * CERTAIN - CERTAIN
    if num_classes == 1:
        return values[:, None]
    logits = torch.full((len(chosen), num_classes, *chosen.shape[1:]), -CERTAIN, device=chosen.device)
    logits[:, 0], logits[:, label] = -values, values
    return logits
