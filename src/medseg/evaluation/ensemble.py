"""Several runs as one: the mean of their class probabilities on the native grid, and how far they disagree."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg import scores
from medseg.data.splits import Split
from medseg.errors import RunError
from medseg.evaluation.gains import Judge
from medseg.evaluation.postprocess.contract import Labels, labels_of
from medseg.evaluation.probabilities import Predicted

WEIGHTS = ("equal", "validation")
"""``equal``; ``validation``: in proportion to each member's own mean score over its validation patients."""

SHOWN = 3
"""Cases that a message lists before it only counts."""


@dataclass(frozen=True)
class Member:
    """One run of an ensemble.

    Attributes:
        folder: where it lies.
        record: its ``run.json``.
        split: its ``split.json``.
    """

    folder: Path
    record: Mapping[str, Any]
    split: Split

    @property
    def test(self) -> frozenset[str]:
        """Its test cases."""
        return frozenset(self.split.sides["test"])

    @property
    def seen(self) -> frozenset[str]:
        """The cases that fitted it or chose among its states."""
        return frozenset(self.split.sides["train"]) | frozenset(self.split.sides["val"])


def check_members(members: Sequence[Member]) -> None:
    """Refuse runs whose mean would say nothing, or too much.

    Preprocessing may differ, for the mean is taken on the native grid. Seeds on one split and folds with one test side
    of their own (nested cross-validation, a fixed test side) may be averaged. The models of a k-fold may not: each has
    learnt from the others' test cases.

    Raises:
        RunError: fewer than two runs, one given twice, other data or classes, other test sides.
    """
    if len(members) < 2:
        raise RunError(f"an ensemble needs at least two runs, {len(members)} given; name more folders.")
    first = members[0]
    for place, member in enumerate(members[1:], start=1):
        twin = next((other for other in members[:place] if other.record["key"] == member.record["key"]), None)
        if twin is not None:
            raise RunError(
                f"{member.folder} is {twin.folder} once more (key {member.record['key']}); give each run once."
            )
        for name, what in (("digest", "files"), ("classes", "classes")):
            ours, theirs = first.record["data"][name], member.record["data"][name]
            if ours != theirs:
                raise RunError(
                    f"{member.folder} has other {what} of data={member.record['data']['name']} than {first.folder} "
                    f"({_short(theirs)}, not {_short(ours)}); average runs on one dataset only."
                )
        _check_tests(first, member)


def _check_tests(first: Member, other: Member) -> None:
    """Refuse two runs with different test sides; name the cases that one learnt from and the other is judged on."""
    if first.test == other.test:
        return
    for judged, learnt in ((first, other), (other, first)):
        leaked = sorted(judged.test & learnt.seen)
        if leaked:
            more = "" if len(leaked) <= SHOWN else f" and {len(leaked) - SHOWN} more"
            raise RunError(
                f"{learnt.folder} has learnt from {len(leaked)} of the {len(judged.test)} test cases of "
                f"{judged.folder} ({', '.join(leaked[:SHOWN])}{more}): folds of a k-fold cannot be averaged; take "
                "seeds of one fold, or folds with a common test side (split=nested_kfold)."
            )
    raise RunError(
        f"{other.folder} was tested on {len(other.test)} cases, {first.folder} on {len(first.test)}, and they are not "
        "the same; average runs with one test side."
    )


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else ", ".join(map(str, value))


@dataclass(frozen=True)
class Averaged:
    """The ensemble's prediction of one case and what its members say.

    Attributes:
        item: with the weighted mean of the members' probabilities, as ``plain`` and as ``mean``.
        labels: label map of each member, uint8 (*S).
    """

    item: Predicted
    labels: tuple[Labels, ...]


def averaged(streams: Sequence[Iterable[Predicted]], *, weights: Sequence[float]) -> Iterator[Averaged]:
    """Yield the weighted mean of several predictions of the same cases, one case at a time.

    Args:
        streams: the predictions of each member; cases may come in any order that is the same for all.
        weights: of each member; they are brought to the sum 1.

    Raises:
        RunError: the members disagree on the cases or on the size of one.
    """
    shares = np.asarray(weights, np.float64) / float(np.sum(weights))
    for items in zip(*streams, strict=True):
        first = items[0]
        total: NDArray[np.float32] = np.zeros(first.mean.shape, np.float32)
        for item, share in zip(items, shares, strict=True):
            if item.case.id != first.case.id or item.mean.shape != first.mean.shape:
                raise RunError(
                    f"case '{first.case.id}' {first.mean.shape} meets '{item.case.id}' {item.mean.shape}: the members "
                    "were not made with the same files; train them again."
                )
            total += np.float32(share) * item.mean
        yield Averaged(replace(first, plain=total, mean=total), tuple(labels_of(item.mean) for item in items))


def pairwise_dice(labels: Sequence[Labels], *, classes: int) -> NDArray[np.float64]:
    """Return the mean Dice over all pairs of members, (K-1,) by foreground class; two empty masks agree with 1.

    How far an ensemble agrees with itself needs no truth; it is the baseline for detecting failures that other measures
    of uncertainty have to beat (Zenk et al., Medical Image Analysis 2025).

    Args:
        labels: M >= 2 label maps (*S).
        classes: K, background included.
    """
    pairs = [
        [_dice(one == label, other == label) for label in range(1, classes)] for one, other in combinations(labels, 2)
    ]
    return np.mean(np.array(pairs, np.float64), axis=0)


def _dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    shared, either = int((one & other).sum()), int(one.sum()) + int(other.sum())
    return 2 * shared / either if either else 1.0


def validation_weight(items: Iterable[Predicted], *, judge: Judge, source: str) -> float:
    """Return a member's mean score over its validation patients, from its own predictions of that side.

    Raises:
        RunError: the side has no case, or the mean is 0 or undefined.
    """
    by_patient: dict[str, list[float]] = {}
    for item in items:
        labels = labels_of(item.mean)
        value = judge.value(labels, item.truth, classes=len(item.mean), annotated=item.annotated)
        by_patient.setdefault(item.case.patient, []).append(value)
    mean = scores.mean_of_defined([scores.mean_of_defined(found) for found in by_patient.values()])
    if not mean > 0:
        raise RunError(
            f"{source}: mean {judge.metric} on the validation side is {mean} ({len(by_patient)} patients), which is no "
            "weight; use weights=equal."
        )
    return mean
