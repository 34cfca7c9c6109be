"""Mirroring, rotation, scale, shift and elastic deformation of a picture in one resampling.

Each further resampling blurs an image again and costs as much as the first. Elastic deformations in the libraries
smooth a displacement for every pixel with a Gaussian of many pixels, which is most of their cost; a few control
points and a cubic interpolation between them give as smooth a field (free-form deformation: Rueckert et al. 1999,
IEEE Transactions on Medical Imaging 18(8):712-721, there with B-splines; here OpenCV's cubic convolution).
"""

import math
import os
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from medseg.data.augment.ranges import Range, checked_chances, checked_range, drawn, drawn_factor
from medseg.errors import ConfigError

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
from albumentations import DualTransform
from albumentations.core.type_definitions import Targets

PARTS = ("rotate", "scale", "shift", "elastic")
# Neighbours differ by at most twice this share of their distance, and the steepest slope of the cubic between two
# points is about 1.7 of their difference: below it no pixel overtakes another.
LARGEST_ELASTIC = 0.25


class Warp(DualTransform):
    """Mirror, rotate, scale, shift and deform an image (linear interpolation) and its mask (nearest neighbour).

    Args:
        mirror: probability that ``columns`` (left and right) and ``rows`` change their order, 0 where none is stated.
        rotate: degrees about the centre, counter-clockwise as displayed.
        scale: factor, uniform in its logarithm; above 1 enlarges.
        shift: of each side, as its share.
        elastic: largest displacement of a control point as a share of the distance between two, at most 0.25; the
            displacements are uniform up to it, per axis.
        points: control points along each side.
        chance: probability of each part, by name; 1 where none is stated.
        fill: grey level beyond the border; None: the smallest of the image (for slices with negative values).
        fill_mask: class index beyond the border; ``types.IGNORE`` leaves those pixels out of loss and scores.
        p: probability of the whole transform.

    Raises:
        ConfigError: a range is out of its limits.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    def __init__(
        self,
        *,
        mirror: Mapping[str, float] | None = None,
        rotate: Range = 0.0,
        scale: Range = 1.0,
        shift: Range = 0.0,
        elastic: Range = 0.0,
        points: int = 8,
        chance: Mapping[str, float] | None = None,
        fill: float | None = 0.0,
        fill_mask: int = 0,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self.mirror = checked_chances(mirror, ("columns", "rows"), self, name="mirror", rest=0.0)
        self.rotate = checked_range(rotate, "rotate", self)
        self.scale = checked_range(scale, "scale", self, low=0.1, high=10)
        self.shift = checked_range(shift, "shift", self, low=-1, high=1)
        self.elastic = checked_range(elastic, "elastic", self, low=0, high=LARGEST_ELASTIC)
        self.chance = checked_chances(chance, PARTS, self)
        if points < 2:
            raise ConfigError(f"augment transform Warp: points={points}: give at least 2 control points a side.")
        # Not `fill`: albumentations hands an attribute of that name to every call as a parameter.
        self.points, self.outside, self.outside_mask = points, fill, fill_mask

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Return where pixels come from: a 2 x 3 matrix, a float32 (H, W, 2) map, a code of ``cv2.flip`` or None."""
        height, width = params["shape"][:2]
        chosen, chance = self.py_random, self.chance
        columns, rows = (chosen.random() < self.mirror[axis] for axis in ("columns", "rows"))
        degrees = drawn(chosen, self.rotate, chance["rotate"])
        scale = drawn_factor(chosen, self.scale, chance["scale"])
        down, right = (drawn(chosen, self.shift, chance["shift"]) for _ in range(2))
        amount = drawn(chosen, self.elastic, chance["elastic"])
        if (degrees, scale, down, right, amount) == (0, 1, 0, 0, 0):
            return {"source": -1 if columns and rows else 1 if columns else 0 if rows else None}
        matrix = backward_matrix((height, width), degrees=degrees, scale=scale, shift=(down, right))
        for axis, (mirrored, side) in enumerate(((columns, width), (rows, height))):
            if mirrored:
                matrix[axis] = np.array([0, 0, side - 1]) - matrix[axis]
        if amount == 0:
            return {"source": matrix}
        grid = self.random_generator.uniform(-amount, amount, (self.points, self.points, 2))
        return {"source": elastic_map(matrix, grid, (height, width))}

    def apply(self, img: np.ndarray, *, source: np.ndarray | int | None, **params: Any) -> np.ndarray:
        """Return the moved image (H, W, C)."""
        outside = float(img.min()) if self.outside is None else self.outside
        return resampled(img, source, interpolation=cv2.INTER_LINEAR, fill=outside)

    def apply_to_mask(self, mask: np.ndarray, *, source: np.ndarray | int | None, **params: Any) -> np.ndarray:
        """Return the moved mask (H, W), which holds no value that was not there but ``fill_mask``."""
        return resampled(mask, source, interpolation=cv2.INTER_NEAREST, fill=self.outside_mask)


def backward_matrix(
    size: tuple[int, int], *, degrees: float = 0.0, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    """Return the 2 x 3 matrix from (column, row) of the result to (column, row) of the original.

    Args:
        size: rows and columns.
        degrees: counter-clockwise as displayed.
        scale: above 1 enlarges.
        shift: rows down and columns right, as shares of the sides.
    """
    height, width = size
    middle, centre = (width - 1) / 2, (height - 1) / 2
    cosine, sine = math.cos(math.radians(degrees)) / scale, math.sin(math.radians(degrees)) / scale
    right, down = middle + shift[1] * width, centre + shift[0] * height
    return np.array(
        [[cosine, -sine, middle - cosine * right + sine * down], [sine, cosine, centre - sine * right - cosine * down]]
    )


def elastic_map(matrix: np.ndarray, grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the float32 (H, W, 2) map of ``cv2.remap``: an affine move and a displacement of control points.

    Args:
        matrix: from :func:`backward_matrix`.
        grid: displacements (points, points, 2), columns first, as shares of the distance between two points.
        size: rows and columns.
    """
    height, width = size
    # A sheet in numbers of its own: at most as many points as pixels, else cv2 would shrink the grid.
    rows, columns = min(grid.shape[0], height), min(grid.shape[1], width)
    pixels = (grid[:rows, :columns] * (width / columns, height / rows)).astype(np.float32)
    field = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, 2 * width)
    # Columns and rows enter as one product of rank two, which is faster than two additions with broadcasting.
    along = matrix[:, 0] * np.arange(width)[:, None] + matrix[:, 2]
    factors = np.stack([np.tile(matrix[:, 1], width), along.ravel()]).astype(np.float32)
    places = np.stack([np.arange(height), np.ones(height)], axis=1).astype(np.float32)
    field += places @ factors
    return field.reshape(height, width, 2)


def resampled(image: np.ndarray, source: np.ndarray | int | None, *, interpolation: int, fill: float) -> np.ndarray:
    """Return an image (H, W) or (H, W, C) of any channels, taken from ``source``: a matrix, a map, a flip or None."""
    if source is None:
        return image
    if isinstance(source, int):
        return cv2.flip(image, source).reshape(image.shape)
    # OpenCV takes the border's value of the first four channels from a list, of the fifth again from its start.
    settings: dict[str, Any] = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": [fill] * 4}
    if source.ndim == 3:
        nothing: Any = None  # the map holds both coordinates, which OpenCV's types do not know of
        moved = cv2.remap(image, source, nothing, interpolation, **settings)
    else:
        flags = interpolation | cv2.WARP_INVERSE_MAP
        moved = cv2.warpAffine(image, source, image.shape[1::-1], flags=flags, **settings)
    return moved.reshape(image.shape)
