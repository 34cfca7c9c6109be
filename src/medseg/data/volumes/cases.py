"""A case's volume files as one image and one label map."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.data.cases import Case
from medseg.data.missing import available_channels
from medseg.data.volumes.files import read_label_volume, read_volume, volume_header
from medseg.data.volumes.grid import Grid, same_grid
from medseg.data.volumes.planes import labelled_voxels
from medseg.errors import DataError
from medseg.types import IGNORE


@dataclass(frozen=True, eq=False)
class CaseVolume:
    """What the files of a case hold, on the grid of its first image.

    Attributes:
        image: float32 (C, D, H, W); missing channels are zero.
        labels: uint8 (D, H, W), or None for a case without mask.
        grid: of image and labels.
        available: (C,) bool, which channels are there.
    """

    image: np.ndarray
    labels: np.ndarray | None
    grid: Grid
    available: np.ndarray


def read_volume_case(case: Case, *, channels: int, labels: Mapping[int, int]) -> CaseVolume:
    """Return a case's image and label map; voxels that ``labelled_slices`` leaves out are ``IGNORE``.

    Args:
        case: one file with C channels, or C files (None where a modality is missing).
        channels: C.
        labels: value in the mask file to class index.

    Raises:
        DataError: a file is missing, unreadable or lies on another grid, or the channels are not C.
    """
    image, grid = _read_images(case, channels)
    truth = _read_masks(case, labels, grid) if case.masks else None
    return CaseVolume(image, truth, grid, available_channels(case, channels=channels))


def case_grid(case: Case) -> Grid:
    """Return the grid of a case's first image that is there, from its header.

    Raises:
        DataError: every modality is missing, or the file is damaged.
    """
    return volume_header(_first(case))


def _first(case: Case) -> Path:
    found = next((path for path in case.images if path is not None), None)
    if found is None:
        raise DataError(f"case '{case.id}' has no image at all; take its row out of the manifest.")
    return found


def _read_images(case: Case, channels: int) -> tuple[np.ndarray, Grid]:
    first = _first(case)
    if len(case.images) not in (1, channels):
        raise DataError(
            f"case '{case.id}' has {len(case.images)} image files, data.card.in_channels={channels}; make them equal."
        )
    whole = read_volume(first)
    wanted = channels if len(case.images) == 1 else 1
    image = np.zeros((channels, *whole.grid.shape), np.float32)
    for place, path in enumerate(case.images):
        if path is None:
            continue
        volume = whole if path == first else read_volume(path)
        if len(volume.values) != wanted:
            raise DataError(
                f"{path}: volume has {len(volume.values)} channels, {wanted} expected (data.card.in_channels="
                f"{channels} in {len(case.images)} file(s)); list one file a modality or correct the card."
            )
        same_grid(whole.grid, volume.grid, names=(first, path))
        image[place : place + wanted] = volume.values
    return image, whole.grid


def _read_masks(case: Case, labels: Mapping[int, int], grid: Grid) -> np.ndarray:
    parts = []
    for path in case.masks:
        volume = read_label_volume(path, labels=labels, grid=grid)
        same_grid(grid, volume.grid, names=(_first(case), path))
        parts.append(volume.values)
    mask = np.maximum.reduce(parts)
    known = labelled_voxels(case, mask)
    if known is not None:
        mask[~known] = IGNORE
    return mask
