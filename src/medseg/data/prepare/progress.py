"""A progress bar on stderr, where a person sees it."""

import sys
from typing import Any


class Progress:
    """Counts something; shows it only when stderr is a terminal, from the first count on.

    Args:
        title: what is going on.
        unit: ``cases``, or ``bytes`` for a transfer with its speed.
        total: how many there will be, None while unknown.
    """

    def __init__(self, title: str, *, unit: str, total: int | None = None) -> None:
        self._title, self._unit, self._total = title, unit, total
        self._seen = sys.stderr.isatty()
        self._bar: Any = None
        self._task: Any = None

    def _show(self) -> Any:
        """Return the bar, None where nobody sees it; two bars at a time would overwrite each other."""
        if self._seen and self._bar is None:
            self._start(self._title, self._unit, self._total)
        return self._bar

    def _start(self, title: str, unit: str, total: int | None) -> None:
        from rich import progress
        from rich.console import Console

        count = [progress.DownloadColumn(), progress.TransferSpeedColumn()]
        columns = count if unit == "bytes" else [progress.MofNCompleteColumn(), progress.TextColumn(unit)]
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"), progress.BarColumn(), *columns, progress.TimeRemainingColumn(),
            console=Console(stderr=True),
        )  # fmt: skip
        self._task = self._bar.add_task(title, total=total)
        self._bar.start()

    def expect(self, total: int | None) -> None:
        """State the total once it is known."""
        self._total = total
        if self._bar is not None:
            self._bar.update(self._task, total=total)

    def advance(self, amount: int) -> None:
        """Count on."""
        if bar := self._show():
            bar.advance(self._task, amount)

    def restart(self, done: int) -> None:
        """Set the count, after a transfer began again or was continued."""
        if bar := self._show():
            bar.update(self._task, completed=done)

    def stop(self) -> None:
        """Take the bar down for good; may be called twice."""
        self._seen = False
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
