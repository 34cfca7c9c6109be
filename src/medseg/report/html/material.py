"""What a page is made of, read from disk by whoever builds it: runs with their tables, and what was said about them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from medseg.report.html.blocks import Link
from medseg.report.html.energy import Power
from medseg.report.tables import Table
from medseg.stats.comparison import Comparison
from medseg.stats.flags import flags_of


def run_flags(records: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return what nobody may overlook of runs with these records."""
    known = list(records)
    synthetic = any(record["data"]["synthetic"] for record in known)
    return flags_of(synthetic=synthetic, leaky=any(record["split"]["leaky"] for record in known))


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        name: how it is called; unique in the page.
        method: printed name of what was trained.
        seed: of the training.
        record: its ``run.json``.
        versions: its ``versions.json``.
        scores: rows of its test side, every foreground class.
        curve: validation Dice by epoch; empty without any.
        reliability: its ``reliability.csv``; None without one.
        cases: its ``cases.csv``; None without one.
        settings: leaves of its config by dotted name; empty where it is not there.
        overlays: its picture of cases, whether there or not.
        address: of its folder, relative to the page.
        folder: where it lies.
    """

    name: str
    method: str
    seed: int
    record: Mapping[str, Any]
    versions: Mapping[str, Any]
    scores: pd.DataFrame
    curve: Mapping[int, float] = field(default_factory=dict)
    reliability: pd.DataFrame | None = None
    cases: pd.DataFrame | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    overlays: Path = Path("overlays.png")
    address: str = ""
    folder: Path = Path()


@dataclass(frozen=True)
class Arm:
    """Runs that may be compared with each other, for instance a panel of a table.

    Attributes:
        name: letters that tell it from other arms; empty if there is one.
        runs: finished runs, method by method.
        comparison: what the statistics say; None where there is nothing to compare.
        refusal: why there is no comparison, a sentence.
    """

    name: str
    runs: tuple[Trained, ...]
    comparison: Comparison | None = None
    refusal: str = ""

    @property
    def flags(self) -> tuple[str, ...]:
        """What nobody may overlook in what is drawn of these runs."""
        compared = [] if self.comparison is None else self.comparison.evidence.flags
        return tuple(dict.fromkeys([*run_flags(run.record for run in self.runs), *compared]))

    @property
    def methods(self) -> dict[str, list[Trained]]:
        """The runs by method; those that were compared first, the best of them first."""
        found: dict[str, list[Trained]] = {}
        for run in self.runs:
            found.setdefault(run.method, []).append(run)
        order = () if self.comparison is None else self.comparison.ranking.order
        return {name: found[name] for name in (*order, *found) if name in found}


@dataclass(frozen=True)
class Board:
    """Published numbers beside ours; see :class:`~medseg.report.html.blocks.TableBlock` for the last two."""

    table: Table
    muted: frozenset[int] = frozenset()
    marked: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Material:
    """Everything that a page shows.

    Attributes:
        title: heading.
        flags: what nobody may overlook.
        arms: runs, by what may be compared.
        tables: of the study, as in its other files.
        unfinished: cells of the study without a finished run, a text each.
        strata: tables by kind of case and of failures, by the run they are of.
        boards: published numbers.
        ledger: sentences on how often test results were read.
        documents: checklists and cards.
        power: assumptions behind the estimate of energy.
        remarks: why something is left out, a sentence each, by section.
    """

    title: str
    flags: tuple[str, ...]
    arms: tuple[Arm, ...]
    tables: tuple[Table, ...] = ()
    unfinished: tuple[str, ...] = ()
    strata: Mapping[str, Sequence[Table]] = field(default_factory=dict)
    boards: tuple[Board, ...] = ()
    ledger: tuple[str, ...] = ()
    documents: tuple[Link, ...] = ()
    power: Power = field(default_factory=Power)
    remarks: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def runs(self) -> list[Trained]:
        """Every run of every arm."""
        return [run for arm in self.arms for run in arm.runs]
