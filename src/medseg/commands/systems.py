"""What the first lines of a network's yaml say: what the system is called, where it comes from, how it was designed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from medseg.commands.configuration import CONF

IDENTITY = ("_target_", "architecture")
"""Settings that make another system of an option."""
LINE = re.compile(r"#\s*(System|Source|Design)\s+(.*\S)")


@dataclass(frozen=True)
class System:
    """The header of an option under ``conf/net``; what it does not say is empty.

    Attributes:
        name: as printed, for instance ``Attention U-Net``.
        source: the paper.
        design: ``faithful``, ``our reading: ...`` or ``library: ...``.
    """

    name: str = ""
    source: str = ""
    design: str = ""


@cache
def system_of(option: str, folder: Path = CONF / "net") -> System:
    """Return the header of a network's option; an option of the user's own, elsewhere, has none that is known."""
    path = folder / f"{option}.yaml"
    if option == "custom" or not path.is_file():
        return System()
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        match = LINE.fullmatch(line.strip())
        if match:
            found.setdefault(match[1].lower(), match[2])
        elif not line.startswith("#"):
            break
    return System(found.get("system", ""), found.get("source", ""), found.get("design", ""))


def system_in(config: Mapping[str, Any]) -> System:
    """Return the header of the network that a config builds; none where it builds another than its option says."""
    option, net = str(config["choices"].get("net", "")), config["net"]
    path = CONF / "net" / f"{option}.yaml"
    if path.is_file():
        said: Any = OmegaConf.load(path)
        if any(key in said and said[key] != net.get(key) for key in IDENTITY):
            return System()
    return system_of(option)
