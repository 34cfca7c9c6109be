"""What the first lines of a network's yaml say: what the system is called, where it comes from, how it was designed."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from medseg.commands.configuration import CONF

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
    if not path.is_file():
        return System()
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        match = LINE.fullmatch(line.strip())
        if match:
            found.setdefault(match[1].lower(), match[2])
        elif not line.startswith("#"):
            break
    return System(found.get("system", ""), found.get("source", ""), found.get("design", ""))
