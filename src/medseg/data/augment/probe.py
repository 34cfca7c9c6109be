"""How an ultrasound probe is held, and how deep it looks: image and mask move alike.

Rows are depth, the probe is above the first row, columns are scan lines, as in pictures of a linear array; on a sector
picture these transforms are an approximation.
"""

import math
import os
from typing import Any

import cv2
import numpy as np

from medseg.data.augment.ranges import Range, checked_range, drawn, drawn_factor
from medseg.data.augment.ultrasound import grey_scale
from medseg.data.augment.warp import resampled

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
from albumentations import DualTransform
from albumentations.core.type_definitions import Targets


class Depth(DualTransform):
    """Set another imaging depth: rows are stretched or squeezed from the probe's surface on.

    A linear probe shows its full width at every depth setting, so that in pictures of one size only the rows change
    scale; with ``lateral`` columns do likewise, about the middle, as pictures of convex probes do.

    Args:
        factor: imaging depth over the one of the picture, uniform in its logarithm; above 1 things get smaller.
        lateral: whether columns scale too.
        fill_mask: class index where the picture does not reach.
        p: probability.

    Raises:
        ConfigError: a range is out of its limits.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    def __init__(
        self, *, factor: Range = (0.8, 1.25), lateral: bool = False, fill_mask: int = 0, p: float = 0.5
    ) -> None:
        super().__init__(p=p)
        self.factor = checked_range(factor, "factor", self, low=0.1, high=10)
        self.lateral, self.outside_mask = lateral, fill_mask

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Return the 2 x 3 matrix from (column, row) of the result to those of the picture."""
        factor = drawn_factor(self.py_random, self.factor)
        across, middle = factor if self.lateral else 1.0, (params["shape"][1] - 1) / 2
        return {"source": np.array([[across, 0, middle * (1 - across)], [0, factor, 0]])}

    def apply(self, img: np.ndarray, *, source: np.ndarray, **params: Any) -> np.ndarray:
        """Return the image (H, W, C) at the new depth."""
        return resampled(img, source, interpolation=cv2.INTER_LINEAR, fill=grey_scale(img)[0])

    def apply_to_mask(self, mask: np.ndarray, *, source: np.ndarray, **params: Any) -> np.ndarray:
        """Return the mask (H, W) at the new depth."""
        return resampled(mask, source, interpolation=cv2.INTER_NEAREST, fill=self.outside_mask)


class ProbeAngle(DualTransform):
    """Hold the probe at another angle, or bend its surface.

    The picture turns about the point where the beams meet, ``apex`` heights above the first row's middle (0: about the
    probe's surface). ``bend`` makes a linear array's parallel scan lines a convex probe's fan: a line at the share s of
    half the width beside the middle leaves at the angle ``bend`` * s; a negative value undoes such a fan. Lengths along
    a line and on the probe's surface stay what they are.

    Args:
        tilt: degrees, counter-clockwise as displayed.
        bend: degrees of the outermost line.
        apex: height of the centre of the turn above the picture, as a share of the picture's height.
        fill_mask: class index where the picture does not reach.
        p: probability.

    Raises:
        ConfigError: a range is out of its limits.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    def __init__(
        self,
        *,
        tilt: Range = (-8.0, 8.0),
        bend: Range = 0.0,
        apex: float = 0.0,
        fill_mask: int = 0,
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        self.tilt = checked_range(tilt, "tilt", self, low=-90, high=90)
        self.bend = checked_range(bend, "bend", self, low=-60, high=60)
        self.apex, self.outside_mask = checked_range(apex, "apex", self, low=0)[0], fill_mask

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Return where each pixel comes from: a 2 x 3 matrix, or with a bend a float32 (H, W, 2) map."""
        height, width = params["shape"][:2]
        tilt, bend = (math.radians(drawn(self.py_random, limits)) for limits in (self.tilt, self.bend))
        turn = np.array([[math.cos(tilt), -math.sin(tilt)], [math.sin(tilt), math.cos(tilt)]])
        apex = np.array([(width - 1) / 2, -self.apex * height])
        matrix = np.hstack([turn, (apex - turn @ apex)[:, None]])
        return {"source": bent(matrix, (height, width), bend=bend) if abs(bend) > 1e-6 else matrix}

    def apply(self, img: np.ndarray, *, source: np.ndarray, **params: Any) -> np.ndarray:
        """Return the image (H, W, C) of the other angle."""
        return resampled(img, source, interpolation=cv2.INTER_LINEAR, fill=grey_scale(img)[0])

    def apply_to_mask(self, mask: np.ndarray, *, source: np.ndarray, **params: Any) -> np.ndarray:
        """Return the mask (H, W) of the other angle."""
        return resampled(mask, source, interpolation=cv2.INTER_NEAREST, fill=self.outside_mask)


def bent(matrix: np.ndarray, size: tuple[int, int], *, bend: float) -> np.ndarray:
    """Return the float32 (H, W, 2) map, columns first, of a tilt followed by a bend of the probe.

    Args:
        matrix: 2 x 3, from (column, row) of the result to those of the bent picture.
        size: rows and columns.
        bend: radians of the outermost scan line; positive: parallel lines become a fan.
    """
    height, width = size
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    across = matrix[0, 0] * columns + matrix[0, 1] * rows + matrix[0, 2] - (width - 1) / 2
    down = matrix[1, 0] * columns + matrix[1, 1] * rows + matrix[1, 2]
    # The probe's surface is an arc as long as the picture is wide; its centre lies above the picture.
    radius = width / (2 * abs(bend))
    if bend > 0:
        angle, distance = np.arctan2(across, down + radius), np.hypot(across, down + radius)
        across, down = radius * angle, distance - radius
    else:
        angle, distance = across / radius, down + radius
        across, down = distance * np.sin(angle), distance * np.cos(angle) - radius
    return np.stack([across + (width - 1) / 2, down], axis=2).astype(np.float32)
