"""What the runs of a study left on disk, panel by panel, and what can be compared of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from medseg.commands.page_runs import of_result, training_of
from medseg.errors import ScoreError
from medseg.report.cells import FINISHED, Plan, Result, load
from medseg.report.html.material import Arm, Trained
from medseg.stats.comparison import compare
from medseg.stats.evidence import COMMON, Training, gather
from medseg.stats.gate import Settings
from medseg.studies.file import Study

MOST_METHODS = 20
"""Above this a study's page compares nothing by itself: hundreds of pairs say little, and take long."""


@dataclass(frozen=True)
class StudyRuns:
    """A study with every planned cell and what its run left."""

    study: Study
    plan: Plan
    results: Sequence[Result]
    outputs: Path

    @property
    def folder(self) -> Path:
        """Where the study's tables and page lie."""
        return self.outputs / self.study.name

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """The finished runs, panel by panel, each panel with its comparison or why there is none.

        A single panel has no name.

        Raises:
            RunError: a finished run's file is missing or damaged.
            ScoreError: a score table is damaged.
        """
        finished = [result for result in self.results if result.state == FINISHED]
        panels = list(dict.fromkeys(result.cell.panel for result in finished))
        arms = []
        for panel in panels:
            of_panel = [result for result in finished if result.cell.panel == panel]
            trained = tuple(of_result(result, self.study.labels, self.folder) for result in of_panel)
            arms.append(compared_arm(panel if len(panels) > 1 else "", trained))
        return tuple(arms)


def study_runs(study: Study, plan: Plan, outputs: Path) -> StudyRuns:
    """Return a study's cells with what lies on disk of them.

    Raises:
        RunError: a finished run's record cannot be read.
    """
    return StudyRuns(study, plan, load(plan, outputs), outputs)


@dataclass(frozen=True)
class _Choice:
    """Trainings that can be compared, and why others are not among them."""

    trainings: tuple[Training, ...]
    note: str = ""


def compared_arm(name: str, trained: Sequence[Trained]) -> Arm:
    """Return runs with their comparison, or with the reason why there is none."""
    methods = list(dict.fromkeys(run.method for run in trained))
    if len(methods) > MOST_METHODS:
        said = f"{len(methods)} methods: choose those that matter and compare them with `medseg compare`."
        return Arm(name, tuple(trained), None, said)
    choice = _choice([training_of(run.name, run.method, run.record, run.scores) for run in trained])
    try:
        comparison = compare(gather(choice.trainings, seeds=COMMON), Settings())
    except ScoreError as error:  # what cannot be compared is shown, and said to be so
        return Arm(name, tuple(trained), None, f"Not compared: {error}")
    notes = (*comparison.notes, choice.note) if choice.note else comparison.notes
    return Arm(name, tuple(trained), replace(comparison, notes=notes))


def _choice(trainings: Sequence[Training]) -> _Choice:
    """Leave out methods with fewer seeds than the others, such as baselines, where two methods or more remain."""
    seeds: dict[str, set[int]] = {}
    for training in trainings:
        seeds.setdefault(training.method, set()).add(training.seed)
    most = max(map(len, seeds.values()), default=0)
    few = [method for method, found in seeds.items() if len(found) < most]
    if not few or len(seeds) - len(few) < 2:
        return _Choice(tuple(trainings))
    kept = tuple(training for training in trainings if training.method not in few)
    return _Choice(kept, f"Not compared, for they have fewer seeds: {', '.join(few)}.")
