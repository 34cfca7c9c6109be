"""The ledger of accesses to test results: one JSON line for each, chained by hashes, never rewritten.

A line holds the access (``action``, ``side``, ``runs``, ``study``, ``dataset``, ``split``), ``when`` (UTC), the
``version`` of medseg, the git ``commit`` of the working folder if known, its own number ``line`` and ``hash`` and, as
``previous``, the SHA-256 of the bytes of the line before. An edited, removed, inserted or moved line breaks the chain.
What a chain alone cannot show, a change at its end, shows in ``ledger.jsonl.head``, which holds number and hash of the
last line, and in the runs' records, which may hold the same of the line they wrote (``strangers``).

A line torn by a kill stays where it is; the next entry is then an explicit ``repair`` that covers it by its hash. Where
the head finds lines changed or missing, the next entry is an explicit ``break``, so that no later entry hides it. The
ledger shows carelessness and mistakes; whoever rewrites the file, its head and all records can forge it.
"""

import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medseg import __version__, chain
from medseg.chain import Chain
from medseg.errors import RunError
from medseg.whole import write_whole

NAME = "ledger.jsonl"
ACTIONS = ("train-score", "evaluate", "compare", "report", "strata", "marks", "refine", "ensemble")
LOCK_SECONDS = 60


def path_in(outputs: Path | str) -> Path:
    """Return where the ledger of a folder of outputs lies."""
    return Path(outputs) / NAME


def access(
    action: str,
    records: Iterable[Mapping[str, Any]],
    *,
    side: str = "test",
    dataset: str | None = None,
    split: str | None = None,
) -> dict[str, Any]:
    """Return the entry of one access, from the records of the runs whose results are read.

    Args:
        action: one of ``ACTIONS``.
        records: contents of ``run.json``.
        side: the side whose results are read.
        dataset: name of the dataset where it is not the runs' own.
        split: hash of the split where it is not the runs' own.
    """
    known = list(records)
    return {
        "action": action,
        "side": side,
        "runs": sorted({str(record["key"]) for record in known}),
        "study": sorted({str(record["study"]) for record in known if record.get("study")}),
        "dataset": [dataset] if dataset else sorted({str(record["data"]["name"]) for record in known}),
        "split": [split] if split else sorted({str(record["split"]["hash"]) for record in known}),
    }


def append(path: Path | str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Append an entry under a lock and hand it to the disk before returning; several processes may do so at once.

    Args:
        path: the ledger, see :func:`path_in`; folders above it are made.
        entry: with ``action`` (one of ``ACTIONS``), ``side``, ``runs``, ``dataset`` and ``split``, see :func:`access`;
            ``when``, ``version`` and ``commit`` are added.

    Returns:
        the anchor ``{"line": number, "sha256": hash}`` of the new line, worth keeping in the run's record.

    Raises:
        RunError: a key is missing or taken, the lock is held for too long, or the file cannot be written.
    """
    path, stamped = Path(path), _stamped(entry)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            content = _content(path)
            lines = chain.split_lines(content)
            start = len(lines)
            for one in (*_remarks(path, content), stamped):
                lines.append(chain.link(one, lines))
            unended = b"\n" if content and not content.endswith(b"\n") else b""
            _add(path, unended + b"".join(line + b"\n" for line in lines[start:]))
            return _write_head(path, lines)
    except OSError as error:
        raise RunError(
            f"{path}: the access to test results cannot be noted ({error.strerror or error}); free space or set "
            "paths.outputs to a folder that can be written."
        ) from error


def read(path: Path | str) -> list[dict[str, Any]]:
    """Return the readable entries in the order written, none without a file; :func:`verify` says what is damaged."""
    lines = chain.split_lines(_content(Path(path)))
    return [entry for line in lines if (entry := chain.decoded(line)) is not None]


def verify(path: Path | str) -> Chain:
    """Check every line against the one before it, and the last against the head.

    A file that is not there and was never written contradicts nothing.
    """
    head = _head(Path(path))  # before the lines: another process may add one in between
    return chain.check(_content(Path(path)), head)


def strangers(path: Path | str, anchors: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return which of the anchors are not in the ledger: their lines were removed, or written to another ledger.

    Args:
        path: the ledger.
        anchors: what :func:`append` returned, by any name, for instance the run's whose record keeps it.
    """
    lines = chain.split_lines(_content(Path(path)))
    return [name for name, anchor in anchors.items() if chain.missing(lines, anchor) is not None]


def summary(path: Path | str, *, study: str | None = None, key: str | None = None) -> list[str]:
    """Return what a report must say of how often test sides were read, a sentence each.

    Every access to a split counts, whichever study or run made it: what was seen once was seen.

    Args:
        path: the ledger.
        study: only the splits that this study read.
        key: only the splits that the run with this key read.
    """
    entries = [entry for entry in read(path) if entry.get("side") == "test"]
    wanted = [entry for entry in entries if _concerns(entry, study=study, key=key)]
    splits = sorted({split for entry in wanted for split in texts(entry, "split")})
    lines = [_of_split(split, [entry for entry in entries if split in texts(entry, "split")]) for split in splits]
    return [*(lines or ["Ledger of test accesses: none noted."]), verify(path).sentence]


def texts(entry: Mapping[str, Any], name: str) -> list[str]:
    """Return a field of an entry as a list, whether it holds one text, several or none."""
    value = entry.get(name) or []
    return [value] if isinstance(value, str) else [str(one) for one in value]


def _concerns(entry: Mapping[str, Any], *, study: str | None, key: str | None) -> bool:
    return (study is None or study in texts(entry, "study")) and (key is None or key in texts(entry, "runs"))


def _of_split(split: str, entries: list[dict[str, Any]]) -> str:
    actions = [str(entry["action"]) for entry in entries]
    counts = ", ".join(f"{action} {actions.count(action)}" for action in ACTIONS if action in actions)
    datasets = ", ".join(sorted({name for entry in entries for name in texts(entry, "dataset")}))
    runs = {name for entry in entries for name in texts(entry, "runs")}
    times = sorted(str(entry.get("when", "")) for entry in entries)
    return (
        f"Test side of split {split[:8]} ({datasets}): read {len(entries)} times ({counts}) for {len(runs)} runs, "
        f"first {times[0]}, last {times[-1]}."
    )


def _stamped(entry: Mapping[str, Any]) -> dict[str, Any]:
    if entry.get("action") not in ACTIONS:
        raise RunError(f"ledger: action {entry.get('action')!r} is unknown; give one of {', '.join(ACTIONS)}.")
    missing = [name for name in ("side", "runs", "dataset", "split") if not entry.get(name)]
    taken = [name for name in chain.OWN_KEYS if name in entry]
    if missing or taken:
        raise RunError(
            f"ledger: entry '{entry['action']}' lacks {missing} and must not give {taken}; make it with ledger.access."
        )
    return {"when": _now(), "version": __version__, "commit": _commit(), **entry}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _commit() -> str:
    """Return the git commit of the working folder, empty where there is none."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(f"{path}.lock", timeout=LOCK_SECONDS)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunError(f"{path}: another process holds the ledger for {LOCK_SECONDS} s; end it and repeat.") from error
    try:
        yield
    finally:
        lock.release()


def _remarks(path: Path, content: bytes) -> list[dict[str, Any]]:
    """Return what must be said before the next entry: a torn line, a tail that is not the one written."""
    lines = chain.split_lines(content)
    remarks: list[dict[str, Any]] = []
    if chain.is_torn(content):
        remarks.append({"action": chain.REPAIR, "torn_line": len(lines), "torn_bytes": len(lines[-1])})
    for anchor in _head(path):
        fault = chain.missing(lines, anchor)
        if fault is not None:
            remarks.append({"action": chain.BREAK, "lost_line": fault[0], "reason": fault[1]})
    return [{"when": _now(), "version": __version__, **remark} for remark in remarks]


def _head(path: Path) -> list[dict[str, Any]]:
    """Return what the head remembers of the last line; nothing without a head, what fits no line if it is damaged."""
    try:
        content = json.loads(Path(f"{path}.head").read_text(encoding="utf-8"))
        return [{"line": int(content["line"]), "sha256": str(content["sha256"])}]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError):
        return [{"line": 1, "sha256": "damaged head"}]


def _write_head(path: Path, lines: list[bytes]) -> dict[str, Any]:
    anchor = {"line": len(lines), "sha256": chain.sha256(lines[-1])}
    write_whole(f"{path}.head", json.dumps(anchor))
    return anchor


def _add(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
