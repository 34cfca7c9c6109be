"""Which pictures could show the same at any angle: polar descriptors and circular correlation.

A thumbnail's details are sampled on circles. A turn of the picture shifts the samples along the circles, a mirror
reverses them, so the correlation of two pictures at all angles and both handednesses is one inverse Fourier transform
of a matrix product per frequency; 500 pictures against each other take a fraction of a second. Hashes cannot do that:
pictures turned by ten degrees are as far apart as strangers. The circles are laid around two centres, the frame's and
the lit region's, because a picture turned in its frame keeps the one and a picture on another canvas keeps the other.
The same idea underlies the registration by Fourier-Mellin transforms; this search is our own reading of it.
"""

from dataclasses import dataclass

import cv2
import numpy as np

RINGS, ANGLES, FREQUENCIES = 10, 48, 16
INNER, OUTER = 0.12, 0.8
"""Radii of the circles in units of the reach (half a thumbnail)."""

PLACES = 2
"""The frame and the lit region."""

BLOCK = 256


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pairs to be looked at: i < j, and how thumbnail coordinates of j map to those of i at first guess.

    Attributes:
        pairs: int (M, 2).
        warps: float32 (M, 2, 3), x_i = warp (x_j, 1).
        scores: float32 (M,), larger is more promising.
    """

    pairs: np.ndarray
    warps: np.ndarray
    scores: np.ndarray


def polar(detail: np.ndarray, place: tuple[float, float, float]) -> np.ndarray:
    """Return the samples, float32 (RINGS, ANGLES) of norm 1, of a detail picture around a place (x, y, reach)."""
    x, y, reach = place
    radii = np.linspace(INNER, OUTER, RINGS)[:, None]
    angles = np.arange(ANGLES)[None] * (2 * np.pi / ANGLES)
    columns, rows = x + reach * radii * np.cos(angles), y + reach * radii * np.sin(angles)
    found = cv2.remap(detail, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR)
    found = found * np.sqrt(radii).astype(np.float32)
    found = found - found.mean()
    return found / (np.linalg.norm(found) + np.float32(1e-6))


def spectra(polars: np.ndarray) -> np.ndarray:
    """Return the Fourier coefficients along the circles, complex64 (FREQUENCIES, N, RINGS), of (N, RINGS, ANGLES)."""
    found = np.fft.rfft(polars.astype(np.float32), axis=2)[:, :, :FREQUENCIES]
    return np.ascontiguousarray(found.transpose(2, 0, 1)).astype(np.complex64)


def correlate(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each pair's best correlation over turns and mirroring.

    Args:
        first: spectra (FREQUENCIES, n, RINGS).
        second: spectra (FREQUENCIES, m, RINGS).

    Returns:
        (n, m) correlation, about -1 to 1; (n, m) step of the turn, 0 to ANGLES - 1; (n, m) whether mirrored.
    """
    plain = _best_turn(first, second.conj())
    mirrored = _best_turn(first, second)
    other = mirrored[0] > plain[0]
    return np.where(other, mirrored[0], plain[0]), np.where(other, mirrored[1], plain[1]), other


def _best_turn(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    product = np.matmul(first, second.transpose(0, 2, 1))
    turns = np.fft.irfft(np.ascontiguousarray(product.transpose(1, 2, 0)), n=ANGLES, axis=2)
    step = turns.argmax(axis=2)
    return np.take_along_axis(turns, step[..., None], axis=2)[..., 0].astype(np.float32), step


def turn_warp(step: int, mirrored: bool, place: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the map from coordinates around ``other`` (x, y, reach) to those around ``place``, float64 (2, 3)."""
    angle = 2 * np.pi * step / ANGLES
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if mirrored:
        linear = linear @ np.diag([1.0, -1.0])
    linear = linear * (place[2] / other[2])
    return np.column_stack([linear, place[:2] - linear @ other[:2]])


def nearest(polars: np.ndarray, places: np.ndarray, *, count: int, floor: float) -> Candidates:
    """Return, for every picture and either centre, the ``count`` most similar others above a correlation.

    Args:
        polars: (N, PLACES, RINGS, ANGLES).
        places: (N, PLACES, 3) centre x, y and reach.
        count: neighbours of each picture.
        floor: least correlation.
    """
    found: dict[tuple[int, int], tuple[float, np.ndarray]] = {}
    for kind in range(PLACES):
        spectrum = spectra(polars[:, kind])
        for start in range(0, len(polars), BLOCK):
            score, step, mirrored = correlate(spectrum[:, start : start + BLOCK], spectrum)
            for row, column in _top(score, start, count, floor):
                value, key = float(score[row, column]), (min(start + row, column), max(start + row, column))
                if key in found and found[key][0] >= value:
                    continue
                warp = turn_warp(
                    int(step[row, column]),
                    bool(mirrored[row, column]),
                    places[start + row, kind],
                    places[column, kind],
                )
                found[key] = value, warp if key[0] == start + row else cv2.invertAffineTransform(warp)
    return gathered(found)


def _top(score: np.ndarray, start: int, count: int, floor: float) -> list[tuple[int, int]]:
    """Return (row, column) of the best of each row, without the picture itself."""
    rows = np.arange(len(score))
    score[rows, start + rows] = -np.inf
    count = min(count, score.shape[1] - 1)
    if count < 1:
        return []
    best = np.argpartition(-score, count - 1, axis=1)[:, :count]
    return [(int(row), int(column)) for row in rows for column in best[row] if score[row, column] >= floor]


def gathered(found: dict[tuple[int, int], tuple[float, np.ndarray]]) -> Candidates:
    """Return (i, j) to (score, warp) as arrays, in order of the pairs."""
    keys = sorted(found)
    return Candidates(
        np.array(keys, np.int64).reshape(-1, 2),
        np.array([found[key][1] for key in keys], np.float32).reshape(-1, 2, 3),
        np.array([found[key][0] for key in keys], np.float32),
    )
