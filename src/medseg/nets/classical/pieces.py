"""Connected pieces of a mask."""

import numpy as np
from scipy import ndimage


def largest(chosen: np.ndarray) -> np.ndarray:
    """Return the largest connected region (sides only) of (H, W) bool; an empty mask stays empty."""
    numbered, count = ndimage.label(chosen)
    if count < 2:
        return chosen
    return numbered == 1 + np.bincount(numbered.ravel())[1:].argmax()


def nearest_pixel(chosen: np.ndarray, place: tuple[int, int]) -> tuple[int, int]:
    """Return the (row, column) of the pixel of (H, W) bool, not empty, that is nearest to a place."""
    pixels = np.argwhere(chosen)
    row, column = pixels[((pixels - np.array(place)) ** 2).sum(axis=1).argmin()]
    return int(row), int(column)


def nearest(chosen: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    """Return the connected region (sides only) of (H, W) bool that has a pixel, or else comes nearest to it."""
    numbered, count = ndimage.label(chosen)
    return numbered == numbered[nearest_pixel(chosen, place)] if count > 1 else chosen
