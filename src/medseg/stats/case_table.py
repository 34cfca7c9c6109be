"""The case table ``cases.csv``: what the manifest says of each scored case, so that results can be told apart by it.

One row per case with ``case``, ``patient``, ``domain``, then one column per attribute of the manifest (``label``,
``tirads``, ``view`` ...). All of it is text; what is not stated is empty.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import pandas as pd

from medseg.errors import ScoreError
from medseg.stats.csv_file import read_lines, write_csv

CASE_COLUMNS = ("case", "patient", "domain")
_REMEDY = "write the table anew with `medseg evaluate`."


class Described(Protocol):
    """What the table needs of a case (``medseg.data.cases.Case`` has it)."""

    @property
    def id(self) -> str:
        """Unique name."""

    @property
    def patient(self) -> str:
        """Whose image it is."""

    @property
    def domain(self) -> str:
        """Scanner, site or dataset; may be empty."""

    @property
    def attributes(self) -> Mapping[str, str]:
        """Other columns of the manifest."""


def case_table(cases: Iterable[Described]) -> pd.DataFrame:
    """Return the table of some cases, in their order; attributes in order of their first appearance.

    An attribute that is called like one of ``CASE_COLUMNS`` becomes ``source_NAME``; one that a case lacks is empty.

    Raises:
        ScoreError: no case, a case twice, or two attributes that would share a column.
    """
    known = list(cases)
    rows = [{"case": case.id, "patient": case.patient, "domain": case.domain} for case in known]
    for row, case in zip(rows, known, strict=True):
        for name, text in case.attributes.items():
            column = f"source_{name}" if name in CASE_COLUMNS else str(name)
            if column in row:
                raise ScoreError(f"case '{case.id}': two attributes would be column '{column}'; rename one of them.")
            row[column] = " ".join(str(text).split())
    columns = list(dict.fromkeys([*CASE_COLUMNS, *(name for row in rows for name in row)]))
    frame = pd.DataFrame(
        {name: pd.Series([row.get(name, "") for row in rows], dtype=object) for name in columns}, columns=columns
    )
    _check(frame, source="case table")
    return frame


def write_case_table(frame: pd.DataFrame, path: Path) -> None:
    """Check the table and write it, whole or not at all.

    Raises:
        ScoreError: a rule of the table is broken.
    """
    _check(frame, source=str(path))
    write_csv(frame, path)


def read_case_table(path: Path) -> pd.DataFrame:
    """Return a checked case table; every cell stays text (patient ``007``, attribute ``NA``, TI-RADS ``4``).

    Raises:
        ScoreError: the file is missing, is no case table, or breaks a rule.
    """
    header, rows = read_lines(path, kind="case table", remedy=_REMEDY)
    frame = pd.DataFrame(rows, columns=header, dtype=object)
    _check(frame, source=str(path))
    return frame


def check_case_table(cases: pd.DataFrame, frame: pd.DataFrame, *, source: str) -> None:
    """Raise unless the table describes every scored case with the same patient and domain.

    Args:
        cases: of :func:`read_case_table`.
        frame: a score table.
        source: what to call the case table in the message.

    Raises:
        ScoreError: a scored case is missing, or belongs to someone else.
    """
    known = cases.set_index("case")
    scored = frame.drop_duplicates("case").set_index("case")
    absent = scored.index.difference(known.index)
    if len(absent):
        raise ScoreError(f"{source}: scored case '{absent[0]}' is missing ({len(absent)} in all); {_REMEDY}")
    for column in ("patient", "domain"):
        same = known.loc[scored.index, column].astype(str) == scored[column].astype(str)
        if not same.all():
            case = scored.index[~same.to_numpy()][0]
            raise ScoreError(
                f"{source}: case '{case}' has {column} '{known.at[case, column]}', in the score table "
                f"'{scored.at[case, column]}'; {_REMEDY}"
            )


def _check(frame: pd.DataFrame, *, source: str) -> None:
    names = [str(name) for name in frame.columns]
    if tuple(names[:3]) != CASE_COLUMNS or len(set(names)) < len(names) or "" in names:
        raise ScoreError(
            f"{source}: columns {names[:4]}...; case, patient and domain must come first, every name must stand once; "
            f"{_REMEDY}"
        )
    if frame.empty:
        raise ScoreError(f"{source}: no rows; {_REMEDY}")
    for column in ("case", "patient"):
        if (frame[column] == "").any():
            raise ScoreError(f"{source}: column '{column}' has an empty cell; {_REMEDY}")
    twice = frame["case"].duplicated()
    if twice.any():
        raise ScoreError(f"{source}: case '{frame.loc[twice, 'case'].iloc[0]}' stands twice; {_REMEDY}")
