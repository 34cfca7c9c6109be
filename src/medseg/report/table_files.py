"""Tables as Markdown, LaTeX and CSV files."""

from collections.abc import Sequence
from pathlib import Path

from medseg.report.tables import LATEX_HEAD, Table, latex, long_text, markdown
from medseg.whole import write_whole


def write_table_files(
    tables: Sequence[Table], stem: Path, *, label: str, heading: str = "", listed: Sequence[Table] | None = None
) -> dict[str, Path]:
    """Write the tables into one file of each kind and return the files by their endings.

    Args:
        tables: in order.
        stem: path of the files without ending.
        label: of the tables in LaTeX, completed by their names.
        heading: first lines of the Markdown.
        listed: tables of the CSV, where it holds more than the others.
    """
    parts = [latex(table, label=f"{label}{table.name.lower()}") for table in tables]
    texts = {
        "md": heading + "\n".join(map(markdown, tables)),
        "tex": LATEX_HEAD + "\n".join(parts),
        "csv": long_text(tables if listed is None else listed),
    }
    files = {kind: stem.with_name(f"{stem.name}.{kind}") for kind in texts}
    for kind, text in texts.items():
        write_whole(files[kind], text)
    return files
