"""Choices that a system does not use: they are said, for they change a run's name and nothing else."""

import logging
from collections.abc import Iterable
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg.commands.configuration import CONF

log = logging.getLogger(__name__)
FITTED = ("augment", "loss", "optimizer", "scheduler", "transfer")
"""Groups that a system without gradients does not use."""


@cache
def usual() -> dict[str, str]:
    """Return the option of each group where nothing is chosen."""
    defaults: list[Any] = list(OmegaConf.load(CONF / "train.yaml").defaults)
    return {
        str(group): str(option) for entry in defaults if not isinstance(entry, str) for group, option in entry.items()
    }


def mention_idle(config: DictConfig, groups: Iterable[str], *, why: str) -> None:
    """Warn of groups whose option was chosen and does nothing.

    Args:
        config: frozen.
        groups: that the system does not use.
        why: the end of the sentence.
    """
    chosen = [
        f"{group}={option}" for group in groups if (option := config.choices.get(group)) not in (None, usual()[group])
    ]
    if chosen:
        log.warning("%s: not used, %s; runs that differ in it alone are the same", ", ".join(chosen), why)
