"""``medseg strata``: how a run does by kind of case, what went wrong, and where it is worst."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from medseg import ledger, runs
from medseg.commands.configuration import compose, freeze
from medseg.data.splits import Split, read_split
from medseg.errors import ConfigError, DataError, RunError
from medseg.selection import check_side
from medseg.stats.case_table import check_case_table, read_case_table
from medseg.stats.flags import flags_of
from medseg.stats.strata import dividing_columns, strata, stratum_names
from medseg.stats.table import read_scores
from medseg.stats.taxonomy import Rules, classify, failure_counts, worst_cases

if TYPE_CHECKING:
    import pandas as pd

    from medseg.report.tables import Table

USAGE = """usage: medseg strata run=FOLDER [by=size,label] [thresholds=500,2000] [evaluation=NAME] [count=12]

Writes strata.md, strata.tex, strata.csv, failures.csv, worst.csv and, where predictions are kept, worst.png below
FOLDER/strata: results by size, number of lesions, domain and attributes, what went wrong, the worst cases. See
conf/strata.yaml for every setting."""
LISTS = ("by", "thresholds")


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg strata`` with its settings; ``by=size,label`` is a list here."""
    if any(text in ("-h", "--help") for text in arguments):
        print(USAGE)
        return
    write_strata(freeze(compose("strata", [_listed(text) for text in arguments]), {}))


def _listed(text: str) -> str:
    key, _, value = text.partition("=")
    return f"{key}=[{value}]" if key in LISTS and value != "null" and not value.startswith("[") else text


@dataclass(frozen=True)
class Scored:
    """One score table of a run with what is known about it.

    Attributes:
        folder: where the table lies.
        record: the run's.
        frame: the score table.
        cases: the case table; None where there is none.
        own: whether the cases are those of the run's own split.
        remarks: what nobody may overlook.
    """

    folder: Path
    record: dict[str, Any]
    frame: "pd.DataFrame"
    cases: "pd.DataFrame | None"
    own: bool
    remarks: tuple[str, ...]


def write_strata(config: DictConfig) -> Path:
    """Write the tables and the picture of a run's strata and failures, print them, return their folder.

    Raises:
        ConfigError: ``count`` is below 1, or a rule is unknown.
        RunError: there is no such run or evaluation, or the side chose the weights and ``allow_selection_side`` is
            false.
        ScoreError: a table is damaged, or ``by`` names no column.
    """
    from medseg.commands.show import show, show_lines

    if not isinstance(config.count, int) or config.count < 1:
        raise ConfigError(f"count={config.count}: give a number of cases above 0.")
    rules = Rules(**{str(name): float(value) for name, value in config.rules.items()})
    scored = _scored(config)
    by = tuple(config.by or dividing_columns(scored.cases, scored.frame))
    classified = classify(scored.frame, rules)
    divided = _divided(scored.frame, by, scored.cases, list(config.thresholds))
    worst = worst_cases(scored.frame, classified, strata=divided, count=config.count)
    tables = _tables(scored, by, list(config.thresholds), classified, worst, rules)
    folder = scored.folder / "strata"
    _write(folder, tables, classified, worst)
    for table in tables:
        show(table)
    show_lines([*_notes(scored, config, worst, folder), folder])
    return folder


def _scored(config: DictConfig) -> Scored:
    """Read what there is of a run, check that it may be reported, and note the access."""
    run = Path(config.run)
    record, split = runs.read_record(run), read_split(run / "split.json")
    folder = run if config.evaluation is None else run / "evaluations" / str(config.evaluation)
    if not (folder / "scores.csv").is_file():
        known = sorted(path.parent.name for path in (run / "evaluations").glob("*/scores.csv"))
        raise RunError(
            f"{folder}: no scores.csv there (status {record.get('status')}); let the run finish, or give evaluation= "
            f"one of {known}."
        )
    frame = read_scores(folder / "scores.csv")
    cases = None
    if (folder / "cases.csv").is_file():
        cases = read_case_table(folder / "cases.csv")
        check_case_table(cases, frame, source=str(folder / "cases.csv"))
    side = str(frame["split_side"].iloc[0])
    own = set(frame["case"]) <= set(split.sides.get(side, ()))
    labels: tuple[str, ...] = ()
    if own:
        labels = check_side(record, split, side, allow=bool(config.allow_selection_side))
    remarks = flags_of(synthetic=own and record["data"]["synthetic"], leaky=bool(frame["leaky"].any()))
    elsewhere: dict[str, str] = {} if own else {"dataset": str(config.evaluation), "split": _hash_of(frame)}
    ledger.append(ledger.path_in(config.paths.outputs), ledger.access("strata", [record], side=side, **elsewhere))
    return Scored(folder, record, frame, cases, own, (*remarks, *labels))


def _hash_of(frame: "pd.DataFrame") -> str:
    """Return the hash of a split that has every scored case on the test side, as another dataset is scored."""
    sides: dict[str, tuple[str, ...]] = {"train": (), "val": (), "test": tuple(sorted(set(frame["case"])))}
    return Split("test_only", 0, bool(frame["leaky"].any()), sides).hash


def _divided(
    frame: "pd.DataFrame", by: Sequence[str], cases: "pd.DataFrame | None", thresholds: Sequence[float]
) -> dict[str, "pd.Series"]:
    return {name: stratum_names(frame, by=name, cases=cases, thresholds=thresholds) for name in by}


def _tables(
    scored: Scored,
    by: Sequence[str],
    thresholds: Sequence[float],
    classified: "pd.DataFrame",
    worst: "pd.DataFrame",
    rules: Rules,
) -> list["Table"]:
    from medseg.report.failures import failure_table, worst_table
    from medseg.report.strata import strata_table

    frame, unit = scored.frame, str(scored.frame["unit"].iloc[0])
    about: dict[str, Any] = {
        "run": str(scored.folder),
        "source": f"medseg, {scored.record['name']}, side {frame['split_side'].iloc[0]}",
        "remarks": scored.remarks,
    }
    tables = []
    for name in by:
        found = strata(frame, by=name, cases=scored.cases, thresholds=thresholds)
        tables.append(strata_table(found, unit=unit, **about))
    tables.append(failure_table(failure_counts(classified), rules, **about))
    undefined = int(frame["dice"].isna().sum())
    tables.append(worst_table(worst, unit=unit, undefined=undefined, remarks=scored.remarks))
    return tables


def _write(folder: Path, tables: Sequence["Table"], classified: "pd.DataFrame", worst: "pd.DataFrame") -> None:
    from medseg.report.table_files import write_table_files

    write_table_files(tables, folder / "strata", label="tab:")
    for name, frame in (("failures.csv", classified), ("worst.csv", worst)):
        frame.to_csv(folder / name, index=False, na_rep="nan", lineterminator="\n")


def _notes(scored: Scored, config: DictConfig, worst: "pd.DataFrame", folder: Path) -> list[str]:
    """Draw the worst cases where that can be done, and return what is missing and why."""
    notes = []
    if scored.cases is None:
        notes.append("No cases.csv beside the scores: attributes are unknown; `medseg evaluate` writes it.")
    if not config.pictures:
        return notes
    if not scored.own or not (scored.folder / "predictions").is_dir():
        return [*notes, "No picture of the worst cases: no predictions of the run's own dataset are kept here."]
    from medseg.commands.worst_pictures import draw_worst

    try:
        draw_worst(scored.folder, Path(config.run), worst, folder / "worst.png", scored.remarks, _trusted(config))
    except (DataError, RunError) as error:  # the tables stand without the images
        notes.append(f"No picture of the worst cases: {error}")
    return notes


def _trusted(config: DictConfig) -> list[str]:
    return list(OmegaConf.to_container(config.trusted_targets))  # type: ignore[arg-type]
