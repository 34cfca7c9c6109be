"""What is compared of which runs, and which of them are one method.

A method is what a config trains, without the seed, the split and the machine. Its name is that of the network, with the
options and settings in which the methods differ.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg.commands.page_runs import training_of
from medseg.commands.systems import system_of
from medseg.errors import RunError
from medseg.mirror import run_parameters
from medseg.runs import is_finished, read_record
from medseg.stats.evidence import Training
from medseg.stats.table import read_scores

COPIES = {
    "data": ("split", "preprocess", "augment", "view", "missing"),
    "method": ("net", "loss", "optimizer", "scheduler", "view"),
}
"""Groups that stand in a config a second time, below those that use them."""
NO_METHOD = re.compile(
    r"(split|study|panel|preset|sweep|experiment|audit|threads|input_channels|data)$"
    r"|(.*\.)?seed$"
    r"|(split|audit)\..*"
    r"|data\.(source|card|about|cache_root|cache_limit_gb|num_workers|expected)(\..*)?$"
    r"|(trainer|callbacks)$"
    r"|trainer\.(accelerator|devices|strategy|num_nodes|default_root_dir|enable_progress_bar)(\..*)?$"
    r"|callbacks\.(progress(\..*)?|.*\.?dirpath)$"
)
"""Settings that make no other method: seed, test fold, machine, display; equal data are checked by their digest."""
OF_A_RUN = re.compile(r"(-s\d+)?-[0-9a-f]{10}(-\d+)?(?=/|$)")
"""What tells the folders of runs apart that differ in seed or fold, in settings that name such a folder."""
REFINED = "refined"
"""Evaluation of a run on its own test side, after the steps that ``medseg refine`` chose."""


@dataclass(frozen=True)
class ComparedRun:
    """A finished run, or one of its evaluations.

    Attributes:
        folder: of the run.
        scores: its score table.
        record: its ``run.json``.
        settings: what makes its method, by dotted name.
    """

    folder: Path
    scores: Path
    record: Mapping[str, Any]
    settings: Mapping[str, str]


def read_runs(folders: Sequence[Path], *, panel: str | None = None) -> list[ComparedRun]:
    """Return the runs of folders, all of them or those of one panel of a study.

    Raises:
        RunError: a run is not finished, or a file of it is missing.
    """
    found = [(place, place if (place / "run.json").is_file() else place.parents[1]) for place in folders]
    records = [(place, folder, read_record(folder)) for place, folder in found]
    return [_read(*one) for one in records if panel is None or one[2].get("panel") == panel]


def _read(place: Path, folder: Path, record: Mapping[str, Any]) -> ComparedRun:
    if not is_finished(folder):
        raise RunError(
            f"{folder}: not finished (status {record.get('status')}); finish it with resume=true or leave it out."
        )
    settings = _settings(folder)
    if place != folder and place.name == REFINED:
        settings["refinement"] = "chosen on validation"
    return ComparedRun(folder, place / "scores.csv", record, settings)


def _settings(folder: Path) -> dict[str, str]:
    """Return the options and settings that make a run's method."""
    copies = tuple(f"{user}.{group}." for user, groups in COPIES.items() for group in groups)
    return {
        key: OF_A_RUN.sub("", str(value))
        for key, value in run_parameters(folder).items()
        if not key.startswith(copies) and not NO_METHOD.fullmatch(key)
    }


def as_trainings(runs: Sequence[ComparedRun]) -> list[Training]:
    """Return the runs with their score tables and the names of their methods.

    Raises:
        ScoreError: a score table is missing or damaged.
        RunError: a table contradicts ``run.json`` about leakage.
    """
    names = method_names([run.settings for run in runs])
    return [_training(run, name) for run, name in zip(runs, names, strict=True)]


def _training(run: ComparedRun, method: str) -> Training:
    record, table, place = run.record, read_scores(run.scores), run.scores.parent
    leaky, own = bool(record["split"]["leaky"]), place in (run.folder, run.folder / "evaluations" / REFINED)
    if own and bool(table["leaky"].any()) != leaky:
        raise RunError(f"{run.folder}: run.json says leaky={leaky}, scores.csv the opposite; delete it and run again.")
    data = str(record["data"]["name"])
    evaluated = data if own else place.name.rsplit("-", 1)[0]
    found = training_of(str(place), method, record, table)
    if evaluated != data:
        found = replace(found, data=evaluated, digest=f"files of {evaluated}", split=f"all of {evaluated}")
    return replace(found, leaky=bool(table["leaky"].any()))


def method_names(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the printed name of each run's method: the network and whatever differs between the methods.

    An option that differs names itself (``loss=focal``); of the settings below it only those are named in which two
    methods with the same option differ (``net.widths=[8, 16]``).

    Args:
        settings: of each run; runs with equal settings are one method.
    """
    distinct = {tuple(sorted(one.items())): dict(one) for one in settings}
    methods = list(distinct.values())
    keys = sorted({key for method in methods for key in method})
    varying = [key for key in keys if len({method.get(key) for method in methods}) > 1]
    nets = sorted({method.get("net", "") for method in methods})
    systems = [system_of(net).name or net for net in nets]
    # Two options may share a system: U-Net of this package, U-Net of another one.
    printed = {
        net: system if systems.count(system) == 1 else f"{system} ({net})"
        for net, system in zip(nets, systems, strict=True)
    }
    names = {key: _name(method, methods, varying, printed) for key, method in distinct.items()}
    return [names[tuple(sorted(one.items()))] for one in settings]


def _name(
    method: Mapping[str, str], methods: Sequence[Mapping[str, str]], varying: Sequence[str], printed: Mapping[str, str]
) -> str:
    words = [printed[method.get("net", "")] or "network"]
    for key in varying:
        group = key.split(".")[0]
        if key == "net" or key not in method:
            continue
        peers = [other for other in methods if key == group or other.get(group) == method.get(group)]
        if len({other.get(key) for other in peers}) > 1:
            words.append(f"{key}={method[key]}")
    return " ".join(words)
