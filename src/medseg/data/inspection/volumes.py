"""One volume file, with a finding for whatever training refuses or overlooks."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.data.inspection.findings import Collector
from medseg.data.inspection.pictures import mapped_labels, value_counts
from medseg.errors import DataError

if TYPE_CHECKING:
    from medseg.data.volumes.grid import Grid

_ROUNDING, _REFUSED = 0.01, 0.05
"""Shares of a voxel: what rounding in headers moves a grid by at most; from where training refuses the case."""


def look_at_volume(path: Path, collector: Collector) -> "tuple[np.ndarray, Grid, str] | None":
    """Return an image volume float32 (C, D, H, W) in RAS+, its grid and the file's type of number; None if refused."""
    from medseg.data.volumes.files import read_volume

    try:
        volume = read_volume(path)
    except DataError as error:
        text = str(error).removeprefix(f"{path}: ")
        kind = "not-finite" if "not finite" in text and "affine" not in text else "unreadable"
        collector.add(kind, f"{path.name}: {text}", file=path)
        return None
    return volume.values, volume.grid, _dtype(path)


def look_at_label_volume(
    path: Path, collector: Collector, *, labels: Mapping[int, int], grid: "Grid | None"
) -> "tuple[np.ndarray | None, Grid, dict[float, int], str] | None":
    """Return label map uint8 (D, H, W) in RAS+, its grid, voxels of each value and type of number; None if refused.

    The label map alone is None where a value is not declared.

    Args:
        path: volume file, or a DICOM segmentation (.dcm).
        collector: takes the findings.
        labels: value in the file to class index.
        grid: of the image, where known; a DICOM segmentation may leave out empty slices.
    """
    from medseg.data.volumes.files import read_label_volume

    if path.suffix.lower() == ".dcm":
        try:
            volume = read_label_volume(path, labels=labels, grid=grid)
        except DataError as error:
            kind = "undeclared-values" if "outside the declared" in str(error) else "unreadable"
            collector.add(kind, f"{path.name}: {str(error).removeprefix(f'{path}: ')}", file=path)
            return None
        return volume.values, volume.grid, {}, "dicom-seg"
    found = look_at_volume(path, collector)
    if found is None:
        return None
    values, own, dtype = found
    if len(values) != 1:
        collector.add("channel-count", f"label volume {path.name} holds {len(values)} channels, not one", file=path)
        return None
    # A header's scaling may leave 0.99999994 for 1; the reader of labels rounds as much.
    whole = np.rint(values[0])
    near = np.where(np.abs(values[0] - whole) <= 1e-4, whole, values[0])
    counts = value_counts(near)
    return mapped_labels(near, counts, path, collector, labels=labels), own, counts, dtype


def compare_grids(first: "Grid", other: "Grid", path: Path, collector: Collector) -> bool:
    """Note whether a file lies elsewhere than the first of its case, and return whether its voxels can be used.

    The distance is that of the farthest corner, in voxels of the smaller spacing.
    """
    if first.shape != other.shape:
        shapes = ["x".join(map(str, grid.shape)) for grid in (other, first)]
        collector.add("size-mismatch", f"{path.name} is {shapes[0]}, the case {shapes[1]} (D x H x W)", file=path)
        return False
    corners = np.array([(x, y, z, 1) for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    corners[:, :3] *= np.asarray(first.shape[::-1])  # one beyond the last voxel, so that a single slice has corners
    moved = corners @ (np.asarray(first.affine) - np.asarray(other.affine)).T
    apart = float(np.linalg.norm(moved[:, :3], axis=1).max()) / min(*first.spacing, *other.spacing)
    if apart > _ROUNDING:
        spacing = ["x".join(f"{side:.4g}" for side in grid.spacing) for grid in (other, first)]
        collector.add(
            "grid-mismatch" if apart > _REFUSED else "grid-shift",
            f"{path.name} lies up to {apart:.3g} voxels off (spacing {spacing[0]}, the case {spacing[1]} mm)",
            file=path,
        )
    return apart <= _REFUSED


def _dtype(path: Path) -> str:
    """Return the type of number in a NIfTI file, "" for other formats."""
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return ""
    from nibabel.loadsave import load

    header: Any = load(path).header
    return str(header.get_data_dtype())
