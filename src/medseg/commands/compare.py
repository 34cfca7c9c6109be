"""``medseg compare``: from finished runs to a claim, or to why there is none; nothing is trained, torch stays out."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.utils import instantiate
from omegaconf import DictConfig

from medseg import ledger, scores
from medseg.commands.configuration import choices, compose, freeze
from medseg.commands.members import Named, divided, find_runs
from medseg.commands.page import comparison_page
from medseg.commands.show import show, show_lines
from medseg.errors import ConfigError, ScoreError
from medseg.report.comparison import comparison_tables
from medseg.report.table_files import write_table_files
from medseg.report.tables import Table
from medseg.stats.comparison import Comparison, as_record
from medseg.stats.comparison import compare as compared
from medseg.stats.evidence import Evidence, Training, gather
from medseg.stats.flags import LEAKY, SYNTHETIC
from medseg.stats.gate import Settings
from medseg.whole import write_whole

if TYPE_CHECKING:
    from medseg.commands.compared_runs import ComparedRun

USAGE = """usage: medseg compare RUN [RUN ...] | --sweep ID | --study NAME [key=value ...]

Compares methods on the patients of their test side and says "outperforms" only where the claim gate holds: intervals
over patients and trainings, paired tests, ranking, variance shares. RUN is a run folder, a folder of runs, a glob, an
evaluation (FOLDER/evaluations/refined) or MLflow's id of a run. Of a study these are the cells of its latest plan; any
other key chooses among the runs of a study or a sweep (net=unet,dmunet). Runs whose settings differ in the seed or the
fold only are one method.

  metric=dice                 a column of scores.csv, for instance hd95_directed_voxel rope=1
  class=NAME                  one class instead of the mean over all
  rope=0.01 margin=0.01       differences that make no difference, in the metric's unit
  seeds=common                leave out seeds that not every method has (otherwise they are refused)
  panel=A                     one panel of a study
  seed=0 resamples=10000      of the bootstrap, the permutations and the posterior
  allow_one_seed=true         compare trainings of a single seed, labelled as such
  allow_selection_side=true   compare validation scores, labelled as such
  name=NAME                   of the folder below outputs/compare
  paths.outputs=DIR tracking=csv

Writes comparison.md, .tex, .csv and .json, one page comparison.html with its plots, and notes the access in the
ledger of test results."""
ROPE = 0.01
"""A difference that makes none, of metrics between 0 and 1: a percentage point of Dice."""


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg compare``."""
    if any(text in ("-h", "--help") for text in arguments):
        print(USAGE)
        return
    given = divided(arguments, "compare")
    if given.flags:
        raise ConfigError(
            f"medseg compare has no flag {given.flags[0]}; give runs, --sweep ID, --study NAME and key=value."
        )
    composed = compose("compare", given.overrides)
    compare(given.named, freeze(composed, choices(composed)))


def compare(named: Named, config: DictConfig) -> Comparison:
    """Compare the runs that are asked for, write and print the tables, and return the comparison.

    Raises:
        ConfigError: no runs or too many kinds of them, or a setting at fault.
        RunError: a run is missing or not finished.
        ScoreError: the runs cannot be compared; one line says why.
    """
    from medseg.commands.compared_runs import as_trainings

    settings = gate_settings(config)
    runs = sorted(_runs(named, config), key=lambda run: str(run.scores))
    trainings = as_trainings(runs)
    evidence = gather(
        trainings,
        metric=config.metric,
        class_name=config["class"],
        seeds=config.seeds,
        allow_selection_side=config.allow_selection_side,
    )
    _check_seeds(evidence, config)
    _note_access(runs, trainings, config)
    comparison = compared(evidence, settings)
    name = config.name or _name(runs, config)
    folder = Path(config.paths.outputs) / "compare" / name
    tables, page = comparison_tables(comparison), folder / "comparison.html"
    files = write(comparison, tables, folder, heading=f"Comparison {name}")
    pages = comparison_page(comparison, runs, trainings, tables, page, config)
    _show(comparison, tables, {**files, "html": pages["html"]})
    _send(comparison, name, {**files, **pages}, config)
    return comparison


def _check_seeds(evidence: Evidence, config: DictConfig) -> None:
    """Refuse a single seed, unless it was asked for: a comparison of luck looks like one of methods.

    Raises:
        ScoreError: there is one seed, and ``allow_one_seed`` is false.
    """
    if len(evidence.seeds) == 1 and not config.allow_one_seed:
        raise ScoreError(
            f"one seed only ({evidence.seeds[0]}): how far trainings scatter cannot be told from it; train more "
            "(seed=0,1,2,3,4), or compare with allow_one_seed=true, which labels every table ONE SEED."
        )


def gate_settings(config: DictConfig) -> Settings:
    """Return the settings of the gate; distances have no difference that is small everywhere.

    Raises:
        ConfigError: a distance is compared without ``rope``, or ``name`` is a path.
    """
    if config.metric in scores.DISTANCES and config.rope is None:
        raise ConfigError(
            f"metric={config.metric} needs rope=: the difference, in the unit of the distance, that makes no "
            "difference, for instance rope=1."
        )
    if config.name and Path(config.name).name != config.name:
        raise ConfigError(f"name={config.name}: a plain name, it becomes a folder below outputs/compare.")
    rope = ROPE if config.rope is None else float(config.rope)
    margin = rope if config.margin is None else float(config.margin)
    return Settings(seed=config.seed, resamples=config.resamples, rope=rope, margin=margin)


def _runs(named: Named, config: DictConfig) -> "list[ComparedRun]":
    from medseg.commands.compared_runs import read_runs

    outputs, folder = Path(config.paths.outputs), Path(config.paths.runs)
    tracker = instantiate(config.tracking) if named.places else None
    folders = find_runs(named, "compare", outputs=outputs, runs=folder, tracker=tracker)
    found = read_runs(folders, panel=config.panel)
    if not found:
        raise ConfigError(f"panel={config.panel}: none of the {len(folders)} runs belongs to it; leave it out.")
    return found


def _note_access(runs: "Sequence[ComparedRun]", trainings: Sequence[Training], config: DictConfig) -> None:
    """Append this reading of results to the ledger before anything of it is shown."""
    side = str(trainings[0].table["split_side"].iloc[0])
    entry = ledger.access("compare", [run.record for run in runs], side=side)
    entry |= {
        "dataset": sorted({training.data for training in trainings}),
        "split": sorted({training.split for training in trainings}),
        "metric": str(config.metric),
    }
    ledger.append(ledger.path_in(config.paths.outputs), entry)


def _name(runs: "Sequence[ComparedRun]", config: DictConfig) -> str:
    """Return ten hex digits that stand for these runs, whatever their order, and this metric."""
    keys = sorted(f"{run.record['key']}/{run.scores.parent.name}" for run in runs)
    text = json.dumps([keys, config.metric, config["class"], config.seeds])
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def write(comparison: Comparison, tables: Sequence[Table], folder: Path, *, heading: str) -> dict[str, Path]:
    """Write Markdown, LaTeX, CSV (every pair) and JSON; the same runs give the same bytes.

    Args:
        comparison: the comparison.
        tables: of it, as they are printed.
        folder: where the files go.
        heading: of the Markdown.
    """
    flags = "".join(f"**{flag}** " for flag in comparison.evidence.flags)
    head = "\n".join([f"# {heading}", "", *([flags.strip(), ""] if flags else [])]) + "\n"
    every = comparison_tables(comparison, every_pair=True)
    files = write_table_files(tables, folder / "comparison", label="tab:compare-", heading=head, listed=every)
    files["json"] = folder / "comparison.json"
    record = json.dumps(as_record(comparison), indent=1, sort_keys=True, allow_nan=False)
    write_whole(files["json"], record + "\n")
    return files


def _show(comparison: Comparison, tables: Sequence[Table], files: dict[str, Path]) -> None:
    show_lines(comparison.evidence.flags)
    for table in tables:
        show(table)
    show_lines(files.values())


def _send(comparison: Comparison, name: str, files: dict[str, Path], config: DictConfig) -> None:
    """Send the files to the tracker as a summary run."""
    from medseg.mirror import summary_run

    flags = comparison.evidence.flags
    tags = {"synthetic": SYNTHETIC in flags, "leaky": LEAKY in flags, "metric": comparison.evidence.metric}
    note = files["md"].read_text(encoding="utf-8")
    summary_run(f"compare-{name}", files, instantiate(config.tracking), tags=tags, note=note)
