"""What a training step of medseg costs on top of a bare PyTorch loop that does the same work.

medseg is put together as the command does it: module, cached images through the loader and its sampler, checkpoints,
early stopping, journal, MLflow on a fresh SQLite store, and the progress bar, drawn as in a terminal but to nowhere.
The bare loop has network, loss, optimizer, schedule, clipping, batches and order in common with it and holds its images
in memory; both must end with the same weights, else nothing is compared.

Each is timed at 40 and at 240 steps, and what 200 more steps take is the figure, so that set-up does not count. An
epoch has 40 steps: checkpoints, journal row and MLflow request at its end are in the figure. A third, short run with as
many epochs tells the share of the epochs from that of the steps. The images are small, so that the network's own work
does not drown the figure; the loader's share grows with the pixels (``--size``).

Rounds are interleaved, with one thread. The figure is taken from the fastest round of each length, because other
processes only ever add; the median over rounds stands beside it and shows how quiet the machine was.
"""

import argparse
import contextlib
import copy
import csv
import gc
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", TERM="xterm-256color")

import cv2
import numpy as np
import torch
from lightning import seed_everything
from omegaconf import OmegaConf, open_dict
from torch import nn

from medseg.commands.assembly import Parts, assemble
from medseg.commands.configuration import choices, compose, freeze
from medseg.commands.isolation import quiet_lightning
from medseg.commands.recording import Recording
from medseg.data.sampler import EpochSampler

LIMIT_MS = 2.0
BATCH, STEPS = 8, 40
SHORT, LONG, MANY = (1, STEPS), (6, STEPS), (6, 8)
"""Epochs and steps in each."""
ONE_LAYER = {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 2, "kernel_size": 3, "padding": 1}
BAR = "+callbacks.progress.console_kwargs={force_terminal: true, width: 120}"
NO_BAR = "callbacks.progress=null"


@dataclass(frozen=True)
class Seconds:
    """Time of one training, or per step."""

    cpu: float
    wall: float


Times = dict[tuple[int, int], list[Seconds]]
"""Epochs and steps in each, to the rounds."""


def make_images(root: Path, size: int) -> None:
    """Write an epoch of noisy images with a dark disc in each, and one image for the test side."""
    draw = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    rows = []
    for number in range(BATCH * STEPS + 1):
        mask = np.zeros((size, size), np.uint8)
        cv2.circle(mask, draw.integers(size // 3, 2 * size // 3, 2).tolist(), size // 5, 255, -1)
        image = np.where(mask > 0, 60, 150) * draw.gamma(8, 1 / 8, mask.shape)
        name = f"{number:04d}.png"
        cv2.imwrite(str(root / "images" / name), image.clip(0, 255).astype(np.uint8))
        cv2.imwrite(str(root / "masks" / name), mask)
        rows.append([f"{number:04d}", f"images/{name}", f"masks/{name}", number, int(number > 0)])
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["id", "image", "mask", "group", "fold"], *rows])


def parts_for(scratch: Path, size: int, length: tuple[int, int], *more: str) -> Parts:
    """Return the parts of a training, its folder written and its MLflow run open."""
    epochs, steps = length
    overrides = [
        *("data=folder", "split=manifest_fold", "augment=none", "threads=1"),
        *(f"data.source.root={scratch}/images", f"paths.outputs={scratch}/outputs", f"data.batch_size={BATCH}"),
        *("split.val_fraction=0.0", f"preprocess.size=[{size},{size}]"),
        # There is no validation side, and still every callback shall have its work.
        *("monitor=train/loss", "patience=1000", "callbacks.best.mode=min", "callbacks.early_stopping.mode=min"),
        *(f"trainer.max_epochs={epochs}", f"+trainer.limit_train_batches={steps}"),
    ]
    composed = compose("train", [*overrides, *more])
    folder = Path(tempfile.mkdtemp(dir=scratch))
    with open_dict(composed):
        composed.net, composed.folder = OmegaConf.create(ONE_LAYER), str(folder)
    config = freeze(composed, choices(composed))
    seed_everything(0, verbose=False)
    parts = assemble(config, folder)
    Recording(config, folder, parts).start()
    return parts


def stored_batches(parts: Parts, length: tuple[int, int]) -> Callable[[int], Iterator[Any]]:
    """Return what gives an epoch's batches from arrays in memory, in the order of medseg's sampler."""
    data = parts.data
    cases, cache = data.cases("train"), data.dataset("train").cache
    images = torch.from_numpy(np.stack([cache.image(case.id)[..., 0] for case in cases]))
    masks = torch.from_numpy(np.stack([cache.mask(case.id) for case in cases]))
    sampler = EpochSampler(size=len(cases), seed=0, shuffle=True, drop_last_to=BATCH)

    def batches(epoch: int) -> Iterator[Any]:
        sampler.set_epoch(epoch)
        order = [index for _, index in sampler]
        for start in range(0, BATCH * length[1], BATCH):
            chosen = torch.tensor(order[start : start + BATCH])
            image = images.index_select(0, chosen).unsqueeze(1).float().div_(255).sub_(data.mean).div_(data.std)
            yield image, masks.index_select(0, chosen).long()

    return batches


def loaded_batches(parts: Parts, length: tuple[int, int]) -> Callable[[int], Iterator[Any]]:
    """Return what gives an epoch's batches from medseg's own loader."""
    loader = parts.data.train_dataloader()

    def batches(epoch: int) -> Iterator[Any]:
        loader.sampler.set_epoch(epoch)
        for _, batch in zip(range(length[1]), loader, strict=False):
            yield batch["image"], batch["mask"]

    return batches


def bare(parts: Parts, length: tuple[int, int], batches: Callable[[int], Iterator[Any]]) -> nn.Module:
    """The yardstick: the loop anyone would write."""
    module, (epochs, steps) = parts.module, length
    net, loss_of = copy.deepcopy(module.net).train(), module.loss
    optimizer = module.optimizer(net.parameters())
    schedule = module.scheduler(optimizer, epochs * steps)
    for epoch in range(epochs):
        total = 0.0
        for image, mask in batches(epoch):
            loss = loss_of(net(image.contiguous(memory_format=torch.channels_last)), mask)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), parts.trainer.gradient_clip_val)
            optimizer.step()
            schedule.step()
            total += loss.item()
    return net


def timed(action: Callable[[], Any]) -> tuple[Seconds, Any]:
    """Return the time an action takes, with what it prints thrown away, and its result."""
    gc.collect()
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        wall, cpu = time.perf_counter(), time.process_time()
        result = action()
        return Seconds(time.process_time() - cpu, time.perf_counter() - wall), result


def one_round(scratch: Path, size: int, length: tuple[int, int]) -> dict[str, Seconds]:
    """Time each way of training once."""
    found, nets = {}, {}
    full = parts_for(scratch, size, length, BAR)
    for name, source in (("bare loop", stored_batches), ("bare loop, medseg's loader", loaded_batches)):
        batches = source(full, length)
        found[name], nets[name] = timed(lambda given=batches: bare(full, length, given))
    for name, parts in (("medseg", full), ("medseg, no bar", parts_for(scratch, size, length, NO_BAR))):
        found[name], _ = timed(lambda given=parts: given.trainer.fit(given.module, given.data))
        nets[name] = parts.module.net
        if not parts.tracker.healthy or parts.trainer.global_step != length[0] * length[1]:
            raise SystemExit(f"{name} did not do its work: {parts.trainer.global_step} steps.")
        parts.journal.close()
    for name, net in nets.items():
        for ours, theirs in zip(net.parameters(), nets["bare loop"].parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4, msg=f"{name} trained something else")
    return found


def slope(times: Times, clock: str, reduce: Callable[[Iterable[float]], float]) -> tuple[float, float]:
    """Return milliseconds per step, epoch ends included, and milliseconds of an epoch's end.

    Args:
        times: of one way of training, by epochs and steps.
        clock: ``cpu`` or ``wall``.
        reduce: from rounds to one value.
    """
    short, long, many = (1e3 * reduce(getattr(one, clock) for one in times[length]) for length in (SHORT, LONG, MANY))
    per_step = (long - short) / (LONG[0] * LONG[1] - SHORT[0] * SHORT[1])
    steps_alone = (long - many) / (LONG[0] * LONG[1] - MANY[0] * MANY[1])
    return per_step, STEPS * (per_step - steps_alone)


def measured(size: int, rounds: int) -> dict[str, Times]:
    """Return the times of each way of training by epochs and steps, one a round."""
    times: dict[str, Times] = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        make_images(scratch / "images", size)
        one_round(scratch, size, (1, 2))  # imports, the cache entry, the MLflow store
        for _ in range(rounds):
            for length in (SHORT, LONG, MANY):
                for name, seconds in one_round(scratch, size, length).items():
                    times.setdefault(name, {}).setdefault(length, []).append(seconds)
    return times


def main() -> int:
    """Print the table; the exit code is 1 when a step costs over 2 ms of CPU time more than the bare loop's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=64, help="pixels along each side")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    quiet_lightning()
    times = measured(given.size, given.rounds)
    print(f"one 3x3 convolution, batch {BATCH}, {given.size}x{given.size} px, {STEPS} steps an epoch, one thread")
    print(
        f"{'ms per step':28}{'CPU':>8}{'ratio':>8}{'added':>8}{'median':>8}{'wall':>8}{'added':>8}{'an epoch end':>15}"
    )
    for name in times:
        (cpu, end), (wall, _) = slope(times[name], "cpu", min), slope(times[name], "wall", min)
        middle, _ = slope(times[name], "cpu", statistics.median)
        if name == "bare loop":
            bare_cpu, bare_wall, bare_middle = cpu, wall, middle
        line = f"{name:28}{cpu:8.2f}{cpu / bare_cpu:8.2f}{cpu - bare_cpu:8.2f}{middle - bare_middle:8.2f}"
        print(f"{line}{wall:8.2f}{wall - bare_wall:8.2f}{end:12.1f} ms")
    added = slope(times["medseg"], "cpu", min)[0] - bare_cpu
    print(f"medseg adds {added:.2f} ms of CPU time to a step (limit {LIMIT_MS})")
    return int(added > LIMIT_MS)


if __name__ == "__main__":
    sys.exit(main())
