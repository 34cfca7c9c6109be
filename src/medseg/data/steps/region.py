"""A region of interest for each case: the second stage of a cascade crops to what a coarse network found."""

import csv
import hashlib
import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from medseg.errors import ConfigError, DataError
from medseg.whole import whole_file

COLUMNS = ("case", "rows", "columns", "top", "left", "height", "width", "area", "share", "components", "side", "flag")
"""Columns of a box file: the case, the size of its image and its box in native pixels; pixels of the largest
component, its share of all foreground, the number of components; the side the case had in the coarse run; ``whole``
where nothing was found and the box is the whole image."""

Box = tuple[int, int, int, int]


def write_boxes(path: Path, rows: list[dict[str, Any]], *, coarse: dict[str, Any]) -> None:
    """Write a box file: one comment line with the coarse run as JSON, then a table with :data:`COLUMNS`."""
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        stream.write(f"# {json.dumps(coarse, sort_keys=True)}\n")
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_boxes(path: Path) -> tuple[dict[str, Any], dict[str, tuple[tuple[int, int], Box]]]:
    """Return the coarse run of a box file, and (size of the image, box) of each case.

    Raises:
        DataError: the file is missing or is no box file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: boxes cannot be read ({type(error).__name__}); write them with medseg data boxes run=RUN."
        ) from None
    head, _, table = text.partition("\n")
    try:
        coarse = json.loads(head.removeprefix("#"))
        cases = {
            row["case"]: (
                (int(row["rows"]), int(row["columns"])),
                (int(row["top"]), int(row["left"]), int(row["height"]), int(row["width"])),
            )
            for row in csv.DictReader(table.splitlines())
        }
        coarse["key"]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path}: no box file, its first line or a column is damaged; write it again.") from None
    return coarse, cases


@lru_cache(maxsize=8)
def _cases(path: str, digest: str) -> dict[str, tuple[tuple[int, int], Box]]:
    return read_boxes(Path(path))[1]


@dataclass(frozen=True)
class CropToBox:
    """Crop each case to its box in a file that ``medseg data boxes`` wrote from a coarse run.

    Must be the first step, because boxes are in native pixels. Boxes of cases the coarse run was trained on fit better
    than those of new cases (column ``side``), so a fine network sees tighter crops in training than in use; a wide
    margin, or boxes of each fold from a run that did not see it, narrows that gap.

    Attributes:
        boxes: the file; its content, not its name, is part of the cache key.
        margin: added on every side, as a share of the box's own height and width.
        minimum: least side of the crop as a share of the image's, so that a speck is not blown up.
        run: name of the coarse run, from the file.
        digest: first digits of the SHA-256 of the file.
    """

    needs_case: ClassVar[bool] = True
    boxes: str = field(repr=False)
    margin: float = 0.2
    minimum: float = 0.1
    run: str = field(init=False, default="")
    digest: str = field(init=False, default="")

    def __post_init__(self) -> None:
        """Read the file once and note its content's hash.

        Raises:
            ConfigError: margin or minimum is out of range.
            DataError: the file is damaged; a missing one is refused at the first case.
        """
        if self.margin < 0 or not 0 < self.minimum <= 1:
            raise ConfigError(
                f"preprocess step CropToBox: margin={self.margin}, minimum={self.minimum}; need margin >= 0 and "
                "0 < minimum <= 1."
            )
        path = Path(self.boxes)
        if not path.exists():
            object.__setattr__(self, "digest", "missing")  # no case gets a box, so no cache entry is ever made
            return
        coarse, _ = read_boxes(path)
        object.__setattr__(self, "boxes", str(path))
        object.__setattr__(self, "run", f"{coarse.get('run', '')}-{coarse['key']}")
        object.__setattr__(self, "digest", hashlib.sha256(path.read_bytes()).hexdigest()[:20])

    def box(self, image: np.ndarray, case_id: str | None = None) -> Box:
        """Return (top, left, height, width) of the case's crop.

        Args:
            image: native, uint8 (H, W, C).
            case_id: the case.

        Raises:
            DataError: the case has no box, or the box belongs to an image of another size.
        """
        found = _cases(self.boxes, self.digest).get(case_id or "")
        if found is None:
            raise DataError(
                f"case '{case_id}': no box in {self.boxes}; write boxes of this dataset with medseg data boxes run=RUN."
            )
        size, (top, left, height, width) = found
        if size != image.shape[:2]:
            raise DataError(
                f"case '{case_id}': box is for an image of {size[0]}x{size[1]}, this one is "
                f"{image.shape[0]}x{image.shape[1]}; put CropToBox first, or write the boxes again."
            )
        first, rows = _widened(top, height, size[0], self.margin, self.minimum)
        second, columns = _widened(left, width, size[1], self.margin, self.minimum)
        return first, second, rows, columns


def _widened(start: int, length: int, whole: int, margin: float, minimum: float) -> tuple[int, int]:
    """Return start and length of a stretch with margins, as long as the minimum, moved and cut to fit the image."""
    wanted = min(whole, max(round(length * (1 + 2 * margin)), round(whole * minimum), 1))
    middle = start + length / 2
    first = min(max(0, round(middle - wanted / 2)), whole - wanted)
    return first, wanted


def largest_box(labels: np.ndarray) -> dict[str, Any]:
    """Return the box of the largest foreground component of a label map (H, W) and what a row of the file needs of it.

    The value 255 (left out) is no foreground. Without foreground the box is the whole image and ``flag`` is ``whole``.
    """
    import cv2

    rows, columns = labels.shape
    seen = ((labels > 0) & (labels < 255)).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(seen, connectivity=8)
    row: dict[str, Any] = {"rows": rows, "columns": columns, "components": count - 1}
    if count < 2:
        return row | {"top": 0, "left": 0, "height": rows, "width": columns, "area": 0, "share": 0.0, "flag": "whole"}
    left, top, width, height, area = (int(value) for value in stats[1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))])
    box = {"top": top, "left": left, "height": height, "width": width, "area": area}
    return row | box | {"share": round(area / int(seen.sum()), 4), "flag": ""}
