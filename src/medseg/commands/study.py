"""``medseg study``: run every cell of a study that is not done yet, then write its tables."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from medseg import runs
from medseg.commands.configuration import choices, compose, freeze
from medseg.commands.jobs import LOGS, Job, number_of_workers, run_jobs
from medseg.commands.report import PLANS, publish, settings
from medseg.errors import RunError
from medseg.report.cells import FINISHED, Plan, PlannedCell, state_of, write_plan
from medseg.studies.cells import Cell, Sweep, expand
from medseg.studies.file import find_study, read_study

USAGE = """usage: medseg study study=NAME [preset=NAME] [data=NAME] [seeds=0,1] [workers=auto] [key=value ...]

Runs the sweeps of experiments/NAME/study.yaml as `medseg train -m` in processes of their own, continues after a failed
cell, skips what is finished, then writes the tables of `medseg report`. workers=auto trains as many cells side by side
as there are cores where all of them train on the CPU; workers=1 shows one training after the other in this terminal.
Other keys go to every training; a key that the study sweeps (net=unet,dmunet) or panel=A chooses among its cells."""
OWN = ("study", "preset", "data", "seeds", "workers")
SHARED = ("paths", "tracking")
"""Groups that both this command and every training need."""

Locate = Callable[[Cell], tuple[Path, dict[str, str]]]
"""Gives a cell's run folder and the options its config chose."""


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg study`` with its settings and overrides of the trainings."""
    if any(text in ("-h", "--help") for text in arguments):
        print(USAGE)
        return
    own, passed = divided(arguments)
    config = settings("study", own)
    study = read_study(find_study(config.study, Path.cwd()))
    data = config.dataset or next(iter(study.data))
    outputs = Path(config.paths.outputs)
    sweeps = expand(study, preset=config.preset, data=data, seeds=config.seeds, overrides=passed)
    jobs = [Job(sweep, planned(sweep, outputs)) for sweep in sweeps]
    cells = tuple(cell for job in jobs for cell in job.cells)
    seeds = tuple(config.seeds or study.presets[config.preset].seeds)
    changed = tuple(text for text in passed if not text.startswith(SHARED))
    plan = Plan(study.name, config.preset, data, seeds, changed, cells)
    write_plan(outputs / study.name / PLANS, plan)
    run_jobs(jobs, outputs, workers=number_of_workers(config.workers, cells), logs=outputs / study.name / LOGS)
    plan = tried(plan, outputs)
    write_plan(outputs / study.name / PLANS, plan)
    publish(study, plan, config)
    absent = [cell.name for cell in plan.cells if cell.failed]
    if absent:
        raise RunError(
            f"{len(absent)} of {len(cells)} cells of study '{study.name}' are not finished: {'; '.join(absent)}; the "
            "messages above say why, and the same command goes on where this one stopped."
        )


def tried(plan: Plan, outputs: Path) -> Plan:
    """Return the plan after every cell had its turn: what is not finished now has failed."""
    cells = (replace(cell, failed=state_of(cell, outputs) != FINISHED) for cell in plan.cells)
    return replace(plan, cells=tuple(cells))


def divided(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the settings of this command and the overrides of the trainings; paths and tracking are both."""
    own, passed = [], []
    for text in arguments:
        key, _, value = text.partition("=")
        group = key.split(".")[0]
        if key == "seeds" and not value.startswith("["):
            text = f"seeds=[{value}]"
        mine = key in OWN or group == "energy"
        if mine or group in SHARED or text.startswith("-"):
            own.append(text)
        if not mine and not text.startswith("-"):
            passed.append(text)
    return own, passed


def planned(sweep: Sweep, outputs: Path, locate: Locate | None = None) -> tuple[PlannedCell, ...]:
    """Return the cells of a sweep with the folder and the options that each config has, without running anything.

    Raises:
        ConfigError: a cell's config cannot be composed.
    """
    cells = []
    for cell in sweep.cells:
        folder, chosen = (locate or located)(cell)
        relative = Path(os.path.relpath(folder, outputs)).as_posix()
        cells.append(PlannedCell(cell.name, cell.panel, cell.note, {**chosen, **cell.choices}, relative))
    return tuple(cells)


def located(cell: Cell) -> tuple[Path, dict[str, str]]:
    """Return the folder that ``medseg train`` will use for a cell, and the options its config chose."""
    composed = compose("train", cell.overrides)
    chosen = choices(composed)
    config: dict[str, Any] = OmegaConf.to_container(freeze(composed, chosen))  # type: ignore[assignment]
    return runs.run_folder(config), chosen
