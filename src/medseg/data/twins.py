"""Twins: the second copy of every image in the 2022 preprint's enlarged thyroid dataset.

The preprint says only that each image was turned into two by rotating, translating and adding noise, and that the
doubled set was then divided 7:2:1. Ranges, interpolation, border and noise model below are our reading.
"""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from medseg.data.cases import Case
from medseg.rng import derive, generator

SUFFIX = "__twin"
ROTATION_DEGREES = 15.0
SHIFT_FRACTION = 0.08
NOISE_RANGE = (0.01, 0.05)


def add_twins(cases: Sequence[Case], *, seed: int) -> list[Case]:
    """Return the cases and one twin each (id with ``__twin``, same patient and files, a transform seed of its own)."""
    originals = [case for case in cases if case.twin is None]
    twins = [replace(case, id=case.id + SUFFIX, twin=derive(seed, "twin", case.id)) for case in originals]
    return [*cases, *twins]


def original_id(case: Case) -> str:
    """Return the id of the case that a twin was made from; an original's own id."""
    return case.id if case.twin is None else case.id.removesuffix(SUFFIX)


def apply_twin(image: np.ndarray, mask: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rotated, shifted and noisy twin of an image with its mask moved alike.

    Our reading: rotation uniform in +-15 degrees about the centre, shift uniform in +-8 % of each side, zeros from
    outside, bilinear image and nearest mask, then Gaussian noise whose standard deviation is uniform in 1-5 % of full
    scale.

    Args:
        image: uint8 (H, W, C).
        mask: uint8 (H, W).
        seed: fixes every drawn value.
    """
    rng = generator(seed, "twin")
    height, width = mask.shape
    angle = rng.uniform(-ROTATION_DEGREES, ROTATION_DEGREES)
    shift = rng.uniform(-SHIFT_FRACTION, SHIFT_FRACTION, size=2) * (width, height)
    matrix: np.ndarray = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    matrix[:, 2] = matrix[:, 2] + shift
    moved = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR).reshape(image.shape)
    labels = cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_NEAREST)
    deviation = 255 * rng.uniform(*NOISE_RANGE)
    noisy = moved + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(deviation)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), labels
