"""Tables of results by kind of case."""

import math
from collections.abc import Sequence
from dataclasses import replace

from medseg.report.tables import Cell, Table
from medseg.stats.bootstrap import ENOUGH_PATIENTS, Interval
from medseg.stats.strata import SIZE, Stratum

CAPTION = (
    "Mean over the cases of a stratum where Dice is defined, 95 % bootstrap interval over their patients.",
    "HD95 counts the image diagonal where exactly one mask is empty.",
    "Missed: share of the structures with an empty prediction; missed lesions: share of all lesions that no prediction "
    "touches.",
    "Nothing is tested between strata.",
)


def strata_table(
    found: Sequence[Stratum], *, unit: str, run: str = "", source: str = "medseg", remarks: Sequence[str] = ()
) -> Table:
    """Return the table of one division, a row per class and stratum.

    Args:
        found: of ``medseg.stats.strata.strata``, at least one, all with the same ``by``.
        unit: of distances, ``px`` or ``mm``.
        run: the run's folder, for the long list.
        source: where the numbers come from, for the long list.
        remarks: what nobody may overlook (SYNTHETIC, LEAKY SPLIT, SELECTION SIDE); first in the caption.
    """
    by = found[0].by
    several = len({stratum.class_name for stratum in found}) > 1
    head = ("cases", "patients", "Dice [95 % CI]", f"HD95 ({unit})", "missed", "missed lesions", "no structure")
    columns = ("stratum", *head, "undefined")
    rows = [_row(stratum, several=several, unit=unit, run=run, source=source) for stratum in found]
    notes = ("Sizes are those of the reference, in pixels or voxels of the file's own grid.",) if by == SIZE else ()
    return Table(
        name=f"strata_{by}",
        title=f"By {by}",
        columns=tuple(Cell(text) for text in columns),
        rows=tuple(rows),
        caption=(*(f"{remark}." for remark in remarks), *notes, *CAPTION),
    )


def _row(stratum: Stratum, *, several: bool, unit: str, run: str, source: str) -> tuple[Cell, ...]:
    name = f"{stratum.class_name}: {stratum.name}" if several else stratum.name

    def number(value: float, text: str, what: str, notes: tuple[str, ...] = ()) -> Cell:
        shown = "undefined" if math.isnan(value) else text.format(value)
        return Cell(shown, value=value, unit=what, footnotes=notes, run=run, source=source)

    penalised = (f"{stratum.n_penalised} with the diagonal.",) if stratum.n_penalised else ()
    return (
        Cell(name),
        number(stratum.n_cases, "{:.0f}", "cases"),
        number(stratum.n_patients, "{:.0f}", "patients"),
        _dice(stratum.dice, run=run, source=source),
        number(stratum.hd95, "{:.1f}", unit, () if math.isnan(stratum.hd95) else penalised),
        number(100 * stratum.missed_rate, "{:.1f} %", "%"),
        number(100 * stratum.missed_lesions, "{:.1f} %", "%"),
        number(stratum.n_empty_reference, "{:.0f}", "cases"),
        number(stratum.n_undefined, "{:.0f}", "cases"),
    )


def _dice(interval: Interval | None, *, run: str, source: str) -> Cell:
    if interval is None:
        return Cell("undefined", value=math.nan, unit="1", run=run, source=source)
    notes = () if interval.reliable else (_unreliable(interval),)
    cell = Cell(f"{interval.mean:.3f}", interval.mean, unit="1", footnotes=notes, run=run, source=source)
    if math.isnan(interval.low):
        return cell
    text = f"{cell.text} [{interval.low:.3f}, {interval.high:.3f}]"
    return replace(cell, text=text, low=interval.low, high=interval.high)


def _unreliable(interval: Interval) -> str:
    if interval.method != "BCa":
        return f"No bootstrap interval from {interval.n_patients} patients: {interval.method}."
    return (
        f"Fewer than {ENOUGH_PATIENTS} patients: the bootstrap interval is unreliable "
        f"(Student's interval {interval.t_low:.3f} to {interval.t_high:.3f})."
    )
