"""A whole image through a network that sees a patch of it at a time."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Network = Callable[[Tensor], Tensor]
FLOOR = 1e-3
"""Least weight of a voxel relative to the window's centre."""


def window_starts(side: int, patch: int, overlap: float) -> list[int]:
    """Return evenly spaced starts of windows that cover an axis and overlap by at least this share."""
    step = max(int(patch * (1 - overlap)), 1)
    count = -(-max(side - patch, 0) // step) + 1
    return [int(start) for start in np.linspace(0, max(side - patch, 0), count).round()]


def gaussian_weights(patch: Sequence[int]) -> Tensor:
    """Return the weights of a window's voxels, float32 (*patch): a Gaussian of sigma patch/8, 1 at the centre.

    No weight is below ``FLOOR``, so that no sum of weights is zero or leaves float32. Sigma is nnU-Net's (Isensee et
    al., Nature Methods 18, 2021).
    """
    weights = torch.ones(())
    for side in patch:
        places = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
        weights = weights[..., None] * torch.exp(-0.5 * (places / (side / 8)) ** 2)
    return (weights / weights.max()).clamp_min(FLOOR)


def sliding_window(
    net: Network, image: Tensor, *, patch: Sequence[int], overlap: float = 0.5, batch: int = 4
) -> Tensor:
    """Return logits (B, K, *S) float32 of images (B, C, *S): the weighted means over all windows.

    Images smaller than the patch are padded at their ends by repeating the last values, and the logits are cropped.

    Args:
        net: (N, C, *patch) to logits (N, K, *patch).
        image: (B, C, *S).
        patch: size of a window, one number for each axis of S.
        overlap: least share of a window that the next one covers again, in [0, 1).
        batch: windows that go through the network together, also of different images.
    """
    size = image.shape[2:]
    missing = [max(side - own, 0) for side, own in zip(patch, size, strict=True)]
    if any(missing):
        image = functional.pad(image, [n for after in reversed(missing) for n in (0, after)], mode="replicate")
    weights = gaussian_weights(patch).to(image.device)
    axes = [window_starts(side, own, overlap) for side, own in zip(image.shape[2:], patch, strict=True)]
    boxes = [
        tuple(slice(first, first + side) for first, side in zip(corner, patch, strict=True))
        for corner in product(*axes)
    ]
    places = [(number, box) for number in range(len(image)) for box in boxes]
    total: Tensor | None = None
    for first in range(0, len(places), batch):
        chosen = places[first : first + batch]
        windows = torch.stack([image[number][_at(box)] for number, box in chosen])
        for (number, box), logits in zip(chosen, net(windows).float(), strict=True):
            if total is None:
                total = logits.new_zeros(len(image), len(logits), *image.shape[2:])
            total[number][_at(box)].addcmul_(logits, weights)
    assert total is not None  # there is one window at least
    total /= _weight_sums(weights, boxes, image.shape[2:])
    return total[_at([slice(side) for side in size])]


def _at(box: Sequence[slice]) -> Any:
    """Return the index of a box in the last axes of a tensor."""
    return (..., *box)


def _weight_sums(weights: Tensor, boxes: Sequence[tuple[slice, ...]], size: Sequence[int]) -> Tensor:
    sums = weights.new_zeros(*size)
    for box in boxes:
        sums[box] += weights
    return sums


def slice_by_slice(net: Network, image: Tensor, *, axis: int = 0, batch: int = 8) -> Tensor:
    """Return logits (B, K, D, H, W) float32 of volumes (B, C, D, H, W) from a network for pictures.

    Args:
        net: (N, C, rows, columns) to logits (N, K, rows, columns).
        image: (B, C, D, H, W).
        axis: 0, 1 or 2: along which slices are taken, counted in (D, H, W).
        batch: slices that go through the network together.
    """
    stack = image.movedim(2 + axis, 1).flatten(0, 1)
    parts = [net(stack[first : first + batch]).float() for first in range(0, len(stack), batch)]
    return torch.cat(parts).unflatten(0, (len(image), -1)).movedim(1, 2 + axis)
