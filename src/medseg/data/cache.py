"""Preprocessed cases as raw memory maps, made once and shared by every run with the same files and recipe.

An entry is a folder named by its key with ``images.u8`` (N, H, W, C), ``masks.u8`` (N, H, W), ``truths.u8`` (native
masks of varying size, end to end) and ``entry.json``. It is written beside its place and renamed into it under a
lock, so that an entry is there whole or not at all, whatever is killed.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

import numpy as np
from rich.progress import track

from medseg.data.cases import Case, annotated_classes, by_id
from medseg.data.checks import check_cases, check_list
from medseg.data.entries import Room, hold, make_entry
from medseg.data.files import read_case
from medseg.data.preprocess import Preprocess
from medseg.errors import DataError
from medseg.types import IGNORE, Geometry

if TYPE_CHECKING:
    from medseg.data.volumes.preprocess import VolumePreprocess

FORMAT_VERSION = 2
"""Raise when the layout or the meaning of a preprocessing step changes: old entries are then left alone."""


@dataclass(frozen=True)
class Reading:
    """How files become arrays: the part of the data config that the cache depends on.

    Attributes:
        preprocess: steps and size.
        channels: image channels C.
        labels: value in the mask file to class index.
        threshold: grey level that separates the classes of JPEG masks.
        classes: K names, background first, by which masks are held against the column ``annotated``; never if empty.
    """

    preprocess: "Preprocess | VolumePreprocess"
    channels: int
    labels: Mapping[int, int]
    threshold: int = 127
    classes: tuple[str, ...] = ()


def content_hashes(cases: Sequence[Case]) -> dict[Path, str]:
    """Return the SHA-256 (hex) of every file of the cases.

    Raises:
        DataError: a file cannot be read.
    """
    paths = sorted({path for case in cases for path in case.files})
    with ThreadPoolExecutor(max_workers=4) as pool:
        return dict(zip(paths, pool.map(_file_hash, paths), strict=True))


def _file_hash(path: Path) -> str:
    try:
        if path.is_dir():  # a DICOM series
            parts = [_file_hash(part) for part in sorted(path.iterdir()) if part.is_file()]
            return hashlib.sha256("".join(parts).encode()).hexdigest()
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file and its permissions.") from None


def dataset_digest(cases: Sequence[Case], hashes: Mapping[Path, str]) -> str:
    """Return the SHA-256 (hex) over id, image hashes, mask hash and patient of all cases, in order of their ids.

    Where the column ``annotated`` says something it is part of them: the same mask means something else then.
    """
    rows = [[*_content(case, hashes), case.patient, *_annotated(case)] for case in by_id(cases).values()]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _annotated(case: Case) -> list[str]:
    text = case.attributes.get("annotated", "").strip()
    return [text] if text else []


def _content(case: Case, hashes: Mapping[Path, str]) -> list[object]:
    images = [None if path is None else hashes[path] for path in case.images]
    return [case.id, images, [hashes[path] for path in case.masks]]


def entry_key(cases: Sequence[Case], hashes: Mapping[Path, str], reading: Reading) -> str:
    """Return the key (20 hex digits) of a cache entry: files, twin seeds, recipe, labels and format version."""
    content = {
        "version": FORMAT_VERSION,
        "recipe": reading.preprocess.recipe,
        "reading": [reading.channels, sorted(reading.labels.items()), reading.threshold],
        "cases": [[*_content(case, hashes), case.twin] for case in by_id(cases).values()],
    }
    sparse = {case.id: case.attributes["labelled_slices"] for case in cases if case.attributes.get("labelled_slices")}
    if sparse:
        content["labelled_slices"] = sparse
    known = {case.id: annotated_classes(case, classes=reading.classes) for case in cases if reading.classes}
    if partial_labels := {name: flags for name, flags in known.items() if not all(flags)}:
        content["annotated"] = partial_labels  # the masks were held against them
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


@dataclass
class Cache:
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
            self.size: tuple[int, int] = tuple(entry["size"])
            self.channels: int = entry["channels"]
            self._places = {identifier: place for place, identifier in enumerate(entry["ids"])}
            self._native = [(height, width) for height, width in entry["native"]]
            self._boxes = [tuple(box) for box in entry["boxes"]]
            found = {name: (self.folder / f"{name}.u8").stat().st_size for name in ("images", "masks", "truths")}
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError(f"{self.folder}: cache entry is damaged; delete this folder, it is made anew.") from None
        areas = [height * width for height, width in self._native]
        pixels = len(self._places) * self.size[0] * self.size[1]
        self._ends = np.cumsum(areas).tolist()
        if found != {"images": pixels * self.channels, "masks": pixels, "truths": sum(areas)}:
            raise DataError(f"{self.folder}: cache entry is damaged; delete this folder, it is made anew.")

    def __getstate__(self) -> dict[str, object]:
        """Leave the maps out: a worker opens its own instead of receiving a copy of all pixels."""
        return {**self.__dict__, "_maps": {}, "_lease": None}

    def _map(self, name: str, *shape: int) -> np.ndarray:
        if name not in self._maps:
            self._maps[name] = np.memmap(self.folder / f"{name}.u8", np.uint8, "r", shape=shape)
        return self._maps[name]

    def image(self, case: str) -> np.ndarray:
        """Return the preprocessed image of a case, uint8 (H, W, C), as a copy."""
        images = self._map("images", len(self._places), *self.size, self.channels)
        return np.array(images[self._places[case]])

    def mask(self, case: str) -> np.ndarray:
        """Return the preprocessed label map of a case, uint8 (H, W), as a copy."""
        return np.array(self._map("masks", len(self._places), *self.size)[self._places[case]])

    def truth(self, case: str) -> np.ndarray:
        """Return the native label map of a case, uint8 (H, W), as a copy."""
        place = self._places[case]
        height, width = self._native[place]
        end = self._ends[place]
        return np.array(self._map("truths", self._ends[-1])[end - height * width : end]).reshape(height, width)

    def patch(self, case: str, start: Sequence[int], size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return image uint8 (*size, C) and mask uint8 (*size) from ``start`` (row, column) on.

        Beyond the end of the picture the image repeats its edge and the mask is ``IGNORE``.
        """
        place = self._places[case]
        box = tuple(slice(first, first + side) for first, side in zip(start, size, strict=True))
        image = np.array(self._map("images", len(self._places), *self.size, self.channels)[place][box])
        mask = np.array(self._map("masks", len(self._places), *self.size)[place][box])
        ends = [(0, side - own) for side, own in zip(size, mask.shape, strict=True)]
        return np.pad(image, [*ends, (0, 0)], mode="edge"), np.pad(mask, ends, constant_values=IGNORE)

    def points(self, case: str) -> dict[int, np.ndarray]:
        """Return the places (N, 2) of all pixels by label; label 0 only in a sparsely labelled case."""
        mask = self.mask(case)
        labels = [label for label in np.unique(mask).tolist() if label not in (0, IGNORE)]
        if (mask == IGNORE).any() and (mask == 0).any():
            labels.insert(0, 0)
        return {label: np.argwhere(mask == label) for label in labels}

    def sparse(self, case: str) -> bool:
        """Tell whether the preprocessed mask holds ignored pixels."""
        return bool((self.mask(case) == IGNORE).any())

    def geometry(self, case: str) -> Geometry:
        """Return the way of a case back to its native grid (spacing 1)."""
        place = self._places[case]
        return Geometry(self._native[place], self._boxes[place], self.size)  # type: ignore[arg-type]


def open_cache(
    cases: Sequence[Case],
    *,
    reading: Reading,
    root: str | Path,
    hashes: Mapping[Path, str],
    name: str = "data",
    limit_gb: float | None = None,
) -> Cache:
    """Return the cache entry of the cases, made first if it is not there; several processes may ask at once.

    Args:
        cases: twins included.
        reading: how files become arrays.
        root: folder of all entries.
        hashes: of every file of the cases, from :func:`content_hashes`.
        name: the dataset's name, for messages.
        limit_gb: of all entries together, see ``entries.Room``.

    Raises:
        DataError: a file is unfit (see ``checks.check_cases``), a picture has annotated slices, the entry exceeds the
            limit, or the cache folder cannot be written.
    """
    check_list(cases, name=name)
    sliced = next((case.id for case in cases if case.attributes.get("labelled_slices")), None)
    if sliced is not None:
        raise DataError(
            f"case '{sliced}' of dataset '{name}': labelled_slices are of volumes, this is a picture; empty the "
            "column, or use another split than sparse_slices."
        )
    folder = Path(root) / f"{name}-{entry_key(cases, hashes, reading)}"
    if not folder.is_dir():
        make_entry(folder, partial(_fill, list(by_id(cases).values()), reading, name), limit_gb=limit_gb)
    return Cache(folder)


def _fill(cases: Sequence[Case], reading: Reading, name: str, part: Path, room: Room) -> None:
    """Check all cases, then write them into a folder."""
    preprocess = reading.preprocess
    assert isinstance(preprocess, Preprocess)
    originals = [case for case in cases if case.twin is None]
    check_cases(
        originals, labels=reading.labels, channels=reading.channels, threshold=reading.threshold, name=name,
        classes=reading.classes,
    )  # fmt: skip
    native: list[tuple[int, int]] = []
    boxes: list[tuple[int, int, int, int]] = []
    shown = track(cases, f"preparing {name}", transient=True, disable=not sys.stderr.isatty())
    with (
        (part / "images.u8").open("wb") as images,
        (part / "masks.u8").open("wb") as masks,
        (part / "truths.u8").open("wb") as truths,
    ):
        for case in shown:
            image, truth = read_case(
                case, channels=reading.channels, labels=reading.labels, threshold=reading.threshold
            )
            small, mask, geometry = preprocess.do(image, truth, case_id=case.id)
            for stream, array in ((images, small), (masks, mask), (truths, truth)):
                stream.write(np.ascontiguousarray(array).data)
            room.take(images.tell() + masks.tell() + truths.tell())
            native.append(geometry.native_size)  # type: ignore[arg-type]
            boxes.append(geometry.box)  # type: ignore[arg-type]
        for stream in (images, masks, truths):
            flush(stream)
    entry = {
        "version": FORMAT_VERSION,
        "recipe": reading.preprocess.recipe,
        "size": preprocess.size,
        "channels": reading.channels,
        "ids": [case.id for case in cases],
        "native": native,
        "boxes": boxes,
    }
    with (part / "entry.json").open("wb") as stream:
        stream.write(json.dumps(entry).encode())
        flush(stream)


def flush(stream: BinaryIO) -> None:
    """Write a file through to the disk."""
    stream.flush()
    os.fsync(stream.fileno())
