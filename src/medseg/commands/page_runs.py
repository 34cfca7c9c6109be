"""Runs as a page needs them: everything that lies in a run's folder, and what its method is called."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from medseg.journal import read_journal
from medseg.mirror import run_parameters
from medseg.report.cells import Result
from medseg.report.html.material import Trained
from medseg.stats.case_table import read_case_table
from medseg.stats.evidence import Training
from medseg.stats.reliability import read_reliability

VALIDATION = "val/dice"
"""What learning curves show."""
FOLD = "fold"
"""Settings with this in their name make no other method."""


def method_of(result: Result, labels: Mapping[str, str]) -> str:
    """Return the printed name of a cell's method: its network and what else the study varies, but seed and fold."""
    net = result.cell.choices["net"]
    label = labels.get(net) or str(result.record["model"].get("system") or "") or net
    pairs = [part.partition("=") for part in result.cell.name.split() if "=" in part]
    others = [f"{key}={value}" for key, _, value in pairs if key not in ("net", "seed") and FOLD not in key]
    return " ".join([label, *others])


def of_result(result: Result, labels: Mapping[str, str], page: Path) -> Trained:
    """Return the run of a study's finished cell.

    Args:
        result: of the cell.
        labels: how a network option is printed.
        page: folder of the page, which links start from.

    Raises:
        RunError: a file of the run is damaged.
        ScoreError: a table of the run is damaged.
    """
    table, method = result.scores(every_class=True), method_of(result, labels)
    training = training_of(result.folder.name, method, result.record, table)
    found = trained_run(result.folder, training, result.record, place=result.folder, page=page)
    return replace(found, versions=result.versions)


def training_of(name: str, method: str, record: Mapping[str, Any], table: pd.DataFrame) -> Training:
    """Return a run's scores on its own test side as one training of its method.

    Args:
        name: how messages call it.
        method: printed name.
        record: its ``run.json``.
        table: its score table.
    """
    data, split = record["data"], record["split"]
    return Training(
        name=name,
        method=method,
        seed=int(record["seed"]),
        table=table,
        data=str(data["name"]),
        digest=str(data["digest"]),
        split=str(split["hash"]),
        leaky=bool(split["leaky"]),
        synthetic=bool(data["synthetic"]),
    )


def trained_run(folder: Path, training: Training, record: Mapping[str, Any], *, place: Path, page: Path) -> Trained:
    """Return a run with what lies in its folder.

    Args:
        folder: of the run.
        training: its method, seed and score table.
        record: its ``run.json``.
        place: where the score table lies: the folder, or an evaluation below it.
        page: folder of the page.
    """
    journal, versions = folder / "metrics.jsonl", folder / "versions.json"
    reliability, cases = place / "reliability.csv", place / "cases.csv"
    rows = read_journal(journal) if journal.is_file() else []
    return Trained(
        name=folder.name if place == folder else f"{folder.name}/{place.name}",
        method=training.method,
        seed=training.seed,
        record=record,
        versions=json.loads(versions.read_text(encoding="utf-8")) if versions.is_file() else {},
        scores=training.table,
        curve={row["epoch"]: row["metrics"][VALIDATION] for row in rows if VALIDATION in row["metrics"]},
        reliability=read_reliability(reliability) if reliability.is_file() else None,
        cases=read_case_table(cases) if cases.is_file() else None,
        settings=run_parameters(folder) if (folder / "config.yaml").is_file() else {},
        overlays=place / "overlays.png",
        address=Path(os.path.relpath(folder, page)).as_posix(),
        folder=folder,
    )
