"""A whole dataset, each file read once, by several threads; what is kept of a case is small and bounded."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from medseg.data.cases import Case
from medseg.data.inspection.across import (
    comparison_findings,
    copy_findings,
    label_findings,
    list_findings,
    unprotected_files,
    unused_files,
)
from medseg.data.inspection.examine import Expected, examine
from medseg.data.inspection.figures import CaseFigures
from medseg.data.inspection.findings import Finding, faulty_cases, in_order
from medseg.data.inspection.integrity import recorded_hashes

Key = TypeVar("Key", int, float)

SAMPLED_VALUES = 8_000_000
"""Intensities kept of all cases together, 32 MB; the foreground keeps as many again."""


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        cases: as the source listed them.
        figures: of every case with a readable image, in the same order.
        findings: errors first.
    """

    cases: tuple[Case, ...]
    figures: tuple[CaseFigures, ...]
    findings: tuple[Finding, ...]

    @property
    def faulty(self) -> list[str]:
        """Ids of cases with an error."""
        return faulty_cases(self.findings)

    @property
    def sound(self) -> list[Case]:
        """Cases without an error."""
        return [case for case in self.cases if case.id not in set(self.faulty)]

    @property
    def sound_figures(self) -> list[CaseFigures]:
        """Figures of the cases without an error."""
        return [case for case in self.figures if case.case not in set(self.faulty)]


def survey(
    cases: Sequence[Case],
    expected: Expected,
    *,
    names: Sequence[str],
    root: Path | None = None,
    workers: int = 4,
    shown: bool = False,
) -> Survey:
    """Return figures and findings of a dataset; nothing is raised for bad data.

    Each worker holds one case; figures keep a bounded number of values (``SAMPLED_VALUES``).

    Args:
        cases: from a source, without twins.
        expected: what the config says; the recorded SHA-256 of manifest and ``SHA256SUMS`` are added here.
        names: class names in label order.
        root: folder of the dataset, searched for files that no case names.
        workers: threads; decoders release Python's lock.
        shown: whether a progress bar is drawn.
    """
    share = SAMPLED_VALUES // max(1, len(cases) * expected.channels)
    expected = replace(
        expected,
        recorded={**_recorded(cases, root), **expected.recorded},
        sample=max(64, min(expected.sample, share)),
    )
    figures: list[CaseFigures] = []
    findings = list_findings(cases)
    for found, notes in _progress(_ordered(cases, expected, workers), total=len(cases), shown=shown):
        findings += notes
        if found is not None:
            figures.append(found)
    files = {case.id: case.images for case in cases}
    findings += copy_findings(figures, files)
    findings += comparison_findings(figures, unit=expected.unit)
    findings += unused_files(cases, root) if root is not None else []
    findings += unprotected_files(figures)
    values, present = _added(case.mask_values for case in figures), _added(case.counts for case in figures)
    findings += label_findings(values, labels=expected.labels, present=present, names=names)
    return Survey(tuple(cases), tuple(figures), tuple(in_order(findings)))


def _ordered(
    cases: Sequence[Case], expected: Expected, workers: int
) -> Iterator[tuple[CaseFigures | None, list[Finding]]]:
    """Examine cases by a few threads, in order, never more than twice the threads ahead of what was taken."""
    waiting: list[Future[tuple[CaseFigures | None, list[Finding]]]] = []
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        rest = iter(cases)
        waiting += [pool.submit(examine, case, expected) for case in islice(rest, 2 * max(1, workers))]
        while waiting:
            done = waiting.pop(0).result()
            waiting += [pool.submit(examine, case, expected) for case in islice(rest, 1)]
            yield done


def _progress(
    results: Iterable[tuple[CaseFigures | None, list[Finding]]], *, total: int, shown: bool
) -> Iterable[tuple[CaseFigures | None, list[Finding]]]:
    from rich.progress import track

    return track(results, "reading", total=total, transient=True, disable=not shown)


def _recorded(cases: Sequence[Case], root: Path | None) -> dict[Path, str]:
    """Return SHA-256 (hex) of files from ``SHA256SUMS`` and from the manifest's columns sha256_image, sha256_mask."""
    found = {} if root is None else recorded_hashes(root)
    for case in cases:
        for column, files in (("sha256_image", case.images), ("sha256_mask", case.masks)):
            hashes = [part.strip().lower() for part in case.attributes.get(column, "").split(";")]
            if len(hashes) == len(files):
                found |= {path: part for path, part in zip(files, hashes, strict=True) if path and len(part) == 64}
    return found


def _added(counts: Iterable[Mapping[Key, int]]) -> dict[Key, int]:
    """Return the sum of counts under equal keys."""
    total: dict[Key, int] = {}
    for one in counts:
        for key, number in one.items():
            total[key] = total.get(key, 0) + number
    return total
