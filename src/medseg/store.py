"""Where an MLflow store lies and what it takes: addresses, the lock around its making, names and lengths.

Knows the rules of MLflow 3 without importing it.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from medseg.errors import ConfigError

LONGEST = 250
"""Characters of a key, and of a parameter's value."""

LOCK_SECONDS = 180
"""A new SQLite store takes about ten seconds to make; several processes may queue for it on a busy machine."""

SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql")

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Environment of MLflow as a library and as a server: it calls nobody, unpickles nothing, starts no job workers."""


def patience(retries: int, timeout: int) -> dict[str, str]:
    """Return the environment that bounds how long a client waits for a server; MLflow's own bound is minutes.

    Args:
        retries: repetitions of a failed request.
        timeout: seconds for one answer.
    """
    return {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout),
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    }


@contextmanager
def setting(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for the length of a block."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def address(uri: str | None, artifact_root: Path | str) -> str:
    """Return a store's address with an absolute SQLite path.

    Args:
        uri: the address, or None for ``mlflow.db`` beside the artifacts.
        artifact_root: folder of the artifacts.

    Raises:
        ConfigError: the address is a folder or of an unknown scheme.
    """
    if uri is None:
        return f"sqlite:///{Path(artifact_root).absolute().parent / 'mlflow.db'}"
    if uri.partition(":")[0].partition("+")[0] not in SCHEMES:
        raise ConfigError(
            f"tracking.uri='{uri}': MLflow keeps runs in a database; give sqlite:////FOLDER/mlflow.db or http://HOST:PORT."
        )
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    return uri


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite address, or None for a server."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def making_lock(uri: str) -> AbstractContextManager[object]:
    """Return a lock under which one process at a time may make a SQLite store; servers need none."""
    file = sqlite_file(uri)
    if file is None:
        return nullcontext()
    from filelock import FileLock

    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{file}.lock", timeout=LOCK_SECONDS)


def tags_query(tags: Mapping[str, str]) -> str:
    """Return MLflow's query for runs that have all these tags."""
    quoted = {key: f'"{text}"' if "'" in text else f"'{text}'" for key, text in tags.items()}
    return " and ".join(f"tags.`{key}` = {text}" for key, text in quoted.items())


def run_row(run: Any) -> dict[str, Any]:
    """Return an MLflow run as one flat row; MLflow's own tags are left out."""
    facts = {"run_id": run.info.run_id, "name": run.info.run_name, "status": run.info.status}
    params = {f"params.{key}": text for key, text in run.data.params.items()}
    tags = {f"tags.{key}": text for key, text in run.data.tags.items() if not key.startswith("mlflow.")}
    return {**facts, "folder": run.data.tags.get("medseg.folder"), **run.data.metrics, **params, **tags}


def fitting_key(name: str) -> str:
    """Return a name with characters that MLflow refuses replaced by underscores."""
    return re.sub(r"[^\w\-. :/]", "_", name)[:LONGEST]


def short_text(value: object) -> str:
    """Return a parameter's text, cut with dots at 250 characters, beyond which the pages show none of it."""
    text = str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
