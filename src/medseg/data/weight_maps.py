"""Pixel weights that a loss asks for: made once per case, cached as bytes, moved with the mask.

A cache entry beside the one of the images holds a code for every pixel (``codes.u8``, the cases end to end) and for
each case what the codes mean (``entry.json``). Code 0 is what augmentation fills with beyond the border of a mask, and
means the least weight of the case's background; 1 to 251 are evenly spaced from the case's smallest weight to its
largest, so that a weight is off by at most a 500th of their distance; all others, among them ``IGNORE``, mean 0. As
the codes are small whole numbers like labels, whatever moves a mask moves them.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from rich.progress import track

from medseg.data.augment.contract import Augmentation
from medseg.data.cache import flush
from medseg.data.entries import Room, hold, make_entry
from medseg.errors import ConfigError, DataError
from medseg.types import IGNORE

FORMAT_VERSION = 1
STEPS = 250
"""Steps between a case's smallest and largest weight."""


class WeightMap(Protocol):
    """What a loss says about the weights it wants: its attribute ``weight_map``."""

    @property
    def recipe(self) -> str:
        """Everything the weights depend on beside the labels."""
        ...

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        """Return weights float32 (*S), not negative, of labels uint8 (*S)."""
        ...


class Labels(Protocol):
    """What is asked of the cache of images and masks."""

    folder: Path

    def mask(self, case: str) -> np.ndarray:
        """Return the preprocessed label map, uint8 (*S)."""
        ...


def encoded(weights: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Return codes uint8 (*S) of weights (*S), and ``[background, low, high]`` that :func:`meaning` reads.

    Args:
        weights: float32 (*S), not negative.
        labels: uint8 (*S); the code of ``IGNORE`` pixels is ``IGNORE``.
    """
    valid = labels != IGNORE
    if not valid.any():
        return np.full(labels.shape, IGNORE, np.uint8), [0.0, 0.0, 0.0]
    low, high = float(weights[valid].min()), float(weights[valid].max())
    background = weights[labels == 0]
    scale = STEPS / (high - low) if high > low else 0.0
    codes = np.where(valid, 1 + np.rint((weights - low) * scale), IGNORE).astype(np.uint8)
    return codes, [float(background.min()) if background.size else low, low, high]


def meaning(row: Sequence[float]) -> np.ndarray:
    """Return the weight of each code, float32 (256,), from ``[background, low, high]``."""
    table = np.zeros(IGNORE + 1, np.float32)
    table[0] = row[0]
    table[1 : STEPS + 2] = np.linspace(row[1], row[2], STEPS + 1)
    return table


@dataclass
class WeightStore:
    """One entry of pixel weights, opened. The file is mapped on first use, in each process anew.

    Raises:
        DataError: the entry is damaged.
    """

    folder: Path
    _codes: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Read the entry's description and compare the size of its file."""
        self._lease: IO[bytes] | None = hold(self.folder)
        try:
            rows = json.loads((self.folder / "entry.json").read_text(encoding="utf-8"))["cases"]
            self._rows: dict[str, dict[str, Any]] = {row["id"]: row for row in rows}
            sizes = [prod(row["size"]) for row in rows]
            found = (self.folder / "codes.u8").stat().st_size
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError(f"{self.folder}: cache entry is damaged; delete this folder, it is made anew.") from None
        if found != sum(sizes):
            raise DataError(f"{self.folder}: cache entry is damaged; delete this folder, it is made anew.")
        ends = np.cumsum(sizes).tolist()
        self._starts = {row["id"]: end - size for row, end, size in zip(rows, ends, sizes, strict=True)}

    def __getstate__(self) -> dict[str, object]:
        """Leave the map out: a worker opens its own."""
        return {**self.__dict__, "_codes": None, "_lease": None}

    def _part(self, case: str) -> np.ndarray:
        if self._codes is None:
            self._codes = np.memmap(self.folder / "codes.u8", np.uint8, "r")
        shape, start = self._rows[case]["size"], self._starts[case]
        return self._codes[start : start + prod(shape)].reshape(shape)

    def codes(self, case: str) -> np.ndarray:
        """Return the codes of a case, uint8 (*S), as a copy."""
        return np.array(self._part(case))

    def patch(self, case: str, start: Sequence[int], size: Sequence[int]) -> np.ndarray:
        """Return codes uint8 (*size) from ``start`` on; beyond the end of the case they are ``IGNORE``."""
        box = tuple(slice(first, first + side) for first, side in zip(start, size, strict=True))
        codes = np.array(self._part(case)[box])
        ends = [(0, side - own) for side, own in zip(size, codes.shape, strict=True)]
        return np.pad(codes, ends, constant_values=IGNORE)

    def weights(self, case: str, codes: np.ndarray) -> np.ndarray:
        """Return what codes of a case mean, float32 of their shape."""
        return meaning(self._rows[case]["meaning"])[codes]


def open_weights(
    store: Labels,
    cases: Sequence[str],
    weight_map: WeightMap,
    *,
    root: str | Path,
    name: str = "data",
    limit_gb: float | None = None,
) -> WeightStore:
    """Return the weights of the cases, computed first if they are not cached; several processes may ask at once.

    Args:
        store: the cache entry of the masks; its name, which tells files and recipe, is part of the key.
        cases: ids.
        weight_map: makes the weights.
        root: folder of all entries.
        name: the dataset's name.
        limit_gb: of all entries together, see ``entries.Room``.

    Raises:
        ConfigError: the weights do not suit the labels.
        DataError: the entry exceeds the limit, or the cache folder cannot be written.
    """
    content = [FORMAT_VERSION, store.folder.name, weight_map.recipe, sorted(cases)]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:20]
    folder = Path(root) / f"{name}-weights-{key}"
    if not folder.is_dir():
        make_entry(folder, partial(_fill, store, sorted(cases), weight_map, name), limit_gb=limit_gb)
    return WeightStore(folder)


def _fill(store: Labels, cases: Sequence[str], weight_map: WeightMap, name: str, part: Path, room: Room) -> None:
    """Compute and write case by case."""
    rows = []
    shown = track(cases, f"weighing {name}", transient=True, disable=not sys.stderr.isatty())
    with (part / "codes.u8").open("wb") as stream:
        for case in shown:
            labels = store.mask(case)
            codes, row = encoded(weight_map(labels), labels)
            stream.write(np.ascontiguousarray(codes).data)
            room.take(stream.tell())
            rows.append({"id": case, "size": labels.shape, "meaning": row})
        flush(stream)
    with (part / "entry.json").open("wb") as stream:
        entry = {"version": FORMAT_VERSION, "recipe": weight_map.recipe, "cases": rows}
        stream.write(json.dumps(entry).encode())
        flush(stream)


def moved_alike(
    augmentation: Augmentation, image: np.ndarray, mask: np.ndarray, codes: np.ndarray, *, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return image, mask and codes, all changed by one and the same random change.

    The change depends on the seed alone, so it is made twice: with the mask, and with the codes in its place.

    Raises:
        ConfigError: the second image is another one, so that the codes went elsewhere than the mask.
    """
    changed, moved = augmentation(image.copy(), mask, seed=seed)
    again, codes = augmentation(image, codes, seed=seed)
    if not np.array_equal(changed, again, equal_nan=True):
        raise ConfigError(
            "augment moves images by what their masks hold, so that pixel weights cannot follow; take that transform "
            "out, or use a loss without weights."
        )
    return changed, moved, codes
