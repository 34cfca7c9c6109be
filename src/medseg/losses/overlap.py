"""Losses from the overlap of probabilities and truth.

All of them are made of the soft counts of a class: TP = sum(p g), FP = sum(p (1 - g)) and FN = sum((1 - p) g) over the
valid pixels of a case, or of the batch with ``batch=True``, which suits data in which many images lack the class.

The default ``smooth`` of 1 pixel is our reading; most papers smooth nothing and libraries add 1e-5. On a case that
lacks the class the loss is ``1 - s / (sum(p) + s)``. With s = 1e-5 that is nearly 1 until less than 1e-5 of a pixel is
false in all, and hardly slopes on the way: images without a nodule do not teach. With s = 1 it falls with the last
false pixels. The price is less than ``1 / n`` of loss on a truth of n pixels, which small nodules notice. Losses under
the name of a paper have the paper's own value. The same holds for Tversky and its kin, where 1 is twice as much.
"""

import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.losses.encoding import probabilities_and_target
from medseg.types import IGNORE


def dice(
    logits: Tensor,
    mask: Tensor,
    *,
    smooth: float = 1.0,
    include_background: bool = False,
    squared: bool = False,
    batch: bool | None = False,
) -> Tensor:
    """Return one minus the soft Dice, averaged over cases and classes.

    Soft Dice of a case and class is ``(2 sum(p g) + smooth) / (sum(p) + sum(g) + smooth)``. An empty mask keeps
    its gradient: the loss is then ``1 - smooth / (sum(p) + smooth)``, so false positives are punished (some
    libraries multiply by "class is present" and return 0 there).

    Args:
        logits: (B, K, *S).
        mask: (B, *S) int64; ``IGNORE`` pixels count neither as truth nor as prediction.
        smooth: added to numerator and denominator, in pixels; 1 is our reading, see the module.
        include_background: whether class 0 takes part in the mean.
        squared: whether the denominator sums squares (V-Net: Milletari et al., 3DV 2016).
        batch: whether the sums run over the batch; None: those of pictures do and those of volumes do not, which is
            nnU-Net's plan for 2D and, without a cascade, for 3D.
    """
    probability, target = probabilities_and_target(logits, mask, include_background=include_background)
    axes = _axes(probability, batch)
    overlap = (probability * target).sum(axes)
    power = 2 if squared else 1
    total = (probability**power).sum(axes) + target.sum(axes)
    return 1 - ((2 * overlap + smooth) / (total + smooth)).mean()


class Dice(nn.Module):
    """Soft Dice loss as a module (see :func:`dice`).

    Args:
        smooth: added to numerator and denominator, in pixels; must be positive.
        include_background: whether class 0 takes part in the mean.
        squared: whether the denominator sums squares.
        batch: whether the sums run over the batch; None: in 2D only.
    """

    def __init__(
        self, smooth: float = 1.0, include_background: bool = False, squared: bool = False, batch: bool | None = False
    ) -> None:
        super().__init__()
        self.smooth, self.include_background = checked_smooth(smooth), include_background
        self.squared, self.batch = squared, batch

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, K, *S) and mask (B, *S)."""
        return dice(
            logits, mask, smooth=self.smooth, include_background=self.include_background, squared=self.squared,
            batch=self.batch,
        )  # fmt: skip


WEIGHTINGS = {"square": 2, "simple": 1, "uniform": 0}
"""Name of a weighting of the generalised Dice loss, and the power of 1 / volume that it is."""


def generalised_dice(logits: Tensor, mask: Tensor, *, weighting: str = "square") -> Tensor:
    """Return the generalised Dice loss, background included, averaged over cases (Sudre et al., DLMIA 2017).

    ``1 - 2 sum_c w_c TP_c / sum_c w_c (sum p_c + sum g_c)``, without smoothing. A class that a case lacks has the
    largest weight among those it has; a case without any labelled pixel costs 0. Written here because MONAI's
    ``GeneralizedDiceLoss``, which weighs alike, adds 1e-5 to both sums: they are of the order of 1 / volume, no more
    than that on volumes.

    Args:
        logits: (B, K, *S).
        mask: (B, *S) int64; ``IGNORE`` pixels are left out.
        weighting: ``square`` (1 / volume^2, the paper's), ``simple`` (1 / volume) or ``uniform``.
    """
    probability, target = probabilities_and_target(logits, mask)
    axes = _axes(probability, batch=False)
    volume = target.sum(axes)
    there = volume > 0
    # Relative to the smallest class, whose weight is then 1: the factor cancels, and no weight leaves float32.
    smallest = volume.masked_fill(~there, torch.inf).amin(1, keepdim=True)
    weight = torch.where(there, smallest / volume.clamp(min=1), 1.0) ** WEIGHTINGS[weighting]
    shared = (weight * (probability * target).sum(axes)).sum(1)
    # At least the smallest class's volume, so at least 1 where there is a label.
    total = (weight * (probability.sum(axes) + volume)).sum(1).clamp(min=1)
    return ((1 - 2 * shared / total) * there.any(1)).mean()


class GeneralisedDice(nn.Module):
    """Generalised Dice loss as a module (see :func:`generalised_dice`).

    Args:
        weighting: of classes: ``square``, ``simple`` or ``uniform``.

    Raises:
        ConfigError: another weighting.
    """

    def __init__(self, weighting: str = "square") -> None:
        super().__init__()
        if weighting not in WEIGHTINGS:
            raise ConfigError(f"loss.weighting={weighting}: choose one of {', '.join(WEIGHTINGS)}.")
        self.weighting = weighting

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, K, *S) and mask (B, *S)."""
        return generalised_dice(logits, mask, weighting=self.weighting)


def mcc(logits: Tensor, mask: Tensor, *, smooth: float = 1.0, include_background: bool = False) -> Tensor:
    """Return one minus Matthews' correlation coefficient, averaged over cases and classes.

    Of each class against the rest, from soft counts (Abhishek and Hamarneh, ISBI 2021, arXiv:2010.13454). ``smooth``
    is added to TP and to TN, so that the coefficient of an empty mask is 1 for an empty answer and falls with every
    false positive. MONAI's ``MCCLoss`` has no gradient there and counts ignored pixels as true negatives.

    Args:
        logits: (B, K, *S).
        mask: (B, *S) int64; ``IGNORE`` pixels are left out.
        smooth: in pixels.
        include_background: whether class 0 takes part in the mean; with two classes its coefficient is the other's.
    """
    probability, target = probabilities_and_target(logits, mask, include_background=include_background)
    tp, fp, fn = _counts(probability, target, batch=False)
    pixels = (mask != IGNORE).flatten(1).sum(1, keepdim=True).to(tp.dtype)
    tn = pixels - tp - fp - fn + smooth
    tp = tp + smooth
    # Two roots: the product of four counts of a large volume leaves float32.
    scale = ((tp + fp) * (tp + fn)).sqrt() * ((tn + fp) * (tn + fn)).sqrt()
    return 1 - ((tp * tn - fp * fn) / scale).mean()


class MCC(nn.Module):
    """Matthews' correlation coefficient as a loss (see :func:`mcc`).

    Args:
        smooth: added to true positives and true negatives, in pixels; must be positive.
        include_background: whether class 0 takes part in the mean.
    """

    def __init__(self, smooth: float = 1.0, include_background: bool = False) -> None:
        super().__init__()
        self.smooth, self.include_background = checked_smooth(smooth), include_background

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, K, *S) and mask (B, *S)."""
        return mcc(logits, mask, smooth=self.smooth, include_background=self.include_background)


def tversky_index(
    probability: Tensor,
    target: Tensor,
    *,
    false_positives: float,
    false_negatives: float,
    smooth: float,
    batch: bool = False,
) -> Tensor:
    """Return ``(TP + smooth) / (TP + a FP + b FN + smooth)`` by case and class, (B, C), or (C,) over the batch.

    Args:
        probability: (B, C, *S), zero where ignored.
        target: (B, C, *S) one-hot, zero where ignored.
        false_positives: a.
        false_negatives: b.
        smooth: in pixels; half of what :func:`dice` means by it.
        batch: whether the sums run over the batch.
    """
    tp, fp, fn = _counts(probability, target, batch=batch)
    return (tp + smooth) / (tp + false_positives * fp + false_negatives * fn + smooth)


def checked_smooth(smooth: float) -> float:
    """Return a smoothing that is positive.

    Raises:
        ConfigError: it is not, and classes that are absent would divide zero by zero.
    """
    if smooth <= 0:
        raise ConfigError(f"loss.smooth={smooth}: give a positive number of pixels.")
    return float(smooth)


def _counts(probability: Tensor, target: Tensor, *, batch: bool) -> tuple[Tensor, Tensor, Tensor]:
    axes = _axes(probability, batch)
    tp = (probability * target).sum(axes)
    # Sums rather than 1 - g: ignored pixels are zero in both and stay out of all counts. Rounding never goes below 0.
    fp, fn = (torch.clamp(whole.sum(axes) - tp, min=0) for whole in (probability, target))
    return tp, fp, fn


def _axes(values: Tensor, batch: bool | None) -> tuple[int, ...]:
    """Return the axes that are summed of (B, C, *S); ``batch=None`` takes the batch in where *S is a picture."""
    whole = values.ndim == 4 if batch is None else batch
    return (*((0,) if whole else ()), *range(2, values.ndim))
