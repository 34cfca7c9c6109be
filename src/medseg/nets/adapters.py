"""What every net does around its layers: check the channels, pad to its stride, crop back, say what is wrong."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from medseg.errors import ConfigError

CERTAIN = 10.0
"""Logit of the class that a baseline without probabilities chooses; the others get the negative."""


def check_channels(image: Tensor, in_channels: int, *, net: str) -> None:
    """Refuse an image whose channel count is not the one the net was built for.

    Args:
        image: (B, C, H, W).
        in_channels: what the net was built for.
        net: name for the message.

    Raises:
        ConfigError: with both numbers.
    """
    if image.ndim == 4 and image.shape[1] == in_channels:
        return
    found = f"{image.shape[1]} channels" if image.ndim == 4 else f"shape {tuple(image.shape)}"
    raise ConfigError(
        f"{net} was built with in_channels={in_channels} but the image has {found}; it must be "
        f"(batch, {in_channels}, height, width): make net.in_channels and the data agree."
    )


def pad_to_multiple(image: Tensor, multiple: int, *, mode: str = "replicate") -> Tensor:
    """Return the image padded below and to the right until both sides divide by ``multiple``.

    Undo with :func:`crop_to`. An image that already fits is returned as it is.

    Args:
        image: (B, C, H, W).
        multiple: stride of the net.
        mode: ``replicate`` repeats the last row and column, ``constant`` appends zeros.
    """
    height, width = image.shape[-2:]
    below, right = -height % multiple, -width % multiple
    if below == right == 0:
        return image
    return F.pad(image, (0, right, 0, below), mode=mode)


def crop_to(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Return the top left part of a map (..., H', W') that covers the unpadded image of ``size`` (H, W)."""
    return logits[..., : size[0], : size[1]]


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
