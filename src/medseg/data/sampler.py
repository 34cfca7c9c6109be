"""Which case comes when, the same for any number of processes and workers."""

from collections.abc import Iterator

from torch.utils.data import Sampler

from medseg.errors import ConfigError
from medseg.rng import generator


class EpochSampler(Sampler[tuple[int, int]]):
    """Yield ``(epoch, index)`` for one of ``world`` processes.

    The epoch travels with the index because persistent workers do not see it change otherwise. Process ``rank`` takes
    every ``world``-th place of one common order, so the k-th batches of all processes together are the k-th batch of
    a single process with ``world`` times the batch size.

    Args:
        size: number of cases.
        seed: root seed; the order of an epoch depends on it and on the epoch alone.
        shuffle: whether to permute.
        rank: number of this process.
        world: number of processes.
        drop_last_to: if positive, the order is cut to a multiple of it (the global batch size). Otherwise it is
            lengthened to a multiple of ``world`` by repeating its start; repeated indices are to be counted once.

    Raises:
        ConfigError: cutting would leave nothing.
    """

    def __init__(
        self, *, size: int, seed: int, shuffle: bool, rank: int = 0, world: int = 1, drop_last_to: int = 0
    ) -> None:
        if drop_last_to > size:
            raise ConfigError(
                f"data.batch_size={drop_last_to} exceeds the {size} training case(s); "
                f"set data.batch_size={max(size, 1)} or lower, or use a larger training side."
            )
        self.size, self.seed, self.shuffle = size, seed, shuffle
        self.rank, self.world, self.drop_last_to = rank, world, drop_last_to
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; Lightning calls this."""
        self.epoch = epoch

    def _length(self) -> int:
        if self.drop_last_to:
            return self.size // self.drop_last_to * self.drop_last_to
        return -(-self.size // self.world) * self.world

    def __len__(self) -> int:
        """Return the number of indices for this process."""
        return self._length() // self.world

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (epoch, index) in the order of the epoch."""
        order = list(range(self.size))
        if self.shuffle:
            order = generator(self.seed, "shuffle", self.epoch).permutation(self.size).tolist()
        length, epoch = self._length(), self.epoch
        places = range(self.rank, length, self.world)
        return iter([(epoch, order[place % self.size]) for place in places])
