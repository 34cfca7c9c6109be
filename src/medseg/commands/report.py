"""``medseg report``: write a study's tables from its run folders; nothing is trained, torch stays out."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.utils import instantiate
from omegaconf import DictConfig

from medseg import ledger
from medseg.commands.configuration import compose, freeze
from medseg.commands.page import compared_arm, study_page
from medseg.commands.page_runs import of_result
from medseg.commands.show import WIDE
from medseg.commands.systems import system_of
from medseg.errors import ConfigError, RunError
from medseg.report.architectures import Names, architecture_tables
from medseg.report.architectures_figure import draw_costs
from medseg.report.caption import facts
from medseg.report.cells import FINISHED, Plan, Result, load, options_of, read_plan
from medseg.report.comparison import comparison_tables
from medseg.report.html.material import flags_of
from medseg.report.nested import nested_tables
from medseg.report.table1 import panels, read_published
from medseg.report.table_figure import draw
from medseg.report.tables import LATEX_HEAD, Table, latex, long_text, markdown, plain
from medseg.studies import Study, find_study, read_study

if TYPE_CHECKING:
    from rich.console import Console

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
    from rich.console import Console

    outputs = Path(config.paths.outputs)
    results = load(plan, outputs)
    note_access(results, outputs)
    files, tables = write_tables(study, plan, outputs)
    pages = study_page(study, results, tables, config)
    plain_console = Console()
    console = plain_console if plain_console.is_terminal else Console(width=WIDE)
    for table in tables:
        show(table, console)
    for path in (*files.values(), pages[PAGE]):
        console.print(str(path), soft_wrap=True, highlight=False)
    for line in ledger.summary(ledger.path_in(outputs), study=study.name):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    files |= pages
    send_summary(study, plan, files, config)
    return files


def note_access(results: Sequence[Result], outputs: Path) -> None:
    """Append the reading of finished runs' test results to the ledger, before anything of it is shown."""
    records = [result.record for result in results if result.record]
    if records:
        ledger.append(ledger.path_in(outputs), ledger.access("report", records))


def write_tables(study: Study, plan: Plan, outputs: Path) -> tuple[dict[str, Path], list[Table]]:
    """Write the Markdown, LaTeX, CSV and PNG of a plan; the same runs give the same bytes."""
    folder = outputs / study.name
    results = load(plan, outputs)
    tables = TABLES[study.table](study, plan, results, folder)
    files = {kind: folder / f"{study.name}.{kind}" for kind in ("md", "tex", "csv", "png")}
    folder.mkdir(parents=True, exist_ok=True)
    heading = f"# {study.title}\n\n"
    files["md"].write_text(heading + "\n".join(map(markdown, tables)), encoding="utf-8")
    parts = [latex(table, label=f"tab:{study.name}-{table.name.lower()}") for table in tables]
    files["tex"].write_text(LATEX_HEAD + "\n".join(parts), encoding="utf-8")
    files["csv"].write_text(long_text(tables), encoding="utf-8")
    draw(tables, files["png"], heading=study.title)
    if study.table == "architectures":
        files["cost"] = folder / f"{study.name}_cost.png"
        draw_costs(
            tables,
            files["cost"],
            heading=study.title,
            flags=flags_of([result.record for result in results if result.record]),
        )
    return files, tables


def _table1(study: Study, plan: Plan, results: Sequence[Result], folder: Path) -> list[Table]:
    published = read_published(study.root / "published.csv")
    return panels(plan, results, published, labels=study.labels, folder=folder)


def _architectures(study: Study, plan: Plan, results: Sequence[Result], folder: Path) -> list[Table]:
    systems = {option: system_of(option) for option in options_of(results, "net")}
    labels = {option: system.name for option, system in systems.items() if system.name}
    designs = {option: system.design for option, system in systems.items()}
    return architecture_tables(plan, results, names=Names({**labels, **study.labels}, designs), folder=folder)


def _comparison(study: Study, plan: Plan, results: Sequence[Result], folder: Path) -> list[Table]:
    """Return what may be claimed, panel by panel, from the finished runs.

    Raises:
        RunError: no panel can be compared; the reason of the last one is given.
    """
    tables, reason = [], "no run is finished"
    panels = list(dict.fromkeys(result.cell.panel for result in results))
    for panel in panels:
        own = [result for result in results if result.cell.panel == panel]
        finished = [of_result(result, study.labels, folder) for result in own if result.state == FINISHED]
        arm = compared_arm(panel, finished)
        if arm.comparison is None:
            reason = arm.refusal or reason
            continue
        for table in comparison_tables(arm.comparison):
            name = f"{panel}-{table.name}" if len(panels) > 1 else table.name
            tables.append(replace(table, name=name, caption=(*facts(plan, own), *table.caption)))
    if not tables:
        raise RunError(f"study '{study.name}' has nothing to compare ({reason}); run it on.")
    return tables


def _nested(study: Study, plan: Plan, results: Sequence[Result], folder: Path) -> list[Table]:
    return nested_tables(plan, results, labels=study.labels, folder=folder)


TABLES = {"table1": _table1, "architectures": _architectures, "comparison": _comparison, "nested": _nested}
"""What builds each kind of table that a study file may ask for."""


def show(table: Table, console: "Console") -> None:
    """Print a table, its caption and its footnotes."""
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(title=Text(table.title, style="bold"), title_justify="left")
    for i, column in enumerate(table.columns):
        drawn.add_column(Text(plain(table, column)), justify="left" if i == 0 else "right")
    for row in table.rows:
        drawn.add_row(*(Text(plain(table, cell)) for cell in row))
    console.print(drawn)
    console.print(Text(" ".join(table.caption)))
    for number, note in enumerate(table.footnotes, start=1):
        console.print(Text(f"({number}) {note}", style="dim"))
    console.print()


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
