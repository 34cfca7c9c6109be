"""Where the voxels of a volume lie, and how they are reoriented and put back."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.errors import DataError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From the patient axes of DICOM and SimpleITK to those of NIfTI and medseg; its own inverse."""

Affine = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Grid:
    """The grid of a volume in medseg's orientation: W from left to right, H to anterior, D to superior (RAS+).

    Attributes:
        shape: (D, H, W).
        affine: 4 x 4, voxel indices (x along W, y along H, z along D, 1) to millimetres in RAS+.
        stored: axis codes of the file, fastest axis first, for instance ``LPS``: what the writers go back to.
    """

    shape: tuple[int, int, int]
    affine: Affine
    stored: str = "RAS"

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Size of a voxel along (D, H, W) in mm."""
        x, y, z = (float(size) for size in np.linalg.norm(np.asarray(self.affine)[:3, :3], axis=0))
        return (z, y, x)

    @property
    def stored_affine(self) -> np.ndarray:
        """4 x 4 affine of the file: indices along its own axes to mm in RAS+."""
        from nibabel.orientations import inv_ornt_aff

        return np.asarray(self.affine) @ inv_ornt_aff(_to_stored(self.stored), self.shape[::-1])


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels and where they lie.

    Attributes:
        values: (C, D, H, W) float32 of an image, (D, H, W) uint8 of labels.
        grid: the place of the voxels.
    """

    values: np.ndarray
    grid: Grid


def _to_stored(stored: str) -> np.ndarray:
    from nibabel.orientations import axcodes2ornt, ornt_transform

    return ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(stored))


def grid_of(shape: Sequence[int], affine: np.ndarray, *, path: Path) -> Grid:
    """Return the grid of a file's voxels.

    Args:
        shape: voxels along the file's three axes, fastest axis first.
        affine: 4 x 4, indices along these axes to mm in RAS+.
        path: the file, for messages.

    Raises:
        DataError: the affine is not finite or maps voxels on top of each other.
    """
    from nibabel.orientations import inv_ornt_aff, io_orientation, ornt2axcodes

    if min(shape) < 1:
        raise DataError(f"{path}: volume has shape {tuple(shape)}; every axis needs at least one voxel.")
    if not np.isfinite(affine).all():
        raise DataError(f"{path}: affine holds values that are not finite; repair the header with its source.")
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    # Relative to the voxel, so that small voxels do not look flat.
    if sizes.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-4:
        raise DataError(
            f"{path}: affine has determinant 0 (voxel sizes {', '.join(f'{size:g}' for size in sizes)} mm), so voxels "
            "lie on top of each other; repair the header with its source."
        )
    orientation = io_orientation(affine)
    stored = "".join(ornt2axcodes(orientation))
    reoriented = affine @ inv_ornt_aff(orientation, tuple(shape))
    if np.linalg.det(reoriented[:3, :3]) <= 0:
        raise DataError(f"{path}: affine is sheared beyond any orientation; repair the header with its source.")
    order = np.argsort(orientation[:, 0])
    width, height, depth = (int(shape[axis]) for axis in order)
    return Grid((depth, height, width), tuple(tuple(float(value) for value in row) for row in reoriented), stored)


def reorient(values: np.ndarray, grid: Grid) -> np.ndarray:
    """Return an array (X, Y, Z) or (X, Y, Z, C) of a file's axes as (D, H, W) or (C, D, H, W) of ``grid``, a view."""
    from nibabel.orientations import apply_orientation, axcodes2ornt

    return apply_orientation(values, axcodes2ornt(grid.stored)).T


def as_stored(values: np.ndarray, grid: Grid) -> np.ndarray:
    """Return an array (D, H, W) or (C, D, H, W) of ``grid`` as (X, Y, Z) or (X, Y, Z, C) of the file's axes, a view.

    Raises:
        DataError: array and grid differ in shape.
    """
    from nibabel.orientations import apply_orientation

    if values.shape[-3:] != grid.shape or values.ndim not in (3, 4):
        raise DataError(f"voxels of shape {values.shape} do not fit the grid {grid.shape}; undo the resampling.")
    return apply_orientation(values.T, _to_stored(grid.stored))


def same_grid(a: Grid, b: Grid, *, names: tuple[object, object], tolerance: float = 0.05) -> None:
    """Check that two volumes lie on one grid; their files may be stored in different orientations.

    Args:
        a: grid of the first.
        b: grid of the second.
        names: the two files, for the message.
        tolerance: how far apart the outermost voxels may lie, as a share of the smallest voxel side.

    Raises:
        DataError: shapes or affines differ; the message says which and by how much.
    """
    way_out = "export both on one grid, or register the one onto the other with 'medseg data register'"
    if a.shape != b.shape:
        shapes = ["x".join(str(side) for side in grid.shape) for grid in (b, a)]
        raise DataError(f"{names[1]}: shape is {shapes[0]}, of {names[0]} {shapes[1]} (D x H x W); {way_out}.")
    ends = [(0, side - 1) for side in a.shape[::-1]]
    corners = np.array([(x, y, z, 1) for x in ends[0] for y in ends[1] for z in ends[2]], float).T
    apart = float(np.abs((np.asarray(a.affine) - np.asarray(b.affine)) @ corners).max())
    # A volume one voxel thick has corners in one plane only, so the voxel sizes are compared as well.
    apart = max(apart, *(abs(one - other) for one, other in zip(a.spacing, b.spacing, strict=True)))
    if apart > tolerance * min(*a.spacing, *b.spacing):
        raise DataError(
            f"{names[1]}: affine differs from that of {names[0]}, voxels lie up to {apart:.3g} mm apart (spacing "
            f"{_text(b.spacing)} and {_text(a.spacing)} mm, origin {_text(_origin(b))} and {_text(_origin(a))}); "
            f"{way_out}."
        )


def _origin(grid: Grid) -> list[float]:
    return [row[3] for row in grid.affine[:3]]


def _text(values: Sequence[float]) -> str:
    return "x".join(f"{value:.4g}" for value in values)
