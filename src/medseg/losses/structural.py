"""Multi-scale structural similarity of probabilities and truth.

Wang, Simoncelli and Bovik, Asilomar 2003, as a loss of masks in UNet 3+ (Huang et al., ICASSP 2020). Contrast and
structure are compared at every scale, luminance at the coarsest only, as in the original and in the libraries; UNet
3+'s equation writes luminance at each. Written here for 3D, for crops too small for five scales, and because the
libraries know no ignored pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.losses.encoding import probabilities_and_target

WINDOW, SIGMA = 11, 1.5
EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
C1, C2 = 0.01**2, 0.03**2
LEAST = 1e-5
"""Similarities below it count as it: negative ones have no power, and the slope of the power is infinite at 0."""


def ms_ssim(logits: Tensor, mask: Tensor, *, include_background: bool = False) -> Tensor:
    """Return one minus MS-SSIM, averaged over cases and classes.

    Args:
        logits: (B, K, *S).
        mask: (B, *S) int64; ``IGNORE`` pixels are 0 in probability and truth.
        include_background: whether class 0 takes part in the mean.
    """
    pair = probabilities_and_target(logits, mask, include_background=include_background)
    # Variances are differences of nearly equal means: never in half precision.
    with torch.autocast(logits.device.type, enabled=False):
        return 1 - similarity(*pair).mean()


class MSSSIM(nn.Module):
    """MS-SSIM loss as a module (see :func:`ms_ssim`).

    Args:
        include_background: whether class 0 takes part in the mean.
    """

    def __init__(self, include_background: bool = False) -> None:
        super().__init__()
        self.include_background = include_background

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, K, *S) and mask (B, *S)."""
        return ms_ssim(logits, mask, include_background=self.include_background)


def similarity(first: Tensor, second: Tensor) -> Tensor:
    """Return the MS-SSIM (B, C) of maps (B, C, *S) with values in [0, 1].

    Five scales need a smallest side of 176; smaller maps have fewer, whose exponents are scaled to the same sum. An
    axis shorter than the window has the largest odd window that fits.
    """
    shape = first.shape[:2]
    first, second = (values.flatten(0, 1).unsqueeze(1) for values in (first, second))
    count = scales(first.shape[2:])
    exponents = [exponent / sum(EXPONENTS[:count]) * sum(EXPONENTS) for exponent in EXPONENTS[:count]]
    product = first.new_ones(len(first))
    for scale, exponent in enumerate(exponents, start=1):
        luminance, contrast = _compared(first, second)
        score = luminance * contrast if scale == count else contrast
        product = product * score.flatten(1).mean(1).clamp(min=LEAST) ** exponent
        first, second = (_halved(values) for values in (first, second))
    return product.unflatten(0, shape)


def scales(size: tuple[int, ...]) -> int:
    """Return how many scales a map of this size has: its smallest side, halved, must still hold the window."""
    sides = [side for side in size if side > 1]
    smallest, count = min(sides, default=1), 1
    while count < len(EXPONENTS) and smallest // 2 >= WINDOW:
        smallest, count = smallest // 2, count + 1
    return count


def _compared(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return luminance and contrast-structure terms of maps (N, 1, *S) at each place of the window."""
    means = _blurred(torch.cat([first, second, first * first, second * second, first * second]))
    mean_1, mean_2, square_1, square_2, product = means.chunk(5)
    luminance = (2 * mean_1 * mean_2 + C1) / (mean_1**2 + mean_2**2 + C1)
    spread = (square_1 - mean_1**2) + (square_2 - mean_2**2)
    return luminance, (2 * (product - mean_1 * mean_2) + C2) / (spread + C2)


def _blurred(values: Tensor) -> Tensor:
    """Return weighted means (N, 1, *S') under a Gaussian window, only where it lies inside."""
    convolve = functional.conv2d if values.ndim == 4 else functional.conv3d
    for axis in range(2, values.ndim):
        side = values.shape[axis]
        window = min(WINDOW, side - 1 + side % 2)
        places = torch.arange(window, dtype=values.dtype, device=values.device) - (window - 1) / 2
        kernel = torch.exp(-0.5 * (places / SIGMA) ** 2)
        shape = [window if other == axis else 1 for other in range(values.ndim)]
        values = convolve(values, (kernel / kernel.sum()).view(shape))
    return values


def _halved(values: Tensor) -> Tensor:
    steps = [2 if side > 1 else 1 for side in values.shape[2:]]
    pool = functional.avg_pool2d if values.ndim == 4 else functional.avg_pool3d
    return pool(values, steps)
