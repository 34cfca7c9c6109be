"""The cells of a study and the runs that fill them.

A plan says which runs a study needs and in which folder each lies; it is written before the first run starts, so that
a table always knows what is missing. A folder's name ends in the key of its config, so what an older config left lies
elsewhere and is never counted.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from medseg.errors import RunError
from medseg.stats.table import read_scores
from medseg.whole import write_whole

FINISHED, FAILED, MISSING = "finished", "failed", "missing"
NODULE = 1
"""Class that Table 1 is about: the first foreground class; with more of them it is held against everything else."""


@dataclass(frozen=True)
class PlannedCell:
    """One run that a table needs.

    Attributes:
        name: as printed in progress and captions.
        panel: panel of the table.
        note: what the study file remarks about it, for instance ``baseline``.
        choices: options by config group, and plain settings as text.
        folder: the run's folder, relative to the folder of outputs.
        failed: whether it was tried in vain, perhaps before its run could write anything.
    """

    name: str
    panel: str
    note: str
    choices: Mapping[str, str]
    folder: str
    failed: bool = False


@dataclass(frozen=True)
class Plan:
    """Every cell of a study for one preset and one dataset; ``overrides`` are those of the command line."""

    study: str
    preset: str
    data: str
    seeds: tuple[int, ...]
    overrides: tuple[str, ...]
    cells: tuple[PlannedCell, ...]

    @property
    def name(self) -> str:
        """What tells this plan from the study's other ones."""
        return f"{self.data}-{self.preset}"


@dataclass(frozen=True)
class Result:
    """A planned cell and what its run left.

    Attributes:
        cell: the plan's entry.
        state: ``finished``, ``failed`` or ``missing``.
        folder: the run's folder, which a missing run does not have.
        record: its ``run.json``; empty unless finished.
        versions: its ``versions.json``; empty unless finished.
    """

    cell: PlannedCell
    state: str
    folder: Path
    record: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def leaky(self) -> bool:
        """Whether the run's split lets test images have near copies in training."""
        return bool(self.record["split"]["leaky"])

    def scores(self, *, every_class: bool = False) -> pd.DataFrame:
        """Return the nodule's rows of the test side, one per case, sorted by case.

        Args:
            every_class: the rows of all foreground classes instead, one per case and class.

        Raises:
            RunError: the table holds no such row, or contradicts ``run.json`` about leakage.
        """
        frame = read_scores(self.folder / "scores.csv")
        wanted = (frame["class_index"] == NODULE) | every_class
        frame = frame[wanted & (frame["split_side"] == "test")]
        if frame.empty:
            sought = "row" if every_class else f"row of class {NODULE}"
            raise RunError(f"{self.folder / 'scores.csv'}: no {sought} on the test side; run it again.")
        if bool(frame["leaky"].astype(int).any()) != self.leaky:
            raise RunError(
                f"{self.folder}: run.json says leaky={self.leaky}, scores.csv the opposite; delete it and run again."
            )
        return frame.sort_values("case", kind="stable").reset_index(drop=True)


def state_of(cell: PlannedCell, outputs: Path) -> str:
    """Return whether a cell's run is ``finished``, ``failed`` or ``missing`` (also: begun and interrupted)."""
    folder = outputs / cell.folder
    if (folder / "DONE").exists():
        return FINISHED
    failed = cell.failed or (_read(folder / "run.json") or {}).get("status") == FAILED
    return FAILED if failed else MISSING


def load(plan: Plan, outputs: Path) -> list[Result]:
    """Return every cell of a plan with its run, in the plan's order.

    Args:
        plan: the plan.
        outputs: folder that the plan's folders are relative to.

    Raises:
        RunError: a finished run's ``run.json`` or ``versions.json`` cannot be read.
    """
    return [_load(cell, outputs) for cell in plan.cells]


def _load(cell: PlannedCell, outputs: Path) -> Result:
    folder = outputs / cell.folder
    state = state_of(cell, outputs)
    if state != FINISHED:
        return Result(cell, state, folder)
    record, versions = _read(folder / "run.json"), _read(folder / "versions.json")
    if record is None or versions is None:
        name = "run.json" if record is None else "versions.json"
        raise RunError(f"{folder}: DONE is there, but {name} is missing or damaged; delete the folder and run again.")
    return Result(cell, state, folder, record, versions)


def _read(path: Path) -> dict[str, Any] | None:
    """Return a JSON file's content, or None where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_plan(path: Path, plan: Plan) -> None:
    """Add a plan to the study's plans, or replace the one of the same name, and mark it as the latest."""
    plans = (_read(path) or {}).get("plans", {})
    content = {"latest": plan.name, "plans": {**plans, plan.name: asdict(plan)}}
    write_whole(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def read_plan(path: Path, *, data: str | None = None, preset: str | None = None) -> Plan:
    """Return the latest plan of a study, or the one for a dataset and a preset.

    Args:
        path: the study's file of plans.
        data: dataset; None means that of the latest plan.
        preset: preset; None means that of the latest plan.

    Raises:
        RunError: there is no such plan.
    """
    content = _read(path)
    if content is None:
        raise RunError(f"{path}: no plan there; run the study once: medseg study study={path.parent.name}.")
    latest = content["plans"][content["latest"]]
    name = f"{data or latest['data']}-{preset or latest['preset']}"
    if name not in content["plans"]:
        known = ", ".join(sorted(content["plans"]))
        raise RunError(f"{path}: no plan '{name}', only {known}; run the study with that data and preset first.")
    given = dict(content["plans"][name])
    cells = tuple(PlannedCell(**cell) for cell in given.pop("cells"))
    seeds, overrides = tuple(given.pop("seeds")), tuple(given.pop("overrides"))
    return Plan(**given, seeds=seeds, overrides=overrides, cells=cells)


def unit_of(results: Iterable[Result]) -> str:
    """Return the unit of distances; every run of a table has the same data."""
    return next((str(result.record["data"]["unit"]) for result in results if result.record), "px")


def options_of(results: Iterable[Result], group: str) -> list[str]:
    """Return the options of a config group in the plan's order, each once."""
    return list(dict.fromkeys(result.cell.choices[group] for result in results))


def names(results: Iterable[Result], state: str) -> list[str]:
    """Return the names of the cells in a state."""
    return [result.cell.name for result in results if result.state == state]
