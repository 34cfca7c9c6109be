"""What wrappers of library networks share: options that are checked, plain values, errors in one line."""

import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn

from medseg.errors import ConfigError


def plain(value: Any) -> Any:
    """Return a configuration value with tuples for its lists and dictionaries for its mappings."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(plain(inner) for inner in value)
    return value


def checked_options(
    options: Mapping[str, Any] | None,
    network: type[nn.Module],
    *,
    ours: Collection[str],
    more: Collection[str] = (),
    anything: bool = False,
) -> dict[str, Any]:
    """Return the options as plain values, refusing those that the network does not have.

    Args:
        options: name to value, or None.
        network: class of the library.
        ours: arguments that the wrapper sets itself.
        more: names that are known although the signature does not show them.
        anything: whether other names pass, because what receives them refuses unknown ones itself.

    Raises:
        ConfigError: with the options that there are.
    """
    given = options or {}
    closed = {"self", "args", "kwargs", *ours}
    known = sorted((inspect.signature(network.__init__).parameters.keys() - closed) | set(more))
    unknown = sorted(given.keys() - set(known))
    if unknown and (not anything or closed & given.keys()):
        raise ConfigError(f"net.options has unknown {unknown}; {network.__name__} takes {', '.join(known)}.")
    return {name: plain(value) for name, value in given.items()}


def build(network: type[nn.Module], arguments: Mapping[str, Any], *, what: str) -> Any:
    """Return the library's network.

    Args:
        network: class of the library.
        arguments: of its constructor.
        what: name of the choice, for the message.

    Raises:
        ConfigError: the library refuses the arguments.
    """
    try:
        return network(**arguments)
    except (
        AssertionError,
        AttributeError,
        ImportError,
        IndexError,
        KeyError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ConfigError(f"net: {what} cannot be built: {reason}; change net.options.") from error
