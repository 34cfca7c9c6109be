"""What commands print on a terminal."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pandas import DataFrame
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from medseg.report.tables import Table, plain

WIDE = 180
"""Columns of a printed table where the output is no terminal."""


def terminal() -> Console:
    """Return where commands print: the terminal, or a wide page where the output is none."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print texts as a table, first column left, the others right; square brackets are no markup."""
    terminal().print(_drawn(title, columns, rows))


def show(table: Table) -> None:
    """Print a report's table, its caption and its footnotes."""
    console = terminal()
    columns = [plain(table, column) for column in table.columns]
    console.print(_drawn(table.title, columns, [[plain(table, cell) for cell in row] for row in table.rows]))
    console.print(Text(" ".join(table.caption)))
    for number, note in enumerate(table.footnotes, start=1):
        console.print(Text(f"({number}) {note}", style="dim"))
    console.print()


def _drawn(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> RichTable:
    drawn = RichTable(title=Text(title, style="bold"), title_justify="left")
    for number, column in enumerate(columns):
        drawn.add_column(Text(column), justify="left" if number == 0 else "right")
    for row in rows:
        drawn.add_row(*map(Text, row))
    return drawn


def show_lines(lines: Iterable[str | Path]) -> None:
    """Print remarks and paths as they are, each whole on a line of its own."""
    console = terminal()
    for line in lines:
        console.print(str(line), soft_wrap=True, highlight=False, markup=False)


def show_scores(scores: DataFrame, folder: Path, unit: str) -> None:
    """Print the headline of a score table and where it lies.

    Args:
        scores: one run's score table.
        folder: where ``scores.csv`` was written.
        unit: of distances.
    """
    from medseg.stats.aggregate import headline

    values = headline(scores)
    rows = []
    for name, value in values.items():
        if name.startswith("n_left_out_") or name.endswith("_without_both_empty"):
            continue  # stand beside their score
        beside = (values.get(f"{name}_without_both_empty"), values.get(f"n_left_out_{name}"))
        rows.append([name, _text(value), *(_text(number) for number in beside)])
    columns = ["score", "value", "without both empty", "rows left out"]
    show_table(f"{len(scores)} rows, distances in {unit}", columns, rows)
    show_lines(
        [f"{folder / 'scores.csv'}  one row per case and class", f"{folder / 'overlays.png'}  worst, median and best"]
    )


def _text(value: float | None) -> str:
    """Return a number as printed, whole ones without a point; nothing where there is none."""
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
