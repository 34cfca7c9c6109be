"""What a network costs: parameters, floating-point operations, time of an image, peak memory."""

import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

LOG = logging.getLogger(__name__)


def parameter_counts(net: nn.Module) -> tuple[int, int]:
    """Return (all parameters, those that train)."""
    parameters = list(net.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)


def gigaflops(answer: Callable[[], object]) -> float | None:
    """Return 1e9 floating-point operations (a multiply-add counts as two) of one forward pass.

    Counts convolutions and matrix products, as ``torch.utils.flop_counter`` does.

    Args:
        answer: runs the forward pass.

    Returns:
        the count; None, with a warning, where an operation of the network has no rule to count it.
    """
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            answer()
    except (AssertionError, NotImplementedError, TypeError) as error:  # what the counter's rules raise
        LOG.warning(
            "operations are not counted: %s", str(error).splitlines()[0] if str(error) else type(error).__name__
        )
        return None
    return counter.get_total_flops() / 1e9


def milliseconds(
    answer: Callable[[], object],
    *,
    device: torch.device,
    warmup: int = 2,
    repeats: int = 20,
    budget: float = 2.0,
) -> float:
    """Return the median time of a forward pass in ms.

    Args:
        answer: runs the forward pass.
        device: where it runs; a CUDA device is waited for.
        warmup: passes that are not counted.
        repeats: passes at most.
        budget: seconds after which no further pass is begun, once three are done.
    """
    with torch.no_grad():
        for _ in range(warmup):
            _timed(answer, device)
        taken: list[float] = []
        while len(taken) < repeats and (len(taken) < 3 or sum(taken) < budget):
            taken.append(_timed(answer, device))
    return 1e3 * statistics.median(taken)


def _timed(answer: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of one pass, with all that it left to the device."""
    _wait(device)
    started = time.perf_counter()
    answer()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class PeakMemory:
    """Peak memory between ``start`` and ``megabytes``: of the device when it is CUDA, else of this process."""

    def start(self) -> None:
        """Forget earlier peaks, so that a run does not inherit them from the run before it in the same process."""
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        refs = Path("/proc/self/clear_refs")
        if refs.exists():
            refs.write_text("5")

    def megabytes(self) -> float:
        """Return the peak since ``start`` in MB (1e6 bytes)."""
        if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
            return torch.cuda.max_memory_allocated() / 1e6
        status = Path("/proc/self/status")
        if status.exists():
            line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
            return int(line.split()[1]) * 1024 / 1e6
        import psutil

        return psutil.Process().memory_info().rss / 1e6
