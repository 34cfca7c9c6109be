"""``medseg track``: send runs from their folders to MLflow; a run that broke off is marked KILLED there."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from medseg import runs
from medseg.commands.configuration import choices, freeze, run_hydra
from medseg.errors import ConfigError, RunError


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg track`` with Hydra overrides."""
    run_hydra("track", track, arguments)


def track(composed: DictConfig) -> list[str]:
    """Send the runs that are asked for and return their MLflow ids.

    Raises:
        ConfigError: nothing or too much was asked for, or ``tracking=csv``.
        RunError: there is no such run, it is being trained, or MLflow did not take everything.
    """
    from hydra.utils import instantiate

    from medseg.mirror import mirror_run

    config = freeze(composed, choices(composed))
    if config.choices.get("tracking") == "csv":
        raise ConfigError("tracking=csv sends nothing; leave it out or give tracking.uri=http://HOST:PORT.")
    sent, unsent = [], []
    for folder in _folders(config):
        with runs.locked(folder):
            run_id = mirror_run(folder, instantiate(config.tracking))
        if run_id is None:
            unsent.append(folder)
            continue
        sent.append(run_id)
        print(f"{folder} -> {run_id}")
    if unsent:
        raise RunError(
            f"{unsent[0]}: not sent ({len(unsent)} of {len(sent) + len(unsent)} runs); mend MLflow and repeat."
        )
    return sent


def _folders(config: DictConfig) -> list[Path]:
    from medseg.mirror import run_folders

    if [config.run is not None, config.study is not None, bool(config.all)].count(True) != 1:
        raise ConfigError("medseg track needs one of run=FOLDER, study=NAME or all=true.")
    if config.run is not None:
        return [Path(config.run)] if runs.read_record(Path(config.run)) else []
    return run_folders(Path(config.paths.runs), config.study)
