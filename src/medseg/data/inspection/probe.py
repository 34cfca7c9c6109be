"""A few training steps on random data: what they take in memory and time. The network is an argument."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from medseg.rng import derive


@dataclass(frozen=True)
class Probe:
    """What was measured.

    Attributes:
        device: ``cpu`` or ``cuda``.
        peak: bytes; the process's resident memory at its highest on a CPU, the allocator's peak on a GPU.
        base: bytes before the first step (libraries and the network), 0 on a GPU.
        seconds: of one step, the median of the steps after the first.
        parameters: of the network.
    """

    device: str
    peak: int
    base: int
    seconds: float
    parameters: int


def measure(
    net: nn.Module, *, size: Sequence[int], channels: int, classes: int, batch: int, steps: int = 3, device: str = "cpu"
) -> Probe:
    """Return memory and time of training steps with cross-entropy and AdamW in float32.

    Call it in a process of its own: the peak of a process never falls again.

    Args:
        net: maps (B, C, *S) to (B, K, *S).
        size: S.
        channels: C.
        classes: K.
        batch: B.
        steps: how many; the first warms up.
        device: ``cpu`` or ``cuda``.
    """
    net = net.to(device).train()
    optimizer = torch.optim.AdamW(net.parameters())
    generator = torch.Generator().manual_seed(derive(0, "probe"))
    image = torch.randn(batch, channels, *size, generator=generator).to(device)
    mask = torch.randint(0, classes, (batch, *size), generator=generator).to(device)
    base, seconds = (0 if device == "cuda" else peak_memory()), []
    for _ in range(max(2, steps)):
        start = time.perf_counter()
        optimizer.zero_grad()
        functional.cross_entropy(net(image), mask).backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else peak_memory()
    parameters = sum(weight.numel() for weight in net.parameters())
    return Probe(device, int(peak), int(base), sorted(seconds[1:])[(len(seconds) - 1) // 2], parameters)


def peak_memory() -> int:
    """Return the highest resident memory of this process so far, in bytes."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
