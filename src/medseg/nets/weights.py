"""Weights from local files: read without running code in them, names matched, first convolutions inflated."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medseg.errors import ConfigError

LOG = logging.getLogger(__name__)

PREFIXES = ("", "module.", "encoder.", "model.encoder.", "net.model.encoder.", "backbone.", "model.", "net.")
"""What other programs put before the names of a network's tensors; taken off where that matches more names."""


def inflate(weight: Tensor, in_channels: int) -> Tensor:
    """Return the weights of a first convolution for another number of input channels.

    Every new channel gets the mean over the old ones times old / new, so that the sum over the input channels stays the
    same: a grey image answers as its three-fold copy did.

    Args:
        weight: (O, C, kh, kw), or (O, C, kd, kh, kw).
        in_channels: the new C.
    """
    old = weight.shape[1]
    if old == in_channels:
        return weight
    return weight.mean(dim=1, keepdim=True).expand(-1, in_channels, *weight.shape[2:]) * (old / in_channels)


def read_weights(path: Path, *, key: str = "net.encoder_weights") -> dict[str, Tensor]:
    """Return the tensors of a ``.safetensors`` file or of a ``.pt``/``.pth``/``.ckpt`` state dict; its code is not run.

    Args:
        path: the file; a dictionary with ``state_dict`` or ``model`` in it is opened.
        key: config key that named the file, for messages.

    Raises:
        ConfigError: the file is missing, of another kind, or holds something else than a state dict.
    """
    if not path.is_file():
        raise ConfigError(f"{key}={path}: no such file; give a state dict (.safetensors, .pt, .pth, .ckpt) or null.")
    if path.suffix not in (".safetensors", ".pt", ".pth", ".ckpt"):
        raise ConfigError(f"{key}={path}: unknown kind of file; give .safetensors, .pt, .pth or .ckpt.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{key}={path} cannot be read as plain weights: {reason}") from error
    for inner in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(inner), Mapping):
            content = content[inner]
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)} if content else {}
    if not tensors:
        raise ConfigError(f"{key}={path} holds no tensors; give a state dict.")
    return tensors


@dataclass(frozen=True)
class Match:
    """What of a file went into a module: names, sorted."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        missing, unused = list(self.missing), list(self.unused)
        return (
            f"{len(self.matched)} tensors matched, {len(missing)} missing {missing[:5]}, "
            f"{len(unused)} unused {unused[:5]}"
        )


def load_partial(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: str,
    in_channels: int | None = None,
    least: float = 0.5,
    added: Sequence[str] = ("", "model."),
    key: str = "net.encoder_weights",
) -> Match:
    """Put weights into a module where names and shapes fit, and log how many did.

    Names are compared after taking off a common prefix of ``PREFIXES`` and putting one of ``added`` before. The first
    convolution is inflated (see :func:`inflate`) where it only differs in its input channels; other tensors of a wrong
    shape stay out.

    Args:
        module: changed in place.
        tensors: name to tensor.
        source: file or origin, for messages.
        in_channels: input channels of the module; a convolution that takes as many is the first. None inflates nothing.
        least: share of the module's tensors that must fit.
        added: prefixes that the module's own names may carry.
        key: config key that named the file, for messages.

    Raises:
        ConfigError: fewer than ``least`` of the module's tensors are there.
    """
    wanted = module.state_dict()
    given = _renamed(tensors, wanted, added)
    fitting: dict[str, Tensor] = {}
    for name in wanted.keys() & given.keys():
        have, need = given[name], wanted[name].shape
        if have.ndim >= 4 and have.shape != need and have.shape[0] == need[0] and have.shape[2:] == need[2:]:
            have = inflate(have, need[1]) if need[1] == in_channels else have
        if have.shape == need:
            fitting[name] = have
    missing = sorted(wanted.keys() - fitting.keys())
    if len(fitting) < least * len(wanted):
        raise ConfigError(
            f"{key}={source}: only {len(fitting)} of the network's {len(wanted)} tensors are in it, missing for "
            f"instance {missing[0]}; give the weights of this very architecture."
        )
    module.load_state_dict({**wanted, **fitting})
    match = Match(tuple(sorted(fitting)), tuple(missing), tuple(sorted(given.keys() - fitting.keys())))
    LOG.info("weights from %s: %s", source, match)
    return match


def _renamed(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], added: Sequence[str]) -> dict[str, Tensor]:
    """Return the file's tensors under the module's names, by the pair of prefixes that matches most of them."""
    trials = [
        {add + name.removeprefix(cut): value for name, value in tensors.items() if name.startswith(cut)}
        for cut in PREFIXES
        for add in added
    ]
    return max(trials, key=lambda trial: len(trial.keys() & wanted.keys()))
