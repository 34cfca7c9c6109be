"""An append-only record of a run's metrics: one JSON object a line, readable after any kill.

A row is ``{"epoch": int, "step": int, "time": unix seconds, "metrics": {name: number}}``. JSON has no
token for non-finite numbers, so they are written as the strings ``"nan"``, ``"inf"`` and ``"-inf"`` and read
back as floats. Needs neither torch nor MLflow.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, SupportsFloat

from medseg.errors import RunError


def better(metric: str) -> str:
    """Return whether the ``max`` or the ``min`` of a metric of an epoch is good: losses are small, scores large."""
    return "min" if metric.rpartition("/")[2].endswith("loss") else "max"


class Journal:
    """Writes metrics to a file, a line at a time, each handed to the operating system at once.

    The file is opened at the first row. A last line cut by an earlier kill is removed then, so that a new
    row never sticks to a torn one. One process writes; any number may read.

    Args:
        path: the file, usually ``metrics.jsonl`` in the run folder; folders above it are made.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._file: IO[str] | None = None

    def log(self, metrics: Mapping[str, SupportsFloat], *, epoch: int, step: int) -> dict[str, Any]:
        """Append one row and return it; a killed process loses at most the row it was writing.

        Args:
            metrics: numbers by name, for instance ``{"train/loss": 0.4}``.
            epoch: epochs finished before this one, so counted from 0.
            step: optimizer steps done.
        """
        numbers = {name: float(value) for name, value in metrics.items()}
        row = {"epoch": int(epoch), "step": int(step), "time": round(time.time(), 3), "metrics": numbers}
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _mend(self.path)
            self._file = self.path.open("a", encoding="utf-8")
        self._file.write(_line(row))
        self._file.flush()
        return row

    def truncate_after(self, epoch: int) -> None:
        """Remove the rows of later epochs, which a run resumed after ``epoch`` is about to write again.

        The file is replaced in one step, so a kill leaves either the old or the new one.
        """
        self.close()
        if not self.path.is_file():
            return
        kept = [row for row in read_journal(self.path) if row["epoch"] <= epoch]
        fresh = self.path.with_name(self.path.name + ".new")
        with fresh.open("w", encoding="utf-8") as file:
            file.writelines(map(_line, kept))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)

    def close(self) -> None:
        """Close the file; a later :meth:`log` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        """Return itself, to be closed at the end of a ``with`` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()


def read_journal(path: Path | str) -> list[dict[str, Any]]:
    """Return the rows in the order written; a last line torn by a kill is left out.

    Raises:
        RunError: the file is missing, or a line other than the last is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(f"{path}: no metrics journal here; give the folder of a run that has started training.")
    lines = path.read_bytes().split(b"\n")
    if not lines[-1]:
        lines.pop()
    rows = []
    for number, line in enumerate(lines, start=1):
        row = _decoded(line)
        if row is None and number < len(lines):
            raise RunError(f"{path}: line {number} is not a metrics row; restore the file or delete that line.")
        if row is not None:
            rows.append(row)
    return rows


def _line(row: Mapping[str, Any]) -> str:
    metrics = {name: value if math.isfinite(value) else str(value) for name, value in row["metrics"].items()}
    return json.dumps({**row, "metrics": metrics}, separators=(",", ":"), allow_nan=False) + "\n"


def _decoded(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
        row["metrics"] = {name: float(value) for name, value in row["metrics"].items()}
        return {"epoch": int(row["epoch"]), "step": int(row["step"]), "time": float(row["time"]), **row}
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _mend(path: Path) -> None:
    """Cut a torn last line off, or give a whole one its missing line end."""
    if not path.is_file():
        return
    content = path.read_bytes()
    start = content.rstrip(b"\n").rfind(b"\n") + 1
    last = content[start:]
    if not last or (last.endswith(b"\n") and _decoded(last) is not None):
        return
    with path.open("r+b") as file:
        file.truncate(start)
        file.seek(start)
        if _decoded(last) is not None:
            file.write(last + b"\n")
