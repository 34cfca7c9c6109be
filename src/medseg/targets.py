"""Which classes and functions a config may name under ``_target_``.

Hydra calls whatever a config names. A config that came with somebody's run is therefore a program, unless the names
are checked first: only the libraries that medseg builds on, and only what they define themselves, not the modules
that they happen to have imported (``albumentations.core.utils.os.system``).
"""

import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from medseg.errors import ConfigError

ALLOWED = (
    "medseg",
    "torch.nn",
    "torch.optim",
    "segmentation_models_pytorch",
    "albumentations",
    "lightning.pytorch",
    "torchmetrics",
    "monai",
)
"""Packages whose own classes and functions a config may name."""

REFUSED = (
    "medseg.cli",
    "medseg.commands",
    "lightning.pytorch.cli",
    "lightning.pytorch.core.saving",
    "lightning.pytorch.utilities",
    "albumentations.core.serialization",
    "monai.apps",
    "monai.auto3dseg",
    "monai.bundle",
    "monai.config",
    "monai.data",
    "monai.fl",
    "monai.utils",
    "segmentation_models_pytorch.base.hub_mixin",
    "torchmetrics.utilities",
)
"""Parts of the allowed packages that load files, start programs or look up names themselves."""

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def check_targets(config: Any, trusted: Sequence[str] = ()) -> None:
    """Refuse a config that names anything to call beyond the allow list.

    Args:
        config: mappings and sequences, resolved; every ``_target_`` at any depth is checked, also below ``_partial_``
            and in nodes that Hydra would hand on unbuilt.
        trusted: further packages, named by the person who starts the command. Never take them from a config that
            came with a run.

    Raises:
        ConfigError: a target lies elsewhere, is an alias of something elsewhere, or does not exist.
    """
    for key, target in _targets(config, ""):
        _check(key, target, tuple(trusted))


def _targets(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            where = f"{key}.{name}" if key else str(name)
            if name == "_target_":
                yield where, value
            else:
                yield from _targets(value, where)
    elif isinstance(node, Sequence) and not isinstance(node, str | bytes):
        for index, value in enumerate(node):
            yield from _targets(value, f"{key}[{index}]")


def _check(key: str, target: Any, trusted: tuple[str, ...]) -> None:
    packages = (*ALLOWED, *trusted)
    if not isinstance(target, str) or not _DOTTED.fullmatch(target) or "__" in target:
        raise ConfigError(f"{key}: {target!r} is no dotted name of a class or function; write package.module.Name.")
    if not _within(target, packages) or _refused(target, trusted):
        raise _not_allowed(key, target, "is not on the list of what a config may call", trusted)
    found = _resolve(key, target, trusted)
    home = getattr(found, "__module__", None)
    if not (inspect.isclass(found) or inspect.isroutine(found)):
        raise ConfigError(f"{key}: '{target}' is a {type(found).__name__}; name a class or a function.")
    if not isinstance(home, str) or not _within(home, packages) or _refused(home, trusted):
        raise _not_allowed(key, target, f"belongs to '{home or 'builtins'}'", trusted)


def _resolve(key: str, target: str, trusted: tuple[str, ...]) -> Any:
    """Walk the name through modules and classes; a module that belongs elsewhere ends the walk."""
    parts = target.split(".")
    found: Any = _import(key, target, parts[0])
    for depth, part in enumerate(parts[1:], start=2):
        name = ".".join(parts[:depth])
        parent = found
        if not isinstance(parent, ModuleType) and not inspect.isclass(parent):
            raise ConfigError(
                f"{key}: '{target}' reaches into the {type(parent).__name__} '{'.'.join(parts[: depth - 1])}'."
            )
        found = inspect.getattr_static(parent, part, None) if inspect.isclass(parent) else getattr(parent, part, None)
        if found is None and isinstance(parent, ModuleType):
            found = _import(key, target, name)
        if found is None:
            raise ConfigError(f"{key}: '{target}' does not exist: '{name}' is not there.")
        if isinstance(found, staticmethod | classmethod):
            found = found.__func__
        if (
            isinstance(found, ModuleType)
            and found.__name__ != name
            and not _within(found.__name__, (*ALLOWED, *trusted))
        ):
            raise _not_allowed(key, target, f"leads into the module '{found.__name__}'", trusted)
    return found


def _import(key: str, target: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if getattr(error, "name", None) != name:
            raise ConfigError(f"{key}: '{target}' cannot be imported: {error}; install what it needs.") from error
        raise ConfigError(f"{key}: '{target}' does not exist: '{name}' is not there{_nearest(name)}") from error


def _nearest(name: str) -> str:
    parent, _, part = name.rpartition(".")
    close = difflib.get_close_matches(part, dir(sys.modules.get(parent)), n=1)
    return f"; did you mean '{parent}.{close[0]}'?" if close else "; check the spelling."


def _within(name: str, packages: Sequence[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _refused(name: str, trusted: tuple[str, ...]) -> bool:
    return _within(name, REFUSED) and not _within(name, trusted)


def _not_allowed(key: str, target: str, reason: str, trusted: tuple[str, ...]) -> ConfigError:
    return ConfigError(
        f"{key}: '{target}' {reason}; allowed are {', '.join((*ALLOWED, *trusted))}. Only if you wrote it yourself: "
        f"trusted_targets=[{target.split('.')[0]}]."
    )
