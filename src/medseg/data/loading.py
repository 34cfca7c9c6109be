"""From a dataset to batches: one process's share, in an order that depends on the seed alone."""

from typing import TYPE_CHECKING, Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from medseg.data.dataset import collate
from medseg.data.sampler import EpochSampler
from medseg.errors import ConfigError
from medseg.rng import derive
from medseg.types import Batch, Sample

if TYPE_CHECKING:
    from lightning import Trainer


def checked_workers(num_workers: int | str, *, batch_size: int) -> int:
    """Return the number of loader processes, 0 for ``auto``.

    Raises:
        ConfigError: it is neither ``auto`` nor a number from 0 on, or the batch is empty.
    """
    workers = 0 if num_workers == "auto" else num_workers
    if batch_size < 1 or not isinstance(workers, int) or workers < 0:
        raise ConfigError(
            f"data.batch_size={batch_size}, data.num_workers={num_workers}: need >= 1 and >= 0 (or auto)."
        )
    return workers


def loader(
    dataset: Dataset[Sample],
    *,
    batch_size: int,
    seed: int,
    train: bool = False,
    full_batches: bool = True,
    singly: bool = False,
    num_workers: int = 0,
    trainer: "Trainer | None" = None,
) -> DataLoader[Batch]:
    """Return batches of a dataset of known length whose places are ``(epoch, index)``.

    Args:
        dataset: samples.
        batch_size: of all processes together; each takes its share.
        seed: root seed of the order.
        train: whether the order is shuffled anew in each epoch.
        full_batches: whether training leaves out a last batch that is not full.
        singly: whether a batch is one sample, as for whole volumes, which differ in size and fill the memory.
        num_workers: loader processes.
        trainer: tells rank, number of processes, epoch and device; none means one process on the CPU.

    Raises:
        ConfigError: the batch cannot be shared evenly, or exceeds the training cases.
    """
    rank, world = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
    if batch_size % world:
        raise ConfigError(f"data.batch_size={batch_size} is no multiple of the {world} processes; make it one.")
    size: int = len(dataset)  # type: ignore[arg-type]
    cut = batch_size if train and full_batches else 0
    sampler = EpochSampler(size=size, seed=seed, shuffle=train, rank=rank, world=world, drop_last_to=cut)
    if train and trainer is not None:
        # Loader processes ask for their first places as soon as they exist, which in a resumed training is before
        # Lightning tells the sampler the epoch.
        progress: Any = trainer.fit_loop.epoch_progress.current
        sampler.set_epoch(progress.processed)
    if num_workers:
        # A worker forked beside OpenCV's own threads waits for ever for threads that it did not inherit.
        cv2.setNumThreads(0)
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # collate makes batches of its samples
        batch_size=1 if singly else batch_size // world,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
        persistent_workers=num_workers > 0,
        worker_init_fn=_one_thread,
        # Of its own, so that the loader takes no number from the global stream that initialises the network.
        generator=torch.Generator().manual_seed(derive(seed, "loader")),
    )


def _one_thread(worker: int) -> None:
    """Keep every worker on one thread: more would fight each other for the same cores."""
    torch.set_num_threads(1)
