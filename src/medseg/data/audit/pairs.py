"""Pairs of pictures or volumes that show the same: candidates from hashes and neighbours, each one verified."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np

from medseg.data.audit.confirm import Confirmer
from medseg.data.audit.hashes import close_pairs, dihedral, dihedral_matrix, distances
from medseg.data.audit.neighbours import Candidates, gathered, nearest
from medseg.data.audit.verify import Match, Verifier
from medseg.errors import ConfigError


@dataclass(frozen=True)
class Thresholds:
    """What counts as the same; every number is part of the certificate.

    Attributes:
        near_distance: hash distance up to which a pair is looked at (64 bits; strangers start at about 10).
        neighbours: most similar pictures of each that are looked at, by either centre.
        similarity: correlation of polar descriptors from which a neighbour counts.
        alignment: correlation of the thumbnails' fine details after alignment, from which a pair is looked at closely.
        correlation: of the finest details at full size, from which two pictures are the same.
        volume_correlation: of the three central slices, each, from which two volumes are the same.
        clip_correlation: of the finest details, from which consecutively numbered pictures are of one clip.
        seam_correlation: of the edge columns, from which one picture continues the other.
        max_pairs: pairs looked at in all, the most promising first; the certificate says what was left out.
    """

    near_distance: int = 8
    neighbours: int = 3
    similarity: float = 0.5
    alignment: float = 0.6
    correlation: float = 0.6
    volume_correlation: float = 0.9
    clip_correlation: float = 0.4
    seam_correlation: float = 0.8
    max_pairs: int = 100_000

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: a threshold is outside its range.
        """
        shares = [field.name for field in fields(self) if field.type is float or field.type == "float"]
        for name in shares:
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"audit.{name}={getattr(self, name)}: a correlation lies above 0 and up to 1.")
        if not 0 <= self.near_distance <= 16:
            raise ConfigError(f"audit.near_distance={self.near_distance}: give 0 to 16 of 64 bits.")
        if self.neighbours < 1 or self.max_pairs < 1:
            raise ConfigError(f"audit.neighbours={self.neighbours}, audit.max_pairs={self.max_pairs}: give 1 or more.")


@dataclass(frozen=True)
class Pair:
    """Two prints that show the same: rows i < j, hash distance (None if it was not small) and alignment."""

    first: int
    second: int
    distance: int | None
    match: Match


def picture_pairs(
    prints: np.ndarray,
    thresholds: Thresholds,
    *,
    read: Callable[[int], np.ndarray],
    sides: np.ndarray | None = None,
) -> tuple[list[Pair], int]:
    """Return the pairs of pictures that show the same, and how many candidates ``max_pairs`` left out.

    Args:
        prints: (N,) of dtype ``prints.PICTURE``.
        thresholds: what counts.
        read: row of the prints to the picture's grey values, uint8 (H, W); asked for promising pairs only.
        sides: int (N,), pairs of equal sides are left out; None looks at all.
    """
    if len(prints) < 2:
        return [], 0
    distance: dict[tuple[int, int], int] = {}
    candidates: dict[tuple[int, int], tuple[float, np.ndarray]] = {}
    for first, second, bits, flip in close_pairs(prints["hashes"], limit=thresholds.near_distance):
        distance[first, second] = bits
        warp = box_warp(prints["box"][first], prints["box"][second], flip)
        candidates[first, second] = 2.0 - bits / 64, warp  # before all neighbours
    close = nearest(prints["polars"], prints["places"], count=thresholds.neighbours, floor=thresholds.similarity)
    by_hash, close = _across(gathered(candidates), sides), _across(close, sides)
    verifier = Verifier(prints)
    hashed = _cut(by_hash, thresholds.max_pairs)
    others = _cut(close, thresholds.max_pairs - len(hashed.pairs))
    matches = verifier.matches(others, floor=thresholds.alignment)
    for key, match in verifier.matches(hashed, floor=thresholds.alignment).items():
        if key not in matches or match.correlation > matches[key].correlation:
            matches[key] = match
    left_out = len(by_hash.pairs) + len(close.pairs) - len(hashed.pairs) - len(others.pairs)
    confirmer, pairs = Confirmer(read), []
    for key in sorted(matches):
        finest = confirmer.correlation(*key, matches[key].warp)
        if finest >= thresholds.correlation:
            pairs.append(Pair(*key, distance.get(key), replace(matches[key], correlation=finest)))
    return pairs, left_out


def box_warp(box: np.ndarray, other: np.ndarray, flip: int) -> np.ndarray:
    """Return the map of ``other``'s lit box (centre x, y, width, height) on ``box`` when it is flipped by ``flip``."""
    linear = np.diag(box[2:] / 2) @ dihedral_matrix(flip).T @ np.diag(2 / np.maximum(other[2:], 1e-3))
    return np.column_stack([linear, box[:2] - linear @ other[:2]])


def _across(candidates: Candidates, sides: np.ndarray | None) -> Candidates:
    if sides is None:
        return candidates
    kept = sides[candidates.pairs[:, 0]] != sides[candidates.pairs[:, 1]]
    return Candidates(candidates.pairs[kept], candidates.warps[kept], candidates.scores[kept])


def _cut(candidates: Candidates, limit: int) -> Candidates:
    if len(candidates.pairs) <= limit:
        return candidates
    kept = np.sort(np.argsort(-candidates.scores, kind="stable")[: max(0, limit)])
    return Candidates(candidates.pairs[kept], candidates.warps[kept], candidates.scores[kept])


def volume_pairs(prints: np.ndarray, thresholds: Thresholds) -> list[Pair]:
    """Return the pairs of volumes whose central slices agree along all three axes, each in any flip.

    Args:
        prints: (N,) of dtype ``prints.VOLUME``.
        thresholds: what counts.
    """
    found = []
    for first in range(len(prints) - 1):
        rest = prints[first + 1 :]
        measured = [distances(prints["hashes"][first, axis, :1], rest["hashes"][:, axis]) for axis in range(3)]
        worst = np.max([distance[0] for distance, _ in measured], axis=0)
        for place in np.flatnonzero(worst <= thresholds.near_distance):
            flips = [int(flip[0, place]) for _, flip in measured]
            correlation = _slices_agree(prints["slices"][first], rest["slices"][place], flips)
            if correlation >= thresholds.volume_correlation:
                match = Match(correlation, 1.0, 0.0, 1.0, 0.0, any(flips))
                found.append(Pair(first, first + 1 + int(place), int(worst[place]), match))
    return found


def _slices_agree(one: np.ndarray, other: np.ndarray, flips: list[int]) -> float:
    """Return the least correlation of the details of three slices, each uint8 (64, 64)."""
    correlations = []
    for first, second, flip in zip(one, other, flips, strict=True):
        details = [
            cv2.GaussianBlur(values, (0, 0), 1) - cv2.GaussianBlur(values, (0, 0), 6)
            for values in (first.astype(np.float32), np.ascontiguousarray(dihedral(second, flip)).astype(np.float32))
        ]
        centred = [detail - detail.mean() for detail in details]
        norm = float(np.linalg.norm(centred[0]) * np.linalg.norm(centred[1]))
        correlations.append(float((centred[0] * centred[1]).sum()) / norm if norm > 0 else 0.0)
    return min(correlations)
