"""Preprocessed volumes as raw memory maps, made once and shared by every run with the same files and recipe.

An entry is a folder named by its key with ``images.f16`` (each case C x D x H x W), ``masks.u8``, ``truths.u8`` (native
label maps), ``points.i32`` (a sample of voxel places by class) and ``entry.json``; cases lie end to end. A patch is
read without reading its volume.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from rich.progress import track

from medseg.data.cache import FORMAT_VERSION, Reading, entry_key, flush
from medseg.data.cases import Case, by_id
from medseg.data.checks import check_labels, check_list, raise_first
from medseg.data.entries import Room, hold, make_entry
from medseg.data.volumes.cases import read_volume_case
from medseg.errors import DataError
from medseg.rng import generator
from medseg.types import IGNORE, Geometry

POINTS = 2000
"""Most places kept of each class of a case; patches of foreground are placed around one of them."""

_FILES = {"images": ("images.f16", np.float16), "masks": ("masks.u8", np.uint8), "truths": ("truths.u8", np.uint8),
          "points": ("points.i32", np.int32)}  # fmt: skip


@dataclass
class VolumeCache:
    """One entry, opened. Arrays are mapped on first use, in each process anew, so that it pickles small.

    Raises:
        DataError: the entry is damaged.
    """

    folder: Path
    _maps: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Read the entry's description and compare the sizes of its files."""
        self._lease: IO[bytes] | None = hold(self.folder)
        try:
            entry = json.loads((self.folder / "entry.json").read_text(encoding="utf-8"))
            self.channels: int = entry["channels"]
            self._cases: dict[str, dict[str, Any]] = {row["id"]: row for row in entry["cases"]}
            self._starts = self._laid_out()
            found = {name: (self.folder / file).stat().st_size for name, (file, _) in _FILES.items()}
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError(f"{self.folder}: cache entry is damaged; delete this folder, it is made anew.") from None
        wanted = {name: self._total[name] * np.dtype(kind).itemsize for name, (_, kind) in _FILES.items()}
        if found != wanted:
            raise DataError(f"{self.folder}: cache entry is damaged; delete this folder, it is made anew.")

    def _laid_out(self) -> dict[str, dict[str, int]]:
        """Return where each case begins in each file, in values."""
        self._total = dict.fromkeys(_FILES, 0)
        starts = {}
        for identifier, row in self._cases.items():
            starts[identifier] = dict(self._total)
            self._total["images"] += self.channels * prod(row["size"])
            self._total["masks"] += prod(row["size"])
            self._total["truths"] += prod(row["native"])
            self._total["points"] += 3 * sum(row["points"].values())
        return starts

    def __getstate__(self) -> dict[str, object]:
        """Leave the maps out: a worker opens its own instead of receiving a copy of all voxels."""
        return {**self.__dict__, "_maps": {}, "_lease": None}

    def _part(self, name: str, case: str, shape: Sequence[int]) -> np.ndarray:
        """Return a case's part of a file, still on disk."""
        if name not in self._maps:
            file, kind = _FILES[name]
            # An empty file cannot be mapped.
            empty = not self._total[name]
            self._maps[name] = np.empty(0, kind) if empty else np.memmap(self.folder / file, kind, "r")
        start = self._starts[case][name]
        return self._maps[name][start : start + prod(shape)].reshape(shape)

    def image(self, case: str) -> np.ndarray:
        """Return the preprocessed image of a case, float32 (C, D, H, W)."""
        return np.array(self._part("images", case, (self.channels, *self._cases[case]["size"])), np.float32)

    def mask(self, case: str) -> np.ndarray:
        """Return the preprocessed label map of a case, uint8 (D, H, W), as a copy."""
        return np.array(self._part("masks", case, self._cases[case]["size"]))

    def truth(self, case: str) -> np.ndarray:
        """Return the native label map of a case, uint8 (D, H, W), as a copy."""
        return np.array(self._part("truths", case, self._cases[case]["native"]))

    def patch(self, case: str, start: Sequence[int], size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return image float32 (C, *size) and mask uint8 (*size) from ``start`` on.

        Beyond the end of the volume the image repeats its edge and the mask is ``IGNORE``.
        """
        shape = self._cases[case]["size"]
        box = tuple(slice(first, first + side) for first, side in zip(start, size, strict=True))
        image = np.array(self._part("images", case, (self.channels, *shape))[(slice(None), *box)], np.float32)
        mask = np.array(self._part("masks", case, shape)[box])
        return padded(image, mask, size)

    def points(self, case: str) -> dict[int, np.ndarray]:
        """Return a sample of voxel places (N, 3) by label; label 0 only in a sparsely labelled case."""
        counts = {int(label): count for label, count in self._cases[case]["points"].items()}
        places = self._part("points", case, (sum(counts.values()), 3))
        ends = np.cumsum(list(counts.values()))
        return {label: places[end - count : end] for (label, count), end in zip(counts.items(), ends, strict=True)}

    def sparse(self, case: str) -> bool:
        """Tell whether the preprocessed mask holds ignored voxels."""
        return bool(self._cases[case]["sparse"])

    def geometry(self, case: str) -> Geometry:
        """Return the way of a case back to its native grid, spacing in mm."""
        row = self._cases[case]
        return Geometry(*(tuple(row[name]) for name in ("native", "box", "size", "spacing")))


def padded(image: np.ndarray, mask: np.ndarray, size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return image (C, *S) and mask (*S) filled up to ``size`` at their ends, by the image's edge and ``IGNORE``."""
    ends = [(0, side - own) for side, own in zip(size, mask.shape, strict=True)]
    if not any(after for _, after in ends):
        return image, mask
    return np.pad(image, [(0, 0), *ends], mode="edge"), np.pad(mask, ends, constant_values=IGNORE)


def open_volume_cache(
    cases: Sequence[Case],
    *,
    reading: Reading,
    root: str | Path,
    hashes: Mapping[Path, str],
    name: str = "data",
    limit_gb: float | None = None,
) -> VolumeCache:
    """Return the cache entry of the cases, made first if it is not there; several processes may ask at once.

    Args:
        cases: without twins.
        reading: how files become arrays.
        root: folder of all entries.
        hashes: of every file of the cases.
        name: the dataset's name, for messages.
        limit_gb: of all entries together, see ``entries.Room``.

    Raises:
        DataError: a file is unfit, the entry exceeds the limit, or the cache folder cannot be written.
    """
    check_list(cases, name=name)
    if any(case.twin is not None for case in cases):
        raise DataError(f"dataset '{name}': twins are made of pictures, not of volumes; use another split.")
    folder = Path(root) / f"{name}-{entry_key(cases, hashes, reading)}"
    if not folder.is_dir():
        fill = partial(_fill, list(by_id(cases).values()), reading, name)
        make_entry(folder, fill, limit_gb=limit_gb)
    return VolumeCache(folder)


def _fill(cases: Sequence[Case], reading: Reading, name: str, part: Path, room: Room) -> None:
    """Read, check and write case by case; problems are collected, so that one message counts them all."""
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    shown = track(cases, f"preparing {name}", transient=True, disable=not sys.stderr.isatty())
    with ExitStack() as stack:
        streams = {key: stack.enter_context((part / file).open("wb")) for key, (file, _) in _FILES.items()}
        for case in shown:
            try:
                rows.append(_write(case, reading, streams))
            except DataError as error:
                problems.append(str(error))
            room.take(sum(stream.tell() for stream in streams.values()))
        raise_first(problems, name)
        for stream in streams.values():
            flush(stream)
    entry = {
        "version": FORMAT_VERSION, "recipe": reading.preprocess.recipe, "channels": reading.channels, "cases": rows,
    }  # fmt: skip
    with (part / "entry.json").open("wb") as stream:
        stream.write(json.dumps(entry).encode())
        flush(stream)


def _write(case: Case, reading: Reading, streams: Mapping[str, BinaryIO]) -> dict[str, Any]:
    """Write one case and return its description."""
    read = read_volume_case(case, channels=reading.channels, labels=reading.labels)
    assert read.labels is not None  # the list was checked
    check_labels(case, read.labels, classes=reading.classes)
    preprocess: Any = reading.preprocess  # a VolumePreprocess
    image, mask, geometry = preprocess.do(read.image, read.labels, spacing=read.grid.spacing, available=read.available)
    points = sampled_points(mask, seed_name=case.id)
    places = np.concatenate([*points.values(), _NONE])
    arrays = {"images": image, "masks": mask, "truths": read.labels, "points": places}
    for name, array in arrays.items():
        streams[name].write(np.ascontiguousarray(array, _FILES[name][1]).data)
    return {
        "id": case.id,
        "size": geometry.size,
        "native": geometry.native_size,
        "box": geometry.box,
        "spacing": geometry.spacing,
        "available": read.available.tolist(),
        "sparse": bool((mask == IGNORE).any()),
        "points": {label: len(places) for label, places in points.items()},
    }


_NONE = np.empty((0, 3), np.int32)


def sampled_points(mask: np.ndarray, *, seed_name: str, most: int = POINTS) -> dict[int, np.ndarray]:
    """Return at most ``most`` places (N, axes) int32 of each label in a mask, drawn with a seed of their own.

    Label 0 is left out unless the mask holds ``IGNORE``: background without ignored voxels is everywhere.
    """
    found = np.flatnonzero(np.bincount(mask.ravel(), minlength=IGNORE + 1)[:IGNORE])
    sparse = bool((mask == IGNORE).any())
    points = {}
    for label in found.tolist():
        if label == 0 and not sparse:
            continue
        places = np.flatnonzero(mask.ravel() == label)
        if len(places) > most:
            places = np.sort(generator(0, "points", seed_name, label).choice(places, most, replace=False))
        points[label] = np.stack(np.unravel_index(places, mask.shape), axis=1).astype(np.int32)
    return points
