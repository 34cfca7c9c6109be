"""Patients dealt to sides: the arithmetic under every split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medseg.data.cases import Case
from medseg.data.files import foreground_fraction
from medseg.errors import DataError
from medseg.rng import generator

STRATA = 3


@dataclass(frozen=True)
class Group:
    """All cases of one patient, and the size tertile (0 small, 2 large) of the patient's mean foreground."""

    patient: str
    ids: tuple[str, ...]
    stratum: int = 0


def patient_groups(cases: Sequence[Case]) -> list[Group]:
    """Return the patients in order of their names, each with its tertile of mean foreground fraction.

    Tertiles are by rank, equal fractions in order of the patient's name, so that the result depends on nothing else.

    Raises:
        DataError: a case has no patient or its foreground cannot be read.
    """
    ids: dict[str, list[str]] = {}
    fractions: dict[str, list[float]] = {}
    for case in sorted(cases, key=lambda case: case.id):
        if not case.patient:
            raise DataError(f"case '{case.id}' has no group (patient); fill the manifest column 'group'.")
        ids.setdefault(case.patient, []).append(case.id)
        fractions.setdefault(case.patient, []).append(foreground_fraction(case))
    ranked = sorted(ids, key=lambda patient: (float(np.mean(fractions[patient])), patient))
    strata = {patient: rank * STRATA // len(ranked) for rank, patient in enumerate(ranked)}
    return [Group(patient, tuple(ids[patient]), strata[patient]) for patient in sorted(ids)]


def largest_remainder(total: int, *, weights: Mapping[str, float]) -> dict[str, int]:
    """Return whole numbers that sum to ``total`` in proportion to ``weights`` (Hamilton's method, ties to first)."""
    whole = sum(weights.values())
    exact = {name: total * weight / whole for name, weight in weights.items()}
    # The rounding keeps 0.1 * 30 from losing its unit to binary fractions.
    parts = {name: int(round(value, 9)) for name, value in exact.items()}
    order = sorted(exact, key=lambda name: round(parts[name] - exact[name], 9))
    for name in order[: total - sum(parts.values())]:
        parts[name] += 1
    return parts


def deal(groups: Sequence[Group], *, fractions: Mapping[str, float], seed: int) -> dict[str, list[Group]]:
    """Return the groups of each side, cases in proportion to ``fractions`` within every stratum and in total.

    Every side gets the whole number of cases nearest to its fraction as far as whole patients allow. Large patients
    are dealt first, to whichever side is relatively emptiest, so no side collects the large ones.

    Args:
        groups: patients with their stratum.
        fractions: side to its share; shares of 0 stay empty.
        seed: fixes the order within a stratum.

    Raises:
        DataError: fewer patients than sides with a share.
    """
    wanted = {side: share for side, share in fractions.items() if share > 0}
    sides: dict[str, list[Group]] = {side: [] for side in fractions}
    if len(groups) < len(wanted):
        raise DataError(
            f"{len(groups)} patient(s) cannot fill the sides {', '.join(wanted)}; add patients or ask for fewer sides."
        )
    remaining = largest_remainder(sum(len(group.ids) for group in groups), weights=wanted)
    for stratum in sorted({group.stratum for group in groups}):
        members = sorted((group for group in groups if group.stratum == stratum), key=lambda group: group.patient)
        order = generator(seed, "deal", stratum).permutation(len(members))
        members = sorted((members[place] for place in order), key=lambda group: -len(group.ids))
        open_sides = {side: max(count, 0) for side, count in remaining.items()}
        quota = largest_remainder(sum(len(group.ids) for group in members), weights=open_sides)
        left = dict(quota)
        for group in members:
            side = _emptiest(left, quota, len(group.ids))
            sides[side].append(group)
            left[side] -= len(group.ids)
            remaining[side] -= len(group.ids)
    _fill_empty(sides, list(wanted))
    return sides


def _emptiest(left: Mapping[str, int], quota: Mapping[str, int], size: int) -> str:
    """Return the side to which a group of ``size`` cases goes: relatively emptiest of those it fits into."""
    fitting = [side for side, places in left.items() if places >= size]
    if fitting:
        return max(fitting, key=lambda side: left[side] / quota[side])
    return max(left, key=lambda side: left[side])


def _fill_empty(sides: dict[str, list[Group]], wanted: Sequence[str]) -> None:
    """Give every side that has a share at least one patient: the smallest of the side with most patients."""
    for side in wanted:
        if not sides[side]:
            richest = max(wanted, key=lambda name: len(sides[name]))
            smallest = min(sides[richest], key=lambda group: (len(group.ids), group.patient))
            sides[richest].remove(smallest)
            sides[side].append(smallest)
