"""Seeds derived by purpose from one root seed; nothing else in medseg seeds anything."""

import hashlib

import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed that depends on the root seed and on what it is for.

    Args:
        seed: the root seed of the run.
        names: the purpose, for instance ``"augment", epoch, index``.
    """
    text = "\x1f".join([str(seed), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return a NumPy generator for one purpose (see :func:`derive`)."""
    return np.random.default_rng(derive(seed, *names))
