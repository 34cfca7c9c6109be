"""The slices of a volume that are annotated: the manifest column ``labelled_slices``.

Parts separated by ``;``, each with ``AXIS:`` before it or, for the first axis, without:

- ``7``: this slice, counted from 0;
- ``even3``: three slices at equal steps among those that hold foreground;
- ``drawn3/SEED``: three slices drawn among them, by the seed and the id of the case.

Slices are those of the file's own grid, before any preprocessing.
"""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.cases import Case
from medseg.errors import DataError
from medseg.rng import generator
from medseg.types import IGNORE

COLUMN = "labelled_slices"

_PART = re.compile(
    r"(?:(?P<axis>[0-2]):)?(?:(?P<slice>[0-9]+)|(?P<kind>even|drawn)(?P<count>[1-9][0-9]*)(?:/(?P<seed>-?[0-9]+))?)"
)


def labelled_voxels(case: Case, mask: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """Return which voxels of a mask count as labelled, (D, H, W); None where the column is empty: all of them.

    Args:
        case: with the column among its attributes, or without it.
        mask: its labels (D, H, W), dense.

    Raises:
        DataError: the column holds something else, or slices that the volume does not have.
    """
    text = case.attributes.get(COLUMN, "")
    if not text:
        return None
    known = np.zeros(mask.shape, np.bool_)
    for part in text.split(";"):
        axis, places = _slices(case, part.strip(), mask)
        np.moveaxis(known, axis, 0)[places] = True
    return known


def _slices(case: Case, part: str, mask: NDArray[np.uint8]) -> tuple[int, NDArray[np.integer[Any]]]:
    """Return the axis that a part of the column is about, and its slices."""
    found = _PART.fullmatch(part)
    if found is None or (found["kind"] == "drawn") != (found["seed"] is not None):
        raise _fault(case, f"'{part}' is no slice (7, or 1:7 of axis 1) and no number of them (1:even3, 1:drawn3/SEED)")
    axis = int(found["axis"] or 0)
    depth = mask.shape[axis]
    if found["slice"] is not None:
        number = int(found["slice"])
        if number >= depth:
            raise _fault(case, f"'{part}' is none of the slices 0 to {depth - 1} of axis {axis}")
        return axis, np.array([number])
    count = int(found["count"])
    if count > depth:
        raise _fault(case, f"'{part}' wants {count} slices, axis {axis} has {depth}")
    places = _worth_labelling(mask, axis, count)
    if found["kind"] == "even":
        return axis, places[(2 * np.arange(count) + 1) * len(places) // (2 * count)]
    return axis, generator(int(found["seed"]), "sparse", case.id, axis).choice(places, count, replace=False)


def _worth_labelling(mask: NDArray[np.uint8], axis: int, count: int) -> NDArray[np.integer[Any]]:
    """Return the slices along an axis that hold foreground, with the nearest others if they are fewer than ``count``.

    In a mask without foreground these are all slices.
    """
    every = np.arange(mask.shape[axis])
    inside = (mask > 0) & (mask != IGNORE)
    held = np.flatnonzero(np.moveaxis(inside, axis, 0).reshape(len(every), -1).any(axis=1))
    if not len(held):
        return every
    if len(held) >= count:
        return held
    distance = np.abs(every[:, None] - held).min(axis=1)
    return np.sort(np.argsort(distance, kind="stable")[:count])


def _fault(case: Case, what: str) -> DataError:
    return DataError(
        f"case '{case.id}': {COLUMN} '{case.attributes[COLUMN]}': {what}; repair this manifest column, or the setting "
        "split.slices or split.axes that filled it."
    )
