"""Pictures that were one: halves of a two-window frame, neighbouring frames of a clip.

Some processed copies of DDTI cut frames with two windows in two and gave the second half an id above 10000, so that a
split by file puts the halves on two sides. Where the cut runs through tissue, the right edge of one half continues in
the left edge of the other; where each window has its own border, only names and sizes are left, and the finding is a
note. Frames of a clip carry consecutive numbers and differ by less than pictures of different patients do.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from medseg.data.audit.confirm import Confirmer
from medseg.data.audit.findings import LEAK, NOTE, Finding, Listing
from medseg.data.audit.pairs import Pair, Thresholds
from medseg.data.audit.verify import Verifier
from medseg.data.cases import Case

OFFSET = 10_000
"""Added to the id of a second half in the processed DDTI."""

MARGIN = 0.15
"""By how much a seam must beat every other partner of either edge: burnt-in rulers fit many pictures alike."""

_HALVES = re.compile(r"(?i)^(.*?)[_\-. ](1|l|left|a)$")
_PARTNER = {"1": "2", "l": "r", "left": "right", "a": "b"}
_NUMBER = re.compile(r"^(.*?)(\d+)(\D*)$")
CLIP_STEP = 2
"""Largest difference of the numbers of neighbouring frames."""


def half_frames(
    listed: Listing, cases: Sequence[Case], prints: np.ndarray, known: Sequence[Pair], thresholds: Thresholds
) -> Iterator[Finding]:
    """Yield pairs of different patients that look like two halves of one frame.

    A seam whose edge columns correlate is a leak across sides (``likely``; ``certain`` if the names fit too); names
    and sizes alone are a note (``possible``).

    Args:
        listed: all cases.
        cases: the case of each print.
        prints: dtype ``prints.PICTURE``.
        known: pairs that show the same; a picture's edges fit those of its mirror image.
        thresholds: what counts.
    """
    alike = {frozenset((pair.first, pair.second)) for pair in known}
    seams = dict(_seams(prints, thresholds.seam_correlation))
    named = set(_named_halves([_stem(case) for case in cases], prints["size"]))
    for left, right in sorted(set(seams) | named):
        if cases[left].patient == cases[right].patient or frozenset((left, right)) in alike:
            continue
        seam = seams.get((left, right))
        sure = "possible" if seam is None else "certain" if (left, right) in named else "likely"
        reason = "names and sizes" if seam is None else f"the right edge of '{cases[left].id}' continues"
        pair = (cases[left], cases[right])
        yield listed.finding(
            "two_window", pair, severity="" if seam is not None else NOTE, score=seam, detail=f"{sure}: {reason}"
        )


def _seams(prints: np.ndarray, least: float) -> Iterator[tuple[tuple[int, int], float]]:
    """Yield ((left, right), correlation) where a right edge continues in exactly one left edge of the same height."""
    heights = defaultdict(list)
    for place, height in enumerate(prints["size"][:, 0].tolist()):
        heights[height].append(place)
    for members in heights.values():
        if len(members) < 2:
            continue
        edges = prints["edges"][members]
        correlation = edges[:, 1] @ edges[:, 0].T
        np.fill_diagonal(correlation, 0)
        for row, column in zip(*np.nonzero(correlation >= least), strict=True):
            value = float(correlation[row, column])
            rivals = np.concatenate([np.delete(correlation[row], column), np.delete(correlation[:, column], row)])
            if rivals.max(initial=0) <= value - MARGIN:
                yield (members[row], members[column]), value


def _named_halves(stems: Sequence[str], sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield (left, right) whose names pair up (n and n + 10000, _1 and _2, _L and _R) and whose widths make a frame."""
    places = {stem.lower(): place for place, stem in enumerate(stems)}
    frames = {(int(height), int(width)) for height, width in sizes.tolist()}
    for place, stem in enumerate(stems):
        match = _HALVES.match(stem)
        partner = f"{stem[: match.start(2)]}{_PARTNER[match.group(2).lower()]}".lower() if match else ""
        if stem.isdigit():
            partner = str(int(stem) + OFFSET)
        other = places.get(partner)
        if other is None or sizes[place, 0] != sizes[other, 0]:
            continue
        whole = (int(sizes[place, 0]), int(sizes[place, 1] + sizes[other, 1]))
        if whole in frames or stem.isdigit():
            yield place, other


def clip_frames(
    listed: Listing,
    cases: Sequence[Case],
    prints: np.ndarray,
    known: Sequence[Pair],
    thresholds: Thresholds,
    confirmer: Confirmer,
) -> Iterator[Finding]:
    """Yield consecutively numbered pictures of different patients that resemble one another more than strangers do.

    Args:
        listed: all cases.
        cases: the case of each print.
        prints: dtype ``prints.PICTURE``.
        known: pairs that were found to show the same; they are not repeated.
        thresholds: what counts.
        confirmer: compares the pictures of the prints in full detail.
    """
    found = {(pair.first, pair.second) for pair in known}
    verifier = Verifier(prints)
    for first, second in _consecutive([_stem(case) for case in cases]):
        key = (min(first, second), max(first, second))
        if key in found or cases[first].patient == cases[second].patient:
            continue
        samples = prints["polars"][[first, second], 0].astype(np.float32)
        if (samples[0] * samples[1]).sum() < thresholds.similarity:  # frames of a clip lie nearly in place
            continue
        match = verifier.match(first, second, np.eye(2, 3))
        if match is None or match.correlation < thresholds.alignment or match.mirrored:
            continue
        finest = confirmer.correlation(first, second, match.warp)
        if finest < thresholds.clip_correlation:
            continue
        sides = {listed.sides[cases[place].id] for place in key}
        yield listed.finding(
            "clip",
            (cases[first], cases[second]),
            severity=LEAK if len(sides) > 1 else NOTE,
            score=finest,
            detail=f"likely: {match.words}",
        )


def _consecutive(stems: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield pairs of names that differ by at most CLIP_STEP in their last number."""
    numbered: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for place, stem in enumerate(stems):
        match = _NUMBER.match(stem)
        if match:
            numbered[match.group(1), match.group(3)].append((int(match.group(2)), place))
    for members in numbered.values():
        members.sort()
        for rank, (number, place) in enumerate(members):
            for later, other in members[rank + 1 : rank + 1 + CLIP_STEP]:
                if 0 < later - number <= CLIP_STEP:
                    yield place, other


def _stem(case: Case) -> str:
    path = case.files[0]
    return path.name.split(".")[0]
