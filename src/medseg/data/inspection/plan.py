"""From a fingerprint to a plan: size or spacing, patch, batch, depth, normalisation, each with its reason.

The idea and the rules of thumb are nnU-Net's (Isensee et al., Nature Methods 18 (2021) 203-211): the median case
decides the grid, the memory decides the patch, the patch decides the depth. A plan is a handful of overrides that the
user may edit, never a hidden state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from medseg.data.inspection.across import FLAT
from medseg.data.inspection.topology import SMALLEST_SIDE, Topology, topology, training_bytes
from medseg.errors import ConfigError, DataError

ANISOTROPIC = 3.0
"""An axis is coarse if its spacing is this many times the finest and it has this many times fewer pixels."""

SMALLEST_BATCH, LARGEST_BATCH = 2, 32
BATCH_SHARE = 0.05
"""A batch shows at most this share of all pixels of the dataset, so that batches differ from each other."""

START_VOXELS = 256**3
"""Voxels of the first guess of a patch, a cube in mm."""


_SPACING = "data.preprocess.spacing"


@dataclass(frozen=True)
class Setting:
    """One override.

    Attributes:
        key: of the config, dotted.
        value: plain numbers, text, lists or mappings.
        why: one line.
    """

    key: str
    value: Any
    why: str


@dataclass(frozen=True)
class Plan:
    """What to train with.

    Attributes:
        settings: the overrides.
        size: sides of what the network sees.
        batch: how many of them at once.
        topology: of the network.
        estimate: bytes of a training step by the formula.
        cases: of the dataset without errors.
    """

    settings: tuple[Setting, ...]
    size: tuple[int, ...]
    batch: int
    topology: Topology
    estimate: int
    cases: int


@dataclass(frozen=True)
class Limits:
    """What the machine and the user allow.

    Attributes:
        memory: bytes that a training step may take.
        base_width: channels of the finest level.
        largest_batch: never more at once.
    """

    memory: float
    base_width: int = 32
    largest_batch: int = LARGEST_BATCH

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: one of them is not positive.
        """
        if self.memory <= 0 or self.base_width < 4 or self.largest_batch < 1:
            raise ConfigError(
                f"memory_gb={self.memory / 2**30:g}, base_width={self.base_width}, largest_batch={self.largest_batch}: "
                "need more than 0, at least 4 and at least 1."
            )


def make_plan(fingerprint: Mapping[str, Any], limits: Limits, *, view_dims: int) -> Plan:
    """Return the plan for a dataset.

    Args:
        fingerprint: from :func:`~medseg.data.inspection.fingerprint.fingerprint`.
        limits: memory and width.
        view_dims: axes that the network sees; 2 of volumes are their slices.

    Raises:
        DataError: the fingerprint has no case.
        ConfigError: not even the smallest patch fits the memory.
    """
    if not fingerprint["cases"]:
        raise DataError(f"dataset '{fingerprint['dataset']}' has no case without an error; see findings.csv.")
    if fingerprint["dims"] == 2:
        return _pictures(fingerprint, limits)
    if fingerprint["unit"] == "px":
        return _unknown_spacing(fingerprint, limits, view_dims)
    spacing = target_spacing(fingerprint)
    extent = fingerprint["extent"]["p50"]
    median = [max(1, round(side / step)) for side, step in zip(extent, spacing, strict=True)]
    reason = _spacing_reason(fingerprint, median)
    if view_dims == 2:
        grid = Setting(_SPACING, [None, *spacing[1:]], f"slices stay as thick as they are; in plane: {reason}")
        return _slices(fingerprint, limits, spacing, median, grid)
    return _volumes(fingerprint, limits, spacing, median, Setting(_SPACING, list(spacing), reason))


def target_spacing(fingerprint: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the spacing (z, y, x) that volumes should be resampled to: the median along each axis.

    Along a coarse axis (``ANISOTROPIC``) it is the 10th percentile instead, so that thick slices of most cases are not
    imposed on the rest, but no finer than the other axes.
    """
    spacing, size = list(fingerprint["spacing"]["p50"]), fingerprint["size"]["p50"]
    axis = max(range(len(spacing)), key=lambda place: spacing[place])
    others = [place for place in range(len(spacing)) if place != axis]
    coarse = spacing[axis] >= ANISOTROPIC * min(spacing)
    if coarse and all(size[axis] * ANISOTROPIC < size[place] for place in others):
        spacing[axis] = max(fingerprint["spacing"]["p10"][axis], *(spacing[place] for place in others))
    return tuple(round(step, 4) for step in spacing)


def _unknown_spacing(found: Mapping[str, Any], limits: Limits, view_dims: int) -> Plan:
    """Plan on the voxels as they are; the axis of a flat stack is taken for a coarse one."""
    median = [int(side) for side in found["size"]["p50"]]
    spacing = [FLAT if side * FLAT <= sorted(median)[1] else 1.0 for side in median]
    why = "distances are in px, so nothing is resampled"
    why += f"; slices are taken for {FLAT:g} times as thick as pixels" * (max(spacing) > 1)
    make = _slices if view_dims == 2 else _volumes
    return make(found, limits, spacing, median, Setting(_SPACING, None, why))


def _pictures(found: Mapping[str, Any], limits: Limits) -> Plan:
    median = [int(side) for side in found["size"]["p50"]]
    size, batch, shape, used = _fit(median, median, (1.0, 1.0), found, limits)
    cut = prod(size) < 0.9 * prod(median)
    reason = f"{'as much as fits the memory of the ' * cut}median picture {_times(median)}"
    reason += f", in multiples of {_times(shape.stride)}"
    settings = [
        Setting("preprocess.size", list(size), reason),
        *_network(size, batch, shape, used, found),
    ]  # fmt: skip
    moments = [(one["mean"], one["std"]) for one in found["channels"]]
    if all(mean is not None for mean, _ in moments):
        where = "mean over all pictures, each with equal weight, of pixel value / 255"
        settings.append(Setting("data.mean", [round(mean / 255, 3) for mean, _ in moments], where))
        settings.append(Setting("data.std", [max(0.001, round(std / 255, 3)) for _, std in moments], "likewise"))
    return Plan(tuple(settings), size, batch, shape, used, found["cases"])


def _volumes(
    found: Mapping[str, Any], limits: Limits, spacing: Sequence[float], median: Sequence[int], grid: Setting
) -> Plan:
    # A cube in mm, cut to the median volume: the field of view should not depend on how thick slices are.
    side = (START_VOXELS * prod(spacing)) ** (1 / 3)
    start = [min(whole, max(1, round(side / step))) for whole, step in zip(median, spacing, strict=True)]
    size, batch, shape, used = _fit(start, median, spacing, found, limits)
    reason = f"the largest that fits the memory, shaped as the median volume {_times(median)}"
    patch = Setting("data.card.patch", list(size), f"{reason}, in multiples of {_times(shape.stride)}")
    chosen = (grid, *_normalisation(found), patch, *_network(size, batch, shape, used, found))
    return Plan(chosen, size, batch, shape, used, found["cases"])


def _slices(
    found: Mapping[str, Any], limits: Limits, spacing: Sequence[float], median: Sequence[int], grid: Setting
) -> Plan:
    plane = [int(side) for side in median[1:]]
    size, batch, shape, used = _fit(plane, plane, spacing[1:], found, limits)
    reason = f"median slice {_times(plane)}, in multiples of {_times(shape.stride)}"
    patch = Setting("data.card.patch", [1, *size], reason)
    chosen = (grid, *_normalisation(found), patch, *_network(size, batch, shape, used, found))
    return Plan(chosen, size, batch, shape, used, found["cases"])


def _fit(
    start: Sequence[int], median: Sequence[int], spacing: Sequence[float], found: Mapping[str, Any], limits: Limits
) -> tuple[tuple[int, ...], int, Topology, int]:
    """Shrink the patch until two of them fit, then fill the memory with more of them."""
    kinds = {"channels": len(found["channels"]), "classes": len(found["classes"])}
    sides, flat = list(start), len(start) == 2
    least = range(len(sides)) if flat else [_longest(start)]  # pictures halve every axis, volumes at least one
    for axis in least:
        sides[axis] = max(sides[axis], 2 * SMALLEST_SIDE)
    while True:
        shape = topology(sides, spacing=spacing, base_width=limits.base_width, together=flat)
        size = tuple(_multiple(side, step) for side, step in zip(sides, shape.stride, strict=True))
        if training_bytes(shape, size, batch=SMALLEST_BATCH, **kinds) <= limits.memory:
            break
        smaller = [side - step for side, step in zip(size, shape.stride, strict=True)]
        left = [axis for axis, side in enumerate(smaller) if side >= 2 * SMALLEST_SIDE]
        if not left:
            raise ConfigError(
                f"memory_gb={limits.memory / 2**30:g} holds no batch of {SMALLEST_BATCH} patches of {_times(size)}; "
                f"give more, or a smaller base_width (now {limits.base_width})."
            )
        axis = max(left, key=lambda place: (sides[place] / median[place], sides[place]))
        sides[axis] = smaller[axis]
    pixels = found["cases"] * prod(found["size"]["p50"])
    batch = max(SMALLEST_BATCH, min(limits.largest_batch, int(BATCH_SHARE * pixels / prod(size)), found["cases"]))
    while batch > SMALLEST_BATCH and training_bytes(shape, size, batch=batch, **kinds) > limits.memory:
        batch -= 1
    return size, batch, shape, training_bytes(shape, size, batch=batch, **kinds)


def _longest(sides: Sequence[int]) -> int:
    return max(range(len(sides)), key=lambda place: sides[place])


def _multiple(side: int, step: int) -> int:
    return max(1, int(side / step + 0.5)) * step


def _network(size: Sequence[int], batch: int, shape: Topology, used: int, found: Mapping[str, Any]) -> list[Setting]:
    bottom = [side // step for side, step in zip(size, shape.stride, strict=True)]
    settings = [
        Setting("data.batch_size", batch, f"about {used / 2**30:.1f} GiB by the formula; at most "
                f"{100 * BATCH_SHARE:g} % of all pixels of {found['cases']} cases"),
        Setting("net.widths", list(shape.widths), f"{len(shape.pools)} poolings leave {_times(bottom)} at the bottom"),
    ]  # fmt: skip
    if not shape.halves_every_axis:
        why = "coarse axes are pooled once the others have become as coarse, and none below 4"
        settings.append(Setting("net.pools", [list(pool) for pool in shape.pools], why))
    if batch < 8:
        settings.append(
            Setting("net.norm", "instance", f"statistics of a batch of {batch} are too noisy for batch norm")
        )
    return settings


def _normalisation(found: Mapping[str, Any]) -> tuple[Setting, Setting]:
    """CT has units, so that one clipping and scaling serves all; everything else is scaled volume by volume.

    It is given as the only step: a list replaces what the data config says, a mapping would be merged with it.
    """
    inside = found["channels"][0]["foreground"]
    value: dict[str, Any]
    if found["modality"].strip().upper().startswith("CT") and inside is not None:
        value = {
            "_target_": "medseg.data.volumes.steps.ClipScale",
            "low": round(inside["p0.5"], 3),
            "high": round(inside["p99.5"], 3),
            "mean": round(inside["mean"], 3),
            "deviation": max(1e-3, round(inside["std"], 3)),
        }
        why = "CT: clipped at percentiles 0.5 and 99.5 of the foreground, scaled by its mean and deviation"
    else:
        samples = [one["sample"] for one in found["channels"]]
        masked = all(one is not None and one["min"] == one["p10"] == 0 for one in samples)
        value = {"_target_": "medseg.data.volumes.steps.ZScore", "nonzero": masked}
        why = "no units of measure, so mean 0 and deviation 1 in every volume"
        why += "; a tenth of the voxels or more are exactly 0, taken for blanked background" * masked
    return (
        Setting("data.preprocess.steps", [value], why),
        Setting("data.preprocess.normalise", None, "the step above normalises"),
    )


def _spacing_reason(found: Mapping[str, Any], median: Sequence[int]) -> str:
    p10, p50, p90 = (_times(found["spacing"][name]) for name in ("p10", "p50", "p90"))
    return f"10th, 50th, 90th percentile {p10}, {p50}, {p90} mm; the median volume becomes {_times(median)}"


def _times(sides: Sequence[float]) -> str:
    return "x".join(f"{side:g}" for side in sides)
