"""A study file read and checked: every key that is missing, unknown or of the wrong kind is named."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medseg.errors import ConfigError

EVERY = "all"
"""Key under a dataset whose overrides hold for every panel."""
TABLES = ("table1", "architectures", "comparison", "nested")
"""Kinds of tables that ``medseg report`` can write; a study that names none gets the first."""


@dataclass(frozen=True)
class Preset:
    """How much is spent: the seeds and the settings that go with them."""

    seeds: tuple[int, ...]
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class SweepPlan:
    """A sweep as the file has it, before preset, dataset and seeds are chosen."""

    name: str
    panel: str
    axes: Mapping[str, tuple[str, ...]]
    overrides: tuple[str, ...] = ()
    presets: Mapping[str, tuple[str, ...]] | None = None
    note: str = ""


@dataclass(frozen=True)
class Study:
    """What a study file says.

    Attributes:
        name: name of the study, of its folder of runs and of its tables.
        title: one line for the heading.
        root: folder of the study file.
        overrides: settings of every cell.
        presets: by name.
        data: dataset option to (panel, ``all``, or one of them behind a preset and a dot) to overrides; the first
            one is the default.
        sweeps: in the order in which they run.
        labels: how a network option is printed.
        table: kind of its tables, one of ``TABLES``.
    """

    name: str
    title: str
    root: Path
    overrides: tuple[str, ...]
    presets: Mapping[str, Preset]
    data: Mapping[str, Mapping[str, tuple[str, ...]]]
    sweeps: tuple[SweepPlan, ...]
    labels: Mapping[str, str]
    table: str = TABLES[0]


def find_study(name: str, start: Path) -> Path:
    """Return the study file that a name or a path means.

    Args:
        name: a study's name (``experiments/<name>/study.yaml`` at or above ``start``), its folder or its file.
        start: folder where the search begins.

    Raises:
        ConfigError: there is none; the studies that exist are listed.
    """
    given = Path(name)
    for path in (given, given / "study.yaml"):
        if path.suffix in (".yaml", ".yml") and (start / path).is_file():
            return start / path
    places = [folder / "experiments" for folder in (start.resolve(), *start.resolve().parents)]
    for place in places:
        if (place / name / "study.yaml").is_file():
            return place / name / "study.yaml"
    known = sorted({path.parent.name for place in places for path in place.glob("*/study.yaml")})
    raise ConfigError(
        f"study={name}: no experiments/{name}/study.yaml at or above {start}; "
        f"known studies: {', '.join(known) or 'none, start in the checkout'}."
    )


def read_study(path: Path) -> Study:
    """Read and check a study file.

    Raises:
        ConfigError: the file is no mapping, or a key is missing, unknown or of the wrong kind.
    """
    try:
        content = _mapping(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    except (yaml.YAMLError, UnicodeError) as error:
        raise ConfigError(f"{path}: not readable as yaml (line {_line(error)}); correct the file.") from error
    _check_keys(content, str(path), {"name", "presets", "data", "sweeps"}, {"title", "overrides", "labels", "table"})
    if not all(content[key] for key in ("presets", "data", "sweeps")):
        raise ConfigError(f"{path}: presets, data and sweeps need at least one entry each.")
    table = _text(content.get("table", TABLES[0]), f"{path}: table")
    check_known(table, TABLES, "table", str(path))
    presets = {
        str(name): _preset(given, f"{path}: presets.{name}")
        for name, given in _mapping(content["presets"], f"{path}: presets").items()
    }
    listed = enumerate(_list(content["sweeps"], f"{path}: sweeps"))
    sweeps = tuple(_sweep_plan(entry, f"{path}: sweeps[{number}]", presets) for number, entry in listed)
    levels = _levels(presets, sweeps)
    labels = _mapping(content.get("labels") or {}, f"{path}: labels")
    return Study(
        name=_text(content["name"], f"{path}: name"),
        title=_text(content.get("title", content["name"]), f"{path}: title"),
        root=path.parent,
        overrides=_overrides(content.get("overrides"), f"{path}: overrides"),
        presets=presets,
        data=_data(content["data"], f"{path}: data", levels),
        sweeps=sweeps,
        labels={str(key): _text(value, f"{path}: labels.{key}") for key, value in labels.items()},
        table=table,
    )


def _preset(given: Any, where: str) -> Preset:
    _check_keys(_mapping(given, where), where, {"seeds"}, {"overrides"})
    seeds = _list(given["seeds"], f"{where}.seeds")
    wrong = [seed for seed in seeds if not isinstance(seed, int) or isinstance(seed, bool)]
    if wrong or not seeds:
        found = f"{wrong[0]!r} is no whole number" if wrong else "no seed is there"
        raise ConfigError(f"{where}.seeds: {found}; write a list of whole numbers, for instance [0, 1, 2].")
    return Preset(tuple(seeds), _overrides(given.get("overrides"), f"{where}.overrides"))


def _sweep_plan(entry: Any, where: str, presets: Mapping[str, Preset]) -> SweepPlan:
    _check_keys(_mapping(entry, where), where, {"name", "panel", "sweep"}, {"overrides", "presets", "note"})
    axes = {
        str(key): _axis(values, f"{where}.sweep.{key}")
        for key, values in _mapping(entry["sweep"], f"{where}.sweep").items()
    }
    by_preset = {}
    for name, given in _mapping(entry.get("presets") or {}, f"{where}.presets").items():
        check_known(str(name), presets, "preset", where)
        by_preset[str(name)] = _overrides(given, f"{where}.presets.{name}")
    return SweepPlan(
        name=_text(entry["name"], f"{where}.name"),
        panel=_text(entry["panel"], f"{where}.panel"),
        axes=axes,
        overrides=_overrides(entry.get("overrides"), f"{where}.overrides"),
        presets=by_preset,
        note=_text(entry.get("note", ""), f"{where}.note"),
    )


def _axis(values: Any, where: str) -> tuple[str, ...]:
    """Return what a swept key is set to; a single value may stand without its list."""
    listed = values if isinstance(values, list) else [values]
    if not listed:
        raise ConfigError(f"{where}: no value is there; list those that the key takes.")
    return tuple(_text(value, where) for value in listed)


def _levels(presets: Iterable[str], sweeps: Iterable[SweepPlan]) -> list[str]:
    """Return the keys that may stand under a dataset."""
    places = [EVERY, *dict.fromkeys(plan.panel for plan in sweeps)]
    return [*places, *(f"{preset}.{place}" for preset in presets for place in places)]


def _data(given: Any, where: str, levels: Sequence[str]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return by dataset option the overrides of its levels; a dataset without any may stand empty."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for option, panels in _mapping(given, where).items():
        place = f"{where}.{option}"
        found[str(option)] = {}
        for level, overrides in _mapping(panels or {}, place).items():
            if str(level) not in levels:
                raise ConfigError(f"{place}: unknown key '{level}'; known keys: {', '.join(levels)}.")
            found[str(option)][str(level)] = _overrides(overrides, f"{place}.{level}")
    return found


def _overrides(value: Any, where: str) -> tuple[str, ...]:
    """Return a list of overrides, none where the key stands empty or is missing."""
    texts = tuple(_text(one, where) for one in _list([] if value is None else value, where))
    for text in texts:
        if "=" not in text and not text.startswith("~"):
            raise ConfigError(f"{where}: '{text}' is no override; write key=value.")
    return texts


def _text(value: Any, where: str) -> str:
    if value is None or isinstance(value, (dict, list)):
        found = "nothing" if value is None else f"a {type(value).__name__}"
        raise ConfigError(f"{where}: expected a text or a number, found {found}; put it in quotes if it is meant so.")
    return str(value)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        found = "nothing" if value is None else f"{type(value).__name__} {value!r}"
        raise ConfigError(f"{where}: expected a list, found {found}; write it in brackets, [...].")
    return value


def _line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return str(mark.line + 1) if mark else "unknown"


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected key: value, found {type(value).__name__}; see experiments/README.md.")
    return value


def _check_keys(mapping: Mapping[str, Any], where: str, needed: set[str], allowed: set[str]) -> None:
    for key in sorted(needed - set(mapping)):
        raise ConfigError(f"{where}: the key '{key}' is missing; see experiments/README.md.")
    for key in sorted(set(mapping) - needed - allowed, key=str):
        raise ConfigError(f"{where}: unknown key '{key}'; known keys: {', '.join(sorted(needed | allowed))}.")


def check_known(value: str, known: Iterable[str], what: str, where: str) -> None:
    """Refuse a value that is not among the known ones.

    Raises:
        ConfigError: it is not; those that are stand in the message.
    """
    if value not in known:
        raise ConfigError(f"{what}={value}: '{where}' knows {', '.join(known)}.")
