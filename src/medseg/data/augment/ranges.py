"""Ranges as they stand in yaml, ``[low, high]``: checked once when a transform is built, drawn from for each sample."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from medseg.errors import ConfigError

Range = Sequence[float] | float


def checked_range(
    value: Range, name: str, owner: object, *, low: float = -math.inf, high: float = math.inf
) -> tuple[float, float]:
    """Return ``value`` as (smallest, largest); a single number is both.

    Args:
        value: ``[smallest, largest]`` or a number.
        name: of the key.
        owner: the transform, for the message.
        low: smallest value that makes sense.
        high: largest one.

    Raises:
        ConfigError: not one or two finite numbers in order, or beyond ``low`` and ``high``.
    """
    try:
        numbers = [float(value)] if isinstance(value, int | float) else [float(number) for number in value]
    except (TypeError, ValueError):
        numbers = []
    first, last = (numbers * 2)[:2] if len(numbers) in (1, 2) else (math.nan, math.nan)
    if not (math.isfinite(first) and math.isfinite(last) and low <= first <= last <= high):
        limits = "" if (low, high) == (-math.inf, math.inf) else f" within {low:g} and {high:g}"
        raise ConfigError(
            f"augment transform {type(owner).__name__}: {name}={value}: give [smallest, largest]{limits}."
        )
    return first, last


def checked_chances(
    chance: Mapping[str, float] | None, parts: Sequence[str], owner: object, *, name: str = "chance", rest: float = 1.0
) -> dict[str, float]:
    """Return the probability of each part of a transform, ``rest`` where none is stated.

    Raises:
        ConfigError: an unknown part, or a number that is no probability.
    """
    stated = dict(chance or {})
    for part, probability in stated.items():
        if part not in parts or not isinstance(probability, int | float) or not 0 <= probability <= 1:
            raise ConfigError(
                f"augment transform {type(owner).__name__}: {name}.{part}={probability}: give one of "
                f"{', '.join(parts)} a probability from 0 to 1."
            )
    return {part: float(stated.get(part, rest)) for part in parts}


def drawn(chosen: random.Random, limits: tuple[float, float], chance: float = 1.0, *, rest: float = 0.0) -> float:
    """Return a uniform draw between the limits, or ``rest`` with probability 1 - ``chance``.

    Exactly two numbers are taken from the stream, so that one part's chance does not change what the next one draws.
    """
    happens, place = chosen.random() < chance, chosen.random()
    return limits[0] + place * (limits[1] - limits[0]) if happens else rest


def drawn_factor(chosen: Any, limits: tuple[float, float], chance: float = 1.0) -> float:
    """Return a factor between positive limits, uniform in its logarithm (as often down as up), or 1."""
    return math.exp(drawn(chosen, (math.log(limits[0]), math.log(limits[1])), chance))
