"""``medseg data list`` and ``medseg data info NAME``: what the configs know about datasets, without building one."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from medseg.commands.datasets.known import Known, files, read
from medseg.commands.datasets.words import Parser

_ACCESS = {
    "bundled": "made by medseg itself; needs no download",
    "public": "public download",
    "registration": "download after registration at its home page",
    "request": "by hand: its owners send it on request",
}
_COLUMNS = ("name", "modality", "dims", "classes", "cases", "access", "here")


def main(arguments: Sequence[str]) -> None:
    """Run ``list`` or ``info``; the first argument says which."""
    action, rest = arguments[0], list(arguments[1:])
    parser = Parser(prog=f"medseg data {action}", description=__doc__)
    if action == "info":
        parser.add_argument("name", help="as in data=NAME")
    parser.add_argument("--config-dir", help="folder with your own data/*.yaml")
    given = parser.parse_args(rest)
    known = files(given.config_dir)
    if action == "info":
        print("\n".join(describe(read(given.name, known))))
    else:
        print("\n".join(_table(read(name, known) for name in known)))


def _table(entries: Iterable[Known]) -> list[str]:
    """Return lines of columns, as wide as they need be, so that they can be searched and piped."""
    rows = [_COLUMNS, *(_row(entry) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [
        lines[0],
        "  ".join("-" * width for width in widths),
        *lines[1:],
        "",
        "All about one: medseg data info NAME",
    ]


def _row(entry: Known) -> tuple[str, ...]:
    classes = [str(name) for name in entry.card.get("classes") or []][1:]
    return (
        entry.name,
        str(entry.card.get("modality") or "-"),
        _dims(entry),
        textwrap.shorten(", ".join(classes) or "-", 36, placeholder="..."),
        str(_expected(entry).get("cases") or "-"),
        str(entry.about.get("access") or "-"),
        here(entry),
    )


def _dims(entry: Known) -> str:
    dims = entry.card.get("spatial_dims")
    return f"{dims}D" if isinstance(dims, int) else "-"


def _expected(entry: Known) -> dict[str, Any]:
    node = entry.about.get("expected")
    return dict(node) if isinstance(node, dict) else {}


def here(entry: Known) -> str:
    """Return whether a dataset is on this machine: yes, no, simulated, or your own."""
    if entry.synthetic:
        return "simulated"
    if entry.name == "folder":
        return "your own"
    return "yes" if entry.present else "no"


def describe(entry: Known) -> list[str]:
    """Return the lines of ``medseg data info``."""
    card, about = entry.card, entry.about
    classes = [str(name) for name in card.get("classes") or []]
    labels = ", ".join(f"{value} = {_class(classes, index)}" for value, index in entry.labels.items())
    expected = _expected(entry)
    facts = [
        ("data", str(about.get("title") or card.get("name") or entry.name)),
        ("modality", str(card.get("modality") or "not stated")),
        ("kind", f"{_dims(entry)}, {card.get('in_channels', '?')} channel(s), unit {card.get('unit', '?')}"),
        ("classes", ", ".join(classes) or "-"),
        ("mask values", labels or "-"),
        ("cases", _counted(expected)),
        ("split", str(about.get("official_split") or "none published; see conf/split/")),
        ("licence", str(card.get("licence") or "not stated")),
        ("citation", str(card.get("citation") or "not stated")),
        ("home page", str(about.get("homepage") or "-")),
        ("config", str(entry.file)),
        ("folder", f"{entry.root or '-'} ({_presence(entry)})"),
    ]
    lines = [f"{entry.name}{'  (SYNTHETIC)' if entry.synthetic else ''}", ""]
    for name, text in facts:
        lines += _paragraph(name, text)
    return [*lines, "", *how_to_get(entry)]


def _class(classes: list[str], index: Any) -> str:
    inside = isinstance(index, int) and 0 <= index < len(classes)
    return classes[index] if inside else f"class {index}"


def _counted(expected: dict[str, Any]) -> str:
    if not expected.get("cases"):
        return "depends on the data"
    patients = expected.get("patients")
    return f"{expected['cases']} of {patients} patients" if patients else f"{expected['cases']}, patients not published"


def _presence(entry: Known) -> str:
    if entry.synthetic:
        return "made there on first use"
    return "is there" if entry.present else "not there yet"


def _paragraph(name: str, text: str) -> list[str]:
    return _wrapped(text, f"  {name:12} ", " " * 15)


def _wrapped(text: str, first: str, then: str) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()), 110, initial_indent=first, subsequent_indent=then, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def how_to_get(entry: Known) -> list[str]:
    """Return the steps from nothing to a dataset that trains, with the commands to type."""
    if entry.synthetic:
        return ["How to get it: nothing to do; try  medseg data check data=" + entry.name]
    access = str(entry.about.get("access") or "")
    lines = [f"How to get it ({_ACCESS.get(access, 'nobody wrote down how')}):"]
    for line in str(entry.about.get("steps") or "").strip().splitlines():
        lines += _wrapped(line, "  ", "  ")
    if entry.about.get("fetch"):
        lines.append(f"  medseg data fetch {entry.name} --target DIR        asks before it starts")
    elif access in ("registration", "request"):
        lines.append("  There is no command for this step: the terms of its owners have to be accepted by a person.")
    if entry.about.get("prepare"):
        lines.append(f"  medseg data prepare {entry.name} --source DIR_OR_ARCHIVE")
    elif entry.name == "folder":
        lines.append("  medseg data prepare folder --source DIR --target DIR        or coco, labelme")
    lines.append(f"  medseg data check data={entry.name}")
    return lines
