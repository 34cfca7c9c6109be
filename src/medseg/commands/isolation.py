"""What surrounds a job: Hydra, Lightning and Python keep global state, and no job may find another's."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medseg.errors import ConfigError, MedsegError

RENDEZVOUS = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
"""Variables by which Lightning's processes find each other; a later job must not find them set."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise into one line; an error of ours that Hydra wrapped comes out again."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        ours = _ours_behind(error)
        if ours is not None:
            raise ours from error
        cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
        raise ConfigError(" ".join(_in_line(str(text)) for text in (error, cause) if text)) from error


def _in_line(message: str) -> str:
    """Return Hydra's message in one line: lists with commas, without where it searched and OmegaConf's types."""
    message = message.split("Config search path:")[0]
    kept = [line for line in message.splitlines() if line.strip() and "_type=" not in line]
    listed = [f"{line.strip()}," if line.startswith("\t") else line.strip() for line in kept]
    return " ".join(listed).rstrip(",")


def _ours_behind(error: BaseException) -> MedsegError | None:
    cause = error.__cause__
    while cause is not None and not isinstance(cause, MedsegError):
        cause = cause.__cause__
    return cause


@contextmanager
def own_global() -> Iterator[None]:
    """Set aside the Hydra of a job that we may be called from; Hydra allows one at a time."""
    outer = Singleton._instances.pop(GlobalHydra, None)
    try:
        yield
    finally:
        Singleton._instances.pop(GlobalHydra, None)
        if outer is not None:
            Singleton._instances[GlobalHydra] = outer


@contextmanager
def own_hydra() -> Iterator[None]:
    """Let Hydra raise instead of printing and leaving, and put back the config and the log of an outer job."""
    config, root = HydraConfig.instance().cfg, logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with own_global(), _variables({"HYDRA_FULL_ERROR": "1"}):
        try:
            yield
        finally:
            HydraConfig.instance().cfg = config
            _close_log([handler for handler in root.handlers if handler not in handlers])
            root.handlers[:] = handlers
            root.setLevel(level)


def _close_log(handlers: list[logging.Handler]) -> None:
    for handler in handlers:
        handler.close()


@contextmanager
def _variables(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables (None leaves one as it is) and put all of them back at the end."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update({name: value for name, value in values.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def flags_first(given: Sequence[str]) -> list[str]:
    """Return the arguments with flags before overrides; Hydra's parser refuses them mixed."""
    overrides = [text for text in given if not text.startswith("-") and ("=" in text or text.startswith("~"))]
    return [*(text for text in given if text not in overrides), *overrides]


@contextmanager
def arguments(arguments: list[str]) -> Iterator[None]:
    """Set ``sys.argv``, where Hydra and Lightning look for the command line."""
    before, sys.argv = sys.argv, arguments
    try:
        yield
    finally:
        sys.argv = before


def job_overrides() -> list[str]:
    """Return the overrides of the running job, as they were written."""
    return _texts(HydraConfig.get().overrides.task)


def _texts(values: Any) -> list[str]:
    written: Any = OmegaConf.to_container(values, resolve=False)
    return [str(value) for value in written]


@contextmanager
def relaunchable(program: str, verb: str) -> Iterator[None]:
    """Make ``sys.argv`` the command line of this very job, with which Lightning starts the other ranks."""
    hydra = HydraConfig.get()
    folders = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    flags = [f"--config-name={hydra.job.config_name}", *(f"--config-dir={folder}" for folder in folders)]
    overrides = [*_texts(hydra.overrides.hydra), *job_overrides(), "hydra.mode=RUN"]
    with arguments([program, verb, *flags, *overrides]):
        yield


@contextmanager
def own_processes() -> Iterator[None]:
    """Leave neither a process group nor its variables to the next job of a sweep."""
    with _variables(dict.fromkeys(RENDEZVOUS)):
        try:
            yield
        finally:
            distributed = sys.modules.get("torch.distributed")
            if distributed is not None and distributed.is_available() and distributed.is_initialized():
                distributed.destroy_process_group()


def quiet_lightning() -> None:
    """Let Lightning speak through our log only: each line once, no advertisements, no advice that is not for us.

    Works before and after Lightning is imported: at import it hangs a handler of its own on the logger ``lightning``,
    which the loggers below it are made to pass by.
    """
    root = logging.getLogger()
    logging.getLogger("lightning")  # must exist, or its creation would adopt the two below again
    for name in ("lightning.fabric", "lightning.pytorch"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate, logger.parent = True, root
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_informs)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    # The module moves batches, on purpose also those of a datamodule.
    warnings.filterwarnings("ignore", message="You have overridden `transfer_batch_to_device`")
    # Baselines without gradients are there on purpose.
    for text in ("`LightningModule.configure_optimizers` returned `None`", "`training_step` returned `None`"):
        warnings.filterwarnings("ignore", message=text)
    warnings.filterwarnings("ignore", message="`parameters` is an empty generator")
    warnings.filterwarnings("ignore", message="Found .* module.s. in eval mode at the start of training")
    warnings.filterwarnings("ignore", message="ReduceLROnPlateau conditioned on metric")
    # Whether workers help is stated in the data config: with cached images they do not.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")


def _informs(record: logging.LogRecord) -> bool:
    return "Tip: " not in record.getMessage()
