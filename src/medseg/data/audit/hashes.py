"""Perceptual hashes: 64 bits that survive compression, scaling and grey curves, in all eight flips and rotations.

The hash is the classical one: the signs, against their median, of the 64 lowest cosine coefficients of a 32 x 32
picture, here of the lit region, the first coefficient left out of the median. A picture has eight of them, one for each
flip or quarter turn; the distance of two pictures is the smallest Hamming distance from the first hash of one to any of
the other's, so that it knows no orientation.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from medseg.data.steps.crop import CropBorder

SIDE = 32
BLOCK = 512
"""Pictures compared with all others at once."""

_BITS = np.uint64(1) << np.arange(64, dtype=np.uint64)


def content_box(grey: np.ndarray) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) of the lit region of a grey uint8 picture (H, W)."""
    return CropBorder().box(grey[..., None])


def dihedral(square: np.ndarray, number: int) -> np.ndarray:
    """Return flip ``number`` of a square picture: 1 mirrors columns, 2 mirrors rows, 4 transposes before that."""
    turned = square.T if number & 4 else square
    turned = turned[:, ::-1] if number & 1 else turned
    return turned[::-1] if number & 2 else turned


def dihedral_matrix(number: int) -> np.ndarray:
    """Return the 2 x 2 matrix D with ``dihedral(picture, number)(u) = picture(D u)`` for u = (x, y) from the centre."""
    flips = np.diag([-1.0 if number & 1 else 1.0, -1.0 if number & 2 else 1.0])
    return flips[::-1] if number & 4 else flips


def perceptual_hashes(grey: np.ndarray) -> np.ndarray:
    """Return the hashes, uint64 (8,), of the flips 0 to 7 of a grey picture (H, W), uint8 or float32."""
    small = cv2.resize(grey.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.array([_hash(np.ascontiguousarray(dihedral(small, number))) for number in range(8)], np.uint64)


def _hash(square: np.ndarray) -> np.uint64:
    low = cv2.dct(square)[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return np.bitwise_or.reduce(_BITS[bits]) if bits.any() else np.uint64(0)


def distances(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance of every pair and the flip of the second picture at which it is reached.

    Args:
        first: hashes uint64 (n,), of the pictures as they are.
        second: hashes uint64 (m, 8).

    Returns:
        uint8 (n, m), 0 to 64, and uint8 (n, m), 0 to 7.
    """
    best = np.bitwise_count(first[:, None] ^ second[None, :, 0])
    flip = np.zeros_like(best)
    for number in range(1, 8):
        found = np.bitwise_count(first[:, None] ^ second[None, :, number])
        closer = found < best
        np.copyto(best, found, where=closer)
        flip[closer] = number
    return best, flip


def close_pairs(hashes: np.ndarray, *, limit: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (i, j, distance, flip of j) of all pairs i < j within a distance.

    Args:
        hashes: uint64 (N, 8).
        limit: largest distance.
    """
    for start in range(0, len(hashes), BLOCK):
        block, rest = hashes[start : start + BLOCK, 0], hashes[start:]
        nearest = np.bitwise_count(block[:, None] ^ rest[None, :, 0])
        for number in range(1, 8):
            np.minimum(nearest, np.bitwise_count(block[:, None] ^ rest[None, :, number]), out=nearest)
        rows, columns = np.nonzero(nearest <= limit)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if row < column:
                each = np.bitwise_count(block[row] ^ rest[column])
                yield start + row, start + column, int(each.min()), int(each.argmin())
