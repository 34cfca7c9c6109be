"""The ledger of test accesses as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from medseg.chain import BREAK, REPAIR, Chain
from medseg.ledger import texts
from medseg.report.tables import Cell, Table

HASH_DIGITS = 8
MOST_NAMES = 3
COLUMNS = ("line", "when", "action", "side", "study", "runs", "dataset", "split", "version", "commit")


def ledger_table(entries: Sequence[Mapping[str, Any]], found: Chain, *, left_out: int = 0) -> Table:
    """Return the table of some entries, in their order, with the state of the whole chain as caption.

    Args:
        entries: of ``medseg.ledger.read``.
        found: of ``medseg.ledger.verify``.
        left_out: entries that are not in the table.
    """
    more = (f"{left_out} other entries are not shown.",) if left_out else ()
    return Table(
        name="ledger",
        title="Accesses to results, as the ledger has them",
        columns=tuple(Cell(text) for text in COLUMNS),
        rows=tuple(_row(entry) for entry in entries),
        caption=(found.sentence, *more),
    )


def _row(entry: Mapping[str, Any]) -> tuple[Cell, ...]:
    when = str(entry.get("when", "")).replace("T", " ").replace("+00:00", " UTC")
    return (
        Cell(str(entry.get("line", ""))),
        Cell(when),
        Cell(_action(entry)),
        Cell(str(entry.get("side", ""))),
        Cell(", ".join(texts(entry, "study"))),
        Cell(_names(texts(entry, "runs"))),
        Cell(", ".join(texts(entry, "dataset"))),
        Cell(_names([text[:HASH_DIGITS] for text in texts(entry, "split")])),
        Cell(str(entry.get("version", ""))),
        Cell(str(entry.get("commit", ""))[:HASH_DIGITS]),
    )


def _action(entry: Mapping[str, Any]) -> str:
    action = str(entry.get("action", ""))
    if action == REPAIR:
        return f"repair of line {entry.get('torn_line')}, torn after {entry.get('torn_bytes')} bytes"
    if action == BREAK:
        return f"BREAK at line {entry.get('lost_line')}: {entry.get('reason')}"
    return action


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
