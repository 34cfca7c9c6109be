"""Steps that find the part of a picture worth keeping."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CropBorder:
    """Crop the dark frame and the text in it ("desensitise").

    Rows and columns whose mean grey is below ``threshold`` are dropped, and of what remains the largest connected
    block is kept. A gap shorter than ``bridge`` of the side, such as an acoustic shadow, does not disconnect; the
    bridge is ours, the threshold that of the TN-SCUI 2020 winner.
    """

    threshold: float = 5.0
    bridge: float = 0.05

    def box(self, image: np.ndarray) -> tuple[int, int, int, int]:
        """Return (top, left, height, width) of the kept block; the whole image if nothing is bright enough."""
        grey = image.mean(axis=2)
        top, bottom = self._longest_run(grey.mean(axis=1) >= self.threshold)
        left, right = self._longest_run(grey.mean(axis=0) >= self.threshold)
        return top, left, bottom - top, right - left

    def _longest_run(self, bright: np.ndarray) -> tuple[int, int]:
        places = np.flatnonzero(bright)
        if not len(places):
            return 0, len(bright)
        breaks = np.flatnonzero(np.diff(places) > 1 + self.bridge * len(bright))
        runs = np.split(places, breaks + 1)
        longest = max(runs, key=lambda run: run[-1] - run[0])
        return int(longest[0]), int(longest[-1]) + 1
