"""Tables of a nested cross-validation: what each outer fold chose, and what the way of choosing reaches."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from medseg.errors import RunError
from medseg.journal import better, read_journal
from medseg.report.caption import facts
from medseg.report.cells import FINISHED, Plan, Result, unit_of
from medseg.report.summary import relative
from medseg.report.table1 import HD95
from medseg.report.tables import Cell, Table
from medseg.stats.aggregate import case_interval
from medseg.stats.bootstrap import Interval
from medseg.stats.nested import Choice, choose

OUTER, INNER = "split.fold", "split.inner_fold"
"""Axes that a nested study must have beside what it chooses among."""
SCORE = "val/dice"
"""By what candidates are compared, whatever chose the epochs of each."""
OLDER = {"monitor": SCORE, "checkpoint": "best"}
"""What chose in runs whose record does not say."""
CHOSEN_BY = (
    "Each outer fold takes the candidate with the best mean validation score over its inner folds; the outer fold's "
    "cases have no part in it."
)
ESTIMATE = (
    "Every case is judged by the inner models of its outer fold, none of which has seen it; their scores are averaged "
    "per case, then over seeds."
)
OPTIMISM = (
    "The row 'chosen' estimates what choosing among these candidates reaches on new patients; the best fixed row was "
    "picked by looking at the outer folds and is optimistic."
)


@dataclass(frozen=True)
class Trained:
    """One finished training of the study; ``score`` is its validation Dice in the epoch that was kept."""

    outer: int
    inner: int
    seed: int
    candidate: str
    score: float
    result: Result


def nested_tables(plan: Plan, results: Sequence[Result], *, labels: Mapping[str, str], folder: Path) -> list[Table]:
    """Return the tables ``choice`` and ``estimate`` of the finished outer folds.

    Args:
        plan: what was to be run.
        results: its cells; each has the settings ``split.fold`` and ``split.inner_fold``.
        labels: how a network option is printed.
        folder: where the tables will lie; relative links start there.

    Raises:
        RunError: a cell lacks the two settings, or a run has no validation score.
    """
    swept = _swept(results)
    open_folds = {_place(result) for result in results if result.state != FINISHED}
    trained = [
        _trained(result, swept, labels)
        for result in results
        if result.state == FINISHED and _place(result) not in open_folds
    ]
    candidates = sorted({_candidate(result, swept, labels) for result in results})
    caption = tuple(facts(plan, results))
    if open_folds:
        places = ", ".join(f"fold {outer} seed {seed}" for outer, seed in sorted(open_folds))
        caption = (*caption, f"Left out, not all of their trainings are finished: {places}.")
    choices = choose(pd.DataFrame([_row(one) for one in trained])) if trained else []
    return [
        _choice_table(choices, candidates, caption),
        _estimate_table(choices, trained, candidates, caption, folder),
    ]


def _swept(results: Sequence[Result]) -> list[str]:
    """Return the settings that differ between cells and are candidates' own."""
    if missing := [name for name in (OUTER, INNER) if name not in results[0].cell.choices]:
        raise RunError(
            f"study table 'nested': the cells have no setting {missing[0]}; sweep {OUTER} and {INNER} with "
            "split=nested_kfold."
        )
    keys = dict.fromkeys(key for result in results for key in result.cell.choices)
    differ = [key for key in keys if len({result.cell.choices.get(key) for result in results}) > 1]
    return [key for key in differ if key not in (OUTER, INNER, "seed")] or ["net"]


def _place(result: Result) -> tuple[int, int]:
    return int(result.cell.choices[OUTER]), int(result.cell.choices.get("seed", "0"))


def _candidate(result: Result, swept: Sequence[str], labels: Mapping[str, str]) -> str:
    chosen = result.cell.choices
    named = [labels.get(chosen[key], chosen[key]) if key == "net" else f"{key}={chosen.get(key)}" for key in swept]
    return " ".join(named)


def _trained(result: Result, swept: Sequence[str], labels: Mapping[str, str]) -> Trained:
    outer, seed = _place(result)
    inner = int(result.cell.choices[INNER])
    return Trained(outer, inner, seed, _candidate(result, swept, labels), _validated(result), result)


def _validated(result: Result) -> float:
    """Return a run's validation Dice in the epoch whose weights it was scored with.

    Raises:
        RunError: no epoch or not that one was validated, or what chose it is not in the journal.
    """
    path, epochs = result.folder / "metrics.jsonl", dict[int, dict[str, float]]()
    for row in read_journal(path):
        epochs.setdefault(row["epoch"], {}).update(row["metrics"])
    if not any(SCORE in metrics for metrics in epochs.values()):
        raise RunError(f"{path}: no {SCORE}; a nested study needs runs that validate.")
    epoch = _scored_epoch(epochs, result.record.get("selection") or OLDER, path)
    if SCORE not in epochs[epoch]:
        raise RunError(f"{path}: epoch {epoch}, which was kept, has no {SCORE}; validate every epoch and train again.")
    return epochs[epoch][SCORE]


def _scored_epoch(epochs: Mapping[int, Mapping[str, float]], selection: Mapping[str, Any], path: Path) -> int:
    """Return the first epoch with the best value of what chose, or the last epoch where nothing chose among them."""
    if selection["checkpoint"] != "best":
        return max(epochs)
    monitor = str(selection["monitor"])
    found = {epoch: metrics[monitor] for epoch, metrics in sorted(epochs.items()) if monitor in metrics}
    known = {epoch: value for epoch, value in found.items() if not math.isnan(value)}
    if not known:
        raise RunError(f"{path}: no value of {monitor}, which chose the epoch; train the run again.")
    sign = 1 if better(monitor) == "max" else -1
    return max(known, key=lambda epoch: sign * known[epoch])


def _row(one: Trained) -> dict[str, object]:
    return {
        "outer": one.outer, "inner": one.inner, "seed": one.seed, "candidate": one.candidate, "score": one.score,
    }  # fmt: skip


def _choice_table(choices: Sequence[Choice], candidates: Sequence[str], caption: tuple[str, ...]) -> Table:
    columns = (Cell("Outer fold"), Cell("Seed"), *(Cell(name) for name in candidates), Cell("Chosen"), Cell("Margin"))
    rows = []
    for choice in choices:
        means = [
            Cell(f"{choice.means[name]:.3f}", choice.means[name], unit="1", bold=name == choice.chosen, source=SCORE)
            for name in candidates
        ]
        margin = Cell(f"{choice.margin:.3f}", choice.margin, unit="1", source="difference of two columns")
        rows.append((Cell(str(choice.outer)), Cell(str(choice.seed)), *means, Cell(choice.chosen), margin))
    return Table("choice", "Inner folds: mean validation Dice", columns, tuple(rows), (*caption, CHOSEN_BY))


def _estimate_table(
    choices: Sequence[Choice],
    trained: Sequence[Trained],
    candidates: Sequence[str],
    caption: tuple[str, ...],
    folder: Path,
) -> Table:
    unit = unit_of([one.result for one in trained])
    columns = (
        Cell("Candidate"),
        Cell("Dice per case [95 % CI over patients]"),
        Cell(f"HD95 ({unit})", footnotes=(HD95,)),
        Cell("Cases"),
        Cell("Patients"),
        Cell("Chosen in"),
    )
    picked = {(choice.outer, choice.seed): choice.chosen for choice in choices}
    own = [one for one in trained if picked.get((one.outer, one.seed)) == one.candidate]
    rows = []
    if own:
        rows.append(_estimate("chosen", own, f"{len(picked)} of {len(picked)}", folder, bold=True))
        for name in candidates:
            times = sum(chosen == name for chosen in picked.values())
            fixed = [one for one in trained if one.candidate == name]
            rows.append(_estimate(f"always {name}", fixed, f"{times} of {len(picked)}", folder))
    return Table("estimate", "Outer folds: test scores", columns, tuple(rows), (*caption, ESTIMATE, OPTIMISM))


def _estimate(
    name: str, trained: Sequence[Trained], times: str, folder: Path, *, bold: bool = False
) -> tuple[Cell, ...]:
    dice, distance = (_outer_interval(trained, column) for column in ("dice", "hd95_directed_voxel"))
    runs = ";".join(relative(one.result, folder) for one in trained)
    source = _source(trained[0].result)
    text = f"{dice.mean:.3f} [{dice.low:.3f}, {dice.high:.3f}]"
    return (
        Cell(name, bold=bold),
        Cell(text, dice.mean, dice.low, dice.high, unit="1", bold=bold, run=runs, source=source),
        Cell(
            f"{distance.mean:.1f}",
            distance.mean,
            unit=unit_of([trained[0].result]),
            run=runs,
            source="medseg, outer folds",
        ),
        Cell(str(dice.n_cases)),
        Cell(str(dice.n_patients)),
        Cell(times),
    )


def _outer_interval(trained: Sequence[Trained], column: str) -> Interval:
    """Return the mean over all cases of all outer folds, each averaged over the inner models and seeds."""
    outers = sorted({one.outer for one in trained})
    folds = [[one.result.scores(every_class=True) for one in trained if one.outer == outer] for outer in outers]
    return case_interval(*folds, column=column)


def _source(result: Result) -> str:
    synthetic = " (SYNTHETIC)" if result.record["data"]["synthetic"] else ""
    return f"medseg, {result.record['data']['name']}{synthetic}, outer folds"
