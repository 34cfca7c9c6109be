"""``medseg data prepare NAME --source DIR_OR_ARCHIVE``: an official archive, or your own export, into medseg's layout.

NAME is a dataset of ``conf/data/`` or one of the formats ``coco``, ``labelme`` and ``folder``. Settings of a preparer
follow as ``key=value``; ``medseg data prepare NAME --source X --options`` lists them.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from medseg.commands.datasets.known import Known, data_folder, files, read
from medseg.commands.datasets.words import Parser
from medseg.errors import ConfigError
from medseg.targets import check_targets

FORMATS = ("coco", "labelme", "folder")
"""Formats that any annotation tool or hospital exports; modules of ``medseg.data.prepare``."""


def main(arguments: Sequence[str]) -> None:
    """Prepare a dataset and say what came out.

    Raises:
        ConfigError: the name, a setting or the target cannot be used.
        DataError: the source is not what it should be; nothing is left then.
    """
    parser = Parser(prog="medseg data prepare", description=__doc__)
    parser.add_argument("name", help="a dataset (medseg data list), or coco, labelme, folder")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings of the preparer")
    parser.add_argument("--source", type=Path, help="folder or archive (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz)")
    parser.add_argument("--target", type=Path, help="folder to make; default MEDSEG_DATA/NAME, else data/NAME")
    parser.add_argument("--options", action="store_true", help="list the settings of the preparer and stop")
    parser.add_argument("--config-dir", help="folder with your own data/*.yaml")
    given = parser.parse_intermixed_args(list(arguments))
    entry, preparer = _preparer(given.name, files(given.config_dir))
    if given.options:
        print("\n".join(_settings_of(preparer)))
        return
    if given.source is None:
        parser.error("--source is missing: the folder or archive to prepare")
    target = given.target or (data_folder() / given.name if entry else None)
    if target is None:
        parser.error(f"--target is missing: the folder that the {given.name} data become")
    _run(given.name, entry, preparer, given.source.expanduser(), target.expanduser(), _parsed(preparer, given.settings))


def _preparer(name: str, known: Mapping[str, Path]) -> tuple[Known | None, Callable[..., None]]:
    entry = None if name in FORMATS and name not in known else read(name, known, FORMATS)
    node = entry.about.get("prepare") if entry else None
    if name in FORMATS and not node:
        return None, importlib.import_module(f"medseg.data.prepare.{name}").prepare
    assert entry is not None, "a name that is no format was read"
    if entry.synthetic or not isinstance(node, dict):
        raise ConfigError(f"{name} needs no preparation that medseg knows; how to get it: medseg data info {name}.")
    check_targets({"about": {"prepare": node}})
    module, _, function = str(node["_target_"]).rpartition(".")
    defaults = {key: value for key, value in node.items() if not str(key).startswith("_")}
    return entry, partial(getattr(importlib.import_module(module), function), **defaults)


def _options_of(preparer: Callable[..., None]) -> dict[str, inspect.Parameter]:
    """Return the keyword arguments of a preparer after source and layout."""
    return dict(list(inspect.signature(preparer, eval_str=True).parameters.items())[2:])


def _settings_of(preparer: Callable[..., None]) -> list[str]:
    function = preparer.func if isinstance(preparer, partial) else preparer
    lines = [f"  {name}={value.default}" for name, value in _options_of(preparer).items()]
    return [inspect.getdoc(function) or "", "", "settings and their defaults:", *(lines or ["  none"])]


def _parsed(preparer: Callable[..., None], settings: Sequence[str]) -> dict[str, Any]:
    """Return the settings with the types that the preparer declares.

    Raises:
        ConfigError: one is unknown, twice there, or no value of its type.
    """
    options = _options_of(preparer)
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or name not in options:
            raise ConfigError(f"'{setting}' is no setting of this preparer; it knows {', '.join(options) or 'none'}.")
        if name in values:
            raise ConfigError(f"{name} is given twice; keep one.")
        values[name] = _value(name, text, options[name].annotation)
    return values


def _value(name: str, text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ConfigError(f"{name}={text}: write true or false.")
        return text.lower() == "true"
    if text.lower() in ("null", "none") and kind is not str:
        return None
    try:
        return kind(text) if kind in (int, float) else text
    except ValueError:
        raise ConfigError(f"{name}={text}: a number is expected.") from None


def _run(
    name: str, entry: Known | None, preparer: Callable[..., None], source: Path, target: Path, options: dict[str, Any]
) -> None:
    from medseg.data.prepare.archives import opened
    from medseg.data.prepare.layout import Layout
    from medseg.data.prepare.origin import origin_of

    with Layout(target, name if entry else target.name) as layout:
        with opened(source, scratch=layout.scratch) as folder:
            preparer(folder, layout, **options)
        origin = origin_of(source)
        done = layout.finish({"preparer": name, "sources": origin, "options": options})
    print("\n".join(_summary(name, entry, layout, done)))


def _summary(name: str, entry: Known | None, layout: Any, done: Path) -> list[str]:
    counts = layout.counts
    lines = [f"{done}: {counts['cases']} cases of {counts['patients']} patients"]
    lines += [f"  left out: {identifier}: {reason}" for identifier, reason in list(layout.left_out.items())[:10]]
    if len(layout.left_out) > 10:
        lines.append(f"  left out: {len(layout.left_out) - 10} more, see provenance.json")
    lines += [f"  note: {text}" for text in layout.notes]
    if entry is None:
        return [*lines, f"next: MEDSEG_DATA='{done}' medseg data check data=folder"]
    lines += _compared(counts, entry.about.get("expected") or {})
    usual = entry.root is not None and entry.root.expanduser().absolute() == done
    return [*lines, f"next: medseg data check data={name}" + ("" if usual else f" data.source.root='{done}'")]


def _compared(counts: Mapping[str, int], expected: Mapping[str, Any]) -> list[str]:
    stated = {what: expected[what] for what in ("cases", "patients") if expected.get(what)}
    if not stated:
        return ["  its owners publish no count to compare with"]
    wrong = [f"{counts[what]} {what} instead of {number}" for what, number in stated.items() if counts[what] != number]
    if not wrong:
        return [
            f"  agrees with what its owners publish: {', '.join(f'{number} {what}' for what, number in stated.items())}"
        ]
    return [f"  WARNING: differs from what its owners publish: {', '.join(wrong)}; another version or a part of it?"]
