"""MLflow behind one small face; the only file that imports it.

A run's folder is the record and MLflow its mirror, so a tracking failure never costs a number. A tracker is told in
three moments, each of which may be repeated without making a second run or a second point:

1. before training ``mirror.start_run(folder, tracker)``: name, parameters, tags;
2. after an epoch ``tracker.metrics([row])`` with the journal's own rows: one request per epoch, never one per step;
3. at the end ``mirror.mirror_run(folder, tracker)``: everything again, with summary, dataset and files.

Points carry the journal's time stamps and ``step = epoch``, which makes sending them again a no-op. Whatever
goes wrong is logged once, with the remedy; the tracker then stays silent until the last moment, which tries
again. ``medseg track run=FOLDER`` repeats moment 3 by hand.
"""

import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg import store
from medseg.errors import RunError

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)
Facts = Mapping[str, object]
BATCH, ATTRIBUTES = 1000, 100  # most metrics, and most parameters or tags, that one request takes
ARTIFACT_SECONDS = 60
FAILURE = (
    "MLflow at %s cannot be written (%s: %s). The run goes on and its folder keeps every number; "
    "send it later with `medseg track run=FOLDER`."
)


class CsvTracker:
    """Has the tracker's face and sends nothing: the run folder alone keeps the record (``tracking=csv``)."""

    run_id: str | None = None
    healthy = True

    def start(self, *_: object, **__: object) -> None:
        """Open no run."""

    def metrics(self, *_: object) -> None:
        """Send no rows."""

    def artifact(self, *_: object) -> None:
        """Send no file."""

    def dataset(self, *_: object, **__: object) -> None:
        """Name no data."""

    def finish(self, *_: object) -> None:
        """Close nothing."""

    def find(self, *_: object) -> None:
        """Find nothing."""

    def link(self) -> None:
        """Lead nowhere."""


class MLflowTracker:
    """Mirrors a run to an MLflow store; a store that cannot be reached is warned of once and never raises.

    Args:
        artifact_root: folder for the files of runs. Its parent holds ``mlflow.db`` where ``uri`` is None.
        uri: ``sqlite:///FILE`` or a server's address; None for the SQLite file beside ``artifact_root``.
        experiment: MLflow experiment all runs go to.
        retries: repetitions of a failed request to a server.
        timeout: seconds a server may take to answer; sending files may take a minute.

    Raises:
        ConfigError: ``uri`` is of a kind MLflow no longer writes.
    """

    def __init__(
        self,
        artifact_root: Path | str,
        uri: str | None = None,
        experiment: str = "medseg",
        retries: int = 2,
        timeout: int = 5,
    ) -> None:
        self.artifact_root = Path(artifact_root).absolute()
        self.uri = store.address(uri, self.artifact_root)
        self.experiment, self.retries, self.timeout = experiment, retries, timeout
        self.run_id: str | None = None
        self.healthy, self._warned = True, False
        self._experiment_id: str | None = None
        self._connection: MlflowClient | None = None

    def start(
        self, name: str, params: Facts, tags: Facts, run_id: str | None = None, *, started: float | None = None
    ) -> str | None:
        """Open a run under an explicit name, or continue ``run_id``, and return its id; None if out of reach.

        MLflow draws names from :mod:`random`, so after seeding every run would have the same one. A parameter
        cannot change in MLflow: where a continued run differs, the new value is kept as the tag ``now.<name>``.
        ``started`` is a Unix time, None for now.
        """
        self.healthy = True
        texts = {store.fitting_key(key): store.short_text(value) for key, value in params.items()}
        labels = {store.fitting_key(key): str(value) for key, value in tags.items()}
        self.run_id = self._attempt(lambda: self._open(name, texts, labels, run_id, started))
        return self.run_id

    def metrics(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Send journal rows, ``step = epoch``, a thousand values a request.

        MLflow would store infinity as 1.8e308 and spoil every chart. A value that is not finite is left out
        and ``<name>_undefined`` is set to 1 at that epoch instead.
        """

        def send(run_id: str) -> None:
            points = list(_points(rows))
            for first in range(0, len(points), BATCH):
                self._client().log_batch(run_id, metrics=points[first : first + BATCH])

        self._send(send)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Copy one file to the run, under ``folder`` if given."""
        with store.setting("MLFLOW_HTTP_REQUEST_TIMEOUT", str(ARTIFACT_SECONDS)):
            self._send(lambda run: self._client().log_artifact(run, str(path), folder))

    def dataset(self, name: str, digest: str, context: str, *, profile: Facts | None = None) -> None:
        """Name the data the run saw; MLflow keeps the first 36 characters of the digest."""

        def send(run_id: str) -> None:
            from mlflow.entities import Dataset, DatasetInput, InputTag

            source = json.dumps({"name": name, "digest": digest})
            data = Dataset(name, digest[:36], "medseg", source, profile=json.dumps(profile) if profile else None)
            seen = DatasetInput(data, [InputTag("mlflow.data.context", context)])
            self._client().log_inputs(run_id, datasets=[seen])

        self._send(send)

    def finish(self, status: str = "FINISHED", ended: float | None = None) -> None:
        """Close the run as FINISHED, FAILED or KILLED; tries once even after an earlier failure."""
        run_id = self.run_id
        if run_id is not None:
            self._attempt(lambda: self._client().set_terminated(run_id, status, _milliseconds(ended)))

    def find(self, tags: Mapping[str, str]) -> str | None:
        """Return the newest run with all these tags, or None; like a start, it tries again after a failure."""
        self.healthy = True
        query = store.tags_query(tags)
        found = self._attempt(lambda: self._client().search_runs([self.experiment_id()], query, max_results=1))
        return found[0].info.run_id if found else None

    def link(self) -> dict[str, str] | None:
        """Return ``uri``, ``experiment_id`` and ``run_id`` of the run, or None before a start that succeeded."""
        experiment, run_id = self._experiment_id, self.run_id
        return {"uri": self.uri, "experiment_id": experiment, "run_id": run_id} if experiment and run_id else None

    def experiment_id(self) -> str:
        """Return the experiment's id; the store and the experiment are made if need be."""
        if self._experiment_id is None:
            self._experiment_id = self._experiment()
        return self._experiment_id

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        client = self._client()
        if client.get_experiment_by_name(self.experiment) is None:
            place = (self.artifact_root / store.fitting_key(self.experiment)).as_uri()
            try:
                client.create_experiment(self.experiment, None if self.uri.startswith("http") else place)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
        found = client.get_experiment_by_name(self.experiment)
        assert found is not None
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _open(
        self, name: str, params: dict[str, str], tags: dict[str, str], run_id: str | None, started: float | None
    ) -> str:
        from mlflow.entities import Param, RunTag

        client, experiment = self._client(), self.experiment_id()
        run = _active_run(client, run_id)
        if run is None:
            run = client.create_run(experiment, _milliseconds(started), tags, name)
        else:
            self._experiment_id = run.info.experiment_id
            client.update_run(run.info.run_id, status="RUNNING", name=name)
            changed = {key: text for key, text in params.items() if run.data.params.get(key, text) != text}
            tags = {**tags, **{f"now.{key}": text for key, text in changed.items()}}
            params = {key: text for key, text in params.items() if key not in run.data.params}
        entries = [Param(key, text) for key, text in params.items()]
        labels = [RunTag(key, text) for key, text in tags.items() if run.data.tags.get(key) != text]
        for first in range(0, max(len(entries), len(labels)), ATTRIBUTES):
            client.log_batch(run.info.run_id, (), entries[first:][:ATTRIBUTES], labels[first:][:ATTRIBUTES])
        return run.info.run_id

    def _client(self) -> "MlflowClient":
        if self._connection is None:
            self._connection = _client(self.uri, self.retries, self.timeout)
        return self._connection

    def _send(self, action: Callable[[str], object]) -> None:
        if self.healthy and self.run_id is not None:
            run_id = self.run_id
            self._attempt(lambda: action(run_id))

    def _attempt(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Exception as error:  # noqa: BLE001 - nothing that MLflow or the network raise may end a training
            self.healthy = False
            if not self._warned:
                reason = " ".join(str(error).split())[:160]
                logger.warning(FAILURE, self.uri, type(error).__name__, reason)
            self._warned = True
            return None


def find_runs(uri: str, experiment: str = "medseg", query: str = "") -> "pd.DataFrame":
    """Return the runs of an experiment, newest first, one row each.

    Args:
        uri: the store's address.
        experiment: name of the experiment.
        query: MLflow's filter, for instance ``"metrics.`test/dice` > 0.8 and params.net = 'unet'"``.

    Returns:
        Columns ``run_id``, ``name``, ``status``, ``folder`` and one per metric, parameter (``params.*``) and
        tag (``tags.*``).

    Raises:
        RunError: there is no such store or experiment.
    """
    import pandas as pd

    file = store.sqlite_file(uri)
    if file is not None and not file.is_file():
        raise RunError(f"{file}: no MLflow store here; train a run first, or give the right tracking.uri.")
    client = _client(uri, retries=2, timeout=5)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        raise RunError(f"{uri}: no experiment '{experiment}'; train a run first, or give the right name.")
    rows, token = [], None
    while True:
        page = client.search_runs([found.experiment_id], query, max_results=BATCH, page_token=token)
        rows += [store.run_row(run) for run in page]
        token = page.token
        if not token:
            return pd.DataFrame(rows)


def _points(rows: Iterable[Mapping[str, Any]]) -> Iterator[Any]:
    from mlflow.entities import Metric

    for row in rows:
        for name, value in row["metrics"].items():
            finite = math.isfinite(value)
            key = store.fitting_key(name) if finite else f"{store.fitting_key(name)}_undefined"
            yield Metric(key, float(value) if finite else 1.0, int(1000 * row["time"]), row["epoch"])


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(1000 * seconds)


def _client(uri: str, retries: int, timeout: int) -> "MlflowClient":
    """Return a client without telemetry, pickles or minutes of retries; the user's own settings win.

    The first client of a new SQLite store makes its tables; processes that do so together destroy them, hence the lock.
    """
    for key, value in {**store.QUIET, **store.patience(retries, timeout)}.items():
        os.environ.setdefault(key, value)
    from mlflow import MlflowClient

    for name in ("alembic", "mlflow.store.db.utils", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with store.making_lock(uri):
        return MlflowClient(tracking_uri=uri)


def _active_run(client: "MlflowClient", run_id: str | None) -> Any | None:
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id) if run_id is not None else None
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return run if run is not None and run.info.lifecycle_stage == "active" else None
