"""Calibration: whether a stated probability comes true as often as it says, pixel by pixel of one class."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ScoreError

BINS = 15
"""Equal-width bins of a reliability table unless said otherwise (Guo et al., ICML 2017)."""

Table = NDArray[np.float64]

_PIECE = 1 << 18
"""Pixels taken at a time: keeps the memory of a volume at a few megabytes and inside the processor's cache."""

_ROUNDING = 1e-6
"""How far above 1 or below 0 sums of float32 probabilities may stray."""


def reliability_bins(
    probability: NDArray[Any], truth: NDArray[Any], *, bins: int = BINS, counted: NDArray[np.bool_] | None = None
) -> Table:
    """Return (bins, 3): pixels, sum of their probabilities and number of them in the class, for each bin.

    Bin b of B holds b / B <= p < (b + 1) / B, the last one also p = 1. Tables of several images add up: the sum is
    the table of all their pixels.

    Args:
        probability: (*S) probability of the class at each pixel, floating point.
        truth: (*S) whether the pixel belongs to the class, bool or 0 and 1.
        bins: number of equal-width bins.
        counted: (*S) pixels to be looked at; all if not given.

    Raises:
        ScoreError: shapes differ, fewer than one bin, or a probability that is NaN, infinite or outside 0..1.
    """
    if bins < 1:
        raise ScoreError(f"reliability: bins={bins}; give at least one.")
    table = np.zeros((bins, 3))
    for values, hits in _pieces(probability, truth, counted):
        place = np.minimum((values * bins).astype(np.intp), bins - 1)
        for column, weights in enumerate((None, values, hits)):
            table[:, column] += np.bincount(place, weights=weights, minlength=bins)
    return table


def ece_of_bins(table: NDArray[Any]) -> float:
    """Return the expected calibration error of a (bins, 3) table: sum over bins of n_b / N |hits_b - confidence_b|.

    Naeini et al., AAAI 2015, with the class's probability as the confidence. NaN for a table without a pixel.
    """
    number, probability, positives = np.asarray(table, dtype=np.float64).T
    pixels = number.sum()
    return float(np.abs(positives - probability).sum() / pixels) if pixels else float("nan")


def brier(probability: NDArray[Any], truth: NDArray[Any], *, counted: NDArray[np.bool_] | None = None) -> float:
    """Return the Brier score of one class against the rest: the mean over pixels of (p - y)^2; NaN without a pixel.

    Arguments and errors as in ``reliability_bins``.
    """
    squares, pixels = 0.0, 0
    for values, hits in _pieces(probability, truth, counted):
        difference = values - hits
        squares, pixels = squares + float(difference @ difference), pixels + len(values)
    return squares / pixels if pixels else float("nan")


def _pieces(
    probability: NDArray[Any], truth: NDArray[Any], counted: NDArray[np.bool_] | None
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield checked probabilities and hits (0.0 or 1.0), flat, a piece of the image at a time."""
    if probability.shape != truth.shape or (counted is not None and counted.shape != truth.shape):
        raise ScoreError(f"probability is {probability.shape} but truth is {truth.shape}; score them on one grid.")
    if not np.issubdtype(probability.dtype, np.floating):
        raise ScoreError(f"probability has dtype {probability.dtype}; give floating-point numbers from 0 to 1.")
    flat, hits = probability.reshape(-1), truth.reshape(-1)
    kept = None if counted is None else counted.reshape(-1)
    for start in range(0, flat.size, _PIECE):
        part = slice(start, start + _PIECE)
        values, real = flat[part].astype(np.float64), hits[part].astype(np.float64)
        if kept is not None:
            values, real = values[kept[part]], real[kept[part]]
        if values.size and not (values.min() >= -_ROUNDING and values.max() <= 1 + _ROUNDING):  # also catches NaN
            raise ScoreError(
                f"probability has values {values.min()}..{values.max()}; take the softmax first, and look for NaN."
            )
        yield np.clip(values, 0.0, 1.0), real
