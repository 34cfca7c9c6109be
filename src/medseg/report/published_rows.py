"""Published numbers as they lie in ``experiments/published/*.csv``: one number a row, with its source and protocol."""

import csv
import math
from dataclasses import dataclass, fields
from pathlib import Path

from medseg.errors import ScoreError
from medseg.report.protocol import TAGS, Protocol

OVERLAPS = ("dice", "f1", "iou", "precision", "sensitivity", "pixel_accuracy", "classification_f1")
DISTANCES = ("hd", "hd95")
COSTS = {"parameters": "M", "fps": "1/s", "gflops": "GFLOP"}
OTHERS = {"dice_gain": "points", "challenge_score": "points"}
METRICS = (*OVERLAPS, *DISTANCES, *COSTS, *OTHERS)


@dataclass(frozen=True)
class Published:
    """One published number; the columns of a file below ``experiments/published`` in order.

    ``value``, ``low``, ``high`` and ``sd`` are text, with the digits that were printed and empty where nothing was.
    """

    dataset: str
    cases: str
    method: str
    target: str
    metric: str
    value: str
    low: str
    high: str
    sd: str
    unit: str
    source: str
    year: str
    split: str
    split_detail: str
    patient_grouped: str
    resolution: str
    metric_definition: str
    averaging: str
    selection_rule: str
    tta: str
    prompts: str
    extra_data: str
    verified: str
    caveat: str

    @property
    def protocol(self) -> Protocol:
        """Its tags."""
        return Protocol(**{tag: getattr(self, tag) for tag in TAGS})

    @property
    def number(self) -> float:
        """Its value, overlaps as a fraction; NaN where only a range, or nothing, was printed."""
        return self._scaled(self.value)

    def _scaled(self, text: str) -> float:
        if not text:
            return math.nan
        return float(text) / (100 if self.unit == "%" else 1)

    @property
    def text(self) -> str:
        """The number as it is shown: overlaps as fractions, all digits that were printed, a range as a range."""
        if self.value:
            return f"{self._digits(self.value)} ± {self._digits(self.sd)}" if self.sd else self._digits(self.value)
        if not self.low and not self.high:
            return "not reported"
        if not self.low or not self.high:
            return f"≥ {self._digits(self.low)}" if self.low else f"≤ {self._digits(self.high)}"
        return f"{self._digits(self.low)} to {self._digits(self.high)}"

    def _digits(self, text: str) -> str:
        decimals = len(text.partition(".")[2]) + (2 if self.unit == "%" else 0)
        return f"{self._scaled(text):.{decimals}f}"


COLUMNS = tuple(field.name for field in fields(Published))
NUMBERS = ("value", "low", "high", "sd")


def read_published_rows(path: Path) -> list[Published]:
    """Return the numbers of one file.

    Raises:
        ScoreError: the columns are others, a number is none, its unit does not fit, or it has no source.
    """
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))
    if not lines or tuple(lines[0]) != COLUMNS:
        raise ScoreError(f"{path}: its columns must be {', '.join(COLUMNS)}.")
    rows = []
    for number, fields_of_row in enumerate(lines[1:], start=2):
        where = f"{path}, line {number}"
        if len(fields_of_row) != len(COLUMNS):
            raise ScoreError(f"{where}: {len(fields_of_row)} fields under {len(COLUMNS)} columns; quote commas.")
        rows.append(_checked(Published(*fields_of_row), where))
    return rows


def _checked(row: Published, where: str) -> Published:
    for name in ("dataset", "method", "source", "metric", *TAGS, "year"):
        if not getattr(row, name):
            raise ScoreError(f"{where}: {name} is empty; write 'unknown' where nobody says, but cite the source.")
    if row.metric not in METRICS:
        raise ScoreError(f"{where}: metric '{row.metric}' is unknown; choose one of {', '.join(METRICS)}.")
    if row.verified not in ("yes", "no"):
        raise ScoreError(f"{where}: verified='{row.verified}'; write yes or no.")
    for name in NUMBERS:
        _check_number(row, name, where)
    if not (row.value or row.low or row.high or row.caveat):
        raise ScoreError(f"{where}: no number and no caveat; say why nothing was reported.")
    return row


def _check_number(row: Published, name: str, where: str) -> None:
    text = getattr(row, name)
    if text and not text.replace(".", "", 1).isdigit():
        raise ScoreError(f"{where}: {name} '{text}' is no number; leave it empty if unreported.")
    units = {**dict.fromkeys(DISTANCES, ("px", "mm")), **{key: (unit,) for key, unit in (COSTS | OTHERS).items()}}
    allowed = units.get(row.metric, ("%", "1"))
    if row.unit not in allowed:
        raise ScoreError(f"{where}: unit '{row.unit}' of {row.metric}; write {' or '.join(allowed)}.")
    top = 100 if row.unit == "%" else 1 if row.unit == "1" else math.inf
    if text and float(text) > top:
        raise ScoreError(f"{where}: {name} {text} is above {top} {row.unit}; correct the number or its unit.")
