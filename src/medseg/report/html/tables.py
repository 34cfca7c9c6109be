"""A table as HTML: heads that sort, cells that keep their number, footnotes that are linked both ways."""

import math
from collections.abc import Sequence

from medseg.report.html.blocks import TableBlock
from medseg.report.html.text import escaped, linked
from medseg.report.tables import Cell, Table

LONG = 40
"""Letters of a cell above which its column gets room to wrap, so that a narrow screen does not make it a thread."""


def table_html(block: TableBlock, name: str) -> str:
    """Return a table with title, caption and footnotes.

    Args:
        block: the table and how its rows look.
        name: what its ids begin with; unique in the page.
    """
    table = block.table
    looks = {**dict.fromkeys(block.muted, "muted"), **dict.fromkeys(block.marked, "marked")}
    kinds = [_kind([row[i] for row in table.rows], first=i == 0) for i in range(len(table.columns))]
    heads = "".join(_head(table, cell, name, kind) for cell, kind in zip(table.columns, kinds, strict=True))
    rows = "\n".join(_row(table, row, name, kinds, looks.get(i, "")) for i, row in enumerate(table.rows))
    caption = f'<p class="note">{escaped(" ".join(table.caption))}</p>' if table.caption else ""
    return (
        f'<h3 id="{name}">{escaped(table.title)}</h3>\n'
        f'<div class="scroll" role="region" aria-labelledby="{name}" tabindex="0">\n<table>\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n{caption}{_notes(table, name)}"
    )


def _kind(cells: Sequence[Cell], *, first: bool) -> str:
    """Return how a column is set: ``number``, ``long`` (it needs room to wrap) or neither."""
    if first:
        return ""
    if any(cell.value is not None for cell in cells):
        return "number"
    return "long" if max((len(cell.text) for cell in cells), default=0) > LONG else ""


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _head(table: Table, cell: Cell, name: str, kind: str) -> str:
    button = f'<button type="button">{escaped(cell.text)}</button>'
    return f'<th scope="col" aria-sort="none"{_class(kind)}>{button}{_marks(table, cell, name)}</th>'


def _row(table: Table, row: tuple[Cell, ...], name: str, kinds: Sequence[str], look: str) -> str:
    first = f'<th scope="row"{_value(row[0])}>{_content(table, row[0], name)}</th>'
    rest = "".join(_cell(table, cell, name, kind) for cell, kind in zip(row[1:], kinds[1:], strict=True))
    return f"<tr{_class(look)}>{first}{rest}</tr>"


def _cell(table: Table, cell: Cell, name: str, kind: str) -> str:
    return f"<td{_class(kind)}{_value(cell)}>{_content(table, cell, name)}</td>"


def _value(cell: Cell) -> str:
    """Return the number that the column is sorted by."""
    known = cell.value is not None and math.isfinite(cell.value)
    return f' data-value="{cell.value:.10g}"' if known else ""


def _content(table: Table, cell: Cell, name: str) -> str:
    if cell.parts:
        return " ".join(_content(table, part, name) for part in cell.parts)
    text = linked(cell.text, cell.link)
    text = f"<strong>{text}</strong>" if cell.bold and cell.text else text
    return text + _marks(table, cell, name)


def _marks(table: Table, cell: Cell, name: str) -> str:
    marks = [mark for mark in table.marks(cell).split(",") if mark]
    if not marks:
        return ""
    return "<sup>" + ",".join(f'<a href="#{name}-n{mark}">{mark}</a>' for mark in marks) + "</sup>"


def _notes(table: Table, name: str) -> str:
    return "".join(
        f'\n<p class="note" id="{name}-n{number}"><sup>{number}</sup> {escaped(note)}</p>'
        for number, note in enumerate(table.footnotes, start=1)
    )
