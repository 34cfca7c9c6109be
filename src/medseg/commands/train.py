"""``medseg train``: fit one network, score it on the test side, record everything; ``-m`` sweeps."""

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg import runs
from medseg.commands.configuration import choices, freeze, run_hydra
from medseg.errors import ConfigError, RunError
from medseg.targets import check_targets

log = logging.getLogger(__name__)
RUN_FOLDER = "MEDSEG_RUN_FOLDER"
"""Environment variable by which the first process of a distributed run tells the others where it writes."""


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg train`` with Hydra overrides."""
    run_hydra("train", train, arguments)


def train(composed: DictConfig) -> Path:
    """Train what the config says and return the run's folder; a finished run is reused when ``resume`` is set."""
    if composed.folder is not None:
        raise ConfigError(
            f"folder={composed.folder}: a run names its own folder; set paths.outputs, study or name instead."
        )
    folder = _folder(composed)
    composed = composed.copy()
    composed.folder = str(folder)
    config = freeze(composed, choices(composed))
    check_targets(OmegaConf.to_container(config), list(config.trusted_targets))
    if config.resume and runs.is_finished(folder):
        log.info("%s is finished; reused", folder)
        return folder
    if os.environ.get("LOCAL_RANK", "0") != "0":
        _fit_and_score(config, folder)
        return folder
    with runs.locked(folder):
        _fit_and_score(config, folder)
    return folder


def _folder(composed: DictConfig) -> Path:
    """Return where this run writes; all processes of a distributed run get the same answer."""
    if os.environ.get("LOCAL_RANK", "0") != "0" and RUN_FOLDER in os.environ:
        return Path(os.environ[RUN_FOLDER])
    plain: dict[str, Any] = OmegaConf.to_container(freeze(composed, choices(composed)))  # type: ignore[assignment]
    folder = runs.run_folder(plain)
    if not plain["resume"]:
        # Processes started together by torchrun cannot ask one another yet; their common run id tells them apart.
        together = os.environ.get("TORCHELASTIC_RUN_ID")
        folder = folder.with_name(f"{folder.name}-{together}") if together else runs.free_folder(folder)
    os.environ[RUN_FOLDER] = str(folder)
    return folder


def _fit_and_score(config: DictConfig, folder: Path) -> None:
    import torch
    from lightning import seed_everything

    from medseg.commands.assembly import assemble, best_weights, resume_from
    from medseg.commands.gate import gate
    from medseg.commands.recording import Recording
    from medseg.rng import derive

    started = time.perf_counter()
    if config.threads:
        torch.set_num_threads(config.threads)
    seed_everything(derive(config.seed, "torch") % 2**32, verbose=False)
    parts = assemble(config, folder)
    gate(config, parts.data, folder)
    recording = Recording(config, folder, parts)
    try:
        recording.start()
        parts.trainer.fit(parts.module, parts.data, ckpt_path=resume_from(folder), weights_only=True)
        recording.fitted()
        best_weights(parts, folder)
        recording.score()
        recording.finish(time.perf_counter() - started)
    except BaseException as error:
        recording.failed()
        if isinstance(error, torch.OutOfMemoryError):
            raise RunError(
                f"{folder}: the GPU has not enough memory ({str(error).split('. ')[0]}); lower data.batch_size (with "
                "trainer.accumulate_grad_batches the steps stay as large), preprocess.size or view.size, or set "
                "trainer.precision=bf16-mixed"
            ) from error
        raise
