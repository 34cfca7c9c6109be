"""Rotation, scale, shift and elastic deformation of a volume in one resampling (see ``warp`` for pictures).

A dictionary transform that stands in one list with MONAI's. MONAI's own elastic transform smooths a displacement for
every voxel; here it is a few control points, and coordinates of all voxels come from one matrix product.
"""

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from medseg.data.augment.ranges import Range, checked_chances, checked_range
from medseg.data.augment.warp import LARGEST_ELASTIC, PARTS, backward_matrix, elastic_map, resampled
from medseg.errors import ConfigError
from medseg.rng import generator


class VolumeWarp:
    """Rotate, scale, shift and deform image and labels; the image linearly interpolated, labels by nearest neighbour.

    Angles hold in voxels, so that voxels need about equal sides; where slices are much thicker than their pixels are
    wide, ``in_plane`` moves each slice alike and mixes none with another, as nnU-Net does (Isensee et al. 2021, Nature
    Methods 18:203-211), and is some ten times faster.

    Args:
        rotate: degrees about the axis through the slices.
        tilt: degrees about each of the two other axes.
        scale: factor of all axes, uniform in its logarithm; above 1 enlarges.
        shift: of each side, as its share.
        elastic: largest displacement of a control point as a share of the distance between two, at most 0.25.
        points: control points along each axis.
        in_plane: move within slices only; ``tilt`` must be 0.
        chance: probability of ``rotate`` (with ``tilt``), ``scale``, ``shift`` and ``elastic``; 1 where none is stated.
        fill: value beyond the border; None: each channel's smallest.
        fill_mask: class index beyond the border.
        prob: probability of the whole transform.

    Raises:
        ConfigError: a range is out of its limits.
    """

    def __init__(
        self,
        *,
        rotate: Range = 0.0,
        tilt: Range = 0.0,
        scale: Range = 1.0,
        shift: Range = 0.0,
        elastic: Range = 0.0,
        points: int = 6,
        in_plane: bool = False,
        chance: Mapping[str, float] | None = None,
        fill: float | None = None,
        fill_mask: int = 0,
        prob: float = 1.0,
    ) -> None:
        self.rotate = checked_range(rotate, "rotate", self)
        self.tilt = checked_range(tilt, "tilt", self)
        self.scale = checked_range(scale, "scale", self, low=0.1, high=10)
        self.shift = checked_range(shift, "shift", self, low=-1, high=1)
        self.elastic = checked_range(elastic, "elastic", self, low=0, high=LARGEST_ELASTIC)
        self.prob = checked_range(prob, "prob", self, low=0, high=1)[0]
        self.chance = checked_chances(chance, PARTS, self)
        if in_plane and self.tilt != (0, 0):
            raise ConfigError(
                f"augment transform VolumeWarp: tilt={tilt} leaves the plane; set it to 0 or in_plane=false."
            )
        if points < 2:
            raise ConfigError(f"augment transform VolumeWarp: points={points}: give at least 2 control points an axis.")
        self.points, self.in_plane, self.fill, self.fill_mask = points, in_plane, fill, fill_mask
        self.set_random_state(0)

    def set_random_state(self, seed: int) -> None:
        """Fix what the next call draws."""
        self._rng = generator(seed, "volume warp")

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the data with ``image`` (C, D, H, W) and ``mask`` (1, D, H, W) moved alike."""
        if self._rng.random() >= self.prob:
            return dict(data)
        image, mask = _tensor(data["image"]), _tensor(data["mask"])
        drawn = self._draw()
        low = image.amin((1, 2, 3), keepdim=True) if self.fill is None else torch.full((1, 1, 1, 1), self.fill)
        move = _moved_in_plane if self.in_plane else _moved
        fills = (low, torch.full((1, 1, 1, 1), self.fill_mask, dtype=mask.dtype))
        image, mask = move(image, mask, drawn, fills)
        return {**data, "image": image, "mask": mask}

    def _draw(self) -> dict[str, Any]:
        happens = {part: self._rng.random() < chance for part, chance in self.chance.items()}
        angles = [self._rng.uniform(*limits) for limits in (self.rotate, self.tilt, self.tilt)]
        factor = math.exp(self._rng.uniform(math.log(self.scale[0]), math.log(self.scale[1])))
        shift = self._rng.uniform(*self.shift, 3)
        amount = self._rng.uniform(*self.elastic) if happens["elastic"] else 0.0
        axes = 2 if self.in_plane else 3
        return {
            "angles": angles if happens["rotate"] else [0.0, 0.0, 0.0],
            "scale": factor if happens["scale"] else 1.0,
            "shift": shift if happens["shift"] else np.zeros(3),
            "grid": self._rng.uniform(-amount, amount, (self.points,) * axes + (axes,)) if amount > 0 else None,
        }


Fills = tuple[torch.Tensor, torch.Tensor]


def _moved_in_plane(
    image: torch.Tensor, mask: torch.Tensor, drawn: Mapping[str, Any], fills: Fills
) -> tuple[torch.Tensor, torch.Tensor]:
    size = (image.shape[2], image.shape[3])
    matrix = backward_matrix(size, degrees=drawn["angles"][0], scale=drawn["scale"], shift=tuple(drawn["shift"][1:]))
    if drawn["grid"] is None and np.allclose(matrix, np.eye(2, 3), atol=1e-12):
        return image, mask
    source = matrix if drawn["grid"] is None else elastic_map(matrix, drawn["grid"], size)
    moved = []
    for values, fill, interpolation in ((image, fills[0], cv2.INTER_LINEAR), (mask, fills[1], cv2.INTER_NEAREST)):
        levels = fill.flatten().tolist() * (len(values) if fill.numel() == 1 else 1)
        slices = [
            [resampled(plane, source, interpolation=interpolation, fill=level) for plane in channel]
            for channel, level in zip(values.numpy(), levels, strict=True)
        ]
        moved.append(torch.from_numpy(np.array(slices)))
    return moved[0], moved[1]


def _moved(
    image: torch.Tensor, mask: torch.Tensor, drawn: Mapping[str, Any], fills: Fills
) -> tuple[torch.Tensor, torch.Tensor]:
    size = tuple(image.shape[1:])
    matrix = volume_matrix(size, angles=drawn["angles"], scale=drawn["scale"], shift=drawn["shift"])
    if drawn["grid"] is None and np.allclose(matrix, np.eye(3, 4), atol=1e-12):
        return image, mask
    places = sample_places(matrix, drawn["grid"], size)[None]
    # grid_sample knows only 0 beyond the border, so that the fill is made 0 for as long.
    settings: dict[str, Any] = {"padding_mode": "zeros", "align_corners": False}
    moved = F.grid_sample((image - fills[0])[None], places, mode="bilinear", **settings)[0] + fills[0]
    level = fills[1].float()
    labels = F.grid_sample((mask.float() - level)[None], places, mode="nearest", **settings)[0] + level
    return moved, labels.round().to(mask.dtype)


def volume_matrix(size: tuple[int, ...], *, angles: list[float], scale: float, shift: np.ndarray) -> np.ndarray:
    """Return the 3 x 4 matrix from (z, y, x) of the result to (z, y, x) of the original.

    Args:
        size: depth, height and width.
        angles: degrees about z, y and x, applied in this order.
        scale: above 1 enlarges.
        shift: shares of depth, height and width.
    """
    linear = np.eye(3) / scale
    for axis, degrees in enumerate(angles):
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        first, second = [other for other in range(3) if other != axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = cosine
        turn[first, second], turn[second, first] = sine, -sine
        linear = linear @ turn
    centre, moved = (np.array(size) - 1) / 2, np.asarray(shift) * size
    return np.hstack([linear, (centre - linear @ (centre + moved))[:, None]])


def sample_places(matrix: np.ndarray, grid: np.ndarray | None, size: tuple[int, ...]) -> torch.Tensor:
    """Return where each voxel comes from, as ``grid_sample`` reads it: float32 (D, H, W, 3), x first, from -1 to 1.

    Args:
        matrix: from :func:`volume_matrix`.
        grid: displacements (points, points, points, 3), z first, as shares of the distance between points, or None.
        size: depth, height and width.
    """
    depth, height, width = size
    rows, columns = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
    flat = matrix[:, 1] * rows + matrix[:, 2] * columns + matrix[:, 3]
    # Rows of the product: what all slices share, what grows with z, and a sheet for each control point along z.
    left, right = (
        [np.ones((depth, 1)), np.arange(depth)[:, None]],
        [flat[None], np.broadcast_to(matrix[:, 0], (1, *flat.shape))],
    )
    if grid is not None:
        counts = [min(points, side) for points, side in zip(grid.shape, size, strict=False)]
        between = [_between(count, side) for count, side in zip(counts, size, strict=True)]
        cut = grid[: counts[0], : counts[1], : counts[2]] * (np.array(size) / counts)
        right.append(np.einsum("hb,wc,abck->ahwk", between[1], between[2], cut, optimize=True))
        left.append(between[0])
    factors = np.concatenate(right)[..., ::-1] * (2 / np.array(size[::-1]))
    factors[0] += 1 / np.array(size[::-1]) - 1
    product = torch.from_numpy(np.hstack(left).astype(np.float32)) @ torch.from_numpy(
        factors.reshape(len(factors), -1).astype(np.float32)
    )
    return product.reshape(depth, height, width, 3)


def _between(points: int, side: int) -> np.ndarray:
    """Return the matrix (side, points) of cubic interpolation between control points."""
    return cv2.resize(np.eye(points), (points, side), interpolation=cv2.INTER_CUBIC)


def _tensor(values: Any) -> torch.Tensor:
    """Return a plain tensor: MONAI's own kind drags its history through each operation."""
    return values.as_tensor() if hasattr(values, "as_tensor") else torch.as_tensor(values)
