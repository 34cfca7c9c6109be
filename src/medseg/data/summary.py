"""The figures of a dataset: cases, patients, prevalence and sizes by side."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from medseg.data.cases import Case
from medseg.data.dataset import Store
from medseg.data.prepared import Prepared
from medseg.data.splits import SIDES
from medseg.types import IGNORE, DataCard


def summary(card: DataCard, prepared: Prepared) -> dict[str, Any]:
    """Return counts of cases and patients, prevalence (share of native pixels or voxels) and sizes by side."""
    sides = {side: prepared.of(side) for side in SIDES}
    split, store = prepared.split, prepared.store
    sizes = Counter(store.geometry(case.id).native_size for cases in sides.values() for case in cases)
    return {
        "name": card.name,
        "synthetic": card.synthetic,
        "digest": prepared.digest,
        "cases": {side: len(cases) for side, cases in sides.items()},
        "patients": {side: len({case.patient for case in cases}) for side, cases in sides.items()},
        "prevalence": {side: _prevalence(cases, store) for side, cases in sides.items()},
        "sizes": {"x".join(map(str, size)): count for size, count in sizes.most_common()},
        "split": {"name": split.name, "hash": split.hash, "leaky": split.leaky, "seed": split.seed},
    }


def _prevalence(cases: Sequence[Case], store: Store) -> float | None:
    counts = np.zeros(IGNORE + 1, np.int64)
    for case in cases:
        counts += np.bincount(store.truth(case.id).ravel(), minlength=IGNORE + 1)
    pixels = int(counts[:IGNORE].sum())
    return int(counts[1:IGNORE].sum()) / pixels if pixels else None
