"""What a page shows beside scores and plots: strata and failures, published numbers, checklists and cards."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from medseg.errors import ScoreError
from medseg.report.failures import failure_table, worst_table
from medseg.report.html.arrays import mean_score
from medseg.report.html.blocks import Link
from medseg.report.html.material import Arm, Board, Material, Trained
from medseg.report.published import board, find_published
from medseg.report.strata import strata_table
from medseg.report.tables import Table
from medseg.runs import load_config
from medseg.stats.strata import dividing_columns, strata, stratum_names
from medseg.stats.taxonomy import Rules, classify, failure_counts, worst_cases

MOST_STRATA = 5
"""Methods of an arm whose strata and failures are shown."""
WORST = 8
"""Cases in the list of the worst."""
DOCUMENTS = {"model_card.md": "model card", "dataset_card.md": "dataset card", "checklists.md": "checklists"}
"""What ``medseg card`` writes into a run's folder."""


def with_extras(material: Material, start: Path) -> Material:
    """Return the material with strata, published numbers and documents, or with why they are not there.

    Args:
        material: with its arms.
        start: folder at or above which ``experiments/published`` is looked for.
    """
    tables, about_strata = _strata(material)
    boards, about_boards = _boards(material, start)
    documents = _documents(material)
    remarks = {
        **material.remarks,
        "strata": about_strata,
        "published": about_boards,
        "documents": () if documents else ("None yet: `medseg card run=FOLDER` writes a run's cards and checklists.",),
    }
    return replace(material, strata=tables, boards=boards, documents=documents, remarks=remarks)


def _strata(material: Material) -> tuple[dict[str, list[Table]], list[str]]:
    """Return the tables of the first seed of the first methods of each arm, all folds of it together."""
    found, said = {}, []
    for arm in material.arms:
        methods = list(arm.methods.items())
        for method, of_it in methods[:MOST_STRATA]:
            seed = min(run.seed for run in of_it)
            folds = _of_other_cases([run for run in of_it if run.seed == seed])
            found[f"{arm.name} {method}, seed {seed}".strip()] = _strata_of(folds, arm.flags)
        if len(methods) > MOST_STRATA:
            said.append(f"{MOST_STRATA} of {len(methods)} methods; `medseg strata run=FOLDER` shows the others.")
    if found:
        said.append("One seed a method, its lowest. Nothing is tested between strata.")
    return found, said


def _of_other_cases(runs: Sequence[Trained]) -> list[Trained]:
    """Return the runs without those that tested a case of an earlier one: a case counts once."""
    kept: list[Trained] = []
    known: set[str] = set()
    for run in runs:
        cases = set(run.scores["case"])
        if known.isdisjoint(cases):
            kept.append(run)
            known |= cases
    return kept


def _strata_of(runs: Sequence[Trained], flags: Sequence[str]) -> list[Table]:
    """Return the tables of trainings that tested different cases: one run, or the folds of one seed."""
    frame, rules = pd.concat([run.scores for run in runs], ignore_index=True), Rules()
    described = [run.cases for run in runs if run.cases is not None]
    cases = pd.concat(described, ignore_index=True).fillna("") if len(described) == len(runs) else None
    name, unit = ", ".join(run.name for run in runs), str(frame["unit"].iloc[0])
    classified = classify(frame, rules)
    columns = dividing_columns(cases, frame)
    named = {column: stratum_names(frame, by=column, cases=cases) for column in columns}
    worst = worst_cases(frame, classified, strata=named, count=WORST)
    undefined = int(frame["dice"].isna().sum())
    return [
        *(
            strata_table(strata(frame, by=column, cases=cases), unit=unit, run=name, remarks=flags)
            for column in columns
        ),
        failure_table(failure_counts(classified), rules, run=name, remarks=flags),
        worst_table(worst, unit=unit, undefined=undefined, remarks=flags),
    ]


def _boards(material: Material, start: Path) -> tuple[tuple[Board, ...], list[str]]:
    """Return the published numbers of each arm's dataset, and why there are none."""
    folder = find_published(start)
    if folder is None:
        return (), ["No folder experiments/published at or above the working folder: no published numbers."]
    found, said = [], []
    for arm in material.arms:
        if arm.comparison is not None and arm.comparison.evidence.metric != "dice":
            said.append("Published numbers stand beside Dice only.")
            continue
        try:
            made = board(_records(arm), folder, headline=_headline(arm), labels=_labels(arm))
        except ScoreError as error:  # several datasets: said on the page
            said.append(f"No board: {error}")
            continue
        if made is not None:
            found.append(Board(made.table, made.muted, made.ours))
    return tuple(found), said if found or said else ["No published numbers of this dataset are on file."]


def _records(arm: Arm) -> list[dict[str, object]]:
    """Return the records with each method under its own name, and the config where it is there."""
    records = []
    for run in arm.runs:
        config = load_config(run.folder) if (run.folder / "config.yaml").is_file() else {}
        choices = {**(run.record.get("choices") or {}), "net": run.method}
        records.append({**run.record, "choices": choices, "config": config})
    return records


def _headline(arm: Arm) -> Mapping[str, tuple[float, float, float]]:
    found = {name: mean_score(arm, name) for name in arm.methods}
    return {name: numbers for name, numbers in found.items() if not math.isnan(numbers[0])}


def _labels(arm: Arm) -> Mapping[str, str]:
    return {name: name for name in arm.methods}


def _documents(material: Material) -> tuple[Link, ...]:
    return tuple(
        Link(f"{run.name}: {words}", f"{run.address}/{name}")
        for run in material.runs
        for name, words in DOCUMENTS.items()
        if (run.folder / name).is_file()
    )
