"""What a study or a list of runs has, gathered from disk for its page; the page itself is made in ``report.html``."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from medseg import ledger
from medseg.commands.page_extras import with_extras
from medseg.commands.page_runs import trained_run
from medseg.commands.study_runs import StudyRuns
from medseg.errors import ConfigError
from medseg.report.cells import FINISHED
from medseg.report.html.energy import Power
from medseg.report.html.material import Arm, Material, run_flags
from medseg.report.html.write import write_page
from medseg.report.tables import Table
from medseg.stats.comparison import Comparison
from medseg.stats.evidence import Training

if TYPE_CHECKING:
    from medseg.commands.compared_runs import ComparedRun

UNKNOWN_GRID = "as configured, no source given"


def study_page(runs: StudyRuns, tables: Sequence[Table], config: DictConfig) -> dict[str, Path]:
    """Write a study's ``NAME.html`` and plots, and return the files by kind or name.

    Args:
        runs: of the study.
        tables: of the study's report.
        config: of ``medseg report`` or ``medseg study``; ``energy`` is read.

    Raises:
        RunError: a finished run's file is missing or damaged.
        ScoreError: a score table is damaged.
        ConfigError: ``energy`` has an unknown key.
    """
    study, arms = runs.study, runs.arms
    unfinished = [f"{result.cell.name}: {result.state}" for result in runs.results if result.state != FINISHED]
    material = Material(
        title=study.title,
        flags=_flags(arms),
        arms=arms,
        tables=tuple(tables),
        unfinished=tuple(unfinished),
        ledger=tuple(ledger.summary(ledger.path_in(runs.outputs), study=study.name)),
        power=power_of(config),
    )
    return write_page(with_extras(material, Path.cwd()), runs.folder / f"{study.name}.html")


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
    return run_flags([run.record for arm in arms for run in arm.runs])


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
