"""Losses that are means over pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import ConfigError
from medseg.losses.encoding import valid_labels, widened
from medseg.types import IGNORE


def cross_entropy(
    logits: Tensor, mask: Tensor, *, weight: Tensor | None = None, pixels: Tensor | None = None
) -> Tensor:
    """Return the mean cross entropy over the pixels that are not ``IGNORE``; 0 where there are none.

    Args:
        logits: (B, K, *S).
        mask: (B, *S) int64.
        weight: (K,) class weights; the mean is then weighted by them.
        pixels: (B, *S) pixel weights, likewise.
    """
    wide = widened(logits)
    if weight is None and pixels is None:
        total = functional.cross_entropy(wide, mask, ignore_index=IGNORE, reduction="sum")
        return total / (mask != IGNORE).sum().clamp(min=1)
    valid, labels = valid_labels(mask)
    factors = valid.to(wide.dtype)
    if weight is not None:
        factors = factors * weight[labels]
    if pixels is not None:
        factors = factors * pixels
    each = functional.cross_entropy(wide, mask, ignore_index=IGNORE, reduction="none")
    # No branch on the data: a test for "nothing valid" would make the device wait at every step.
    return (each * factors).sum() / factors.sum().clamp(min=torch.finfo(wide.dtype).tiny)


class CrossEntropy(nn.Module):
    """Cross entropy as a module (see :func:`cross_entropy`).

    Args:
        class_weights: one weight a class, or None for equal weights.
    """

    weight: Tensor | None

    def __init__(self, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        values = None if class_weights is None else torch.tensor([float(value) for value in class_weights])
        if values is not None and (values < 0).any():
            raise ConfigError(f"loss.class_weights={list(class_weights or [])}: no weight may be negative.")
        self.register_buffer("weight", values, persistent=False)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, K, *S) and mask (B, *S).

        Raises:
            ConfigError: there are not as many weights as classes.
        """
        if self.weight is not None:
            check_class_count(len(self.weight), logits.shape[1], key="class_weights")
        return cross_entropy(logits, mask, weight=self.weight)


class WeightedCrossEntropy(CrossEntropy):
    """Cross entropy in which rare classes weigh more; the mean is normalised by the sum of the weights.

    A class weighs the inverse of its frequency. Median-frequency balancing (Eigen and Fergus, ICCV 2015) differs by a
    factor common to all classes, which the normalisation takes out again.

    Args:
        class_weights: one weight a class.
        frequencies: share of pixels of each class in the training data, from which weights are made if none are given.
            Without either, each batch's own frequencies are used, so that all classes in it weigh alike.

    Raises:
        ConfigError: both lists are given, or a number in them is not possible.
    """

    def __init__(
        self, class_weights: Sequence[float] | None = None, frequencies: Sequence[float] | None = None
    ) -> None:
        if class_weights is not None and frequencies is not None:
            raise ConfigError("loss.class_weights and loss.frequencies exclude one another; set one of them to null.")
        if frequencies is not None:
            if min(frequencies) <= 0:
                raise ConfigError(f"loss.frequencies={list(frequencies)}: every class needs a positive share.")
            class_weights = [1 / float(share) for share in frequencies]
        super().__init__(class_weights)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, K, *S) and mask (B, *S)."""
        if self.weight is not None:
            return super().forward(logits, mask)
        return cross_entropy(logits, mask, weight=inverse_frequency(mask, logits.shape[1]).to(widened(logits).dtype))


def inverse_frequency(mask: Tensor, classes: int) -> Tensor:
    """Return the number of valid pixels over that of each class, (K,); any finite number where there is none."""
    counts = torch.stack([(mask == label).sum() for label in range(classes)])
    return counts.sum() / counts.clamp(min=1)


def focal(logits: Tensor, mask: Tensor, *, gamma: float = 2.0, alpha: float | None = None) -> Tensor:
    """Return the focal loss ``-a (1 - p)^gamma log p`` of the true class's p, averaged over valid pixels.

    Lin et al., ICCV 2017, with softmax; with two classes this is the paper's sigmoid on the difference of the logits.
    Written here because MONAI's casts to float32 and cannot be checked in float64.

    Args:
        logits: (B, K, *S).
        mask: (B, *S) int64; ``IGNORE`` pixels are left out.
        gamma: 0 is cross entropy; else at least 1, where the slope is finite everywhere.
        alpha: a of every foreground class; background has 1 - alpha. None: 1 for all.
    """
    valid, labels = valid_labels(mask)
    log_p = widened(logits).log_softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
    each = -log_p if gamma == 0 else -((-torch.expm1(log_p)) ** gamma) * log_p
    if alpha is not None:
        each = each * torch.where(labels > 0, alpha, 1 - alpha)
    return (each * valid).sum() / valid.sum().clamp(min=1)


class Focal(nn.Module):
    """Focal loss as a module (see :func:`focal`).

    Args:
        gamma: 0, or at least 1.
        alpha: weight of the foreground in [0, 1]; None for equal weights.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(self, gamma: float = 2.0, alpha: float | None = None) -> None:
        super().__init__()
        if gamma != 0 and gamma < 1:
            raise ConfigError(
                f"loss.gamma={gamma}: give 0, or at least 1; between them the slope is infinite at p = 1."
            )
        if alpha is not None and not 0 <= alpha <= 1:
            raise ConfigError(f"loss.alpha={alpha}: give the foreground's weight in [0, 1], or null.")
        self.gamma, self.alpha = gamma, alpha

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, K, *S) and mask (B, *S)."""
        return focal(logits, mask, gamma=self.gamma, alpha=self.alpha)


def check_class_count(given: int, classes: int, *, key: str) -> None:
    """Check that a list of the loss has an entry for each class.

    Raises:
        ConfigError: it has not.
    """
    if given != classes:
        raise ConfigError(f"loss.{key} has {given} entries, the network answers with {classes} classes; give one each.")
