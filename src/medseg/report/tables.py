"""A small table and its writers: Markdown, LaTeX (booktabs) and a long list of every number.

Writers add nothing of their own (no date, no random order), so that the same table gives the same bytes.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

LONG_COLUMNS = ("panel", "row", "column", "value", "low", "high", "unit", "run", "source")


@dataclass(frozen=True)
class Cell:
    """One entry: what is printed and the number behind it.

    Attributes:
        text: as printed, without link and footnote marks.
        value: the number, in ``unit``; None for a cell without one.
        low: lower end of its interval.
        high: upper end of its interval.
        unit: unit of the three.
        link: address or relative path behind the text.
        bold: whether it is set in bold.
        footnotes: remarks; equal remarks share a number within a table.
        run: run folders that the number was computed from.
        source: where the number comes from; a cell with a source is part of the long list.
        parts: several entries in one cell, printed one after the other instead of ``text``.
    """

    text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    link: str = ""
    bold: bool = False
    footnotes: tuple[str, ...] = ()
    run: str = ""
    source: str = ""
    parts: tuple["Cell", ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header; the first column names the rows.

    Attributes:
        name: short name, for instance the panel's letter.
        title: one line.
        columns: header cells.
        rows: one cell per column each.
        caption: what a reader must know to judge the numbers, a sentence or a fact each.
    """

    name: str
    title: str
    columns: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            assert len(row) == len(self.columns), f"table {self.name}: row '{row[0].text}' has {len(row)} cells"

    @property
    def footnotes(self) -> list[str]:
        """Every remark once, in reading order; its number is its place, counted from 1."""
        cells = [*self.columns, *(cell for row in self.rows for cell in row)]
        return list(dict.fromkeys(note for cell in cells for note in cell.footnotes))

    def marks(self, cell: Cell) -> str:
        """Return the footnote numbers of a cell, for instance ``1,3``."""
        numbers = {note: number for number, note in enumerate(self.footnotes, start=1)}
        return ",".join(str(number) for number in sorted(numbers[note] for note in cell.footnotes))


def markdown(table: Table) -> str:
    """Return a table as Markdown: title, pipe table, caption, footnotes."""
    lines = [f"## {_markdown_text(table.title)}", "", _markdown_row(table, table.columns)]
    lines.append("|" + "|".join(":---" if left else "---:" for left in _left_aligned(table)) + "|")
    lines += [_markdown_row(table, row) for row in table.rows]
    lines += ["", " ".join(_markdown_text(fact) for fact in table.caption)]
    for number, note in enumerate(table.footnotes, start=1):
        lines += ["", f"<sup>{number}</sup> {_markdown_text(note)}"]
    return "\n".join(lines) + "\n"


def latex(table: Table, *, label: str) -> str:
    """Return a table as LaTeX to be read with ``input``; the preamble loads booktabs and graphicx, hyperref for links.

    Args:
        table: the table.
        label: what ``ref`` refers to.
    """
    alignment = "".join("l" if left else "r" for left in _left_aligned(table))
    caption = " ".join(latex_text(text) for text in (f"{table.title}.", *table.caption))
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\small",
        rf"\caption{{{caption}}}",
        rf"\label{{{label}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        _latex_row(table, table.columns),
        r"\midrule",
        *(_latex_row(table, row) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}}",
    ]
    if table.footnotes:
        lines += [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright"]
        notes = enumerate(table.footnotes, start=1)
        lines += [rf"\textsuperscript{{{number}}}~{latex_text(note)}\par" for number, note in notes]
        lines.append(r"\end{minipage}")
    return "\n".join([*lines, r"\end{table}"]) + "\n"


LATEX_HEAD = (
    "% Read with \\input. The preamble needs \\usepackage{booktabs} and \\usepackage{graphicx}; hyperref is optional.\n"
    "\\providecommand{\\href}[2]{#2}\n"
)
"""What goes before the tables of one LaTeX file."""


def long_list(tables: Iterable[Table]) -> pd.DataFrame:
    """Return one row per cell that has a source, with columns ``LONG_COLUMNS``.

    A cell without a number (not finished, not published) keeps its row: its ``value`` is missing, its ``source`` says
    why.
    """
    rows = [
        (table.name, row[0].text, column.text, cell.value, cell.low, cell.high, cell.unit, cell.run, cell.source)
        for table in tables
        for row in table.rows
        for column, cell in zip(table.columns, row, strict=True)
        if cell.source
    ]
    frame = pd.DataFrame(rows, columns=list(LONG_COLUMNS))
    return frame.astype({"value": float, "low": float, "high": float})


def long_text(tables: Iterable[Table]) -> str:
    """Return :func:`long_list` as CSV text."""
    return long_list(tables).to_csv(index=False, float_format="%.10g", lineterminator="\n")


def plain(table: Table, cell: Cell) -> str:
    """Return a cell as it is printed where there are no links: the text and its footnote numbers in parentheses."""
    text = " ".join(part.text for part in cell.parts) or cell.text
    marks = table.marks(cell)
    return f"{text} ({marks})" if marks else text


def _left_aligned(table: Table) -> list[bool]:
    """Return per column whether it holds words: no cell below the header has a number."""
    columns = zip(*table.rows, strict=True) if table.rows else [()] * len(table.columns)
    return [index == 0 or all(cell.value is None for cell in column) for index, column in enumerate(columns)]


def _markdown_row(table: Table, cells: Sequence[Cell]) -> str:
    return "| " + " | ".join(_markdown_cell(table, cell) for cell in cells) + " |"


def _markdown_cell(table: Table, cell: Cell) -> str:
    if cell.parts:
        return " ".join(_markdown_cell(table, part) for part in cell.parts)
    text = _markdown_text(cell.text)
    if cell.link and text:
        text = f"[{text}]({cell.link.replace(' ', '%20')})"
    if cell.bold and text:
        text = f"**{text}**"
    marks = table.marks(cell)
    return f"{text}<sup>{marks}</sup>" if marks else text


def _markdown_text(text: str) -> str:
    return re.sub(r"([\\|*<`])", r"\\\1", text)


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # at the start of a row, \\ would take it for its own argument
    "–": "--",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "·": r"$\cdot$",
}


def latex_text(text: str) -> str:
    """Return text with every character that LaTeX would act on escaped."""
    return "".join(_LATEX.get(character, character) for character in text)


def _latex_row(table: Table, cells: Sequence[Cell]) -> str:
    return " & ".join(_latex_cell(table, cell) for cell in cells) + r" \\"


def _latex_cell(table: Table, cell: Cell) -> str:
    if cell.parts:
        return " ".join(_latex_cell(table, part) for part in cell.parts)
    text = latex_text(cell.text)
    if cell.link and text:
        address = re.sub(r"([%#{}\\])", r"\\\1", cell.link)
        text = rf"\href{{{address}}}{{{text}}}"
    if cell.bold and text:
        text = rf"\textbf{{{text}}}"
    marks = table.marks(cell)
    return rf"{text}\textsuperscript{{{marks}}}" if marks else text
