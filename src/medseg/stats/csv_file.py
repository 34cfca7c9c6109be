"""CSV files of a run: written whole or not at all, read as text with every line as long as its header."""

import csv
from pathlib import Path

import pandas as pd

from medseg.errors import ScoreError
from medseg.whole import whole_file


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table, undefined numbers as ``nan``; floats come back bit for bit.

    An interrupted write leaves what was there before.
    """
    with whole_file(path) as partial:
        frame.to_csv(partial, index=False, na_rep="nan", lineterminator="\n", encoding="utf-8")


def read_lines(path: Path, *, kind: str, remedy: str) -> tuple[list[str], list[list[str]]]:
    """Return a file's header and its rows, every field as text.

    Args:
        path: of the file.
        kind: what it is called in messages, for instance ``score table``.
        remedy: end of the message.

    Raises:
        ScoreError: the file is missing, is no text or no CSV, or a row is longer or shorter than the header.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScoreError(f"{path}: cannot read the {kind} ({error}); {remedy}") from error
    header, rows = (lines[0], lines[1:]) if lines else ([], [])
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ScoreError(f"{path}, line {number}: {len(row)} fields under {len(header)} columns; {remedy}")
    return header, rows
