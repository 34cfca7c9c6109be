"""Connected pieces of a mask."""

import numpy as np
from scipy import ndimage


def largest(chosen: np.ndarray) -> np.ndarray:
    """Return the largest connected region (sides only) of (H, W) bool; an empty mask stays empty."""
    numbered, count = ndimage.label(chosen)
    if count < 2:
        return chosen
    return numbered == 1 + np.bincount(numbered.ravel())[1:].argmax()


def nearest(chosen: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    """Return the connected region (sides only) of (H, W) bool that has a pixel, or else comes nearest to it."""
    numbered, count = ndimage.label(chosen)
    if count < 2:
        return chosen
    pixels = np.argwhere(chosen)
    closest = pixels[((pixels - np.array(place)) ** 2).sum(axis=1).argmin()]
    return numbered == numbered[tuple(closest)]
