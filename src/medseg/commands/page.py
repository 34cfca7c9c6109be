"""What a study or a list of runs has, gathered from disk for its page; the page itself is made in ``report.html``."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from medseg import ledger
from medseg.commands.page_extras import with_extras
from medseg.commands.page_runs import of_result, trained_run
from medseg.errors import ConfigError, ScoreError
from medseg.report.cells import FINISHED, Result
from medseg.report.html.energy import Power
from medseg.report.html.material import Arm, Material, Trained, flags_of
from medseg.report.html.write import write_page
from medseg.report.tables import Table
from medseg.stats.comparison import Comparison, compare
from medseg.stats.evidence import COMMON, Training, gather
from medseg.stats.gate import Settings
from medseg.studies import Study

if TYPE_CHECKING:
    from medseg.commands.compared_runs import ComparedRun

MOST_METHODS = 20
"""Above this a study's page compares nothing by itself: hundreds of pairs say little, and take long."""
UNKNOWN_GRID = "as configured, no source given"


def study_page(study: Study, results: Sequence[Result], tables: Sequence[Table], config: DictConfig) -> dict[str, Path]:
    """Write a study's ``NAME.html`` and plots, and return the files by kind or name.

    Args:
        study: the study.
        results: every planned cell with what its run left.
        tables: of the study's report.
        config: of ``medseg report`` or ``medseg study``; ``paths.outputs`` and ``energy`` are read.

    Raises:
        RunError: a finished run's file is missing or damaged.
        ScoreError: a score table is damaged.
        ConfigError: ``energy`` has an unknown key.
    """
    outputs = Path(config.paths.outputs)
    folder = outputs / study.name
    finished = [result for result in results if result.state == FINISHED]
    panels = list(dict.fromkeys(result.cell.panel for result in finished))
    arms = []
    for panel in panels:
        of_panel = [result for result in finished if result.cell.panel == panel]
        trained = tuple(of_result(result, study.labels, folder) for result in of_panel)
        arms.append(compared_arm(panel if len(panels) > 1 else "", trained))
    unfinished = [f"{result.cell.name}: {result.state}" for result in results if result.state != FINISHED]
    material = Material(
        title=study.title,
        flags=_flags(arms),
        arms=tuple(arms),
        tables=tuple(tables),
        unfinished=tuple(unfinished),
        ledger=tuple(ledger.summary(ledger.path_in(outputs), study=study.name)),
        power=power_of(config),
    )
    return write_page(with_extras(material, Path.cwd()), folder / f"{study.name}.html")


def comparison_page(
    comparison: Comparison,
    compared: "Sequence[ComparedRun]",
    trainings: Sequence[Training],
    tables: Sequence[Table],
    path: Path,
    config: DictConfig,
) -> dict[str, Path]:
    """Write the page and plots of ``medseg compare``, and return the files by kind or name.

    Args:
        comparison: of these runs.
        compared: the runs.
        trainings: the same runs in the same order, with methods and tables.
        tables: of the comparison.
        path: of the page.
        config: of ``medseg compare``; ``paths.outputs`` and ``energy`` are read.
    """
    page = path.parent
    trained = tuple(
        trained_run(run.folder, training, run.record, place=run.scores.parent, page=page)
        for run, training in zip(compared, trainings, strict=True)
    )
    arm = Arm("", trained, comparison)
    keys = [str(run.record["key"]) for run in compared]
    lines = [line for key in dict.fromkeys(keys) for line in ledger.summary(_ledger(config), key=key)]
    material = Material(
        title=f"Comparison of {', '.join(comparison.evidence.methods)}",
        flags=arm.flags,
        arms=(arm,),
        tables=tuple(tables),
        ledger=tuple(dict.fromkeys(lines)),
        power=power_of(config),
    )
    return write_page(with_extras(material, Path.cwd()), path)


def _flags(arms: Sequence[Arm]) -> tuple[str, ...]:
    return flags_of([run.record for arm in arms for run in arm.runs])


def _ledger(config: DictConfig) -> Path:
    return ledger.path_in(config.paths.outputs)


def power_of(config: DictConfig) -> Power:
    """Return the assumptions of the energy estimate: ``energy`` of the config, else the defaults.

    Raises:
        ConfigError: an unknown key, or a value that is no number above 0.
    """
    given = OmegaConf.select(config, "energy")
    if given is None:
        return Power()
    content = {str(key): value for key, value in given.items() if value is not None}
    known = [field.name for field in fields(Power)]
    unknown = sorted(set(content) - set(known))
    if unknown:
        raise ConfigError(f"energy.{unknown[0]}: no such assumption; known are {', '.join(known)}.")
    source = content.pop("grid_source", None)
    wrong = [key for key, value in content.items() if not isinstance(value, int | float) or not value > 0]
    if wrong:
        raise ConfigError(f"energy.{wrong[0]}={content[wrong[0]]}: give a number above 0.")
    numbers: dict[str, Any] = {key: float(value) for key, value in content.items()}
    power = Power(**numbers)
    if source is None and power.grid_grams != Power.grid_grams:
        source = UNKNOWN_GRID
    return power if source is None else replace(power, grid_source=str(source))


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
    choice = _choice([_training(run) for run in trained])
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


def _training(run: Trained) -> Training:
    data, split = run.record["data"], run.record["split"]
    return Training(
        name=run.name,
        method=run.method,
        seed=run.seed,
        table=run.scores,
        data=str(data["name"]),
        digest=str(data["digest"]),
        split=str(split["hash"]),
        leaky=bool(split["leaky"]),
        synthetic=bool(data["synthetic"]),
    )
