"""From label maps to instances and back: what a detector of instances needs in order to segment.

An instance is a connected region of one class. Two touching objects of a class are one instance, since a label map
does not tell them apart.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from medseg.types import IGNORE

SMALLEST = 10
"""Regions of fewer pixels are no instances."""

TINY = 1e-4
"""Probabilities stay this far from 0 and 1, so that their log-odds are finite (9.2)."""

TIE = -1e-8
"""Logit of the background: below that of a probability of 0.5 exactly, above that of the next smaller number."""


def instances_of(mask: Tensor, *, smallest: int = SMALLEST) -> dict[str, Tensor]:
    """Return the instances of one label map, as torchvision's detectors take them.

    Args:
        mask: (H, W) integer labels; background and ``IGNORE`` are no instances.
        smallest: regions of fewer pixels (diagonal neighbours are connected) are left out.

    Returns:
        ``boxes`` (N, 4) float32, x0 y0 x1 y1 in pixels, the far sides exclusive, so that none is without area;
        ``labels`` (N,) int64; ``masks`` (N, H, W) uint8. N may be 0.
    """
    labels, boxes, masks = [], [], []
    array = mask.detach().cpu().numpy()
    for label in np.unique(array):
        if label in (0, IGNORE):
            continue
        numbered, _ = ndimage.label(array == label, structure=np.ones((3, 3)))
        for number, (rows, columns) in enumerate(ndimage.find_objects(numbered), start=1):
            region = numbered == number
            if region.sum() < smallest:
                continue
            labels.append(int(label))
            boxes.append([columns.start, rows.start, columns.stop, rows.stop])
            masks.append(region)
    where = mask.device
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32, device=where).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64, device=where),
        "masks": torch.from_numpy(np.array(masks, dtype=np.uint8).reshape(-1, *array.shape)).to(where),
    }


def class_probabilities(
    found: Mapping[str, Tensor], *, num_classes: int, size: Sequence[int], score: float = 0.5
) -> Tensor:
    """Return for each foreground class the largest mask probability of its instances, (K - 1, H, W) float32.

    Zero where there is no instance. With K = 1 there is one foreground class.

    Args:
        found: one image's ``labels`` (N,), ``scores`` (N,) and ``masks`` (N, 1, H, W) of probabilities.
        num_classes: classes K.
        size: (H, W).
        score: instances below it do not count.
    """
    masks = found["masks"][:, 0].float()
    probabilities = masks.new_zeros((max(num_classes - 1, 1), *size))
    for label, mask, own in zip(found["labels"].tolist(), masks, found["scores"].tolist(), strict=True):
        if own >= score:
            probabilities[label - 1] = torch.maximum(probabilities[label - 1], mask)
    return probabilities


def merged_mask(probabilities: Tensor, *, threshold: float = 0.5) -> Tensor:
    """Return the label map (H, W) int64 of class probabilities (K - 1, H, W): the likeliest, where it is enough."""
    likeliest, label = probabilities.max(0)
    return torch.where(likeliest >= threshold, label + 1, 0)


def logits_of(probabilities: Tensor, *, num_classes: int) -> Tensor:
    """Return logits (K, H, W) whose largest is :func:`merged_mask`'s label: log-odds of each foreground class.

    The background's is 0 (to :data:`TIE`), so with two classes the softmax gives the probability back. With K = 1 the
    only channel is the foreground's, and its sign decides.

    Args:
        probabilities: (K - 1, H, W), or (1, H, W) with K = 1.
        num_classes: classes K.
    """
    odds = torch.logit(probabilities, eps=TINY)
    if num_classes == 1:
        return odds
    return torch.cat([torch.full_like(odds[:1], TIE), odds])
