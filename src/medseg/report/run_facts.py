"""What a run's folder says about the run, read without torch, Hydra or MLflow, for checklists and cards.

Only ``run.json`` must be there. Another file that is absent is None, and whoever prints says so; a file that is there
but damaged is an error.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from medseg.errors import RunError
from medseg.stats.case_table import check_case_table, read_case_table
from medseg.stats.table import read_scores


@dataclass(frozen=True)
class Fact:
    """Something a run's folder says, in words, and where it was found (file and key)."""

    text: str
    where: str


@dataclass(frozen=True)
class RunFacts:
    """The files of one run.

    Attributes:
        folder: the run's.
        record: ``run.json``.
        config: ``config.yaml``; None without.
        versions: ``versions.json``; None without.
        split: ``split.json``; None without.
        audit: ``audit.json``; None without.
        scores: ``scores.csv``, checked; None without.
        cases: ``cases.csv`` as text, one row a case of the scored side; None without.
        weights: SHA-256 of ``weights.pt``; empty without.
        evaluations: names of the folders below ``evaluations`` that hold a score table.
    """

    folder: Path
    record: Mapping[str, Any]
    config: Mapping[str, Any] | None = None
    versions: Mapping[str, Any] | None = None
    split: Mapping[str, Any] | None = None
    audit: Mapping[str, Any] | None = None
    scores: pd.DataFrame | None = None
    cases: pd.DataFrame | None = None
    weights: str = ""
    evaluations: tuple[str, ...] = ()

    def get(self, path: str) -> Any:
        """Return a value of the record by its keys with dots, for instance ``data.cases.test``; None if absent."""
        return _walk(self.record, path)

    def set_to(self, path: str) -> Any:
        """Return a value of the config by its keys with dots, None if absent."""
        return _walk(self.config or {}, path)


def load_facts(folder: str | Path) -> RunFacts:
    """Read a run's folder.

    Raises:
        RunError: there is no ``run.json``, or a file is damaged.
        ScoreError: ``scores.csv`` or ``cases.csv`` breaks a rule, or they are not of the same cases.
    """
    folder = Path(folder)
    record = _json(folder / "run.json")
    if record is None:
        raise RunError(f"{folder}: no run.json there; give the folder of a run, for instance run=outputs/runs/...")
    scores = read_scores(folder / "scores.csv") if (folder / "scores.csv").is_file() else None
    return RunFacts(
        folder=folder,
        record=record,
        config=_yaml(folder / "config.yaml"),
        versions=_json(folder / "versions.json"),
        split=_json(folder / "split.json"),
        audit=_json(folder / "audit.json"),
        scores=scores,
        cases=_cases(folder / "cases.csv", scores),
        weights=_sha256(folder / "weights.pt"),
        evaluations=tuple(sorted(path.parent.name for path in (folder / "evaluations").glob("*/scores.csv"))),
    )


def facts_of_data(summary: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> RunFacts:
    """Return the facts of a dataset that nothing was trained on yet, for its card.

    Args:
        summary: of the data module (``SegmentationData.summary``), with ``unit`` and ``classes`` where known.
        config: a resolved config with the node ``data``.
    """
    name = str(summary.get("name", "dataset"))
    return RunFacts(Path(name), {"name": name, "data": summary, "split": summary.get("split") or {}}, config)


def _walk(node: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(node, Mapping) or key not in node:
            return None
        node = node[key]
    return node


def _json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: not readable as JSON ({error}); restore the file or train the run again.") from error
    return _mapping(content, path)


def _yaml(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())
        raise RunError(f"{path}: not readable as YAML ({line}); restore the file or train the run again.") from error
    return _mapping(content, path)


def _mapping(content: Any, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise RunError(f"{path}: holds a {type(content).__name__}, not keys and values; restore the file.")
    return content


def _cases(path: Path, scored: pd.DataFrame | None) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    table = read_case_table(path)
    if scored is not None:
        check_case_table(table, scored, source=str(path))
    return table


def _sha256(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
