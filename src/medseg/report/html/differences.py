"""What differs between the settings of runs, and what all of them share in number."""

import json
from collections.abc import Mapping
from typing import Any

from medseg.report.tables import Cell, Table

ABSENT = "absent"
LONGEST = 80
"""Letters of a value; the rest of a long list says little in a table."""


def config_differences(settings: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """Return a row for each setting in which the runs differ, a column a run; None where nothing does.

    Args:
        settings: leaves of each run's config by dotted name, by run.
    """
    keys = sorted({key for leaves in settings.values() for key in leaves})
    shown = {key: [_text(leaves[key]) if key in leaves else ABSENT for leaves in settings.values()] for key in keys}
    differing = [key for key in keys if len(set(shown[key])) > 1]
    if not differing:
        return None
    rows = tuple((Cell(key), *(Cell(_cut(text)) for text in shown[key])) for key in differing)
    said = f"{len(differing)} settings differ, {len(keys) - len(differing)} are the same in all {len(settings)} runs."
    return Table("differences", "Settings that differ", (Cell("Setting"), *map(Cell, settings)), rows, (said,))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
