"""What commands print on a terminal."""

from pathlib import Path

from pandas import DataFrame
from rich.console import Console
from rich.table import Table

WIDE = 180
"""Columns of a printed table where the output is no terminal."""


def show_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table, first column left, the others right."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    plain = Console()
    (plain if plain.is_terminal else Console(width=WIDE)).print(table)


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
    Console().print(f"[bold]{folder / 'scores.csv'}[/bold]  one row per case and class")
    Console().print(f"[bold]{folder / 'overlays.png'}[/bold]  worst, median and best cases")


def _text(value: float | None) -> str:
    """Return a number as printed, whole ones without a point; nothing where there is none."""
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
