"""Where the numbers come from: code, data, split, seed and machine of every run."""

from collections.abc import Sequence

from medseg.report.html.blocks import Block, Details, Facts, Paragraph, TableBlock
from medseg.report.html.material import Trained
from medseg.report.tables import Cell, Table

DIGITS = 12
"""Of a hash; the whole one is in the run's folder."""


def provenance(runs: Sequence[Trained]) -> tuple[Block, ...]:
    """Return a table with a row a run, and the versions of the packages; what differs between runs is said."""
    if not runs:
        return (Paragraph("No run has finished."),)
    columns = (
        *("Run", "Method", "Seed", "Commit", "Data", "Data digest"),
        *("Split", "Split hash", "Device", "Threads", "Key"),
    )
    table = Table(
        "runs", "Runs", tuple(map(Cell, columns)), tuple(_row(run) for run in runs), ("Hashes are shortened.",)
    )
    return (TableBlock(table), *_uncommitted(runs), Details("Versions", (Facts(versions(runs)),)))


def _row(run: Trained) -> tuple[Cell, ...]:
    data, split, cost = (run.record.get(part) or {} for part in ("data", "split", "cost"))
    synthetic = " (SYNTHETIC)" if data.get("synthetic") else ""
    leaky = " (LEAKY)" if split.get("leaky") else ""
    threads = cost.get("threads")
    return (
        Cell(run.name, link=run.address),
        Cell(run.method),
        Cell(str(run.seed), value=float(run.seed)),
        Cell(_commit(run)),
        Cell(f"{data.get('name', '')}{synthetic}"),
        Cell(str(data.get("digest", ""))[:DIGITS]),
        Cell(f"{split.get('name', '')}{leaky}"),
        Cell(str(split.get("hash", ""))[:DIGITS]),
        Cell(str(cost.get("device", "not recorded"))),
        Cell("not recorded") if threads is None else Cell(str(threads), value=float(threads)),
        Cell(str(run.record.get("key", ""))),
    )


def _commit(run: Trained) -> str:
    git = run.versions.get("git") or {}
    commit = str(git.get("commit") or "")
    if not commit:
        return "not under version control"
    return f"{commit[:DIGITS]} + changes" if git.get("dirty") else commit[:DIGITS]


def _uncommitted(runs: Sequence[Trained]) -> tuple[Block, ...]:
    dirty = [run.name for run in runs if (run.versions.get("git") or {}).get("dirty")]
    if not dirty:
        return ()
    return (Paragraph(f"{len(dirty)} of {len(runs)} runs were made with changes that were not committed."),)


def versions(runs: Sequence[Trained]) -> tuple[tuple[str, str], ...]:
    """Return each package and machine fact with its version; where runs differ, all of them."""
    found: dict[str, list[str]] = {}
    for run in runs:
        machine = {f"torch {name}": value for name, value in (run.versions.get("torch") or {}).items()}
        plain = {name: run.versions.get(name) for name in ("python", "system")}
        for name, value in {**plain, **(run.versions.get("packages") or {}), **machine}.items():
            if value not in (None, ""):
                found.setdefault(str(name), []).append(str(value))
    return tuple((name, " / ".join(dict.fromkeys(values))) for name, values in found.items())
