"""A few training steps on random images: what they take in memory and time. The network is an argument."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.rng import derive
from medseg.types import BranchOutput, DeepOutput, StructureOutput, offers


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
        net: maps (B, C, *S) to whatever networks return in train mode; or has ``losses`` (images, masks).
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
    mask = _stripes(size, classes).repeat(batch, *(1 for _ in size)).to(device)
    base, seconds = (0 if device == "cuda" else peak_memory()), []
    for _ in range(max(2, steps)):
        start = time.perf_counter()
        optimizer.zero_grad()
        _loss(net, image, mask, classes).backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else peak_memory()
    parameters = sum(weight.numel() for weight in net.parameters())
    return Probe(device, int(peak), int(base), sorted(seconds[1:])[(len(seconds) - 1) // 2], parameters)


def tensors_of(output: Any) -> list[Tensor]:
    """Return all tensors of a network's output in train mode, the map that is its answer first.

    Args:
        output: a tensor, a list of them, or one of the outputs in :mod:`medseg.types`.
    """
    found: list[Tensor | None]
    if isinstance(output, BranchOutput):
        found = [output.fused, *output.branches, output.margin]
    elif isinstance(output, DeepOutput):
        found = [*output.maps, output.presence]
    elif isinstance(output, StructureOutput):
        found = [output.maps]
    else:
        found = list(output) if isinstance(output, list | tuple) else [output]
    return [tensor for tensor in found if tensor is not None]


def _loss(net: Any, image: Tensor, mask: Tensor, classes: int) -> Tensor:
    """Return a loss that gives every output a gradient; its value does not matter here."""
    if offers(net, "losses"):
        return torch.stack(list(net.losses(image, mask).values())).sum()
    return torch.stack([_term(tensor, mask, classes) for tensor in tensors_of(net(image))]).sum()


def _term(tensor: Tensor, mask: Tensor, classes: int) -> Tensor:
    """Return the cross-entropy of logits of all classes at the mask's size, the mean of anything else."""
    if tensor.shape[1:] == (classes, *mask.shape[1:]):
        return functional.cross_entropy(tensor, mask)
    return tensor.mean()


def _stripes(size: Sequence[int], classes: int) -> Tensor:
    """Return a label map int64 (*S) of one stripe for each class: few objects, as in medical images."""
    return (torch.arange(size[-1]) * classes // size[-1]).expand(*size)


def peak_memory() -> int:
    """Return the highest resident memory of this process so far, in bytes."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
