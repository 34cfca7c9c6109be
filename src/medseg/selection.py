"""The selection guard: what chose a run's weights and settings, and whether a side may be reported on.

A score on the side that chose the epoch, the threshold or another setting is optimistic: the best of several tries is
kept because of that very score. Roles of sides are fixed (``ROLES``) and stand in every ``split.json``.
"""

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from medseg.errors import RunError

ROLES = {"train": "fit", "val": "select", "test": "report"}
"""What each side of a split is for."""
SELECTION_SIDE = "SELECTION SIDE"
"""Label of every output that reports on the side that chose, or on one that shares cases or patients with it."""
TRAINING_SIDE = "TRAINING SIDE"
"""Label of every output that reports on the cases that the network learnt from."""
OVERRIDE = "allow_selection_side=true"
NOTHING = "none"


class Sides(Protocol):
    """A split: case ids by side, and whether it is known to leak."""

    @property
    def sides(self) -> Mapping[str, Collection[str]]:
        """Side to case ids."""

    @property
    def leaky(self) -> bool:
        """Whether it is declared that sides share patients."""


def selection_of(
    config: Mapping[str, Any],
    net: object = None,
    *,
    split: Sides | None = None,
    patients: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return what will choose among the states of one training, for the record of the run.

    Looked at: callbacks that watch a metric (best checkpoint, early stopping), a scheduler that does, and candidates of
    a system without gradients, which ``method=fitted`` tries on the validation side. Callbacks choose nothing among
    the states of a single epoch.

    Args:
        config: the run's resolved config as plain containers.
        net: the network, asked for its candidates where given; else the config is.
        split: the run's; without it, the validation side is taken to have cases.
        patients: case id to patient, of every side.

    Returns:
        ``side`` ("val", "train", "test", or "none" where nothing was chosen), ``monitor`` (the metric, empty with
        "none"), ``checkpoint`` ("best" or "last"), ``rule``, in words, and ``labels`` that outputs on the test side
        must carry.
    """
    selection = _selection(config, net, validated=split is None or bool(split.sides["val"]))
    labels = () if split is None else check_side({"selection": selection}, split, "test", allow=True, patients=patients)
    return {**selection, "labels": list(labels)}


def _selection(config: Mapping[str, Any], net: object, *, validated: bool) -> dict[str, str]:
    callbacks = {name: found for name, found in (config.get("callbacks") or {}).items() if found}
    several = (config.get("trainer") or {}).get("max_epochs") != 1 and not _is_fitted(config)
    watching = [(name, found) for name, found in callbacks.items() if several and found.get("monitor")]
    rules = [(str(found["monitor"]), _rule(name, found)) for name, found in watching]
    watched = str((config.get("scheduler") or {}).get("monitor") or "")
    if several and watched:
        rules.append((watched, f"the learning rate follows {watched}"))
    if validated and _is_tuned(config, net):
        rules.append(("val/dice", "settings of the system by the mean Dice on the validation side"))
    checkpoint = "best" if any("filename" in found for _, found in watching) else "last"
    if not rules:
        return {"side": NOTHING, "monitor": "", "checkpoint": checkpoint, "rule": "the last weights, nothing is chosen"}
    monitors = [monitor for monitor, _ in rules]
    # One that looks at the test side spoils it, whatever the others look at.
    monitor = next((name for side in ("test", "val") for name in monitors if _side(name) == side), monitors[0])
    return {
        "side": _side(monitor),
        "monitor": monitor,
        "checkpoint": checkpoint,
        "rule": "; ".join(dict.fromkeys(rule for _, rule in rules)),
    }


def check_side(
    record: Mapping[str, Any], split: Sides, side: str, *, allow: bool, patients: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Return the labels that every output on a side of a run's split must carry, none for a side that only judges.

    A split that is declared leaky is used because someone wants it so: it is labelled here, and not refused.

    Args:
        record: content of ``run.json``; without ``selection`` (an older run) the validation side is taken to have
            chosen.
        split: the run's own.
        side: ``train``, ``val`` or ``test``.
        allow: the user's ``allow_selection_side``: report on a side that chose, labelled.
        patients: case id to patient, where known; without it, shared patients of the test side are those that the
            record's labels tell of.

    Raises:
        RunError: the side chose, or shares cases or patients with the one that did, and ``allow`` is false.
    """
    selection = record.get("selection") or {"side": "val", "rule": "not recorded"}
    chose, name = str(selection["side"]), record.get("name", "run")
    labels = (TRAINING_SIDE,) if side == "train" else ()
    if chose == NOTHING:
        return labels
    if side == chose:
        why = f"side={side} chose among the states of this run ({selection['rule']}), its scores are optimistic"
        return (*_allowed(f"{name}: {why}; report side=test", allow=allow), *labels)
    if side == "train":
        return labels
    shared = _shared(split, chose, side, patients)
    if not shared and side == "test" and SELECTION_SIDE in selection.get("labels", ()):
        shared = "cases or patients, as the run's record says"
    if not shared:
        return labels
    why = f"sides {chose} and {side} share {shared}, and {chose} chose ({selection['rule']})"
    return (*_allowed(f"{name}: {why}; divide by patient and train again", allow=allow or split.leaky), *labels)


def _rule(name: str, callback: Mapping[str, Any]) -> str:
    monitor, mode = callback["monitor"], callback.get("mode", "min")
    extreme = "highest" if mode == "max" else "lowest"
    if "filename" in callback:
        return f"the epoch with the {extreme} {monitor}"
    return f"{name.replace('_', ' ')} on {monitor}"


def _is_fitted(config: Mapping[str, Any]) -> bool:
    """Return whether the system learns in one pass, so that there are no epochs to choose among."""
    return str((config.get("method") or {}).get("_target_", "")).endswith("FittedModule")


def _is_tuned(config: Mapping[str, Any], net: object) -> bool:
    """Return whether settings are tried on the validation side; a system without a list of candidates tries its own."""
    if not _is_fitted(config):
        return False
    if net is None:
        return bool((config.get("net") or {}).get("candidates"))
    return callable(getattr(net, "tune", None)) and bool(getattr(net, "candidates", True))


def _side(monitor: str) -> str:
    """Return the side that a metric is measured on; one without a prefix is taken for validation."""
    prefix = monitor.partition("/")[0]
    return prefix if prefix in ROLES else "val"


def _allowed(why: str, *, allow: bool) -> tuple[str, ...]:
    if not allow:
        raise RunError(f"{why}, or set {OVERRIDE}, which labels every output {SELECTION_SIDE}.")
    return (SELECTION_SIDE,)


def _shared(split: Sides, chose: str, side: str, patients: Mapping[str, str] | None) -> str:
    """Return what two sides have in common, in words; empty if nothing."""
    first, second = set(split.sides[chose]), set(split.sides[side])
    cases = sorted(first & second)
    if cases:
        return f"{len(cases)} case(s), for instance '{cases[0]}'"
    known = patients or {}
    both = sorted({known[case] for case in first if case in known} & {known[case] for case in second if case in known})
    return f"{len(both)} patient(s), for instance '{both[0]}'" if both else ""
