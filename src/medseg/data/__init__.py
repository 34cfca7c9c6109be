"""Data room: from files on disk to batches.

Lives here: cases, splits, preprocessing with its way back to the native grid, the cache, augmentation, samplers, the
datamodule, and under ``sources`` one function per kind of dataset. It is the only room that opens image files.
It may import ``errors``, ``rng`` and ``types``; it knows no network, loss or metric.
"""
