"""The board of published numbers: other people's beside ours, greyed with the reason where the protocols differ.

The numbers lie as tables below ``experiments/published/``; ``README.md`` there says what each column means. Every row
has its source and its protocol, so that nobody has to remember which Dice was a function of a mean IoU.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.errors import ScoreError
from medseg.report.protocol import Protocol, agreement, protocol_of
from medseg.report.published_rows import Published, read_published_rows
from medseg.report.tables import Cell, Table

FOLDER = Path("experiments") / "published"
RELATED = {
    "acdc": ("acdc_official",),
    "brats": ("brats2020", "brats2021"),
    "brats2013_mini": ("brats2020", "brats2021"),
}
"""Datasets that are not the same but so near that a reader looks for their numbers: shown, never comparable."""
SHOWN = ("dice", "f1")
"""What stands in the column of Dice: Dice, or F1 where a source has no Dice."""
NAMES = {"iou": "IoU", "f1": "F1", "hd95": "HD95", "hd": "HD", "fps": "images/s", "gflops": "GFLOP"}
"""How other metrics are called; the rest by their own name."""
GREY = "not comparable: "
"""Stands before the method of a muted row, for readers without colours."""
UNVERIFIED = "number not checked against its source"


@dataclass(frozen=True)
class Board:
    """Our rows and the published ones of a dataset.

    Attributes:
        table: our rows first, then what is comparable, then the rest, each in the order of its file.
        muted: numbers of the rows that are not comparable, to be greyed.
        ours: numbers of our rows.
    """

    table: Table
    muted: frozenset[int]
    ours: frozenset[int]


def find_published(start: Path) -> Path | None:
    """Return ``experiments/published`` at or above ``start``, or None."""
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / FOLDER).is_dir():
            return folder / FOLDER
    return None


def published_of(folder: Path, dataset: str) -> list[Published]:
    """Return every number of a dataset and of its relatives, from all files of the folder by name.

    Raises:
        ScoreError: a file breaks a rule.
    """
    wanted = (dataset, *RELATED.get(dataset, ()))
    files = sorted(folder.glob("*.csv"))
    return [row for path in files for row in read_published_rows(path) if row.dataset in wanted]


def board(
    records: Sequence[Mapping[str, Any]],
    folder: Path | None,
    *,
    headline: Mapping[str, tuple[float, float, float]],
    labels: Mapping[str, str] | None = None,
) -> Board | None:
    """Return the published numbers of the runs' dataset beside ours, or None where there are none.

    A published row is comparable only where its protocol agrees with that of each of our methods and its number was
    checked; else it is muted and its footnote says why.

    Args:
        records: ``run.json`` of our runs on one dataset, each with its resolved config under ``config`` if known;
            without it most of our own tags are unknown and nothing agrees.
        folder: of the published numbers, see :func:`find_published`.
        headline: network option to mean Dice per case with its interval (mean, low, high); NaN bounds: no interval.
        labels: how a network option is printed.

    Raises:
        ScoreError: the records are of several datasets, or a file breaks a rule.
    """
    if folder is None or not records:
        return None
    datasets = sorted({protocol_of([record]).dataset for record in records})
    if len(datasets) > 1:
        raise ScoreError(f"published board: runs on {', '.join(datasets)}; make one board for each dataset.")
    found = _shown(published_of(folder, datasets[0]))
    if not found:
        return None
    protocols = {net: protocol_of([record for record in records if _net(record) == net]) for net in headline}
    ours = [_our_row(net, (labels or {}).get(net, net), headline[net]) for net in headline]
    judged = [(rows, _reasons(list(protocols.values()), rows[0])) for rows in found]
    plain = [_their_row(rows, ()) for rows, reasons in judged if not reasons]
    grey = [_their_row(rows, reasons) for rows, reasons in judged if reasons]
    shown = (*ours, *plain, *grey)
    first = len(ours) + len(plain)
    return Board(_table(datasets[0], shown), frozenset(range(first, len(shown))), frozenset(range(len(ours))))


def _net(record: Mapping[str, Any]) -> str:
    return str((record.get("choices") or {}).get("net") or record.get("name"))


def _shown(rows: Sequence[Published]) -> list[list[Published]]:
    """Return the rows of each method, target and source, with what stands for Dice first; those without are left out.

    Where a source has Dice and F1, F1 is among the other numbers.
    """
    groups: dict[tuple[str, ...], list[Published]] = {}
    for row in rows:
        groups.setdefault((row.dataset, row.method, row.target, row.source), []).append(row)
    chosen = []
    for group in groups.values():
        first = next((row for metric in SHOWN for row in group if row.metric == metric), None)
        if first is not None:
            chosen.append([first, *(row for row in group if row is not first)])
    return chosen


def _reasons(ours: Sequence[Protocol], row: Published) -> tuple[str, ...]:
    """Return why a row is not comparable with all of our methods, each reason once; empty if it is."""
    found = [reason for protocol in ours for reason in agreement(protocol, row.protocol)[1]]
    if row.verified != "yes":
        found.insert(0, UNVERIFIED)
    if math.isnan(row.number):
        found.insert(0, "no single number was printed")
    return tuple(dict.fromkeys(found))


def _our_row(net: str, label: str, numbers: tuple[float, float, float]) -> tuple[Cell, ...]:
    mean, low, high = numbers
    bounded = not math.isnan(low)
    text = f"{mean:.3f} [{low:.3f}, {high:.3f}]" if bounded else f"{mean:.3f}"
    dice = Cell(text, mean, low if bounded else None, high if bounded else None, unit="1", source="medseg", run=net)
    return Cell(f"{label} (ours)"), dice, Cell(""), Cell("medseg"), Cell("")


def _their_row(rows: Sequence[Published], reasons: Sequence[str]) -> tuple[Cell, ...]:
    first = rows[0]
    target = f", {first.target}" if first.target else ""
    note = (f"Not comparable: {'; '.join(reasons)}.",) if reasons else ()
    caveat = (first.caveat,) if first.caveat else ()
    value = None if math.isnan(first.number) else first.number
    text = first.text if first.metric == "dice" else f"{first.text} (F1)"
    others = ", ".join(f"{NAMES.get(row.metric, row.metric)} {row.text}{_unit(row)}" for row in rows[1:])
    split = f"{first.split}: {first.split_detail}" if first.split_detail else first.split
    return (
        Cell(f"{GREY if reasons else ''}{first.method}{target}", footnotes=note),
        Cell(text, value, unit="1", source=first.source, footnotes=caveat),
        Cell(others),
        Cell(first.source),
        Cell(split),
    )


def _unit(row: Published) -> str:
    return f" {row.unit}" if row.unit in ("px", "mm", "M", "points") else ""


def _table(dataset: str, rows: tuple[tuple[Cell, ...], ...]) -> Table:
    names = ("Method", "Dice", "Other numbers", "Source", "Split")
    return Table(
        name=f"published-{dataset}",
        title=f"Published numbers on {dataset}",
        columns=tuple(Cell(name) for name in names),
        rows=rows,
        caption=(
            "Overlaps as fractions, with the digits that were printed.",
            "A row is comparable only if every protocol tag is known and equal to ours; an unknown tag never is.",
        ),
    )
