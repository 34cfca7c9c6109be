"""Run folders mirrored to a tracker: what becomes a parameter, a tag, a metric, a file.

A folder is sent as often as one likes: it continues the MLflow run it made before, found by ``run.json`` or by
the tags ``medseg.key``, ``medseg.folder`` and ``medseg.started``, and points that are there already are not
doubled. Runs of a sweep lie flat beside each other with the tag ``sweep_id``; MLflow's charts leave nested ones out.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from medseg.errors import RunError
from medseg.journal import read_journal
from medseg.runs import read_record, write_json

if TYPE_CHECKING:
    from medseg.tracking import CsvTracker, MLflowTracker

logger = logging.getLogger(__name__)
FILES = (
    *("config.yaml", "versions.json", "split.json", "audit.json", "metrics.jsonl"),
    *("scores.csv", "reliability.csv", "cases.csv"),
    *("overlays.png", "curves.png", "weights.pt"),
)
STATUS = {"finished": "FINISHED", "failed": "FAILED"}
IDENTITY = ("medseg.key", "medseg.folder", "medseg.started")
NO_PARAMETERS = ("paths", "tracking", "hydra", "choices", "folder", "resume", "name", "trusted_targets")
"""Parts of a config that say where and how a run is shown, not what it trains; ``config.yaml`` has them."""


def start_run(folder: Path, tracker: "MLflowTracker | CsvTracker") -> str | None:
    """Open or continue the MLflow run of a folder with its name, parameters and tags.

    Args:
        folder: holds at least ``run.json`` and ``config.yaml``.
        tracker: MLflow, or nothing.

    Returns:
        the MLflow run's id; None without MLflow, or when it cannot be reached.

    Raises:
        RunError: the folder holds no run.
    """
    record = read_record(folder)
    return tracker.start(record["name"], run_parameters(folder), run_tags(folder), _noted_run(record, tracker))


def mirror_run(folder: Path, tracker: "MLflowTracker | CsvTracker") -> str | None:
    """Send everything a run folder holds and note in ``run.json`` where it went.

    A run that neither finished nor failed is marked KILLED; when it trains on, it is RUNNING again.

    Args:
        folder: of a run.
        tracker: MLflow, or nothing.

    Returns:
        the MLflow run's id; None without MLflow, or when not everything could be sent.

    Raises:
        RunError: the folder holds no run, or its journal is damaged.
    """
    folder = Path(folder)
    record, tags = read_record(folder), run_tags(folder)
    known = _noted_run(record, tracker) or tracker.find({name: str(tags[name]) for name in IDENTITY})
    started = datetime.fromisoformat(record["started"]).timestamp()
    if tracker.healthy and tracker.start(record["name"], run_parameters(folder), tags, known, started=started):
        rows = _rows(folder)
        write_json(folder / "run.json", {**record, "mlflow": tracker.link()})
        _send(folder, record, rows, tracker)
        ended = max([row["time"] for row in rows], default=started)
        tracker.finish(STATUS.get(record["status"], "KILLED"), ended)
    if not tracker.healthy:
        logger.warning("MLflow does not have all of this run; send it later with `medseg track run=%s`.", folder)
        return None
    return tracker.run_id


def _rows(folder: Path) -> list[dict[str, Any]]:
    journal = folder / "metrics.jsonl"
    return read_journal(journal) if journal.is_file() else []


def _send(
    folder: Path, record: Mapping[str, Any], rows: list[dict[str, Any]], tracker: "MLflowTracker | CsvTracker"
) -> None:
    tracker.metrics([*rows, _summary_row(record)])
    data = record.get("data") or {}
    if data.get("digest"):
        profile = {key: data.get(key) for key in ("cases", "patients", "prevalence", "synthetic")}
        tracker.dataset(data["name"], data["digest"], "training", profile=profile)
    for name in FILES:
        if (folder / name).is_file():
            tracker.artifact(folder / name)


def summary_run(
    study: str,
    files: Mapping[str, Path],
    tracker: "MLflowTracker | CsvTracker",
    *,
    tags: Mapping[str, object] | None = None,
    note: str = "",
) -> str | None:
    """Write or renew the one run of a study that holds its tables and pictures.

    Args:
        study: name of the study; its cells carry it as the tag ``study``.
        files: what they are to where they lie; each is stored under ``tables/`` by its file name.
        tracker: MLflow, or nothing.
        tags: more about the table, for instance ``preset`` and ``synthetic``.
        note: Markdown shown on the run's page, for instance the table itself.

    Returns:
        the summary run's id; None without MLflow, or when it cannot be reached.

    Raises:
        RunError: a file is missing.
    """
    missing = [f"{name} ({path})" for name, path in files.items() if not Path(path).is_file()]
    if missing:
        raise RunError(f"summary of study '{study}': {missing[0]} does not exist; write the tables first.")
    named = {key: str(value) for key, value in (tags or {}).items()}
    same: dict[str, str] = {
        "study": study,
        "medseg.role": "summary",
        **{key: named[key] for key in ("data", "preset") if key in named},
    }
    described: dict[str, object] = {**named, **same, "mlflow.note.content": note[:7900], "mlflow.source.name": "medseg"}
    name = "-".join([study, "summary", *(same[key] for key in ("data", "preset") if key in same)])
    known = tracker.find(same)
    if not tracker.healthy or tracker.start(name, {}, described, known) is None:
        return None
    for path in files.values():
        tracker.artifact(Path(path), "tables")
    tracker.finish("FINISHED")
    return tracker.run_id if tracker.healthy else None


def run_folders(root: Path, study: str | None = None) -> list[Path]:
    """Return the run folders below ``root`` by name, of one study or all.

    Raises:
        RunError: there is none.
    """
    folders = sorted(path.parent for path in Path(root).glob("*/*/run.json"))
    found = [folder for folder in folders if study is None or read_record(folder).get("study") == study]
    if not found:
        raise RunError(f"{root}: no runs{f' of study {study}' if study else ''} there; train them first.")
    return found


def run_parameters(folder: Path) -> dict[str, object]:
    """Return the chosen options (``net``, ``data`` ...) and every scalar of ``config.yaml`` by dotted name.

    Raises:
        RunError: ``config.yaml`` is missing.
    """
    path = Path(folder) / "config.yaml"
    if not path.is_file():
        raise RunError(f"{folder}: no config.yaml there; give the folder of a run.")
    config = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    kept = {key: value for key, value in config.items() if key not in NO_PARAMETERS}
    if isinstance(kept.get("data"), dict):
        kept["data"] = {key: value for key, value in kept["data"].items() if key != "about"}  # prose
    chosen = read_record(folder).get("choices") or {}
    return {**dict(_leaves(kept)), **{group: chosen[group] for group in chosen if group not in NO_PARAMETERS}}


def run_tags(folder: Path) -> dict[str, object]:
    """Return what runs are filtered and grouped by, from ``run.json`` and ``versions.json``."""
    folder = Path(folder)
    record = read_record(folder)
    data, split, model = (record.get(part) or {} for part in ("data", "split", "model"))
    versions = folder / "versions.json"
    git = (json.loads(versions.read_text(encoding="utf-8")) if versions.is_file() else {}).get("git") or {}
    certificate = folder / "audit.json"
    audit = json.loads(certificate.read_text(encoding="utf-8")) if certificate.is_file() else {}
    tags = {
        "medseg.role": "run",
        "medseg.key": record["key"],
        "medseg.folder": folder.absolute(),
        "medseg.started": record["started"],
        **{name: record.get(name) for name in ("study", "panel", "preset", "seed")},
        "sweep_id": record.get("sweep"),
        "git_commit": git.get("commit"),
        "mlflow.source.git.commit": git.get("commit"),
        "git_dirty": git.get("dirty"),
        "data_digest": data.get("digest"),
        "split_hash": split.get("hash"),
        "leaky": split.get("leaky"),
        "audit": audit.get("verdict"),
        "synthetic": data.get("synthetic"),
        "interactive": model.get("interactive"),
        "interaction": model.get("interaction"),
        "kind": model.get("kind"),
        "device": (record.get("cost") or {}).get("device"),
        "mlflow.source.name": "medseg",
        "mlflow.note.content": _note(record),
    }
    return {name: value for name, value in tags.items() if value not in (None, "")}


def _note(record: Mapping[str, Any]) -> str:
    """Return what a reader of the run's page must know before its numbers."""
    data, split, model = (record.get(part) or {} for part in ("data", "split", "model"))
    said = [
        "**SYNTHETIC images**: nothing here was measured on patients." if data.get("synthetic") else "",
        "**LEAKY SPLIT**: near copies of test images were trained on." if split.get("leaky") else "",
        "**Interactive**: marks derived from the truth were given to the network." if model.get("interactive") else "",
        str(model.get("reading") or ""),
    ]
    return "\n\n".join(line for line in said if line)


def _noted_run(record: Mapping[str, Any], tracker: "MLflowTracker | CsvTracker") -> str | None:
    noted = record.get("mlflow") or {}
    return noted.get("run_id") if noted.get("uri") == getattr(tracker, "uri", None) else None


def _summary_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return size, cost and test scores as one journal row.

    Its time is the same whenever it is made, and its epoch is 0, for which MLflow draws bars and not a line.
    """
    model, cost = record.get("model") or {}, record.get("cost") or {}
    values = {
        **{f"model/{name}": model.get(name) for name in ("parameters", "trainable_parameters", "gflops")},
        **{f"cost/{name}": value for name, value in cost.items()},
        **(record.get("summary") or {}),
    }
    numbers = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
    started = datetime.fromisoformat(record["started"]).timestamp()
    return {"epoch": 0, "step": 0, "time": started, "metrics": numbers}


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, object]]:
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, inner in value.items():
        yield from _leaves(inner, f"{name}.{key}" if name else str(key))
