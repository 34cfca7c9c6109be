"""From a verb's arguments to a frozen config, and from a task to jobs.

Root configs list ``- hydra: default`` so that Hydra's log goes below ``${paths.outputs}/hydra`` and the working folder
stays clean. A user's own options lie in a folder given as ``--config-dir DIR``, grouped as in ``conf/``.
"""

import copy
import logging
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra import main as hydra_main
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from medseg.commands.isolation import (
    arguments,
    flags_first,
    job_overrides,
    one_line_errors,
    own_global,
    own_hydra,
    own_processes,
    quiet_lightning,
    relaunchable,
)
from medseg.commands.sweeping import left_to_the_jobs
from medseg.errors import ConfigError, MedsegError, RunError
from medseg.journal import better

log = logging.getLogger(__name__)

VERSION_BASE = "1.3"
OmegaConf.register_new_resolver("sum", lambda *parts: sum(int(part) for part in parts), replace=True)
"""``${sum:1,2}`` in a config: the sum of whole numbers, for instance of channels."""
OmegaConf.register_new_resolver("better", lambda monitor: better(str(monitor)), replace=True)
"""``${better:val/dice}`` in a config: whether the ``max`` or the ``min`` of a metric is good."""
TERMINATED = 143


def find_conf(here: Path = Path(__file__)) -> Path:
    """Return the folder of configs: ``medseg/conf`` of a wheel, ``conf/`` of a checkout or editable install.

    Raises:
        ConfigError: neither is there.
    """
    places = (here.resolve().parents[1] / "conf", here.resolve().parents[3] / "conf")
    for place in places:
        if (place / "paths" / "default.yaml").is_file():
            return place
    raise ConfigError(
        f"no configs in {' or '.join(map(str, places))}; install medseg again (make setup in a checkout)."
    )


CONF = find_conf()


def compose(config_name: str, overrides: Sequence[str] = (), *, config_dir: Path | None = None) -> DictConfig:
    """Return a composed config without running anything, for tests, notebooks and studies.

    Its ``hydra`` node is kept, for :func:`choices`; :func:`freeze` drops it.

    Args:
        config_name: root config, for instance ``train``.
        overrides: as on the command line.
        config_dir: folder of configs; None means medseg's own.

    Raises:
        ConfigError: an option, a key or a value does not exist.
    """
    folder = str((config_dir or CONF).resolve())
    with one_line_errors(), own_global(), initialize_config_dir(folder, config_name, VERSION_BASE):
        return hydra_compose(config_name, list(overrides), return_hydra_config=True)


def choices(cfg: DictConfig) -> dict[str, str]:
    """Return which option of each config group was chosen, for instance ``{"net": "unet"}``.

    Args:
        cfg: a config from :func:`compose`; the config of a running job has no ``hydra`` node, then the job is asked.
    """
    hydra = cfg.get("hydra") or (HydraConfig.get() if HydraConfig.initialized() else None)
    if hydra is None:
        raise RunError("the choices of a config are known to compose() and inside a job; keep the config they gave.")
    chosen = hydra.runtime.choices.items()
    return {str(group): str(option) for group, option in chosen if option and str(group).split("/")[0] != "hydra"}


def freeze(cfg: DictConfig, chosen: Mapping[str, str]) -> DictConfig:
    """Return a copy with every interpolation resolved, folders absolute and ``choices`` added, that refuses changes.

    Args:
        cfg: a composed config; it is left as it was.
        chosen: what :func:`choices` gave.

    Raises:
        ConfigError: a value is left open (``???``) or refers to a key that does not exist.
    """
    frozen = copy.deepcopy(cfg)
    with read_write(frozen), open_dict(frozen), one_line_errors():
        frozen.pop("hydra", None)
        for name in frozen.get("paths") or {}:
            frozen.paths[name] = str(Path(str(frozen.paths[name])).expanduser().absolute())
        frozen.choices = dict(chosen)
        missing = sorted(OmegaConf.missing_keys(frozen))
        if missing:
            raise ConfigError(f"'{missing[0]}' has no value yet; give it on the command line: {missing[0]}=...")
        OmegaConf.resolve(frozen)
    OmegaConf.set_readonly(frozen, True)  # before resolve, interpolations could no longer be instantiated
    return frozen


def run_hydra(config_name: str, task: Callable[[DictConfig], Any], overrides: Sequence[str]) -> list[Any]:
    """Run a task on the config that the overrides compose; with ``-m``, once for every combination.

    In a sweep a failed job does not stop the others; the failures are listed at the end. Jobs may use several
    processes (``trainer=ddp``), also within a sweep: the other ranks are started as ``medseg VERB`` with the overrides
    of their job, so the root config has to be named as its verb.

    Args:
        config_name: root config and verb, for instance ``train``.
        task: takes the composed config; its ``choices`` are asked for inside.
        overrides: what stands after the verb, Hydra's flags included.

    Returns:
        what the task gave, job by job; nothing after flags that only show something.

    Raises:
        ConfigError: the config cannot be composed.
        MedsegError: what the task raised; in a sweep RunError with one line for each failed job.
    """
    results: list[Any] = []
    failures: list[tuple[str, Exception]] = []
    sweeping, program, process = False, sys.argv[0], os.getpid()

    def job(cfg: DictConfig) -> Any:
        nonlocal sweeping
        sweeping = HydraConfig.get().mode == RunMode.MULTIRUN
        quiet_lightning()
        try:
            with relaunchable(program, config_name), own_processes(), one_line_errors():
                results.append(task(cfg))
        except SystemExit as stop:
            # Lightning ends a terminated job with code 0; a caller must not take that for success.
            raise SystemExit(TERMINATED if type(stop).__name__ == "SIGTERMException" else stop.code) from stop
        except Exception as error:  # a sweep goes on; the error is raised again at the end
            if os.getpid() != process:
                raise  # a launcher with processes of its own carries the error home
            failures.append((" ".join(job_overrides()), error))
            if sweeping:
                log.error("job failed: %s", _summary(error), exc_info=not isinstance(error, MedsegError))
            return math.nan  # an optimising sweeper takes NaN for a failed trial
        return results[-1]

    job.__module__ = f"medseg.commands.{config_name}"  # after which Hydra names its log
    with one_line_errors():
        given = left_to_the_jobs(overrides)
    with arguments([f"medseg {config_name}", *flags_first(given)]), own_hydra(), one_line_errors():
        hydra_main(version_base=VERSION_BASE, config_path=str(CONF), config_name=config_name)(job)()
    if failures and not sweeping:
        raise failures[0][1]
    if failures:
        raise RunError(_failure_list(failures, len(failures) + len(results)))
    return results


def _summary(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, MedsegError) else f"{type(error).__name__}: {text}"


def _failure_list(failures: Sequence[tuple[str, Exception]], count: int) -> str:
    lines = (f"  {overrides or '(defaults)'}: {_summary(error)}" for overrides, error in failures)
    return "\n".join((f"{len(failures)} of {count} jobs failed:", *lines))
