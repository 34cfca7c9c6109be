"""``medseg report``: write a study's tables from its run folders; nothing is trained, torch stays out."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from medseg import ledger
from medseg.commands.configuration import compose, freeze
from medseg.commands.page import study_page
from medseg.commands.show import show, show_lines
from medseg.commands.study_runs import StudyRuns, study_runs
from medseg.commands.systems import system_of
from medseg.errors import ConfigError, RunError
from medseg.report.architectures import Names, architecture_tables
from medseg.report.architectures_figure import draw_costs
from medseg.report.caption import facts
from medseg.report.cells import Plan, Result, options_of, read_plan
from medseg.report.comparison import comparison_tables
from medseg.report.html.material import run_flags
from medseg.report.nested import nested_tables
from medseg.report.table1 import panels, read_published
from medseg.report.table_figure import draw
from medseg.report.table_files import write_table_files
from medseg.report.tables import Table
from medseg.studies.file import Study, find_study, read_study

USAGE = """usage: medseg report study=NAME [data=NAME] [preset=NAME] [paths.outputs=DIR] [tracking=csv]

Writes NAME.md, NAME.tex, NAME.csv and NAME.png below outputs/NAME/ for the data and preset that were run last, or
those given; of the table `architectures` also NAME_cost.png; then NAME.html, one page with everything, and its plots as
PNG and SVG. Notes the access in the ledger of test results. tracking=csv sends nothing to MLflow. See `medseg study
--help` for how the runs are made."""
PLANS = "cells.json"
PAGE = "html"
"""Kind of the page among the files."""


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg report`` with its settings."""
    if any(text in ("-h", "--help") for text in arguments):
        print(USAGE)
        return
    config = settings("report", arguments)
    study = read_study(find_study(config.study, Path.cwd()))
    outputs = Path(config.paths.outputs)
    plan = read_plan(outputs / study.name / PLANS, data=config.dataset, preset=config.preset)
    publish(study, plan, config)


def settings(verb: str, arguments: Sequence[str]) -> DictConfig:
    """Return the frozen config of ``study`` or ``report``.

    ``data`` is a group of whole configs elsewhere; here it is a name only, called ``dataset`` in the config.

    Raises:
        ConfigError: a key is unknown, or a flag is given.
    """
    for text in arguments:
        if text.startswith("-"):
            raise ConfigError(f"medseg {verb} has no flag {text}; give key=value, or --help.")
    renamed = [f"dataset={text.removeprefix('data=')}" if text.startswith("data=") else text for text in arguments]
    return freeze(compose(verb, renamed), {})


def publish(study: Study, plan: Plan, config: DictConfig) -> dict[str, Path]:
    """Note the access, write a plan's tables and page, print them, send them to the tracker, return where they lie."""
    runs = study_runs(study, plan, Path(config.paths.outputs))
    note_access(runs.results, runs.outputs)
    files, tables = write_tables(runs)
    pages = study_page(runs, tables, config)
    for table in tables:
        show(table)
    summary = ledger.summary(ledger.path_in(runs.outputs), study=study.name)
    show_lines([*files.values(), pages[PAGE], *summary])
    files |= pages
    send_summary(study, plan, files, config)
    return files


def note_access(results: Sequence[Result], outputs: Path) -> None:
    """Append the reading of finished runs' test results to the ledger, before anything of it is shown."""
    records = [result.record for result in results if result.record]
    if records:
        ledger.append(ledger.path_in(outputs), ledger.access("report", records))


def write_tables(runs: StudyRuns) -> tuple[dict[str, Path], list[Table]]:
    """Write the Markdown, LaTeX, CSV and PNG of a plan; the same runs give the same bytes."""
    study, folder = runs.study, runs.folder
    tables = TABLES[study.table](runs)
    heading, label = f"# {study.title}\n\n", f"tab:{study.name}-"
    files = write_table_files(tables, folder / study.name, label=label, heading=heading)
    files["png"] = folder / f"{study.name}.png"
    draw(tables, files["png"], heading=study.title)
    if study.table == "architectures":
        files["cost"] = folder / f"{study.name}_cost.png"
        flags = run_flags([result.record for result in runs.results if result.record])
        draw_costs(tables, files["cost"], heading=study.title, flags=flags)
    return files, tables


def _table1(runs: StudyRuns) -> list[Table]:
    published = read_published(runs.study.root / "published.csv")
    return panels(runs.plan, runs.results, published, labels=runs.study.labels, folder=runs.folder)


def _architectures(runs: StudyRuns) -> list[Table]:
    systems = {option: system_of(option) for option in options_of(runs.results, "net")}
    labels = {option: system.name for option, system in systems.items() if system.name}
    designs = {option: system.design for option, system in systems.items()}
    names = Names({**labels, **runs.study.labels}, designs)
    return architecture_tables(runs.plan, runs.results, names=names, folder=runs.folder)


def _comparison(runs: StudyRuns) -> list[Table]:
    """Return what may be claimed, panel by panel, from the finished runs.

    Raises:
        RunError: no panel can be compared; the reason of the last one is given.
    """
    tables, reason = [], "no run is finished"
    for arm in runs.arms:
        if arm.comparison is None:
            reason = arm.refusal or reason
            continue
        own = [result for result in runs.results if not arm.name or result.cell.panel == arm.name]
        first, *others = comparison_tables(arm.comparison)
        named = [replace(first, caption=(*facts(runs.plan, own), *first.caption)), *others]
        tables += [replace(table, name=f"{arm.name}-{table.name}" if arm.name else table.name) for table in named]
    if not tables:
        raise RunError(f"study '{runs.study.name}' has nothing to compare ({reason}); run it on.")
    return tables


def _nested(runs: StudyRuns) -> list[Table]:
    return nested_tables(runs.plan, runs.results, labels=runs.study.labels, folder=runs.folder)


TABLES = {"table1": _table1, "architectures": _architectures, "comparison": _comparison, "nested": _nested}
"""What builds each kind of table that a study file may ask for."""


def send_summary(study: Study, plan: Plan, files: Mapping[str, Path], config: DictConfig) -> None:
    """Send the tables, the page and its plots to the tracker as the study's summary run, unless they were sent before.

    The page itself does not count as a change: it quotes the ledger, which grows with every look.
    """
    counted = [path for kind, path in files.items() if kind != PAGE]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in counted)).hexdigest()
    sent = files["md"].parent / "sent.json"
    before = json.loads(sent.read_text(encoding="utf-8")) if sent.exists() else {}
    if before.get(plan.name) == digest:
        return
    from medseg.mirror import summary_run

    synthetic = "(SYNTHETIC)" in files["csv"].read_text(encoding="utf-8")
    tags = {"data": plan.data, "preset": plan.preset, "synthetic": synthetic}
    note = files["md"].read_text(encoding="utf-8")
    if summary_run(study.name, files, instantiate(config.tracking), tags=tags, note=note) is not None:
        sent.write_text(json.dumps({**before, plan.name: digest}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
