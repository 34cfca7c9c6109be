"""A short measurement: does reading keep up with the network?"""

import copy
import logging
import time

import torch

from medseg.data.datamodule import SegmentationData
from medseg.data.dataset import collate
from medseg.data.workers import choose_workers, usable_cores
from medseg.training.module import SegmentationModule
from medseg.types import Batch

log = logging.getLogger(__name__)
SAMPLES = 8
"""Training samples that are read for the measurement."""


def probe_workers(data: SegmentationData, module: SegmentationModule) -> int:
    """Return how many loader processes the training should use, from eight samples and two steps on the CPU.

    On a GPU the step is measured there. The network, the random state and the data are left as they were.
    """
    dataset = data.dataset("train", augment=True, evaluation=False)
    size: int = len(dataset)  # type: ignore[arg-type]
    count = min(SAMPLES, size)
    started = time.perf_counter()
    samples = [dataset[number] for number in range(count)]
    batch_seconds = (time.perf_counter() - started) / count * data.batch_size
    batch = collate([samples[number % count] for number in range(data.batch_size)])
    step_seconds = _step_seconds(module, batch)
    cores = usable_cores()
    workers = choose_workers(batch_seconds, step_seconds, cores)
    log.info(
        "num_workers=auto: a batch takes %.0f ms to read, a step %.0f ms, %d core(s): %d worker(s)",
        1000 * batch_seconds, 1000 * step_seconds, cores, workers,
    )  # fmt: skip
    return workers


def _step_seconds(module: SegmentationModule, batch: Batch) -> float:
    """Return the seconds of a forward and backward pass of a copy of the module; the second of two counts."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    seconds = 0.0
    with torch.random.fork_rng():
        copied = copy.deepcopy(module).to(device).train()
        if module.plain_samples or not any(parameter.requires_grad for parameter in copied.parameters()):
            return seconds
        moved = copied.transfer_batch_to_device(batch, device, 0)
        for _ in range(2):
            started = time.perf_counter()
            copied.loss_of(moved).backward()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - started
    return seconds
