"""What every augmentation is: a call with image, mask and seed."""

from typing import Protocol

import numpy as np


class Augmentation(Protocol):
    """A random change of an image and its mask that depends on nothing but its arguments."""

    @property
    def empty(self) -> bool:
        """Whether nothing is ever changed."""
        ...

    def __call__(self, image: np.ndarray, mask: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return image and mask, changed alike, in the types they came in.

        Args:
            image: pictures and slices: uint8 or float32 (H, W, C). Volumes: float32 (C, D, H, W).
            mask: uint8 class indices or ``types.IGNORE``, (H, W) or (D, H, W).
            seed: of this sample.
        """
        ...
