"""The trainings of a study as processes: one after the other in this terminal, or several side by side with logs.

On a CPU several trainings of one thread each get more done than one training of several threads: small convolutions
spend much of a second thread's time waiting for the first (``benchmarks/study_workers.py``).
"""

import itertools
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.commands.configuration import TERMINATED
from medseg.data.workers import usable_cores
from medseg.errors import ConfigError
from medseg.report.cells import FINISHED, PlannedCell, state_of
from medseg.studies.cells import Sweep

TRAIN = (sys.executable, "-m", "medseg", "train", "-m")
PAUSE = 1.0
"""Seconds between two looks at which cells are done."""
PATIENCE = 60.0
"""Seconds that a stopped training has to leave on its own."""
LOGS = "logs"
"""Folder below the study's tables with what trainings side by side say."""
CPU_TRAINERS = ("cpu", "smoke")
GIGABYTES = 3.0
"""Memory that a training should find free before another one is put beside it."""
MOST_WORKERS = 16
LONGEST = 120
"""Letters of a log's name."""
PARTS = 4
"""Into how many parts per worker a study is divided: more wait less for the last one, fewer start fewer processes."""


@dataclass(frozen=True)
class Job:
    """A sweep and where each of its cells will lie."""

    sweep: Sweep
    cells: tuple[PlannedCell, ...]

    def finished(self, outputs: Path) -> int:
        """Return how many cells are done."""
        return sum(state_of(cell, outputs) == FINISHED for cell in self.cells)


def number_of_workers(given: int | str, cells: Sequence[PlannedCell]) -> int:
    """Return how many trainings run side by side.

    Args:
        given: a number, or ``auto``: one for every core if all cells train on the CPU and memory allows it, else 1.
        cells: of the study.

    Raises:
        ConfigError: neither a number above 0 nor ``auto``.
    """
    if given != "auto":
        if not isinstance(given, int) or given < 1:
            raise ConfigError(f"workers={given}: give a number of trainings side by side, or auto.")
        return given
    if any(cell.choices.get("trainer") not in CPU_TRAINERS for cell in cells):
        return 1
    import psutil

    room = int(psutil.virtual_memory().available / 1e9 / GIGABYTES)
    return max(1, min(usable_cores(), room, MOST_WORKERS, len(cells)))


def run_jobs(
    jobs: Sequence[Job],
    outputs: Path,
    command: Sequence[str] = TRAIN,
    *,
    workers: int = 1,
    logs: Path | None = None,
) -> None:
    """Run every sweep that has unfinished cells; a failed one does not stop the next.

    Args:
        jobs: the sweeps.
        outputs: folder of outputs.
        command: the training command before its overrides.
        workers: sweeps, or parts of them, that run side by side, each with its share of the cores.
        logs: folder for what they say; with one worker they write to this terminal.
    """
    progress = Progress(jobs, outputs)
    if workers > 1 and logs is not None:
        _run_beside(jobs, outputs, command, workers=workers, logs=logs, progress=progress)
        return
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


@dataclass(frozen=True)
class Started:
    """A process at work on a part of a study."""

    job: Job
    process: subprocess.Popen[bytes]
    log: Path


def _run_beside(
    jobs: Sequence[Job],
    outputs: Path,
    command: Sequence[str],
    *,
    workers: int,
    logs: Path,
    progress: "Progress",
) -> None:
    """Keep ``workers`` processes busy until every part had its turn; if we are stopped, so are they."""
    shares = [-(-PARTS * workers * len(job.cells) // progress.total) for job in jobs]
    divided = [part for job, share in zip(jobs, shares, strict=True) for part in parts(job, share)]
    waiting = [part for part in divided if part.finished(outputs) < len(part.cells)]
    say(f"{progress.done} of {progress.total} cells done; {workers} trainings side by side, their words in {logs}")
    logs.mkdir(parents=True, exist_ok=True)
    running: list[Started] = []
    with _terminable():
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    running.append(_started(waiting.pop(0), command, workers, logs))
                time.sleep(PAUSE)
                ended = [one for one in running if one.process.poll() is not None]
                running = [one for one in running if one not in ended]
                progress.look()
                for one in ended:
                    _report_failure(one)
        except BaseException:
            for one in running:
                one.process.terminate()
            for one in running:
                _leave(one.process)
            raise


def _started(part: Job, command: Sequence[str], workers: int, logs: Path) -> Started:
    """Start a part with its share of the cores, unless the command line or the study has ``threads`` of its own."""
    given = [text for text in part.sweep.arguments if text.startswith("threads=")]
    threads = [] if given else [f"threads={max(1, usable_cores() // workers)}"]
    name = "-".join([part.sweep.panel, *part.sweep.name.split()])
    name = re.sub(r"[^\w.-]", "_", name)[:LONGEST]
    log = logs / f"{name}.log"
    with log.open("wb") as file:
        words = [*command, *part.sweep.arguments, *threads, "resume=true"]
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT)
    return Started(part, process, log)


def _report_failure(one: Started) -> None:
    code = one.process.returncode
    if not code:
        return
    lines = one.log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line for line in lines if line.startswith("medseg: ")][-3:]
    say(f"'{one.job.sweep.name}' ended with exit code {code}; going on; its words: {one.log}")
    for line in said:
        print(f"  {line}", flush=True)


def parts(job: Job, number: int) -> list[Job]:
    """Return a sweep as about ``number`` of its kind: its axes cut into runs of values, the first axes first.

    Seeds, the last axis, stay together longest. There are never more parts than cells.
    """
    cut: dict[str, list[tuple[str, ...]]] = {}
    wanted = number
    for key, values in job.sweep.axes.items():
        pieces = max(1, min(wanted, len(values)))
        cut[key] = _runs_of(values, pieces)
        wanted = -(-wanted // pieces)
    planned = dict(zip((cell.overrides for cell in job.sweep.cells), job.cells, strict=True))
    made = []
    for chosen in itertools.product(*cut.values()):
        axes = dict(zip(cut, chosen, strict=True))
        told = [f"{key}={','.join(axes[key])}" for key in axes if len(cut[key]) > 1]
        sweep = replace(job.sweep, name=" ".join([job.sweep.name, *told]), axes=axes)
        made.append(Job(sweep, tuple(planned[cell.overrides] for cell in sweep.cells)))
    return made


def _runs_of(values: Sequence[str], pieces: int) -> list[tuple[str, ...]]:
    """Return values in their order as so many runs, as long as each other to one."""
    ends = [round(len(values) * place / pieces) for place in range(pieces + 1)]
    return [tuple(values[start:end]) for start, end in itertools.pairwise(ends)]


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
            _leave(process)
            raise
    return process.returncode


def _leave(process: subprocess.Popen[bytes]) -> None:
    """Give a stopped process time to leave, then end it."""
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()


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
