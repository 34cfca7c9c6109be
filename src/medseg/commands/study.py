"""``medseg study``: run every cell of a study that is not done yet, then write its tables."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from medseg import runs
from medseg.commands.configuration import TERMINATED, choices, compose, freeze
from medseg.commands.report import PLANS, publish, settings
from medseg.errors import RunError
from medseg.report.cells import FINISHED, Plan, PlannedCell, state_of, write_plan
from medseg.studies import Cell, Sweep, expand, find_study, read_study

USAGE = """usage: medseg study study=NAME [preset=NAME] [data=NAME] [seeds=0,1] [key=value ...]

Runs each sweep of experiments/NAME/study.yaml as one `medseg train -m` in a process of its own, continues after a
failed cell, skips what is finished, then writes the tables of `medseg report`. Other keys go to every training; a key
that the study sweeps (net=unet,dmunet) or panel=A chooses among its cells."""
OWN = ("study", "preset", "data", "seeds")
SHARED = ("paths", "tracking")
"""Groups that both this command and every training need."""
TRAIN = (sys.executable, "-m", "medseg", "train", "-m")
PAUSE = 1.0
"""Seconds between two looks at which cells are done."""
PATIENCE = 60.0
"""Seconds that a stopped training has to leave on its own."""

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
    run_jobs(jobs, outputs)
    plan = tried(plan, outputs)
    write_plan(outputs / study.name / PLANS, plan)
    publish(study, plan, config)
    absent = [cell.name for cell in plan.cells if cell.failed]
    if absent:
        raise RunError(
            f"{len(absent)} of {len(cells)} cells of study '{study.name}' are not finished: {'; '.join(absent)}; the "
            "messages above say why, and the same command goes on where this one stopped."
        )


@dataclass(frozen=True)
class Job:
    """A sweep and where each of its cells will lie."""

    sweep: Sweep
    cells: tuple[PlannedCell, ...]

    def finished(self, outputs: Path) -> int:
        """Return how many cells are done."""
        return sum(state_of(cell, outputs) == FINISHED for cell in self.cells)


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
        if key in OWN or group in SHARED or text.startswith("-"):
            own.append(text)
        if key not in OWN and not text.startswith("-"):
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


def run_jobs(jobs: Sequence[Job], outputs: Path, command: Sequence[str] = TRAIN) -> None:
    """Run every sweep that has unfinished cells, one after the other; a failed one does not stop the next.

    Args:
        jobs: the sweeps.
        outputs: folder of outputs.
        command: the training command before its overrides.
    """
    progress = Progress(jobs, outputs)
    for number, job in enumerate(jobs, start=1):
        done = job.finished(outputs)
        head = f"sweep {number} of {len(jobs)}, panel {job.sweep.panel}, {job.sweep.name}"
        head = f"{head}: {done} of {len(job.cells)} cells done"
        if done == len(job.cells):
            say(head)
            continue
        say(f"{head}; {progress.outlook()}")
        code = run_process([*command, *job.sweep.arguments, "resume=true"], progress.look)
        progress.look()
        if code:
            say(f"sweep '{job.sweep.name}' ended with exit code {code}; going on")


class Progress:
    """Counts finished cells and says when another one is done.

    Args:
        jobs: the sweeps.
        outputs: folder of outputs.
    """

    def __init__(self, jobs: Sequence[Job], outputs: Path) -> None:
        self.jobs, self.outputs = jobs, outputs
        self.total = sum(len(job.cells) for job in jobs)
        self.before = self.done = self._count()
        self.started = time.monotonic()

    def look(self) -> None:
        """Say how far the study is, if that changed."""
        done = self._count()
        if done != self.done:
            self.done = done
            say(f"{done} of {self.total} cells done; {self.outlook()}")

    def outlook(self) -> str:
        """Return how long the rest will take if the cells to come take as long as those of this start."""
        fresh = self.done - self.before
        if not fresh or self.done == self.total:
            return f"{self.total - self.done} to go"
        minutes = (time.monotonic() - self.started) / fresh * (self.total - self.done) / 60
        return f"about {minutes:.0f} min to go" if minutes >= 1 else "less than a minute to go"

    def _count(self) -> int:
        return sum(job.finished(self.outputs) for job in self.jobs)


def run_process(command: Sequence[str], look: Callable[[], None]) -> int:
    """Run a command that writes to our terminal and return its exit code; if we are stopped, so is it."""
    with _terminable(), subprocess.Popen(command) as process:
        try:
            while process.poll() is None:
                time.sleep(PAUSE)
                look()
        except BaseException:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    return process.returncode


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end this process by an exception, so that the training is not left behind."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def say(text: str) -> None:
    """Print a line of progress at once, apart from the trainings' own."""
    print(f"medseg study: {text}", flush=True)
