"""A chain of JSON lines, each with its own hash and that of the line before: how it is written, what is wrong with it.

Pure functions on bytes; ``medseg.ledger`` reads and writes the file.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

REPAIR, BREAK = "repair", "break"
"""Actions of the entries by which a ledger covers a torn line and notes a lost one."""
OWN_KEYS = ("line", "previous", "hash")
"""What :func:`link` adds to an entry."""
NO_LINE = "0" * 64
"""What the first line gives as the hash of the line before."""


@dataclass(frozen=True)
class Chain:
    """What a check of all lines found.

    Attributes:
        entries: readable entries, broken or not.
        intact: whether every line is the one that was written.
        broken_line: number of the first line that is not, counted from 1; None if intact.
        reason: what is wrong there, in words; empty if intact.
    """

    entries: int
    intact: bool
    broken_line: int | None
    reason: str = ""

    @property
    def sentence(self) -> str:
        """What a report says of it."""
        if self.intact:
            return f"Ledger: {self.entries} entries, chain intact."
        return f"Ledger: {self.entries} entries, CHAIN BROKEN at line {self.broken_line} ({self.reason})."


def link(entry: Mapping[str, Any], lines: Sequence[bytes]) -> bytes:
    """Return the line that adds an entry to a chain: with its number, the hash of the line before and its own."""
    previous = sha256(lines[-1]) if lines else NO_LINE
    content = {**entry, "line": len(lines) + 1, "previous": previous}
    return encoded({**content, "hash": sha256(encoded(content))})


def check(content: bytes, anchors: Sequence[Mapping[str, Any]]) -> Chain:
    """Return whether a file is the chain that was written.

    Args:
        content: of the file.
        anchors: ``line`` and ``sha256`` of lines that are known to have been written.
    """
    lines = split_lines(content)
    entries = sum(decoded(line) is not None for line in lines)
    found = [(number, reason) for number in range(1, len(lines) + 1) if (reason := _fault(lines, number, content))]
    found += [fault for anchor in anchors if (fault := missing(lines, anchor)) is not None]
    if not found:
        return Chain(entries, True, None)
    number, reason = min(found, key=lambda fault: fault[0])
    return Chain(entries, False, number, reason)


def missing(lines: Sequence[bytes], anchor: Mapping[str, Any]) -> tuple[int, str] | None:
    """Return number and reason if the lines lack the one that an anchor remembers."""
    number = int(anchor["line"])
    if number > len(lines):
        return len(lines) + 1, f"lines up to {number} were written and are gone"
    if sha256(lines[number - 1]) != anchor["sha256"]:
        return number, "another line was written there"
    return None


def is_torn(content: bytes) -> bool:
    """Return whether a kill cut the last line: it neither ends nor can be read."""
    return bool(content) and not content.endswith(b"\n") and decoded(split_lines(content)[-1]) is None


def split_lines(content: bytes) -> list[bytes]:
    """Return the lines without their ends, a last one without an end included."""
    lines = content.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def sha256(line: bytes) -> str:
    """Return the SHA-256 of some bytes in hex."""
    return hashlib.sha256(line).hexdigest()


def encoded(entry: Mapping[str, Any]) -> bytes:
    """Return the one way in which an entry is written."""
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def decoded(line: bytes) -> dict[str, Any] | None:
    """Return the entry of a line, None if it holds none."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _fault(lines: Sequence[bytes], number: int, content: bytes) -> str:
    """Return what is wrong with a line, empty if nothing is."""
    line = lines[number - 1]
    entry = decoded(line)
    if entry is None:
        return _unreadable(lines, number, content)
    bare = {name: value for name, value in entry.items() if name != "hash"}
    if encoded(entry) != line or entry.get("hash") != sha256(encoded(bare)):
        return "edited: it does not have its own hash"
    previous = sha256(lines[number - 2]) if number > 1 else NO_LINE
    if entry.get("line") != number or entry.get("previous") != previous:
        return "it does not follow the line before: one was edited, removed, inserted or moved here"
    return _remark_fault(entry, lines, number)


def _remark_fault(entry: Mapping[str, Any], lines: Sequence[bytes], number: int) -> str:
    """Return what is wrong with a chained entry that speaks of other lines."""
    if entry.get("action") == BREAK:
        return f"it notes an earlier change at line {entry.get('lost_line')}: {entry.get('reason')}"
    torn = entry.get("action") == REPAIR and entry.get("torn_line") == number - 1 and number > 1
    if entry.get("action") == REPAIR and not (torn and decoded(lines[number - 2]) is None):
        return "it repairs a line that is not torn"
    return ""


def _unreadable(lines: Sequence[bytes], number: int, content: bytes) -> str:
    """Return what is wrong with a line that is no entry; nothing if the next line repairs it."""
    if number == len(lines):
        return "torn by a kill; the next access repairs it" if is_torn(content) else "edited: it is no entry"
    follower = decoded(lines[number]) or {}
    repaired = follower.get("action") == REPAIR and follower.get("torn_line") == number
    return "" if repaired else "it is no entry: edited, or torn without a repair"
