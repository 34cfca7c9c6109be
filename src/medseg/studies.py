"""A study file read and expanded: which cells a table needs, and with which settings each is trained.

A study is one yaml file, ``experiments/<study>/study.yaml``. Its sweeps span cells (network x seed x split ...); one
sweep is one multirun of ``medseg train``, one cell is one run. The file's keys are explained in
``experiments/README.md``.
"""

import itertools
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


@dataclass(frozen=True)
class Cell:
    """One run that a study needs: the overrides of ``medseg train`` and the options among them."""

    panel: str
    note: str
    overrides: tuple[str, ...]
    axes: tuple[str, ...] = ()

    @property
    def choices(self) -> dict[str, str]:
        """Options, plain settings and swept settings of this cell, for instance ``{"net": "unet", "seed": "0"}``."""
        return {key: value for key, value in map(_parts, self.overrides) if "." not in key or key in self.axes}

    @property
    def name(self) -> str:
        """What tells this cell from the others, for instance ``A net=unet seed=0``."""
        return " ".join([self.panel, *(f"{key}={self.choices[key]}" for key in self.axes)])


@dataclass(frozen=True)
class Sweep:
    """One multirun: fixed overrides and the axes that are swept."""

    name: str
    panel: str
    overrides: tuple[str, ...]
    axes: Mapping[str, tuple[str, ...]]
    note: str = ""

    @property
    def arguments(self) -> list[str]:
        """The overrides of ``medseg train -m`` that run every cell."""
        return [*self.overrides, *(f"{key}={','.join(values)}" for key, values in self.axes.items())]

    @property
    def cells(self) -> list[Cell]:
        """Every combination of the axes, the last axis fastest, as Hydra counts."""
        made = []
        for values in itertools.product(*self.axes.values()):
            swept = (f"{key}={value}" for key, value in zip(self.axes, values, strict=True))
            made.append(Cell(self.panel, self.note, (*self.overrides, *swept), tuple(self.axes)))
        return made


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
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not readable as yaml (line {_line(error)}); correct the file.") from error
    _check_keys(content, str(path), {"name", "presets", "data", "sweeps"}, {"title", "overrides", "labels", "table"})
    table = str(content.get("table", TABLES[0]))
    _known(table, TABLES, "table", str(path))
    presets = {}
    for name, given in _mapping(content["presets"], f"{path}: presets").items():
        _check_keys(_mapping(given, f"{path}: presets.{name}"), f"{path}: presets.{name}", {"seeds"}, {"overrides"})
        presets[name] = Preset(tuple(int(seed) for seed in given["seeds"]), _texts(given, "overrides"))
    data = {
        option: {panel: tuple(map(str, overrides or ())) for panel, overrides in (panels or {}).items()}
        for option, panels in _mapping(content["data"], f"{path}: data").items()
    }
    listed = enumerate(content["sweeps"] or ())
    sweeps = tuple(_sweep_plan(entry, f"{path}: sweeps[{i}]", presets) for i, entry in listed)
    if not presets or not data or not sweeps:
        raise ConfigError(f"{path}: presets, data and sweeps need at least one entry each.")
    return Study(
        name=str(content["name"]),
        title=str(content.get("title", content["name"])),
        root=path.parent,
        overrides=_texts(content, "overrides"),
        presets=presets,
        data=data,
        sweeps=sweeps,
        labels={str(key): str(value) for key, value in (content.get("labels") or {}).items()},
        table=table,
    )


def expand(
    study: Study,
    *,
    preset: str,
    data: str,
    seeds: Sequence[int] | None = None,
    overrides: Sequence[str] = (),
) -> list[Sweep]:
    """Return the sweeps of a study for one preset and one dataset.

    A later override of a key replaces an earlier one, in the order study, preset, dataset, sweep, command line. On the
    command line a key that is an axis (``net=unet,dmunet``) or ``panel`` chooses among the cells instead.

    Args:
        study: the study.
        preset: one of its presets.
        data: one of its datasets.
        seeds: instead of the preset's.
        overrides: further settings for every cell.

    Raises:
        ConfigError: the preset, the dataset or a chosen cell does not exist.
    """
    _known(preset, study.presets, "preset", study.name)
    _known(data, study.data, "data", study.name)
    axes = {"panel", "seed"}.union(*(plan.axes for plan in study.sweeps))
    wanted = {key: value.split(",") for key, value in map(_parts, overrides) if key in axes}
    sweeps = [
        _sweep(study, plan, preset, data, tuple(seeds or study.presets[preset].seeds), overrides, wanted)
        for plan in study.sweeps
    ]
    kept = [sweep for sweep in sweeps if sweep is not None]
    if not kept:
        chosen = " ".join(f"{key}={','.join(values)}" for key, values in wanted.items())
        raise ConfigError(f"study '{study.name}' has no cell with {chosen}; leave that out to run them all.")
    return kept


def _sweep(
    study: Study,
    plan: SweepPlan,
    preset: str,
    data: str,
    seeds: tuple[int, ...],
    overrides: Sequence[str],
    wanted: Mapping[str, list[str]],
) -> Sweep | None:
    """Return one sweep with everything chosen, or None when the command line leaves it without cells."""
    spanned = {**plan.axes, "seed": plan.axes.get("seed", tuple(map(str, seeds)))}
    axes = {key: tuple(v for v in values if v in wanted.get(key, values)) for key, values in spanned.items()}
    if plan.panel not in wanted.get("panel", [plan.panel]) or not all(axes.values()):
        return None
    of_data = study.data[data]
    fixed = merge(
        study.overrides,
        study.presets[preset].overrides,
        of_data.get(EVERY, ()),
        of_data.get(plan.panel, ()),
        of_data.get(f"{preset}.{EVERY}", ()),
        of_data.get(f"{preset}.{plan.panel}", ()),
        plan.overrides,
        (plan.presets or {}).get(preset, ()),
        [text for text in overrides if _parts(text)[0] not in (*axes, "panel")],
        [f"data={data}", f"study={study.name}", f"panel={plan.panel}", f"preset={preset}"],
    )
    unswept = tuple(text for text in fixed if _parts(text)[0] not in axes)
    return Sweep(plan.name, plan.panel, unswept, axes, plan.note)


def merge(*groups: Iterable[str]) -> tuple[str, ...]:
    """Return overrides in which each key stands once: the last one given, at its first place."""
    merged: dict[str, str] = {}
    for text in itertools.chain(*groups):
        merged[_parts(text)[0].lstrip("+")] = text
    return tuple(merged.values())


def _parts(override: str) -> tuple[str, str]:
    key, equals, value = override.partition("=")
    if not equals and not override.startswith("~"):
        raise ConfigError(f"'{override}' is no override; write key=value.")
    return key, value


def _sweep_plan(entry: Any, where: str, presets: Mapping[str, Preset]) -> SweepPlan:
    _check_keys(_mapping(entry, where), where, {"name", "panel", "sweep"}, {"overrides", "presets", "note"})
    axes = {
        str(key): tuple(map(str, values if isinstance(values, list) else [values]))
        for key, values in _mapping(entry["sweep"], f"{where}.sweep").items()
    }
    by_preset = {name: tuple(map(str, given or ())) for name, given in (entry.get("presets") or {}).items()}
    for name in by_preset:
        _known(name, presets, "preset", where)
    note = str(entry.get("note", ""))
    return SweepPlan(str(entry["name"]), str(entry["panel"]), axes, _texts(entry, "overrides"), by_preset, note)


def _line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return str(mark.line + 1) if mark else "unknown"


def _texts(mapping: Mapping[str, Any], key: str) -> tuple[str, ...]:
    return tuple(map(str, mapping.get(key) or ()))


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected key: value, found {type(value).__name__}; see experiments/README.md.")
    return value


def _check_keys(mapping: Mapping[str, Any], where: str, needed: set[str], allowed: set[str]) -> None:
    for key in sorted(needed - set(mapping)):
        raise ConfigError(f"{where}: the key '{key}' is missing; see experiments/README.md.")
    for key in sorted(set(mapping) - needed - allowed):
        raise ConfigError(f"{where}: unknown key '{key}'; known keys: {', '.join(sorted(needed | allowed))}.")


def _known(value: str, known: Iterable[str], what: str, where: str) -> None:
    if value not in known:
        raise ConfigError(f"{what}={value}: '{where}' knows {', '.join(known)}.")
