"""What an audit finds, and what can be found without comparing pictures."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medseg.data.cases import Case

LEAK, DUPLICATE, NOTE = "leak", "duplicate", "note"

KINDS = {
    "same_file": "files with the same bytes",
    "same_pixels": "files with the same decoded pixels",
    "transformed": "one picture is the other turned, mirrored, scaled, cut or shifted",
    "near": "the same picture, compressed, scaled, noisier or on another grey curve",
    "twin": "a made twin and its original",
    "patient": "one patient (group) on several sides",
    "two_window": "halves of one frame with two windows under different patients",
    "clip": "consecutive numbers under different patients that look like one clip",
    "same_name": "one file name under different patients",
}
"""Every kind of finding, the strongest first."""


@dataclass(frozen=True)
class Finding:
    """Cases that share something.

    Attributes:
        kind: one of KINDS.
        severity: ``leak`` (across sides or datasets), ``duplicate`` (on one side) or ``note``.
        cases: their ids, sorted with ``patients`` and ``sides`` in parallel.
        patients: the group of each.
        sides: train, val or test of each, or the name of another dataset.
        score: correlation after alignment, or None.
        distance: Hamming distance of the hashes, or None.
        detail: the transform or the reason, in words.
    """

    kind: str
    severity: str
    cases: tuple[str, ...]
    patients: tuple[str, ...]
    sides: tuple[str, ...]
    score: float | None = None
    distance: int | None = None
    detail: str = ""

    @property
    def row(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {**asdict(self), **{name: list(getattr(self, name)) for name in ("cases", "patients", "sides")}}

    @property
    def words(self) -> str:
        """One line: which cases on which sides, and what they share."""
        shown = [f"'{case}' ({side})" for case, side in zip(self.cases[:3], self.sides, strict=False)]
        more = f" and {len(self.cases) - 3} more" if len(self.cases) > 3 else ""
        return f"{', '.join(shown)}{more}: {KINDS[self.kind]}{f' ({self.detail})' if self.detail else ''}"


@dataclass(frozen=True)
class Listing:
    """The cases under audit.

    Attributes:
        cases: of all sides, twins included.
        sides: case id to side, or to the other dataset's name.
    """

    cases: tuple[Case, ...]
    sides: Mapping[str, str] = field(hash=False)

    def finding(
        self,
        kind: str,
        cases: Iterable[Case],
        *,
        severity: str = "",
        score: float | None = None,
        distance: int | None = None,
        detail: str = "",
    ) -> Finding:
        """Return a finding of these cases; without a severity, a leak if they are on several sides."""
        listed = sorted(cases, key=lambda case: case.id)
        sides = tuple(self.sides[case.id] for case in listed)
        return Finding(
            kind,
            severity or (LEAK if len(set(sides)) > 1 else DUPLICATE),
            tuple(case.id for case in listed),
            tuple(case.patient for case in listed),
            sides,
            None if score is None else round(score, 4),
            distance,
            detail,
        )


def listing(sides: Mapping[str, Sequence[Case]]) -> Listing:
    """Return the cases of all sides with the side of each."""
    return Listing(
        tuple(case for cases in sides.values() for case in cases),
        {case.id: side for side, cases in sides.items() for case in cases},
    )


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings, leaks first, then by kind, then the most certain, then by name."""
    severity = {LEAK: 0, DUPLICATE: 1, NOTE: 2}
    kinds = {kind: rank for rank, kind in enumerate(KINDS)}
    return sorted(findings, key=lambda f: (severity[f.severity], kinds[f.kind], -(f.score or 0), f.cases))


def cut_patients(listed: Listing) -> list[Finding]:
    """Return a leak for every patient with cases on several sides, named by one case of each side."""
    patients: dict[str, dict[str, Case]] = defaultdict(dict)
    counts: dict[str, int] = defaultdict(int)
    for case in sorted(listed.cases, key=lambda case: (case.twin is not None, case.id)):
        patients[case.patient].setdefault(listed.sides[case.id], case)
        counts[case.patient] += 1
    return [
        listed.finding("patient", sides.values(), detail=f"group '{patient}', {counts[patient]} cases")
        for patient, sides in patients.items()
        if len(sides) > 1
    ]


def parted_twins(listed: Listing) -> list[Finding]:
    """Return a leak for every made twin on another side than its original."""
    originals = {case.files[0]: case for case in listed.cases if case.twin is None and case.files}
    found = []
    for case in listed.cases:
        original = originals.get(case.files[0]) if case.twin is not None and case.files else None
        if original is not None and listed.sides[case.id] != listed.sides[original.id]:
            found.append(listed.finding("twin", (original, case), detail="made by the split's protocol"))
    return found


def same_content(listed: Listing, contents: Mapping[str, Iterable[str]], *, kind: str) -> list[Finding]:
    """Return a finding for every content that several cases hold.

    Args:
        listed: the cases; made twins are left out.
        contents: case id to the digests of its image files.
        kind: ``same_file`` or ``same_pixels``.
    """
    holders: dict[str, dict[str, Case]] = defaultdict(dict)
    for case in listed.cases:
        for digest in contents.get(case.id, ()):
            holders[digest][case.id] = case
    groups = {tuple(sorted(cases)): cases for cases in holders.values() if len(cases) > 1}
    return [listed.finding(kind, cases.values()) for cases in groups.values()]


def same_names(listed: Listing) -> list[Finding]:
    """Return a note for every file name (without its ending) that occurs under different patients of a dataset."""
    named: dict[str, dict[str, Case]] = defaultdict(dict)
    for case in listed.cases:
        for path in case.images:
            if path is not None and case.twin is None:
                named[_stem(path)][case.id] = case
    return [
        listed.finding("same_name", cases.values(), severity=NOTE, detail=f"file name '{stem}'")
        for stem, cases in named.items()
        if len({case.patient for case in cases.values()}) > 1
    ]


def _stem(path: Path) -> str:
    return path.name.split(".")[0].lower()


def shared_groups(findings: Iterable[Finding]) -> dict[str, str]:
    """Return the patients that findings tie together: patient to the first name of its new group.

    Notes tie nothing, but frames of one clip do: another split would part them. Neither do twins that a protocol makes.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.get(name, name) != name:
            name = parent[name]
        return name

    for finding in findings:
        if (finding.severity == NOTE and finding.kind != "clip") or finding.kind in ("twin", "patient"):
            continue
        roots = sorted({root(patient) for patient in finding.patients})
        for name in (*roots, *finding.patients):
            parent[name] = roots[0]
    return {name: root(name) for name in sorted(parent) if any(root(n) == root(name) for n in parent if n != name)}
