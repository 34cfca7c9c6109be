"""The figures of a dataset: cases, patients, prevalence and sizes by side."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.cases import Case
from medseg.data.dataset import Store
from medseg.data.prepared import Prepared
from medseg.data.splits import SIDES
from medseg.types import IGNORE, DataCard


def summary(card: DataCard, prepared: Prepared) -> dict[str, Any]:
    """Return counts of cases and patients, prevalence, labelled share and sizes by side.

    The prevalence is the foreground's share of the labelled native pixels or voxels.
    """
    sides = {side: prepared.of(side) for side in SIDES}
    split, store = prepared.split, prepared.store
    counts = {side: _counts(cases, store) for side, cases in sides.items()}
    sizes = Counter(store.geometry(case.id).native_size for cases in sides.values() for case in cases)
    return {
        "name": card.name,
        "synthetic": card.synthetic,
        "digest": prepared.digest,
        "cases": {side: len(cases) for side, cases in sides.items()},
        "patients": {side: len({case.patient for case in cases}) for side, cases in sides.items()},
        "prevalence": {side: _share(found[1:IGNORE], found[:IGNORE]) for side, found in counts.items()},
        "labelled": {side: _share(found[:IGNORE], found) for side, found in counts.items()},
        "sizes": {"x".join(map(str, size)): count for size, count in sizes.most_common()},
        "split": {"name": split.name, "hash": split.hash, "leaky": split.leaky, "seed": split.seed},
    }


def _counts(cases: Sequence[Case], store: Store) -> NDArray[np.int64]:
    """Return how many native pixels have each label, (256,)."""
    counts = np.zeros(IGNORE + 1, np.int64)
    for case in cases:
        counts += np.bincount(store.truth(case.id).ravel(), minlength=IGNORE + 1)
    return counts


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> float | None:
    """Return the share of some counts in others; None where there is nothing to count."""
    return int(part.sum()) / total if (total := int(whole.sum())) else None
