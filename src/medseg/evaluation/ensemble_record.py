"""The ``run.json`` of an ensemble, so that whatever reads runs reads it too."""

from collections.abc import Mapping, Sequence
from typing import Any

from medseg.data.splits import Split
from medseg.evaluation.ensemble import Member

WEIGHED = {"equal": "", "validation": " weighed on validation"}
"""How the scheme of the weights is part of the method's name."""


def common_split(members: Sequence[Member]) -> Split:
    """Return what the ensemble as a whole was made with: the members' own split, or the union of what they saw.

    Where the members' splits differ, a case that chose in one and fitted in another counts as seen in training, and no
    validation side is left.
    """
    first = members[0].split
    if all(member.split.hash == first.hash for member in members):
        return first
    seen = frozenset().union(*(member.seen for member in members))
    sides = {"train": tuple(sorted(seen)), "val": (), "test": tuple(sorted(members[0].test))}
    return Split(f"ensemble of {len(members)}", first.seed, any(member.split.leaky for member in members), sides)


def common_config(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what resolved configs have in common, at every depth: what makes the method of their ensemble.

    Args:
        configs: plain containers; entries that differ, such as the seed, are left out.
    """
    first, rest = configs[0], configs[1:]
    shared: dict[str, Any] = {}
    for name, value in first.items():
        others = [config.get(name) for config in rest]
        if isinstance(value, Mapping) and all(isinstance(other, Mapping) for other in others):
            shared[name] = common_config([value, *others])  # type: ignore[list-item]
        elif all(name in config and config[name] == value for config in rest):
            shared[name] = value
    return shared


def ensemble_record(
    members: Sequence[Member], weights: Sequence[float], *, name: str, key: str, split: Split, scheme: str
) -> dict[str, Any]:
    """Return the ``run.json`` of an ensemble: read like a run's own, with its members and what they cost together.

    Args:
        members: its runs.
        weights: of each, as used.
        name: of the ensemble.
        key: that tells it from others.
        split: of :func:`common_split`.
        scheme: one of ``WEIGHTS``.
    """
    first = members[0].record
    records = [member.record for member in members]
    shared = {group: value for group, value in first["choices"].items() if _all_have(records, "choices", group, value)}
    nets = list(dict.fromkeys(str(record["choices"].get("net", "unknown")) for record in records))
    sides = {"cases": {side: len(split.sides[side]) for side in split.sides}}
    synthetic, leaky = (
        any(r["data"]["synthetic"] for r in records),
        split.leaky or any(r["split"]["leaky"] for r in records),
    )
    return {
        "name": name,
        "key": key,
        "status": "finished",
        "seed": first["seed"],
        **{field: _common(records, field) for field in ("study", "panel", "preset", "sweep")},
        "choices": {**shared, "net": f"{'+'.join(nets)} ensemble of {len(members)}{WEIGHED[scheme]}"},
        "data": {**first["data"], **sides, "synthetic": synthetic},
        "split": {"name": split.name, "hash": split.hash, "leaky": leaky, "seed": split.seed},
        "model": _model(records),
        "cost": _cost(records),
        "selection": _selection(records, scheme),
        "ensemble": {
            "weights": scheme,
            "members": [
                {"name": r["name"], "key": r["key"], "seed": r["seed"], "split": r["split"]["hash"], "weight": weight}
                for r, weight in zip(records, weights, strict=True)
            ],
        },
        "mlflow": None,
    }


def _all_have(records: Sequence[Mapping[str, Any]], part: str, name: str, value: Any) -> bool:
    return all(record[part].get(name) == value for record in records)


def _common(records: Sequence[Mapping[str, Any]], name: str) -> Any:
    values = {record.get(name) for record in records}
    return values.pop() if len(values) == 1 else None


def _model(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the members are together: sizes add up, and one that takes marks makes the whole take them."""
    models = [record.get("model", {}) for record in records]
    sums = {name: _sum(models, name) for name in ("parameters", "trainable_parameters", "gflops")}
    return {**models[0], **sums, "interactive": any(bool(model.get("interactive")) for model in models)}


def _cost(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the members cost one after the other."""
    costs = [record.get("cost", {}) for record in records]
    sums = {name: _sum(costs, name) for name in ("fit_seconds", "total_seconds", "ms_per_image")}
    peaks = [cost["peak_memory_mb"] for cost in costs if cost.get("peak_memory_mb") is not None]
    return {**costs[0], **sums, "peak_memory_mb": max(peaks, default=None)}


def _sum(parts: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [part.get(name) for part in parts]
    return None if any(value is None for value in values) else sum(values)  # type: ignore[arg-type]


def _selection(records: Sequence[Mapping[str, Any]], scheme: str) -> dict[str, str]:
    """Return what chose: that of the members, and the validation side where it weighs them."""
    known = [record.get("selection") or {"side": "val", "rule": "not recorded"} for record in records]
    chose = next((found for side in ("test", "val", "train") for found in known if found["side"] == side), known[0])
    if scheme == "equal":
        return dict(chose)
    rule = f"{chose.get('rule', '')}; weights by the mean score on each member's validation side"
    return {
        "monitor": "",
        "checkpoint": "best",
        **chose,
        "side": "test" if chose["side"] == "test" else "val",
        "rule": rule,
    }
