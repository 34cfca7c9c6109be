"""The datasets that ``conf/data/`` and a user's own folder of configs describe: their yaml read, nothing built."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from medseg.commands.configuration import CONF
from medseg.errors import ConfigError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Known:
    """One option of the group ``data``.

    Attributes:
        name: as in ``data=NAME``.
        file: its yaml.
        card: data card as written.
        labels: value in the mask file to class index.
        about: where the data come from and how to get them; empty where nobody wrote it.
        root: folder that the config reads, None where it names none.
    """

    name: str
    file: Path
    card: dict[str, Any] = field(default_factory=dict)
    labels: dict[Any, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    root: Path | None = None

    @property
    def synthetic(self) -> bool:
        """Whether the data are simulated."""
        return bool(self.card.get("synthetic"))

    @property
    def present(self) -> bool:
        """Whether a manifest lies where the config looks for it."""
        return self.root is not None and (self.root / "manifest.csv").is_file()


def files(config_dir: str | Path | None = None) -> dict[str, Path]:
    """Return the yaml of every dataset; a user's own option hides medseg's of the same name.

    Args:
        config_dir: folder with the user's ``data/*.yaml``.

    Raises:
        ConfigError: the folder is missing.
    """
    folders = [CONF / "data"]
    if config_dir is not None:
        own = Path(config_dir).expanduser()
        if not own.is_dir():
            raise ConfigError(f"--config-dir {own}: no such folder.")
        folders.append(own / "data")
    found = {path.stem: path for folder in folders for path in folder.glob("*.yaml")}
    return dict(sorted(found.items()))


def read(name: str, known: Mapping[str, Path], others: Sequence[str] = ()) -> Known:
    """Return what a dataset's yaml says.

    Args:
        name: as in ``data=NAME``.
        known: what :func:`files` gave.
        others: further names that the caller knows, for the message.

    Raises:
        ConfigError: the name is unknown (near ones are listed) or its yaml cannot be read.
    """
    if name not in known:
        near = difflib.get_close_matches(name, sorted({*known, *others}), n=3, cutoff=0.5)
        guess = f"did you mean {' or '.join(near)}?" if near else "no name is near it."
        raise ConfigError(f"unknown dataset '{name}': {guess} All of them: medseg data list.")
    path = known[name]
    try:
        node = _merged(path, known, ())
    except (OmegaConfBaseException, YAMLError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path}: the yaml cannot be read ({reason}); correct it.") from None
    root = _resolved(str(node["source"].get("root") or ""))
    return Known(name, path, node["card"], node["labels"], node["about"], Path(root) if root else None)


def data_folder() -> Path:
    """Return the folder of the datasets: MEDSEG_DATA, else ``data``."""
    return Path(_resolved("${paths.data}") or "data")


_NODES = ("card", "source", "labels", "about")


def _merged(path: Path, known: Mapping[str, Path], seen: tuple[Path, ...]) -> dict[str, dict[Any, Any]]:
    """Return the nodes that matter, on top of those of the options that the yaml's defaults list names.

    libyaml reads thirty files in a tenth of the time that Python's own parser takes; the safe loader builds nothing.
    """
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    if not isinstance(content, dict) or path in seen:
        raise ValueError("no mapping of keys, or its defaults list names itself")
    nodes = [OmegaConf.create({name: content[name] for name in _NODES if isinstance(content.get(name), dict)})]
    for name in reversed(content.get("defaults") or []):
        if isinstance(name, str) and name in known:
            nodes.insert(0, OmegaConf.create(_merged(known[name], known, (*seen, path))))
    merged = OmegaConf.to_container(OmegaConf.merge(*nodes) if len(nodes) > 1 else nodes[0], resolve=False)
    assert isinstance(merged, dict), "merged mappings are a mapping"
    return {name: merged.get(name) or {} for name in _NODES}


@cache
def _paths() -> Any:
    return OmegaConf.load(CONF / "paths" / "default.yaml")


def _resolved(text: str) -> str:
    """Return a folder with its ``${paths...}`` filled in, "" where that is not possible."""
    try:
        return str(OmegaConf.create({"paths": _paths(), "text": text}).text or "")
    except OmegaConfBaseException:
        return ""
