"""What do trainings side by side gain over one training with all threads?

    python benchmarks/study_workers.py [--size 64] [--steps 15] [--rounds 3]

Steps of a quarter-width U-Net, forward, backward and optimizer, batch 8: in one process with every thread, waiting
passively as ``medseg`` sets it and actively as is OpenMP's default, and in as many processes of one thread as there are
cores, all at once. Printed are steps a second of the whole machine and their ratio to the first row.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time


def steps(threads: int, size: int, count: int) -> float:
    """Return steps a second of one process."""
    import torch

    from medseg.nets.unet import UNet

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net = UNet(in_channels=1, num_classes=2, widths=[16, 32, 64, 128, 256]).to(memory_format=torch.channels_last)
    image = torch.randn(8, 1, size, size).contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters())
    for number in range(count + 2):
        if number == 2:
            started = time.perf_counter()
        optimizer.zero_grad()
        net(image).square().mean().backward()
        optimizer.step()
    return count / (time.perf_counter() - started)


def together(processes: int, threads: int, policy: str, given: argparse.Namespace) -> float:
    """Return the sum of steps a second of processes that run at the same time."""
    words = [sys.executable, __file__, "--child", str(threads), "--size", str(given.size), "--steps", str(given.steps)]
    environment = {**os.environ, "OMP_WAIT_POLICY": policy}
    started = [subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return sum(float(process.communicate()[0]) for process in started)


def main() -> None:
    """Measure every way once a round, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(steps(given.child, given.size, given.steps))
        return
    cores = os.cpu_count() or 1
    ways = {
        f"1 process, {cores} threads, waiting passively": (1, cores, "PASSIVE"),
        f"1 process, {cores} threads, waiting actively": (1, cores, "ACTIVE"),
        f"{cores} processes, 1 thread each": (cores, 1, "PASSIVE"),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, (processes, threads, policy) in ways.items():
            found[name].append(together(processes, threads, policy, given))
    first = statistics.median(next(iter(found.values())))
    for name, rates in found.items():
        median = statistics.median(rates)
        print(f"{name:45} {median:6.2f} steps/s   {median / first:.2f} x")


if __name__ == "__main__":
    main()
