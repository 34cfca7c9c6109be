"""Predicted label maps as files: PNG for pictures, NIfTI on the grid of the source for volumes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medseg.data.cases import Case
from medseg.data.files import read_mask, write_mask
from medseg.types import IGNORE


def file_values(labels: np.ndarray, declared: Mapping[int, int]) -> np.ndarray:
    """Return a label map in the values of the dataset's own masks, for instance 0 and 255, uint8.

    Args:
        labels: class indices.
        declared: value in the mask file to class index; of several values for one class the last is taken.
    """
    values = np.zeros(256, np.uint8)
    for value, index in declared.items():
        if index != IGNORE and value <= 255:
            values[index] = value
    return values[labels]


def prediction_path(folder: Path, case: str, *, spatial_dims: int) -> Path:
    """Return where the predicted label map of a case lies."""
    return folder / (f"{case}.png" if spatial_dims == 2 else f"{case}.nii.gz")


def save_prediction(folder: Path, case: Case, labels: np.ndarray, *, declared: Mapping[int, int]) -> Path:
    """Write a native label map and return its path; a volume gets the geometry of the case's first image."""
    path = prediction_path(folder, case.id, spatial_dims=labels.ndim)
    values = file_values(labels, declared)
    if labels.ndim == 2:
        write_mask(path, values)
        return path
    from medseg.data.volumes.cases import case_grid
    from medseg.data.volumes.files import write_label_volume

    write_label_volume(path, values, case_grid(case))
    return path


def load_prediction(folder: Path, case: Case, *, declared: Mapping[int, int], spatial_dims: int) -> np.ndarray:
    """Return the native label map, uint8, that :func:`save_prediction` wrote."""
    path = prediction_path(folder, case.id, spatial_dims=spatial_dims)
    if spatial_dims == 2:
        return read_mask(path, labels=declared)
    from medseg.data.volumes.files import read_label_volume

    return read_label_volume(path, labels=declared).values
