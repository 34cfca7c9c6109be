"""DICOM in and out: segmentation objects (DICOM-SEG) with highdicom; the series themselves are read by ``series``."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.volumes.faults import MAX_FILE_BYTES, check_count, unreadable
from medseg.data.volumes.grid import LPS_TO_RAS, Grid, as_stored, grid_of, reorient, same_grid
from medseg.data.volumes.series import DICOM_ERRORS, Series, read_header, read_series
from medseg.errors import DataError

__all__ = ["Segmentation", "Series", "read_dicom_seg", "read_series", "write_dicom_seg"]

_STORAGE = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # segmentation, label map segmentation


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a DICOM segmentation holds.

    Attributes:
        labels: uint8 (D, H, W) in RAS+ orientation; values are segment numbers, 0 is outside every segment.
        grid: the place of the voxels.
        names: label of segment 1, 2, ... after the background's; "" for a number without a segment.
    """

    labels: np.ndarray
    grid: Grid
    names: tuple[str, ...]


def read_dicom_seg(path: Path, *, grid: Grid | None = None) -> Segmentation:
    """Read a segmentation whose segments do not overlap.

    Args:
        path: DICOM-SEG file, binary or label map.
        grid: of the image; the labels are placed on it, because many writers leave out the slices without foreground.

    Raises:
        DataError: the file is unreadable, no segmentation, fractional, has overlapping segments, or does not lie on
            the grid.
    """
    import highdicom

    header = read_header(path, limit=MAX_FILE_BYTES)
    if header.get("SOPClassUID") not in _STORAGE:
        raise DataError(f"{path}: file is no DICOM segmentation; a series of slices is given as its folder.")
    if header.get("SegmentationType") == "FRACTIONAL":
        raise DataError(f"{path}: segmentation is fractional; export it as binary, with the threshold of your choice.")
    try:
        check_count(path, prod(int(header.get(name) or 1) for name in ("Rows", "Columns", "NumberOfFrames")))
        found = highdicom.seg.segread(path)
        names = _names(found)
        volume = found.get_volume(combine_segments=True, dtype=np.uint8)
    except DICOM_ERRORS as error:
        if "overlap" in str(error):
            raise DataError(f"{path}: segments overlap, labels cannot; export them as separate files.") from None
        raise unreadable(path, error) from None
    affine = LPS_TO_RAS @ np.asarray(volume.affine, float)[:, [2, 1, 0, 3]]
    voxels = volume.array.T
    own = grid_of(voxels.shape, affine, path=path)
    labels = np.ascontiguousarray(reorient(voxels, own))
    return (
        Segmentation(labels, own, names) if grid is None else Segmentation(_place(labels, own, grid, path), grid, names)
    )


def _names(found: Any) -> tuple[str, ...]:
    numbers = list(found.segment_numbers)
    if max(numbers, default=0) > 254:
        raise ValueError(f"segment number {max(numbers)} exceeds 254")
    labels = {number: str(found.get_segment_description(number).segment_label) for number in numbers}
    return ("background", *(labels.get(number, "") for number in range(1, max(numbers, default=0) + 1)))


def _place(labels: np.ndarray, own: Grid, grid: Grid, path: Path) -> np.ndarray:
    """Return the labels on a larger grid with the same voxels, 0 where the file says nothing."""
    start = np.linalg.solve(np.asarray(grid.affine), np.asarray(own.affine)[:, 3])[:3]
    first = np.rint(start).astype(int)[::-1]
    part = [slice(int(low), int(low) + side) for low, side in zip(first, labels.shape, strict=True)]
    inside = all(one.start >= 0 and one.stop <= side for one, side in zip(part, grid.shape, strict=True))
    affine = np.asarray(grid.affine).copy()
    affine[:3, 3] += affine[:3, :3] @ first[::-1]
    there = Grid(own.shape, tuple(tuple(float(value) for value in row) for row in affine))
    same_grid(there, own, names=("its image", path))
    if not inside:
        raise DataError(f"{path}: segmentation reaches beyond its image ({own.shape} against {grid.shape}, D x H x W).")
    placed = np.zeros(grid.shape, np.uint8)
    placed[tuple(part)] = labels
    return placed


def write_dicom_seg(path: Path, labels: np.ndarray, grid: Grid, *, reference: Path, names: Sequence[str]) -> None:
    """Write labels as a binary DICOM segmentation that refers to the series it was made from; every slice is written.

    Args:
        path: file to write, .dcm.
        labels: (D, H, W), values 0 to len(names) - 1.
        grid: as reading the series gave it.
        reference: folder of the series.
        names: of the classes in label order, background first; every other class becomes a segment.

    Raises:
        DataError: the labels do not lie on the series' grid or hold a value without a name.
    """
    import highdicom
    from pydicom.uid import generate_uid

    series = read_series(reference)
    same_grid(series.grid, grid, names=(reference, path))
    if labels.dtype.kind not in "bui" or labels.min(initial=0) < 0 or labels.max(initial=0) >= len(names):
        raise DataError(
            f"{path}: labels reach {labels.max()}, names are given for 0 to {len(names) - 1}; name each class."
        )
    # The series' own order of slices, not the given grid's: frame i must belong to header i.
    frames = np.ascontiguousarray(as_stored(labels.astype(np.uint8), series.grid).T)
    content = highdicom.seg.Segmentation(
        source_images=list(series.headers),
        pixel_array=frames,
        segmentation_type="BINARY",
        segment_descriptions=[_description(number, name) for number, name in enumerate(names) if number],
        series_instance_uid=generate_uid(),
        series_number=300,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="medseg",
        manufacturer_model_name="medseg",
        software_versions=_version(),
        device_serial_number="0",
        omit_empty_frames=False,
        content_label="SEGMENTATION",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    content.save_as(path)


def _version() -> str:
    from importlib.metadata import version

    return version("medseg")


def _description(number: int, name: str) -> Any:
    """Return a segment's description; the codes say only that it is tissue, because names of classes are free text."""
    import highdicom
    from pydicom.sr.codedict import codes

    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=codes.SCT.Tissue,
        segmented_property_type=codes.SCT.Tissue,
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="medseg", version=_version(), family=codes.DCM.ArtificialIntelligence
        ),
    )
