"""Tables of gains: what each step or each member is worth, with its interval over patients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medseg.report.tables import Cell, Table

Record = Mapping[str, Any]
"""A gain as plain values: ``mean``, ``low``, ``high`` (None where there is none), ``patients``, ``reliable``."""

UNRELIABLE = "interval unreliable: fewer than 25 patients, or no bootstrap interval"


@dataclass(frozen=True)
class StepRow:
    """One line of a refinement.

    Attributes:
        name: of the step.
        detail: the hyperparameters, in words.
        tried: number of candidates.
        validation_mean: mean over validation patients with the chain up to this step.
        validation: its gain there.
        test_mean: likewise on the test side; None for a step that was not kept and so never saw it.
        test: its gain there.
        kept: whether it is part of the chain.
    """

    name: str
    detail: str
    tried: int
    validation_mean: float
    validation: Record | None
    test_mean: float | None
    test: Record | None
    kept: bool = True


@dataclass(frozen=True)
class MemberRow:
    """One run of an ensemble: its weight, its own mean on the test side, and what the ensemble gains over it."""

    name: str
    weight: float
    mean: float
    gain: Record | None


def gain_cell(gain: Record | None, *, source: str, bold: bool = False) -> Cell:
    """Return a gain with its interval, marked where that is unreliable; a dash for none."""
    if gain is None:
        return Cell("-")
    low, high = gain["low"], gain["high"]
    bounds = "no interval" if low is None or high is None else f"[{low:+.4f}, {high:+.4f}]"
    notes = () if gain["reliable"] else (UNRELIABLE,)
    text = f"{gain['mean']:+.4f} {bounds}"
    return Cell(text, gain["mean"], low, high, bold=bold, footnotes=notes, source=source)


def refinement_table(rows: Sequence[StepRow], *, title: str, metric: str, caption: Sequence[str]) -> Table:
    """Return the steps in order with their gains on validation and on test; kept steps are bold."""
    header = (
        *("step", "tried"),
        *(f"validation {metric}", "validation gain [95 % CI]"),
        *(f"test {metric}", "test gain [95 % CI]"),
    )
    lines = []
    for row in rows:
        name = " ".join(text for text in (row.name, row.detail, "" if row.kept else "(not kept)") if text)
        lines.append(
            (
                Cell(name, bold=row.kept),
                Cell(str(row.tried) if row.tried else "-"),
                _mean(row.validation_mean, source="validation"),
                gain_cell(row.validation, source="validation"),
                _mean(row.test_mean, source="test"),
                gain_cell(row.test, source="test", bold=row.kept),
            )
        )
    return Table("refinement", title, tuple(Cell(text) for text in header), tuple(lines), tuple(caption))


def ensemble_table(rows: Sequence[MemberRow], mean: float, *, title: str, metric: str, caption: Sequence[str]) -> Table:
    """Return the members with their means and the ensemble's gains over each, the ensemble in the last line."""
    header = ("run", "weight", f"test {metric}", "gain of the ensemble [95 % CI]")
    lines = []
    for row in rows:
        weight = Cell(f"{row.weight:.4f}", row.weight, source="weight")
        lines.append((Cell(row.name), weight, _mean(row.mean, source="test"), gain_cell(row.gain, source="test")))
    lines.append((Cell("ensemble", bold=True), Cell("1.0000"), _mean(mean, source="test"), Cell("-")))
    return Table("ensemble", title, tuple(Cell(text) for text in header), tuple(lines), tuple(caption))


def _mean(value: float | None, *, source: str) -> Cell:
    return Cell("-") if value is None else Cell(f"{value:.4f}", value, source=source)
