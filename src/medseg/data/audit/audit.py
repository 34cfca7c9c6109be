"""The whole audit: prints of all files, pairs among them, findings."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medseg.data.audit import prints as printing
from medseg.data.audit.confirm import Confirmer
from medseg.data.audit.findings import (
    LEAK,
    NOTE,
    Finding,
    Listing,
    cut_patients,
    listing,
    parted_twins,
    ranked,
    same_content,
    same_names,
)
from medseg.data.audit.frames import clip_frames, half_frames
from medseg.data.audit.pairs import Pair, Thresholds, picture_pairs, volume_pairs
from medseg.data.cache import content_hashes
from medseg.data.cases import Case
from medseg.data.files import read_image


@dataclass(frozen=True)
class Audit:
    """What was looked at and what was found.

    Attributes:
        findings: leaks first.
        files: SHA-256 of every file of the cases.
        pictures: 2D image files compared.
        volumes: volume files compared.
        unchecked: candidate pairs left out by ``max_pairs``.
        within: whether resembling pictures were also looked for within a side.
    """

    findings: tuple[Finding, ...]
    files: Mapping[Path, str] = field(repr=False)
    pictures: int
    volumes: int
    unchecked: int
    within: bool = True

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """The findings across sides."""
        return tuple(finding for finding in self.findings if finding.severity == LEAK)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Kind to severity to number of findings."""
        counts: dict[str, dict[str, int]] = {}
        for finding in self.findings:
            kind = counts.setdefault(finding.kind, {})
            kind[finding.severity] = kind.get(finding.severity, 0) + 1
        return counts


def audit(
    sides: Mapping[str, Sequence[Case]],
    *,
    thresholds: Thresholds,
    cache: Path | None = None,
    within: bool = True,
    progress: Callable[[int], None] = lambda count: None,
) -> Audit:
    """Return what the sides of a split, or several datasets, share.

    Args:
        sides: side (or name of another dataset) to its cases; case ids are unique over all.
        thresholds: what counts as the same.
        within: whether to look for resembling pictures within a side too; equal files are always found.
        cache: folder of prints, so that a file is decoded once; None keeps nothing.
        progress: told how many more image files are done.

    Raises:
        DataError: a file is unreadable.
    """
    listed = listing(sides)
    originals = [case for case in listed.cases if case.twin is None]
    hashes = content_hashes(originals)
    where = [(case, path) for case in originals for path in case.images if path is not None]
    flat = [(case, path) for case, path in where if not _is_volume(path)]
    deep = [(case, path) for case, path in where if _is_volume(path)]
    kept = None if cache is None else cache / "prints"
    paths = [path for _, path in flat]
    pictures = printing.prints_of(
        paths, hashes, make=printing.picture_print, dtype=printing.PICTURE, cache=kept, progress=progress
    )
    paths = [path for _, path in deep]
    volumes = printing.prints_of(
        paths, hashes, make=printing.volume_print, dtype=printing.VOLUME, cache=kept, progress=progress
    )
    known = _exact(listed, where, hashes, [*zip(flat, pictures, strict=True), *zip(deep, volumes, strict=True)])
    owners = [case for case, _ in flat]
    names = {side: number for number, side in enumerate(sides)}
    places = None if within else np.array([names[listed.sides[case.id]] for case in owners], np.int64)

    def read(number: int) -> np.ndarray:
        return read_image(flat[number][1], channels=1)[..., 0]

    pairs, unchecked = picture_pairs(pictures, thresholds, read=read, sides=places)
    findings = [*known, *_alike(listed, owners, pairs, known)]
    findings += _alike(listed, [case for case, _ in deep], volume_pairs(volumes, thresholds), known)
    findings += _framed(listed, owners, pictures, pairs, thresholds, read)
    findings += [*cut_patients(listed), *parted_twins(listed), *same_names(listed)]
    return Audit(tuple(ranked(findings)), hashes, len(flat), len(deep), unchecked, within)


def _is_volume(path: Path) -> bool:
    return printing.is_volume_file(path)


def _exact(
    listed: Listing,
    where: Sequence[tuple[Case, Path]],
    hashes: Mapping[Path, str],
    printed: Sequence[tuple[tuple[Case, Path], np.void]],
) -> list[Finding]:
    """Return equal files, and files that are equal once decoded."""
    files: dict[str, list[str]] = {}
    pixels: dict[str, list[str]] = {}
    for case, path in where:
        files.setdefault(case.id, []).append(hashes[path])
    for (case, _), row in printed:
        pixels.setdefault(case.id, []).append(row["pixels"].decode())
    by_file = same_content(listed, files, kind="same_file")
    seen = {finding.cases for finding in by_file}
    return [*by_file, *(f for f in same_content(listed, pixels, kind="same_pixels") if f.cases not in seen)]


def _alike(listed: Listing, owners: Sequence[Case], pairs: Sequence[Pair], known: Sequence[Finding]) -> list[Finding]:
    """Return pairs that show the same, without those already known to be equal; the best pair of two cases only."""
    best: dict[tuple[str, str], Pair] = {}
    for pair in pairs:
        one, other = sorted((owners[pair.first].id, owners[pair.second].id))
        kept = best.get((one, other))
        if one != other and (kept is None or pair.match.correlation > kept.match.correlation):
            best[one, other] = pair
    equal = [set(finding.cases) for finding in known]
    return [
        _finding(listed, owners[pair.first], owners[pair.second], pair)
        for key, pair in best.items()
        if not any(group.issuperset(key) for group in equal)
    ]


def _finding(listed: Listing, one: Case, other: Case, pair: Pair) -> Finding:
    match = pair.match
    # Neighbouring pictures of a patient resemble one another; as long as they stay on one side that is no fault.
    own = one.patient == other.patient and listed.sides[one.id] == listed.sides[other.id]
    return listed.finding(
        "transformed" if match.moved else "near",
        (one, other),
        severity=NOTE if own else "",
        score=match.correlation,
        distance=pair.distance,
        detail=f"same patient, {match.words}" if own else match.words,
    )


def _framed(
    listed: Listing,
    owners: Sequence[Case],
    pictures: np.ndarray,
    pairs: Sequence[Pair],
    thresholds: Thresholds,
    read: Callable[[int], np.ndarray],
) -> Iterator[Finding]:
    yield from half_frames(listed, owners, pictures, pairs, thresholds)
    yield from clip_frames(listed, owners, pictures, pairs, thresholds, Confirmer(read))
