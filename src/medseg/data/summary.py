"""The figures of a dataset: cases, patients, prevalence and sizes by side."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medseg.data.cases import Case
from medseg.data.dataset import Store
from medseg.types import IGNORE


def side_figures(sides: Mapping[str, Sequence[Case]], store: Store) -> dict[str, Any]:
    """Return cases, patients, foreground prevalence (share of labelled native pixels or voxels) and native sizes."""
    sizes = Counter(store.geometry(case.id).native_size for cases in sides.values() for case in cases)
    return {
        "cases": {side: len(cases) for side, cases in sides.items()},
        "patients": {side: len({case.patient for case in cases}) for side, cases in sides.items()},
        "prevalence": {side: _prevalence(cases, store) for side, cases in sides.items()},
        "sizes": {"x".join(map(str, size)): count for size, count in sizes.most_common()},
    }


def _prevalence(cases: Sequence[Case], store: Store) -> float | None:
    counts = np.zeros(IGNORE + 1, np.int64)
    for case in cases:
        counts += np.bincount(store.truth(case.id).ravel(), minlength=IGNORE + 1)
    pixels = int(counts[:IGNORE].sum())
    return int(counts[1:IGNORE].sum()) / pixels if pixels else None
