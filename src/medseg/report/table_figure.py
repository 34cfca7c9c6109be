"""Tables drawn as one picture: each table as text, then means with their intervals as dots and lines."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.report.tables import Cell, Table, plain
from medseg.whole import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 13.0
"""Width of the picture in inches."""
LINE = 0.24
"""Height of a text line in inches."""
SMALL, NORMAL = 8.0, 9.5
"""Font sizes in points."""
LETTERS = 225
"""Letters of the small font that fit beside each other."""
INK, FAINT, LEAKY_INK = "#222222", "#888888", "#c23b22"
LINKED = "Runs"
"""Column and row that only hold links, which a picture cannot follow."""


def draw(tables: Sequence[Table], path: Path, *, heading: str) -> None:
    """Write the tables and their intervals as a PNG.

    Args:
        tables: drawn from top to bottom.
        path: the picture; the same tables give the same bytes.
        heading: line at the top.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [_without_links(table) for table in tables]
    dots = _dots(tables)
    heights = [_height(table) for table in shown]
    dot_height = LINE * (len(dots) + 4) if dots else 0.0
    total = sum(heights) + dot_height + 0.6
    figure = Figure(figsize=(WIDTH, total), facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.02, 1 - 0.3 / total, heading, fontsize=14, fontweight="bold", color=INK, va="center")
    top = total - 0.6
    for table, height in zip(shown, heights, strict=True):
        _draw_table(figure.add_axes((0.02, (top - height) / total, 0.96, height / total)), table, height)
        top -= height
    if dots:
        bottom = (top - dot_height + 2.6 * LINE) / total
        _draw_dots(figure.add_axes((0.3, bottom, 0.6, (dot_height - 3.2 * LINE) / total)), dots)
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=110, format="png", metadata={"Software": None})


def _without_links(table: Table) -> Table:
    kept = [i for i, column in enumerate(table.columns) if column.text != LINKED]
    rows = tuple(tuple(row[i] for i in kept) for row in table.rows if row[0].text != LINKED)
    return Table(table.name, table.title, tuple(table.columns[i] for i in kept), rows, table.caption)


def _remarks(table: Table) -> list[str]:
    lines = textwrap.wrap(" ".join(table.caption), LETTERS)
    for number, note in enumerate(table.footnotes, start=1):
        lines += textwrap.wrap(f"({number}) {note}", LETTERS, subsequent_indent="      ")
    return lines


def _headers(table: Table) -> list[str]:
    return ["\n".join(textwrap.wrap(column.text, 20)) for column in table.columns]


def _height(table: Table) -> float:
    header_lines = max(header.count("\n") + 1 for header in _headers(table))
    return LINE * (2.9 + 0.8 * header_lines + len(table.rows) + 0.56 * len(_remarks(table)))


def _draw_table(axes: "Axes", table: Table, height: float) -> None:
    """Draw title, header, rows and remarks; coordinates are inches from the top, widths follow the longest text."""
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(height, 0)
    headers = _headers(table)
    header_lines = max(header.count("\n") + 1 for header in headers)
    longest = [
        max([*(len(line) for line in headers[i].split("\n")), *(len(plain(table, row[i])) for row in table.rows)]) + 3
        for i in range(len(headers))
    ]
    edges = [sum(longest[:i]) / sum(longest) for i in range(len(longest) + 1)]
    axes.text(0, 0.5 * LINE, table.title, fontsize=11, fontweight="bold", color=INK, va="center")
    first = LINE * (1.5 + 0.8 * header_lines)
    _draw_row(axes, table, list(zip(headers, table.columns, strict=True)), edges, first - 0.08, "bottom")
    for number, row in enumerate(table.rows):
        _draw_row(axes, table, [(cell.text, cell) for cell in row], edges, first + LINE * (number + 0.6), "center")
    last = first + LINE * (len(table.rows) + 0.15)
    for depth, thickness in ((1.2 * LINE, 1.4), (first, 0.7), (last, 1.4)):
        axes.plot([0, 1], [depth, depth], color=INK, linewidth=thickness, clip_on=False)
    remarks = "\n".join(_remarks(table))
    axes.text(0, last + 0.08, remarks, fontsize=SMALL - 0.8, color="#444444", va="top", linespacing=1.25)


def _draw_row(
    axes: "Axes",
    table: Table,
    entries: Sequence[tuple[str, Cell]],
    edges: Sequence[float],
    depth: float,
    anchor: str,
) -> None:
    """Draw one row, the first entry from the left edge, the others up to their column's right edge."""
    for i, (text, cell) in enumerate(entries):
        place, side = (edges[0], "left") if i == 0 else (edges[i + 1] - 0.006, "right")
        absent = cell.value is None and bool(cell.source)
        color = LEAKY_INK if "LEAKY" in text else FAINT if absent else INK
        marks = table.marks(cell)
        raised = f"$^{{\\mathrm{{{marks}}}}}$" if marks else ""
        shown = text.replace("$", r"\$") + raised
        weight = "bold" if cell.bold else "normal"
        axes.text(place, depth, shown, fontsize=NORMAL - 0.8, color=color, ha=side, va=anchor, fontweight=weight)


def _dots(tables: Sequence[Table]) -> list[tuple[str, Cell]]:
    """Return every cell with an interval and what to call it."""
    named = []
    for table in tables:
        several = sum(cell.low is not None for cell in table.rows[0]) != 1
        for row in table.rows:
            for column, cell in zip(table.columns, row, strict=True):
                if cell.low is not None:
                    what = column.text if several else row[0].text
                    named.append((f"{table.name}: {what}", cell))
    return named


def _draw_dots(axes: "Axes", dots: Sequence[tuple[str, Cell]]) -> None:
    for depth, (name, cell) in enumerate(dots):
        color = LEAKY_INK if "LEAKY" in name else "#1f5a94"
        if cell.low is not None and cell.high is not None:
            axes.plot([cell.low, cell.high], [depth, depth], color=color, linewidth=2.2, solid_capstyle="round")
        if cell.value is not None:
            axes.plot([cell.value], [depth], "o", color=color, markersize=6)
    axes.set_yticks(range(len(dots)), [name for name, _ in dots], fontsize=NORMAL - 0.8)
    axes.set_ylim(len(dots) - 0.4, -0.6)
    low = min(cell.low for _, cell in dots if cell.low is not None)
    axes.set_xlim(max(0.0, low - 0.05), 1.0)
    axes.set_xlabel("Dice per case, mean and 95 % interval over patients", fontsize=NORMAL - 0.8)
    axes.tick_params(axis="x", labelsize=SMALL)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
