"""``medseg data plan``: from the fingerprint to size, patch, batch and depth, measured by a short probe."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg.commands.configuration import run_hydra
from medseg.commands.datasets.check import expected, inspected, opened
from medseg.data.datamodule import SegmentationData
from medseg.data.inspection.fingerprint import Fingerprint, fingerprint, read_fingerprint, stamp, write_fingerprint
from medseg.data.inspection.overrides import arguments as as_arguments
from medseg.data.inspection.overrides import flow, write_plan, yaml_text
from medseg.data.inspection.plan import Limits, Plan, make_plan
from medseg.data.inspection.probe import Probe, measure
from medseg.errors import DataError

GIB = 2**30
_CHILD = "from medseg.commands.datasets.plan import probe_child; probe_child()"


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg data plan`` with Hydra overrides."""
    run_hydra("data", plan, arguments)


def plan(composed: DictConfig) -> Path:
    """Print the plan with its reasons and return the yaml file that holds it.

    A plan whose probe takes more memory than allowed is made once more, for as much less as it was too much.
    """
    config, data, folder = opened(composed)
    figures = _fingerprint(config, data, folder)
    limits = Limits(config.memory_gb * GIB, config.base_width, config.largest_batch)
    made = _for_net(make_plan(figures, limits, view_dims=config.view.dims), config)
    measured, text = _measured(made, config, data) if config.probe else (None, "not measured (probe=false)")
    if measured is not None and _taken(measured) > limits.memory:
        limits = replace(limits, memory=limits.memory * min(0.9, made.estimate / _taken(measured)))
        made = _for_net(make_plan(figures, limits, view_dims=config.view.dims), config)
        measured, text = _measured(made, config, data)
    path = folder / "experiment" / "plan.yaml"
    title = [
        f"Plan for {data.card.name} ({figures['cases']} cases), {config.memory_gb:g} GB, made by medseg data plan.",
        f"Measured: {text}",
        f"Use, edited as you like: {_use(config, folder)}",
    ]
    write_plan(path, yaml_text(made, title=title))
    _show(made, text, path, config, folder)
    return path


def _fingerprint(config: DictConfig, data: SegmentationData, folder: Path) -> Fingerprint:
    """Return the fingerprint that check wrote if it is still that of the files, else make it."""
    mark = stamp(data.source(), expected(data))
    path = folder / "fingerprint.json"
    try:
        figures = read_fingerprint(path)
    except DataError:
        figures = {}
    if figures.get("stamp") != mark:
        figures = fingerprint(inspected(config, data), card=data.card, digest=None, stamp=mark)
        write_fingerprint(path, figures)
    if figures["left_out"]:
        print(f"note: {figures['left_out']} case(s) with errors are left out; see medseg data check")
    return figures


def _for_net(made: Plan, config: DictConfig) -> Plan:
    """Leave out what the chosen network has no key for."""
    if "widths" in config.net:
        return made
    print(f"note: net={config.choices.net} has no widths; its depth is not planned")
    return replace(made, settings=tuple(one for one in made.settings if not one.key.startswith("net.")))


def _measured(made: Plan, config: DictConfig, data: SegmentationData) -> tuple[Probe | None, str]:
    """Run a few training steps of the planned network in a process of its own; say what they took."""
    net: dict[str, Any] = OmegaConf.to_container(config.net)  # type: ignore[assignment]
    net |= {one.key.removeprefix("net."): one.value for one in made.settings if one.key.startswith("net.")}
    if len(made.size) == 3:
        net.setdefault("spatial_dims", 3)
    order = {
        "net": net, "size": list(made.size), "channels": data.card.in_channels, "classes": data.card.num_classes,
        "batch": made.batch, "device": config.device,
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", _CHILD], input=json.dumps(order), capture_output=True, text=True)
    if done.returncode:
        reason = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
        reason = reason or f"the process ended with {done.returncode}; out of memory?"
        return None, f"not measured: {' '.join(reason.split())}"
    probe = Probe(**json.loads(done.stdout.splitlines()[-1]))
    samples = config.view.get("epoch_samples") or made.cases
    minutes = probe.seconds * max(1, samples // made.batch) / 60
    return probe, (
        f"{_taken(probe) / GIB:.2f} GiB for a step on {probe.device} (process {probe.peak / GIB:.2f} GiB), "
        f"{probe.seconds:.2f} s a step, {minutes:.1f} minutes an epoch of {samples} samples without reading and "
        f"augmentation; {probe.parameters:,} parameters"
    )


def _taken(probe: Probe) -> int:
    return probe.peak - probe.base


def probe_child() -> None:
    """Measure what standard input orders (JSON) and print the figures as JSON; run in a process of its own."""
    from hydra.utils import instantiate

    order = json.loads(sys.stdin.read())
    net = instantiate(order.pop("net"))
    print(json.dumps(asdict(measure(net, **order))))


def _show(made: Plan, text: str, path: Path, config: DictConfig, folder: Path) -> None:
    from medseg.commands.show import show_table

    rows = [[one.key, flow(one.value), one.why] for one in made.settings]
    show_table("plan", ["key", "value", "why"], rows)
    known = [one.key for one in made.settings if _has(config, one.key)]
    print(f"{text}\n{path}\n{_use(config, folder)}")
    print("or: " + " ".join(f"'{argument}'" for argument in as_arguments(made, known=known)))


def _use(config: DictConfig, folder: Path) -> str:
    chosen = config.choices
    return f"medseg train --config-dir {folder} data={chosen.data} view={chosen.view} net={chosen.net} experiment=plan"


def _has(config: DictConfig, key: str) -> bool:
    """Return whether a key is there, also if its value is null."""
    parent, _, name = key.rpartition(".")
    return name in (OmegaConf.select(config, parent) or ())
