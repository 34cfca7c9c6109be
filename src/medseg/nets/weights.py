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

PREFIXES = (
    "", "module.", "encoder.", "model.encoder.", "net.model.encoder.", "net.encoder.", "backbone.", "backbone.body.",
    "model.", "net.", "net.model.", "_orig_mod.", "net._orig_mod.",
)  # fmt: skip
"""What other programs put before the names of a network's tensors; taken off where that matches more names."""
ADDED = ("", "model.", "encoder.", "model.encoder.", "encoder.model.", "model.encoder.model.", "backbone.")
"""What a whole network may put before the names of the part that a file is about."""


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
    """What of a file went into a module: names, sorted.

    Attributes:
        matched: the module's tensors that come from the file.
        missing: the module's tensors that keep their values, those of another shape included.
        unused: names in the file that went nowhere.
        inflated: of the matched, the first convolutions that got another number of input channels.
        misfits: of the missing, those in the file with another shape, as ``name (file's shape) for (module's)``.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    inflated: tuple[str, ...] = ()
    misfits: tuple[str, ...] = ()

    def __str__(self) -> str:
        missing, unused = list(self.missing), list(self.unused)
        text = (
            f"{len(self.matched)} tensors matched, {len(missing)} missing {missing[:5]}, "
            f"{len(unused)} unused {unused[:5]}"
        )
        if self.inflated:
            text += f", {len(self.inflated)} inflated {list(self.inflated)}"
        if self.misfits:
            text += f", {len(self.misfits)} left out for their shape [{'; '.join(self.misfits[:5])}]"
        return text


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

    Names are compared after taking off a common prefix of ``PREFIXES`` and putting one of ``added`` before; a dot and
    an underscore count as the same, for timm turns ``stages.0`` into ``stages_0`` in its feature extractors. The first
    convolution is inflated (see :func:`inflate`) where it only differs in its input channels; other tensors of a wrong
    shape, such as a head for another number of classes, stay out.

    Args:
        module: changed in place.
        tensors: name to tensor.
        source: file or origin, for messages.
        in_channels: input channels of the module; a convolution that takes as many is the first. None inflates nothing.
        least: share of the module's tensors that must fit; at least one must in any case.
        added: prefixes that the module's own names may carry.
        key: config key that named the file, for messages.

    Raises:
        ConfigError: fewer than ``least`` of the module's tensors are there.
    """
    wanted = module.state_dict()
    cut, origin = _origins(list(tensors), list(wanted), added)
    fitting: dict[str, Tensor] = {}
    inflated, misfits = [], []
    for name, theirs in sorted(origin.items()):
        have, need = tensors[theirs], wanted[name].shape
        if _is_first(have.shape, need, in_channels):
            fitting[name] = inflate(have, need[1])
            inflated.append(name)
        elif have.shape == need:
            fitting[name] = have
        else:
            misfits.append(f"{name} {tuple(have.shape)} for {tuple(need)}")
    missing = sorted(wanted.keys() - fitting.keys())
    if not fitting or len(fitting) < least * len(wanted):
        raise ConfigError(
            f"{key}={source}: only {len(fitting)} of the network's {len(wanted)} tensors are in it, missing for "
            f"instance {missing[0]}; give the weights of this very architecture."
        )
    module.load_state_dict({**wanted, **fitting})
    unused = sorted(name.removeprefix(cut) for name in tensors.keys() - {origin[name] for name in fitting})
    match = Match(tuple(sorted(fitting)), tuple(missing), tuple(unused), tuple(inflated), tuple(misfits))
    LOG.info("weights from %s: %s", source, match)
    return match


def first_channels(module: nn.Module) -> int | None:
    """Return the input channels of a module's first convolution (2D or 3D), or None without any."""
    first = next((layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Conv3d)), None)
    return None if first is None or first.groups != 1 else first.in_channels


def _is_first(have: Sequence[int], need: Sequence[int], in_channels: int | None) -> bool:
    """Return whether two shapes are of the first convolution and differ in nothing but its input channels."""
    same = len(have) == len(need) >= 4 and have[0] == need[0] and have[2:] == need[2:]
    return same and have[1] != need[1] == in_channels


def _origins(given: Sequence[str], wanted: Sequence[str], added: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return what came off the file's names, and for each of the module's tensors its name in the file.

    Of all pairs of prefixes, the one that matches most of the module's tensors.
    """
    # Two names that differ in a dot or underscore alone must stay apart.
    plain = _plain if len({_plain(name) for name in wanted}) == len(wanted) else str
    ours = {plain(name): name for name in wanted}

    def origins(cut: str, add: str) -> dict[str, str]:
        names = {plain(add + name[len(cut) :]): name for name in given if name.startswith(cut)}
        return {ours[name]: theirs for name, theirs in names.items() if name in ours}

    trials = [(cut, origins(cut, add)) for cut in PREFIXES for add in added]
    return max(trials, key=lambda trial: len(trial[1]))


def _plain(name: str) -> str:
    return name.replace(".", "_")
