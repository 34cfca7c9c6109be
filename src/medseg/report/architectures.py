"""One table over all systems: accuracy beside cost, deep and classical ones together, interactive ones apart.

Systems that are told by a user where the object is solve an easier task; they have a table of their own.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medseg.report.caption import facts
from medseg.report.cells import Plan, Result, unit_of
from medseg.report.summary import Printer, Summary
from medseg.report.table1 import DASH, HD95, LEAKY_SPLIT
from medseg.report.tables import Cell, Table

AUTOMATIC, INTERACTIVE = "automatic", "interactive"
"""The two tables; also what the study file calls the panels."""
TITLES = {AUTOMATIC: "Automatic systems", INTERACTIVE: "Interactive systems"}
DEEP, CLASSICAL = "deep", "classical"
FAITHFUL, OURS, LIBRARY = DESIGNS = ("faithful", "our reading", "library")
SYSTEM, KIND, GFLOPS, MILLISECONDS = "System", "Kind", "GFLOPs", "ms per image"
DICE = "Dice per case [95 % CI over patients]"
KINDS = (
    "Deep: trained by gradients. Classical: without, so that it has neither parameters that train nor operations that "
    "the counter of convolutions and matrix products would see."
)
GIVEN = (
    "Given beside the image by a user who is simulated from the true mask; the scores are those of both together, to "
    "be compared within this table only."
)
DESIGN = (
    "Faithful: as its paper has it. Library: a class of the library that the docstring names. Our reading: the paper "
    "leaves open what the footnote says."
)
OPERATIONS = "Of one image's forward pass; a multiply-add counts as two."
TIME = "Median of several forward passes of one image in evaluation after a warm-up; reading and resizing not included."
MEMORY = "Peak memory: of the device on CUDA, else of the whole process, libraries included."


@dataclass(frozen=True)
class Names:
    """How systems are printed, and what is known of them before a run has finished.

    Attributes:
        labels: how a network option is printed; else by the name in its record.
        designs: ``faithful``, ``our reading: ...`` or ``library: ...`` by network option; a run's record comes first.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    designs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A system with the cells it is printed by; with and without a user it is two of them."""

    net: str
    printer: Printer

    @property
    def model(self) -> Mapping[str, object]:
        """What the first finished run recorded of the network; empty without one."""
        return self.printer.summary.results[0].record["model"] if self.printer.summary else {}

    @property
    def interaction(self) -> str:
        """What a user gave it; nothing is known without a finished run."""
        said = str(self.model.get("interaction") or "")
        return said or ("marks" if self.model.get("interactive") else "none" if self.model else "")

    @property
    def table(self) -> str:
        """The table it belongs to: by its record, without one by the panel it was planned for."""
        if not self.model:
            return INTERACTIVE if self.printer.results[0].cell.panel == INTERACTIVE else AUTOMATIC
        return AUTOMATIC if self.interaction.startswith("none") else INTERACTIVE

    @property
    def kind(self) -> str:
        """``deep`` or ``classical``; runs that did not record it say it by their parameters."""
        return str(self.model.get("kind") or (DEEP if self.model.get("parameters") else CLASSICAL))

    @property
    def rank(self) -> float:
        """Place in the table, best first, unfinished last."""
        return -self.printer.summary.dice.mean if self.printer.summary else math.inf


def architecture_tables(plan: Plan, results: Sequence[Result], *, names: Names, folder: Path) -> list[Table]:
    """Return the tables of automatic and of interactive systems, as far as the plan has cells for them.

    Args:
        plan: what was to be run.
        results: its cells with what their runs left, in the plan's order.
        names: of systems that have not finished.
        folder: where the table will lie; relative links start there.
    """
    systems: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        systems.setdefault((result.cell.choices["net"], result.cell.panel), []).append(result)
    entries = [Entry(net, Printer.of(of_it, folder, every_class=True)) for (net, _), of_it in systems.items()]
    tables = []
    for name in (AUTOMATIC, INTERACTIVE):
        chosen = sorted((entry for entry in entries if entry.table == name), key=lambda entry: entry.rank)
        if chosen:
            tables.append(_table(plan, name, chosen, names))
    return tables


def _table(plan: Plan, name: str, entries: Sequence[Entry], names: Names) -> Table:
    results = [result for entry in entries for result in entry.printer.results]
    several, unit = len(plan.seeds) > 1, unit_of(results)
    return Table(
        name=name,
        title=f"{TITLES[name]}, sorted by Dice",
        columns=_columns(unit, interactive=name == INTERACTIVE, several=several),
        rows=tuple(_row(entry, names, unit, several=several) for entry in entries),
        caption=(*facts(plan, results), *_measured(entries), *_intervals(entries)),
    )


def _columns(unit: str, *, interactive: bool, several: bool) -> tuple[Cell, ...]:
    columns = (
        Cell(SYSTEM),
        Cell(KIND, footnotes=(KINDS,)),
        Cell("Interaction", footnotes=(GIVEN,) if interactive else ()),
        Cell("Design", footnotes=(DESIGN,)),
        Cell(DICE),
        Cell("Dice SD over seeds") if several else None,
        Cell("IoU"),
        Cell(f"HD95 ({unit})", footnotes=(HD95,)),
        Cell("Parameters"),
        Cell(GFLOPS, footnotes=(OPERATIONS,)),
        Cell(MILLISECONDS, footnotes=(TIME,)),
        Cell("Minutes to fit"),
        Cell("Peak MB", footnotes=(MEMORY,)),
        Cell("Runs"),
    )
    return tuple(cell for cell in columns if cell is not None)


def _row(entry: Entry, names: Names, unit: str, *, several: bool) -> tuple[Cell, ...]:
    printer = entry.printer
    classical = bool(entry.model) and entry.kind == CLASSICAL
    row = (
        _name(entry, names),
        Cell(entry.kind if entry.model else DASH),
        Cell(entry.interaction or DASH),
        _design(entry, names),
        printer.dice(),
        printer.number(lambda summary: summary.seed_sd) if several else None,
        printer.number(lambda summary: summary.headline["iou"]),
        printer.number(lambda summary: summary.headline["hd95_directed_voxel"], "{:.1f}", unit=unit),
        Cell(DASH, source="nothing trains") if classical else printer.parameters(),
        _cost(printer, lambda summary: summary.gflops, "GFLOP"),
        _cost(printer, lambda summary: summary.milliseconds, "ms"),
        printer.number(lambda summary: summary.minutes, "{:.1f}", unit="min"),
        printer.number(lambda summary: summary.megabytes, "{:.0f}", unit="MB"),
        printer.runs(),
    )
    return tuple(cell for cell in row if cell is not None)


def _name(entry: Entry, names: Names) -> Cell:
    """Return how the system is called, with the study's note; a leaky split is said beside it."""
    label = names.labels.get(entry.net) or str(entry.model.get("system") or "") or entry.net
    note = entry.printer.results[0].cell.note
    remarks = (f"{note[0].upper()}{note[1:]}.",) if note else ()
    summary = entry.printer.summary
    if summary is not None and summary.results[0].leaky:
        return Cell(f"{label} (LEAKY)", footnotes=(*remarks, LEAKY_SPLIT))
    return Cell(label, footnotes=remarks)


def _design(entry: Entry, names: Names) -> Cell:
    """Return the kind of design; how a faithful one differs and what is our reading stand in a footnote."""
    said = str(entry.model.get("design") or names.designs.get(entry.net, ""))
    reading = str(entry.model.get("reading") or "").removeprefix(f"{OURS}:").strip()
    said = said or (OURS if reading else "")
    kind = next((kind for kind in DESIGNS if said.startswith(kind)), said)
    if reading and kind == FAITHFUL:  # in parts only, or not with these settings
        kind = OURS
    words = "" if kind == LIBRARY else said.removeprefix(kind).lstrip(" :,;")
    remark = reading or words
    return Cell(kind or DASH, footnotes=(f"{remark[0].upper()}{remark[1:].rstrip('.')}.",) if remark else ())


def _cost(printer: Printer, value: Callable[[Summary], float], unit: str) -> Cell:
    """Return a cost with three digits, or a dash where it was not measured."""
    if printer.summary is None:
        return printer.number(value)
    found = value(printer.summary)
    if math.isnan(found):
        return Cell(DASH, source="not measured")
    return printer.number(value, _digits(found), unit=unit)


def _digits(value: float) -> str:
    """Return a format with three significant digits and no exponent."""
    if value <= 0:
        return "{:.0f}"
    return f"{{:.{max(0, 2 - math.floor(math.log10(value)))}f}}"


def _measured(entries: Sequence[Entry]) -> list[str]:
    """Return on what the times were measured, and at which size."""
    said = []
    for entry in entries:
        for result in entry.printer.summary.results if entry.printer.summary else ():
            cost, size = result.record["cost"], result.record["model"].get("input_size")
            of_size = f" of {' x '.join(map(str, size))}" if size else ""
            threads = f", {cost['threads']} thread(s)" if cost["device"] == "cpu" and "threads" in cost else ""
            said.append(f"Cost of an image{of_size}, {entry.kind} systems: {cost['device']}{threads}.")
    return list(dict.fromkeys(said))


def _intervals(entries: Sequence[Entry]) -> list[str]:
    methods = [entry.printer.summary.dice.method for entry in entries if entry.printer.summary]
    return [
        f"Intervals: 95 %, {method}, patients resampled, cases averaged over classes and seeds first."
        for method in dict.fromkeys(methods)
    ]
