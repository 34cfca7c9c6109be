"""How many processes should read and augment while the network works."""

import os
from math import ceil

NEGLIGIBLE = 0.1
"""Share of a training step below which reading beside it is not worth a process."""


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_workers(batch_seconds: float, step_seconds: float, cores: int) -> int:
    """Return 0 where reading takes less than a tenth of a step, else as many as keep up with the network.

    Args:
        batch_seconds: to read and augment a batch in one process.
        step_seconds: of the network with this batch.
        cores: that this process may use; one of them is left to the network.
    """
    if cores < 2 or batch_seconds < NEGLIGIBLE * step_seconds:
        return 0
    wanted = cores if step_seconds <= 0 else ceil(batch_seconds / step_seconds)
    return max(1, min(wanted, cores - 1))
