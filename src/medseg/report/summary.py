"""What one row of a table says: the runs of one setting over its seeds, reduced to printed cells."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from medseg.report.cells import FINISHED, Result
from medseg.report.tables import Cell
from medseg.stats.aggregate import case_interval, headline
from medseg.stats.bootstrap import Interval

INTERFACE = "http://127.0.0.1:5000"
"""Where ``medseg ui`` shows a store that has no address of its own."""


@dataclass(frozen=True)
class Summary:
    """Numbers of one setting.

    Attributes:
        results: its finished runs, one per seed.
        headline: every aggregate of :func:`medseg.stats.aggregate.headline`, averaged over seeds.
        dice: mean per-case Dice with its interval over patients; each case is averaged over seeds first.
        seed_sd: standard deviation of the seeds' mean Dice; nan with one seed.
        parameters: number of parameters.
        minutes: time to fit, averaged over seeds.
        gflops: of an image's forward pass; nan if not counted.
        milliseconds: time of that pass, averaged over seeds; nan if not measured.
        megabytes: peak memory, averaged over seeds.
    """

    results: tuple[Result, ...]
    headline: Mapping[str, float]
    dice: Interval
    seed_sd: float
    parameters: int
    minutes: float
    gflops: float
    milliseconds: float
    megabytes: float


def summarise(results: Sequence[Result], *, every_class: bool = False) -> Summary | None:
    """Return the numbers of the finished runs among those of one setting, or None when none is finished.

    Args:
        results: the runs of the setting.
        every_class: average over all foreground classes instead of the first alone.
    """
    finished = tuple(result for result in results if result.state == FINISHED)
    if not finished:
        return None
    frames = [result.scores(every_class=every_class) for result in finished]
    heads = pd.DataFrame([headline(frame) for frame in frames])
    return Summary(
        results=finished,
        headline={str(key): float(value) for key, value in heads.mean().items()},
        dice=case_interval(frames, column="dice"),
        seed_sd=float(np.std(heads["dice"], ddof=1)) if len(finished) > 1 else math.nan,
        parameters=int(finished[0].record["model"]["parameters"]),
        minutes=_mean_of(finished, "cost", "fit_seconds") / 60,
        gflops=_mean_of(finished, "model", "gflops"),
        milliseconds=_mean_of(finished, "cost", "ms_per_image"),
        megabytes=_mean_of(finished, "cost", "peak_memory_mb"),
    )


def _mean_of(results: Sequence[Result], part: str, name: str) -> float:
    """Return the mean of a recorded number; nan if a run lacks it."""
    values = [result.record[part].get(name) for result in results]
    return float(np.mean([math.nan if value is None else value for value in values]))


def address(result: Result, folder: Path) -> str:
    """Return where a finished run is shown: its MLflow page, or its own folder if it was not tracked.

    Args:
        result: the run.
        folder: folder of the table, which relative links start from.
    """
    tracked = result.record.get("mlflow")
    if not tracked:
        return relative(result, folder)
    uri = str(tracked["uri"])
    server = uri.rstrip("/") if uri.startswith(("http://", "https://")) else INTERFACE
    return f"{server}/#/experiments/{tracked['experiment_id']}/runs/{tracked['run_id']}"


def relative(result: Result, folder: Path) -> str:
    """Return a run's folder as seen from the table's."""
    return Path(os.path.relpath(result.folder, folder)).as_posix()


@dataclass(frozen=True)
class Printer:
    """Makes the cells of one setting; what is not finished says so in each of them.

    Attributes:
        results: every planned run of the setting.
        summary: its numbers, None without a finished run.
        folder: folder of the table.
    """

    results: tuple[Result, ...]
    summary: Summary | None
    folder: Path

    @classmethod
    def of(cls, results: Sequence[Result], folder: Path, *, every_class: bool = False) -> "Printer":
        """Return the printer for the planned runs of one setting; arguments as in :func:`summarise`."""
        return cls(tuple(results), summarise(results, every_class=every_class), folder)

    def number(
        self,
        value: Callable[[Summary], float],
        text: str = "{:.3f}",
        *,
        unit: str = "1",
        footnotes: tuple[str, ...] = (),
    ) -> Cell:
        """Return one number of the setting, linked to its run."""
        if self.summary is None:
            return self._absent()
        found = value(self.summary)
        shown = "undefined" if math.isnan(found) else text.format(found)
        return self._filled(shown, found, unit, footnotes)

    def percent(self, key: str) -> Cell:
        """Return one pooled aggregate in percent."""
        return self.number(lambda summary: 100 * summary.headline[key], "{:.2f}", unit="%")

    def dice(self) -> Cell:
        """Return the mean per-case Dice with its interval over patients."""
        if self.summary is None:
            return self._absent()
        found = self.summary.dice
        notes = () if found.reliable else (_unreliable(found),)
        bounded = not math.isnan(found.low)
        text = f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]" if bounded else f"{found.mean:.3f}"
        cell = self._filled(text, found.mean, "1", notes)
        return replace(cell, low=found.low, high=found.high) if bounded else cell

    def parameters(self) -> Cell:
        """Return the number of parameters."""
        return self.number(lambda summary: summary.parameters, _count(self.summary))

    def runs(self) -> Cell:
        """Return a link to the folder of each finished run, named by its seed; others by their state."""
        parts = [self._run(result) for result in self.results]
        return Cell(" ".join(part.text for part in parts), parts=tuple(parts))

    @property
    def states(self) -> list[str]:
        """The states that are not ``finished``, each once."""
        return sorted({result.state for result in self.results} - {FINISHED})

    def _run(self, result: Result) -> Cell:
        seed = f"s{result.cell.choices.get('seed', '0')}"
        if result.state != FINISHED:
            return Cell(f"{seed} {result.state}")
        return Cell(seed, link=relative(result, self.folder))

    def _absent(self) -> Cell:
        state = "/".join(self.states)
        return Cell(state, source=state)

    def _filled(self, text: str, value: float, unit: str, footnotes: tuple[str, ...]) -> Cell:
        assert self.summary is not None
        partly = self._partly()
        return Cell(
            text,
            value=value,
            unit=unit,
            link=address(self.summary.results[0], self.folder),
            footnotes=(*footnotes, *partly),
            run=";".join(relative(result, self.folder) for result in self.summary.results),
            source=self._source(),
        )

    def _partly(self) -> tuple[str, ...]:
        assert self.summary is not None
        if len(self.summary.results) == len(self.results):
            return ()
        known, planned = len(self.summary.results), len(self.results)
        return (f"From {known} of {planned} seeds; the others are {'/'.join(self.states)}.",)

    def _source(self) -> str:
        assert self.summary is not None
        result = self.summary.results[0]
        record = result.record
        synthetic = " (SYNTHETIC)" if record["data"]["synthetic"] else ""
        leaky = "LEAKY " if result.leaky else ""
        split = f"{leaky}split {record['split']['name']} {record['split']['hash'][:8]}"
        return f"medseg, {record['data']['name']}{synthetic}, preset {record['preset']}, {split}"


def _unreliable(interval: Interval) -> str:
    if interval.method != "BCa":
        return f"No bootstrap interval from {interval.n_patients} patients: {interval.method}."
    return (
        f"Only {interval.n_patients} patients: the bootstrap interval is unreliable "
        f"(Student's interval {interval.t_low:.3f} to {interval.t_high:.3f})."
    )


def _count(summary: Summary | None) -> str:
    if summary is None or summary.parameters < 100_000:
        return "{:.0f}"
    return f"{summary.parameters / 1e6:.2f} M"
