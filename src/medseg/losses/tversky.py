"""Losses from the Tversky index: Tversky, Jaccard, focal Tversky and unified focal.

Everywhere here ``false_positives`` and ``false_negatives`` are named for what they weigh: papers and libraries call
them alpha and beta in either order. The default ``smooth`` of 1 pixel is our reading, see
:mod:`~medseg.losses.overlap`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import ConfigError
from medseg.losses.encoding import probabilities_and_target, valid_labels, widened
from medseg.losses.overlap import checked_smooth, tversky_index


def tversky(
    logits: Tensor,
    mask: Tensor,
    *,
    false_positives: float = 0.3,
    false_negatives: float = 0.7,
    smooth: float = 1.0,
    include_background: bool = False,
    batch: bool = False,
) -> Tensor:
    """Return one minus the Tversky index, averaged over cases and classes (Salehi et al., MLMI 2017).

    ``1 - (TP + smooth) / (TP + a FP + b FN + smooth)``; a = b = 0.5 is Dice (with half its ``smooth``), a = b = 1
    Jaccard. The paper's 0.3 and 0.7 punish a missed pixel more than a false one.

    Args:
        logits: (B, K, *S).
        mask: (B, *S) int64; ``IGNORE`` pixels are left out.
        false_positives: a.
        false_negatives: b.
        smooth: in pixels.
        include_background: whether class 0 takes part in the mean.
        batch: whether the sums run over the batch.
    """
    pair = probabilities_and_target(logits, mask, include_background=include_background)
    index = tversky_index(
        *pair, false_positives=false_positives, false_negatives=false_negatives, smooth=smooth, batch=batch
    )
    return 1 - index.mean()


class Tversky(nn.Module):
    """Tversky loss as a module (see :func:`tversky`); with both weights 1 the Jaccard loss.

    Args:
        false_positives: weight of false positives.
        false_negatives: weight of false negatives.
        smooth: in pixels; must be positive.
        include_background: whether class 0 takes part in the mean.
        batch: whether the sums run over the batch.
    """

    def __init__(
        self,
        false_positives: float = 0.3,
        false_negatives: float = 0.7,
        smooth: float = 1.0,
        include_background: bool = False,
        batch: bool = False,
    ) -> None:
        super().__init__()
        _check_weights(false_positives, false_negatives)
        self.false_positives, self.false_negatives = false_positives, false_negatives
        self.smooth, self.include_background, self.batch = checked_smooth(smooth), include_background, batch

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, K, *S) and mask (B, *S)."""
        return tversky(
            logits, mask, false_positives=self.false_positives, false_negatives=self.false_negatives,
            smooth=self.smooth, include_background=self.include_background, batch=self.batch,
        )  # fmt: skip


def focal_tversky(
    logits: Tensor,
    mask: Tensor,
    *,
    false_positives: float = 0.3,
    false_negatives: float = 0.7,
    gamma: float = 4 / 3,
    smooth: float = 1.0,
    include_background: bool = False,
) -> Tensor:
    """Return ``sum_c (1 - TI_c)^(1 / gamma)``, averaged over cases (Abraham and Khan, ISBI 2019).

    The paper's alpha = 0.7 weighs false negatives and its beta = 0.3 false positives. Each class is raised to the
    power by itself and the classes are summed.

    Args:
        logits: (B, K, *S).
        mask: (B, *S) int64; ``IGNORE`` pixels are left out.
        false_positives: weight of false positives in the index.
        false_negatives: weight of false negatives.
        gamma: above 1 raises the share of cases that are already good.
        smooth: in pixels.
        include_background: whether class 0 takes part in the sum.
    """
    pair = probabilities_and_target(logits, mask, include_background=include_background)
    index = tversky_index(*pair, false_positives=false_positives, false_negatives=false_negatives, smooth=smooth)
    return _power(1 - index, 1 / gamma).sum(1).mean()


class FocalTversky(nn.Module):
    """Focal Tversky loss as a module (see :func:`focal_tversky`).

    Args:
        false_positives: weight of false positives in the index.
        false_negatives: weight of false negatives.
        gamma: 1 / gamma is the exponent; at least 1.
        smooth: in pixels; must be positive.
        include_background: whether class 0 takes part in the sum.
    """

    def __init__(
        self,
        false_positives: float = 0.3,
        false_negatives: float = 0.7,
        gamma: float = 4 / 3,
        smooth: float = 1.0,
        include_background: bool = False,
    ) -> None:
        super().__init__()
        _check_weights(false_positives, false_negatives)
        if gamma <= 0:
            raise ConfigError(f"loss.gamma={gamma}: give a positive number, 4/3 in the paper.")
        self.false_positives, self.false_negatives, self.gamma = false_positives, false_negatives, gamma
        self.smooth, self.include_background = checked_smooth(smooth), include_background

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, K, *S) and mask (B, *S)."""
        return focal_tversky(
            logits, mask, false_positives=self.false_positives, false_negatives=self.false_negatives,
            gamma=self.gamma, smooth=self.smooth, include_background=self.include_background,
        )  # fmt: skip


def asymmetric_focal(logits: Tensor, mask: Tensor, *, delta: float = 0.6, gamma: float = 0.5) -> Tensor:
    """Return the cross entropy in which only easy background is played down, averaged over valid pixels.

    ``-delta log p`` on foreground, ``-(1 - delta) (1 - p)^gamma log p`` on background (Yeung et al., 2022).

    Args:
        logits: (B, K, *S).
        mask: (B, *S) int64; ``IGNORE`` pixels are left out.
        delta: weight of the foreground, in [0, 1].
        gamma: exponent of the background.
    """
    valid, labels = valid_labels(mask)
    log_p = widened(logits).log_softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
    background = (1 - delta) * _power(-torch.expm1(log_p), gamma)
    factor = torch.where(labels == 0, background, torch.full_like(background, delta))
    return -(factor * log_p * valid).sum() / valid.sum().clamp(min=1)


def asymmetric_focal_tversky(
    logits: Tensor, mask: Tensor, *, delta: float = 0.6, gamma: float = 0.5, smooth: float = 1.0
) -> Tensor:
    """Return the mean over cases and classes of ``1 - TI`` (background) and ``(1 - TI_c)^(1 - gamma)`` (the others).

    Args:
        logits: (B, K, *S).
        mask: (B, *S) int64; ``IGNORE`` pixels are left out.
        delta: weight of false negatives in the index; false positives weigh ``1 - delta``.
        gamma: in [0, 1); larger enhances rare classes more.
        smooth: in pixels.
    """
    pair = probabilities_and_target(logits, mask)
    missing = 1 - tversky_index(*pair, false_positives=1 - delta, false_negatives=delta, smooth=smooth)
    return torch.cat([missing[:, :1], _power(missing[:, 1:], 1 - gamma)], dim=1).mean()


class UnifiedFocal(nn.Module):
    """Asymmetric unified focal loss: ``weight`` x focal cross entropy + (1 - ``weight``) x focal Tversky.

    Yeung et al., Computerized Medical Imaging and Graphics 95:102026, 2022, arXiv:2102.04525; any number of classes,
    the first of which is the background. Written here because MONAI's ``AsymmetricUnifiedFocalLoss`` knows two classes
    only; the first term is summed over classes as in the paper, MONAI halves it.

    Args:
        weight: of the cross-entropy term, the paper's lambda, in [0, 1].
        delta: weight of the foreground, in [0, 1].
        gamma: in [0, 1).
        smooth: in pixels; must be positive.

    Raises:
        ConfigError: a number is outside its range.
    """

    def __init__(self, weight: float = 0.5, delta: float = 0.6, gamma: float = 0.5, smooth: float = 1.0) -> None:
        super().__init__()
        if not (0 <= weight <= 1 and 0 <= delta <= 1 and 0 <= gamma < 1):
            raise ConfigError(
                f"loss: weight={weight}, delta={delta}, gamma={gamma} must lie in [0, 1], gamma below 1; the paper has "
                "0.5, 0.6, 0.5."
            )
        self.weight, self.delta, self.gamma, self.smooth = weight, delta, gamma, checked_smooth(smooth)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, K, *S) and mask (B, *S)."""
        pixels = asymmetric_focal(logits, mask, delta=self.delta, gamma=self.gamma)
        regions = asymmetric_focal_tversky(logits, mask, delta=self.delta, gamma=self.gamma, smooth=self.smooth)
        return self.weight * pixels + (1 - self.weight) * regions


def _check_weights(false_positives: float, false_negatives: float) -> None:
    if min(false_positives, false_negatives) < 0 or false_positives + false_negatives == 0:
        raise ConfigError(
            f"loss.false_positives={false_positives}, loss.false_negatives={false_negatives}: give two numbers that "
            "are not negative and not both 0."
        )


def _power(base: Tensor, exponent: float) -> Tensor:
    """Return a power of numbers in [0, 1] whose slope is finite where it is 0."""
    return functional.relu(base).clamp(min=torch.finfo(base.dtype).eps) ** exponent
