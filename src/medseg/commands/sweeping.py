"""Settings of a swept group in a sweep: ``-m net=fcn8s,deeplabv3 net.width=0.5`` as one would read it."""

from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser

FLAGS = ("-m", "--multirun")


def left_to_the_jobs(overrides: Sequence[str]) -> list[str]:
    """Return the overrides of a sweep with every setting of a swept group written as a sweep of this one value.

    Hydra composes a first config without the swept groups' options, so with their defaults, and refuses settings that
    these do not have. Overrides that are sweeps themselves are left out there and reach each job with its options.

    Args:
        overrides: what stands after the verb, flags included; without ``-m`` nothing is changed.

    Raises:
        hydra.errors.OverrideParseException: an override cannot be read.
    """
    if not any(flag in overrides for flag in FLAGS):
        return list(overrides)
    parser = OverridesParser.create()
    plain = [text for text in overrides if not text.startswith("-") and "=" in text]
    read = dict(zip(plain, parser.parse_overrides(plain), strict=True))
    swept = {one.key_or_group for one in read.values() if one.is_sweep_override()}
    return [_as_sweep(text) if _depends(text, read, swept) else text for text in overrides]


def _depends(text: str, read: dict, swept: set[str]) -> bool:
    """Return whether an override sets one value of a swept group."""
    one = read.get(text)
    if one is None or one.is_delete() or one.is_sweep_override() or text.endswith("="):
        return False
    return one.key_or_group.split(".")[0] in swept and "." in one.key_or_group


def _as_sweep(text: str) -> str:
    key, _, value = text.partition("=")
    return f"{key}=choice({value})"
