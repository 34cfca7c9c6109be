"""``medseg ledger``: who looked at test results how often, and whether the list was tampered with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from medseg import ledger, runs
from medseg.chain import BREAK, REPAIR
from medseg.commands.configuration import compose, freeze
from medseg.errors import ConfigError, RunError

USAGE = """usage: medseg ledger [study=NAME] [run=FOLDER] [last=20] [paths.outputs=DIR]

Prints the accesses to results that OUTPUTS/ledger.jsonl holds and checks its chain of hashes; exits with 2 where it is
broken. last=null prints all of them."""


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg ledger`` with its settings."""
    if any(text in ("-h", "--help") for text in arguments):
        print(USAGE)
        return
    show_ledger(freeze(compose("ledger", arguments), {}))


def show_ledger(config: DictConfig) -> None:
    """Print entries, what was read how often, and the state of the chain.

    Raises:
        ConfigError: ``last`` is no number above 0.
        RunError: the chain is broken; everything was printed before.
    """
    from medseg.commands.show import show, show_lines
    from medseg.report.ledger import ledger_table

    if config.last is not None and (not isinstance(config.last, int) or config.last < 1):
        raise ConfigError(f"last={config.last}: give a number of entries above 0, or null for all.")
    path = ledger.path_in(config.paths.outputs)
    key = None if config.run is None else str(runs.read_record(Path(config.run))["key"])
    entries = [entry for entry in ledger.read(path) if _wanted(entry, study=config.study, key=key)]
    shown = entries if config.last is None else entries[-config.last :]
    found = ledger.verify(path)
    show(ledger_table(shown, found, left_out=len(entries) - len(shown)))
    strangers = (
        f"{name}: its record remembers a line that is not in this ledger; the line was removed, or the run was made "
        "with another ledger."
        for name in ledger.strangers(path, _anchors(Path(config.paths.runs)))
    )
    summary = ledger.summary(path, study=config.study, key=key)[:-1]  # the caption has the state already
    show_lines([*summary, *strangers, path])
    if not found.intact:
        raise RunError(
            f"{path}: chain broken at line {found.broken_line} ({found.reason}); restore the file from a copy, or "
            "report that accesses before it cannot be shown."
        )


def _wanted(entry: dict[str, Any], *, study: str | None, key: str | None) -> bool:
    """Return whether an entry belongs to a study and a run; what the ledger says of itself always does."""
    if entry.get("action") in (BREAK, REPAIR):
        return True
    mine = study is None or study in ledger.texts(entry, "study")
    return mine and (key is None or key in ledger.texts(entry, "runs"))


def _anchors(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what the records of all runs remember of the ledger, by run folder."""
    records = {path.parent: runs.read_record(path.parent) for path in sorted(folder.glob("*/*/run.json"))}
    return {str(place): record["ledger"] for place, record in records.items() if record.get("ledger")}
