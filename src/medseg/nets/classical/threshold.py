"""One grey value for all images: what brightness alone is worth."""

import numpy as np
import torch
from torch import Tensor, nn

from medseg.errors import ConfigError, DataError
from medseg.nets.adapters import check_channels, two_class_logits
from medseg.nets.classical.pieces import largest
from medseg.types import IGNORE

BINS = 256
"""Candidate thresholds between the darkest and the brightest training pixel."""


def _dice_below(grey: np.ndarray, wanted: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the Dice (BINS,) of "grey < edge" and of "grey >= edge" for one image, at each edge but the first."""
    everything = np.histogram(grey, edges)[0]
    hits = np.histogram(grey[wanted], edges)[0]
    size = wanted.sum()
    below = 2 * hits.cumsum() / (everything.cumsum() + size)
    above = 2 * (size - hits.cumsum()) / (len(grey) - everything.cumsum() + size)
    return below, above


class Threshold(nn.Module):
    """One threshold on the mean grey of the channels for all images; fitted, without gradients.

    :meth:`fit` tries 256 thresholds over the training images' range, with the class below or above, and keeps what has
    the largest mean per-image Dice. Images without the class do not vote, for their Dice is undefined.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        label: the class that is told from all others; they count as background.
        largest_component: keep only the largest connected region of each image's answer.

    Raises:
        ConfigError: a label out of 1..K-1; in ``forward``, another number of channels, or not fitted yet.
    """

    READING = ""
    interaction = "none"

    def __init__(self, *, in_channels: int, num_classes: int, label: int = 1, largest_component: bool = False) -> None:
        super().__init__()
        if not 1 <= label < max(num_classes, 2):
            raise ConfigError(
                f"net.label={label} is no foreground class of {num_classes}; choose 1..{num_classes - 1}."
            )
        self.in_channels, self.num_classes = in_channels, num_classes
        self.label, self.largest_component = label, largest_component
        self.register_buffer("threshold", torch.tensor(float("nan")))
        self.register_buffer("bright", torch.tensor(False))

    def fit(self, images: list[np.ndarray], masks: list[np.ndarray]) -> None:
        """Choose threshold and polarity.

        Args:
            images: (H, W, C) float32 in the network's normalisation.
            masks: (H, W) uint8 label maps; IGNORE pixels do not count.

        Raises:
            DataError: no mask has the class.
        """
        pairs = [
            (image.mean(axis=-1)[mask != IGNORE], mask[mask != IGNORE] == self.label)
            for image, mask in zip(images, masks, strict=True)
            if (mask == self.label).any()
        ]
        if not pairs:
            raise DataError(
                f"none of {len(masks)} training masks has class {self.label}; a threshold cannot be fitted."
            )
        lowest, highest = min(grey.min() for grey, _ in pairs), max(grey.max() for grey, _ in pairs)
        edges = np.linspace(lowest, highest, BINS + 1, dtype=np.float64)
        if lowest == highest:
            raise DataError(f"every pixel of {len(pairs)} training images is {lowest}; a threshold cannot be fitted.")
        dice = np.mean([_dice_below(grey, wanted, edges) for grey, wanted in pairs], axis=0)
        polarity, position = np.unravel_index(dice.argmax(), dice.shape)
        self.bright.fill_(bool(polarity))
        # The last edge is the brightest pixel itself: everything is below it.
        self.threshold.fill_(float(edges[position + 1]) if position + 1 < BINS else float("inf"))

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of +-10 for images (B, C, H, W)."""
        check_channels(image, self.in_channels, net="Threshold")
        if bool(self.threshold.isnan()):
            raise ConfigError("Threshold is not fitted; train it with method=fitted before it is asked.")
        grey = image.mean(dim=1)
        chosen = grey >= self.threshold if bool(self.bright) else grey < self.threshold
        if self.largest_component:
            kept = np.stack([largest(one) for one in chosen.cpu().numpy()])
            chosen = torch.from_numpy(kept).to(chosen.device)
        return two_class_logits(chosen, self.num_classes, label=self.label)
