"""``medseg ui``: MLflow's pages on the recorded runs, on this machine only, until Ctrl-C."""

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from omegaconf import DictConfig

from medseg import store
from medseg.commands.configuration import choices, freeze, run_hydra
from medseg.errors import ConfigError, RunError

PAGE = "http://{host}:{port}/#/experiments/{experiment}/runs?workflowType=machine_learning"
HINTS = """  Table: tick metrics such as test/dice and parameters such as net and seed under "Columns".
  Compare: tick runs, then "Compare"; curves and bars of all runs: the second icon above the table.
  Should the page lack runs, switch to "Model training" at the top left. Ctrl-C ends it."""


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg ui`` with Hydra overrides."""
    run_hydra("ui", ui, arguments)


def ui(composed: DictConfig) -> None:
    """Serve the store until Ctrl-C.

    Raises:
        ConfigError: the address is not this machine's own, or the port is taken.
        RunError: the store cannot be opened or the server does not start.
    """
    from hydra.utils import instantiate

    config = freeze(composed, choices(composed))
    if config.choices.get("tracking") == "csv":
        raise ConfigError("tracking=csv has no pages; leave it out or give tracking.uri=sqlite:////FOLDER/mlflow.db.")
    _check_address(config.host, config.port, allow_remote=config.allow_remote)
    tracker = instantiate(config.tracking)
    if tracker.uri.startswith("http"):
        print(f"The runs are at {tracker.uri} already; open it in a browser.")
        return
    try:
        experiment = tracker.experiment_id()
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"{tracker.uri}: no store of this MLflow ({reason}); give another tracking.uri.") from error
    with serving(tracker.uri, tracker.artifact_root, config.host, config.port, patience=config.patience) as server:
        print(PAGE.format(host=config.host, port=config.port, experiment=experiment), HINTS, sep="\n", flush=True)
        server.wait()


@contextmanager
def serving(uri: str, artifacts: Path, host: str, port: int, *, patience: float) -> Iterator["subprocess.Popen[bytes]"]:
    """Start MLflow's server and yield it once it answers; it and its workers end with the block.

    Raises:
        RunError: it ends early or does not answer within ``patience`` seconds.
    """
    where = ["--backend-store-uri", uri, "--default-artifact-root", artifacts.as_uri(), "--no-serve-artifacts"]
    command = [sys.executable, "-m", "mlflow", "server", *where, "--host", host, "--port", str(port), "--workers", "1"]
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryFile() as log:
        # A session of its own, so that the workers can be ended with it and Ctrl-C reaches us first.
        server = subprocess.Popen(
            command, env={**os.environ, **store.QUIET}, stdout=log, stderr=log, start_new_session=True
        )
        try:
            _await_health(server, host, port, patience, log)
            yield server
        finally:
            _end(server)
            signal.signal(signal.SIGTERM, before)


def _check_address(host: str, port: int, *, allow_remote: bool) -> None:
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local and not allow_remote:
        raise ConfigError(f"host={host} lets other machines in without a password; allow_remote=true permits it.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(f"port={port} cannot be used ({error.strerror}); give another.") from error


def _await_health(server: "subprocess.Popen[bytes]", host: str, port: int, patience: float, log: IO[bytes]) -> None:
    deadline = time.monotonic() + patience
    shown = f"[{host}]" if ":" in host else host
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while server.poll() is None and time.monotonic() < deadline:
        try:
            if direct.open(f"http://{shown}:{port}/health", timeout=2).status == 200:
                return
        except OSError:
            time.sleep(0.3)
    log.seek(0)
    said = " ".join(log.read().decode(errors="replace").split())[-300:]
    what = f"ended with code {server.returncode}" if server.returncode is not None else f"silent for {patience:.0f} s"
    raise RunError(f"MLflow's server does not start ({what}): {said or 'it said nothing'}; see patience= and port=.")


def _end(server: "subprocess.Popen[bytes]") -> None:
    """End the server and what it started."""
    for number, wait in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        try:
            os.killpg(server.pid, number)
            server.wait(wait)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    server.poll()
