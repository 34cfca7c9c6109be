"""What a network costs: parameters, floating-point operations, peak memory."""

from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def parameter_counts(net: nn.Module) -> tuple[int, int]:
    """Return (all parameters, those that train)."""
    parameters = list(net.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)


def gigaflops(net: nn.Module, channels: int, size: tuple[int, ...]) -> float:
    """Return 1e9 floating-point operations (a multiply-add counts as two) of one image's forward pass.

    Counts convolutions and matrix products, as ``torch.utils.flop_counter`` does.

    Args:
        net: in any mode; left as it was.
        channels: image channels.
        size: (H, W).
    """
    training = net.training
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    counter = FlopCounterMode(display=False)
    net.eval()
    try:
        with torch.no_grad(), counter:
            net(torch.zeros(1, channels, *size, device=device))
    finally:
        net.train(training)
    return counter.get_total_flops() / 1e9


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
