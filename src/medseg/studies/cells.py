"""A study expanded: which cells its tables need, and with which settings each is trained."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from medseg.errors import ConfigError
from medseg.studies.file import EVERY, Study, SweepPlan, check_known


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
    check_known(preset, study.presets, "preset", study.name)
    check_known(data, study.data, "data", study.name)
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
