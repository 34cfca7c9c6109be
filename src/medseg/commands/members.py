"""Which runs a command line means: folders, every run of a sweep, or the cells of a study."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from medseg.commands.configuration import CONF
from medseg.commands.report import PLANS
from medseg.errors import ConfigError, RunError
from medseg.mirror import run_folders, run_parameters
from medseg.report.cells import FINISHED, load, read_plan
from medseg.runs import read_record

GROUPS = ("--sweep", "--study")
WITH_VALUE = ("--cfg", "-c", "--info", "-i", "--config-dir", "-cd", "--package", "-p")
"""Hydra's own flags that take a value."""
MLFLOW_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Named:
    """The runs that a command line names.

    Attributes:
        places: run folders, folders of runs, globs, MLflow's ids.
        groups: by flag, the id of a sweep or the name of a study.
        chosen: settings that the group's runs must have, by dotted name, each with the values that count.
    """

    places: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    chosen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Divided:
    """What stands behind a verb: the runs, its own settings, and flags that name no runs."""

    named: Named
    overrides: list[str]
    flags: list[str]


def divided(arguments: Sequence[str], verb: str) -> Divided:
    """Return what arguments mean.

    Behind ``--sweep ID`` or ``--study NAME``, ``key=value`` chooses among the group's runs unless the key is a setting
    of the verb: ``--study nested_cv net=unet split.fold=0,1 metric=iou``. Without a group every ``key=value`` that is
    no path is a setting.

    Args:
        arguments: what stands behind the verb.
        verb: whose root config says which settings are its own.

    Raises:
        ConfigError: a flag without its value.
    """
    groups: dict[str, str] = {}
    places, given, flags, rest = [], [], [], list(arguments)
    while rest:
        text = rest.pop(0)
        flag, equals, value = text.partition("=")
        if flag in GROUPS:
            if not equals and not rest:
                raise ConfigError(f"{flag} needs a value; see medseg {verb} --help.")
            groups[flag] = value if equals else rest.pop(0)
        elif text.startswith("-"):
            number = 1 if text in WITH_VALUE else 0
            flags += [text, *rest[:number]]
            del rest[:number]
        elif equals and not Path(text).exists():
            given.append(text)
        else:
            places.append(text)
    own = _settings(verb) if groups else frozenset[str]()
    choosing = [text for text in given if groups and _group(text) not in own]
    chosen = {key: _values(value) for key, _, value in (text.partition("=") for text in choosing)}
    return Divided(Named(tuple(places), groups, chosen), [text for text in given if text not in choosing], flags)


def _values(text: str) -> tuple[str, ...]:
    """Return the values between commas; a list is one value."""
    return (text,) if text.startswith(("[", "{")) else tuple(text.split(","))


def _settings(verb: str) -> frozenset[str]:
    """Return the top keys and groups of a verb's root config."""
    root = yaml.safe_load((CONF / f"{verb}.yaml").read_text(encoding="utf-8"))
    groups = [str(name) for entry in root.get("defaults", ()) if isinstance(entry, dict) for name in entry]
    return frozenset(map(str, root)) | frozenset(name.removeprefix("optional ") for name in groups)


def _group(override: str) -> str:
    return override.partition("=")[0].lstrip("+~").split(".")[0].split("@")[0].split("/")[0]


def find_runs(named: Named, verb: str, *, outputs: Path, runs: Path, tracker: Any = None) -> list[Path]:
    """Return the folders that a command line means, each once.

    Args:
        named: of :func:`divided`.
        verb: for messages.
        outputs: folder of outputs, where the plans of studies lie.
        runs: folder of all runs.
        tracker: for MLflow's ids.

    Raises:
        ConfigError: no runs are named, or several kinds of them.
        RunError: one of the places leads to no run, a group has no such run, or a cell of a study is not finished.
    """
    if len(named.groups) + bool(named.places) != 1:
        raise ConfigError(
            f"medseg {verb} needs one of: run folders, --sweep ID, --study NAME [key=value]; see medseg {verb} --help."
        )
    if named.places:
        return find_folders(named.places, runs, tracker)
    ((flag, name),) = named.groups.items()
    return _of_sweep(name, named.chosen, runs) if flag == "--sweep" else _of_study(name, named.chosen, outputs)


def find_folders(texts: Sequence[str], runs: Path, tracker: Any) -> list[Path]:
    """Return the folders that run folders, globs, folders of runs and MLflow ids mean, each once.

    Args:
        texts: as given; relative ones count from the working folder, then from ``runs``.
        runs: folder of all runs.
        tracker: for ids.

    Raises:
        RunError: one of them leads to no run.
    """
    found: list[Path] = []
    for text in texts:
        folders = [folder for base in (Path(), runs) for place in _places(base, text) for folder in _runs_in(place)]
        if not folders and MLFLOW_ID.fullmatch(text):
            folders = [_of_id(text, tracker)]
        if not folders:
            raise RunError(f"{text}: no run there; give run folders, a folder of runs, a glob or MLflow's run ids.")
        found += folders
    return list({folder.resolve(): folder for folder in found}.values())


def _places(base: Path, text: str) -> list[Path]:
    """Return the path that a text means as seen from a folder, or those that it matches as a glob."""
    path = base / text
    if path.exists():
        return [path]
    start = Path(path.anchor)
    return sorted(start.glob(path.relative_to(start).as_posix()))


def _runs_in(place: Path) -> list[Path]:
    """Return a folder if it is a run or an evaluation of one, else the runs in it, one or two levels below."""
    if (place / "run.json").is_file() or ((place / "scores.csv").is_file() and place.parent.name == "evaluations"):
        return [place]
    return sorted(path.parent for pattern in ("*/run.json", "*/*/run.json") for path in place.glob(pattern))


def _of_id(run_id: str, tracker: Any) -> Path:
    from medseg.tracking import find_runs as find_tracked

    if getattr(tracker, "uri", None) is None:
        raise RunError(f"{run_id}: MLflow's ids need MLflow, which is not asked here; give the run's folder.")
    rows = find_tracked(tracker.uri, tracker.experiment, f"attributes.run_id = '{run_id}'")
    folder = rows["folder"].iloc[0] if len(rows) else None
    if not isinstance(folder, str) or not (Path(folder) / "run.json").is_file():
        raise RunError(f"{run_id}: MLflow at {tracker.uri} knows no folder of this run; give the folder itself.")
    return Path(folder)


def _of_sweep(sweep: str, chosen: Mapping[str, Sequence[str]], runs: Path) -> list[Path]:
    """Return the run folders of one ``medseg train -m``, those that have the chosen settings."""
    records = {folder: read_record(folder).get("sweep") for folder in run_folders(runs)}
    found = [folder for folder, known in records.items() if known == sweep]
    if not found:
        known_ones = sorted({str(known) for known in records.values() if known})
        raise RunError(f"--sweep {sweep}: no run of it below {runs}; known sweeps: {', '.join(known_ones) or 'none'}.")
    if not chosen:
        return found
    settings = [{key: str(value) for key, value in run_parameters(folder).items()} for folder in found]
    return [found[place] for place in _fitting(settings, chosen, f"--sweep {sweep}")]


def _of_study(study: str, chosen: Mapping[str, Sequence[str]], outputs: Path) -> list[Path]:
    """Return the run folders of a study's latest plan, of those cells that have the chosen settings."""
    plan = read_plan(outputs / study / PLANS)
    wanted = _fitting([cell.choices for cell in plan.cells], chosen, f"--study {study} ({plan.name})")
    results = load(plan, outputs)
    asked = [results[place] for place in wanted]
    open_ones = [result.cell.name for result in asked if result.state != FINISHED]
    if open_ones:
        raise RunError(
            f"study {study}: {len(open_ones)} of {len(asked)} cells are not finished (first: {open_ones[0]}); finish "
            f"them with `medseg study study={study}` or give the runs by folder."
        )
    return [result.folder for result in asked]


def _fitting(settings: Sequence[Mapping[str, str]], chosen: Mapping[str, Sequence[str]], source: str) -> list[int]:
    """Return the places of the runs that have one of the chosen values of every setting.

    Raises:
        ConfigError: no run has such a setting or such a value, or none has all of them together.
    """
    places = list(range(len(settings)))
    for key, values in chosen.items():
        known = list(dict.fromkeys(one[key] for one in settings if key in one))
        for value in values:
            if value not in known:
                has = f"{key} is {', '.join(known)} there" if known else f"no run there has a setting {key}"
                raise ConfigError(f"{source}: no run with {key}={value}; {has}.")
        places = [place for place in places if settings[place].get(key) in values]
    if not places:
        asked = " ".join(f"{key}={','.join(values)}" for key, values in chosen.items())
        raise ConfigError(f"{source}: no run has all of {asked}; leave one of them out.")
    return places
