"""A plan as text: a yaml file with a reason beside every number, and the same as arguments to copy."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg.data.inspection.plan import Plan


def yaml_text(plan: Plan, *, title: Sequence[str]) -> str:
    """Return the plan as an option of the group ``experiment``; flow values, one line each, with their reasons.

    Args:
        plan: from :func:`~medseg.data.inspection.plan.make_plan`.
        title: comment lines of the head.
    """
    lines = ["# @package _global_", *(f"# {line}" for line in title)]
    tree: dict[str, Any] = {}
    for setting in plan.settings:
        *parents, name = setting.key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = setting
    return "\n".join([*lines, *_block(tree, 0)]) + "\n"


def _block(tree: Mapping[str, Any], depth: int) -> list[str]:
    lines = []
    for name, node in tree.items():
        if isinstance(node, Mapping):
            lines += [f"{'  ' * depth}{name}:", *_block(node, depth + 1)]
        else:
            lines += [f"{'  ' * depth}# {node.why}", f"{'  ' * depth}{name}: {flow(node.value)}"]
    return lines


def flow(value: object) -> str:
    """Return a value in yaml's flow style, which Hydra's overrides read too: ``[1, null]``, ``{low: -3.5}``."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    if isinstance(value, str):
        return value
    return json.dumps(value)


def arguments(plan: Plan, *, known: Sequence[str]) -> list[str]:
    """Return the plan as ``key=value`` arguments; a key that the config does not have yet gets Hydra's ``+``.

    Args:
        plan: the plan.
        known: dotted keys that the config has.
    """
    return [
        f"{'' if setting.key in known else '+'}{setting.key}={flow(setting.value).replace(' ', '')}"
        for setting in plan.settings
    ]


def write_plan(path: Path, text: str) -> None:
    """Write the file; an earlier plan that was edited by hand is kept beside it as ``.yaml.old``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        path.replace(path.with_name(f"{path.name}.old"))
    path.write_text(text, encoding="utf-8")
