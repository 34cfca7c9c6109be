"""What a reader must know about the evidence of a comparison, a sentence or two each."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medseg import scores
from medseg.selection import SELECTION_SIDE
from medseg.stats.flags import LEAKY, ONE_SEED, SYNTHETIC
from medseg.stats.tested import Place

if TYPE_CHECKING:
    from medseg.stats.evidence import Training


def flag_notes(trainings: Sequence["Training"], side: str, seeds: Sequence[int]) -> list[str]:
    """Return the notes that belong into every heading, each begins with its flag: images, leaks, side, one seed."""
    said = []
    if any(training.synthetic for training in trainings):
        said.append(f"{SYNTHETIC} images: nothing here was measured on patients.")
    if any(training.leaky for training in trainings):
        said.append(f"{LEAKY}: near copies of test images were trained on; no number here is a result.")
    if side != "test":
        said.append(f"{SELECTION_SIDE}: these are scores of the {side} side, which chose checkpoints and settings.")
    if len(seeds) == 1:
        said.append(
            f"{ONE_SEED}: how far trainings scatter is unknown, so no difference here can be told from luck; train "
            "at least five seeds."
        )
    return said


def data_notes(
    trainings: Sequence["Training"],
    rows: Mapping[Place, pd.DataFrame],
    folds: NDArray[np.int64],
    seeds: Sequence[int],
    class_name: str | None,
) -> list[str]:
    """Return data, classes, splits and seeds, a sentence each."""
    table, first = next(iter(rows.values())), trainings[0]
    classes = list(dict.fromkeys(table["class_name"]))
    over = f"class {classes[0]}" if len(classes) == 1 else f"mean over the classes {', '.join(classes)}"
    number = int(folds.max()) + 1
    splits = list(dict.fromkeys(training.split[:8] for training in trainings))
    other = (
        f" Training sides differ between runs that were tested on the same cases: {len(splits)} splits."
        if len(splits) > number
        else ""
    )
    return [
        f"Data: {first.data} ({first.digest[:8]}), {table['patient'].nunique()} patients, {table['case'].nunique()} "
        f"cases, {'only ' if class_name else ''}{over}.",
        f"{'Split' if number == 1 else f'{number} folds'}: {', '.join(splits)}.{other}",
        f"Seeds: {', '.join(map(str, seeds))}.",
    ]


def empty_notes(rows: Mapping[Place, pd.DataFrame], metric: str) -> list[str]:
    """Return how many masks are empty and how many distances were penalised; of predictions a training's mean."""
    total = len(next(iter(rows.values())))
    references = int(next(iter(rows.values()))["empty_reference"].sum())
    by_method: dict[str, list[tuple[int, int]]] = {}
    for (method, _), table in rows.items():
        counts = int(table["empty_prediction"].sum()), int(table["penalised"].sum())
        by_method.setdefault(method, []).append(counts)
    means = {method: np.mean(counts, axis=0) for method, counts in by_method.items()}
    said = [f"Empty references: {references} of {total} rows (case and class)."]
    if any(mean[0] for mean in means.values()):
        told = ", ".join(f"{method} {mean[0]:.4g}" for method, mean in means.items())
        said.append(f"Empty predictions per seed: {told}.")
    if metric in scores.DISTANCES and any(mean[1] for mean in means.values()):
        told = ", ".join(f"{method} {mean[1]:.4g}" for method, mean in means.items())
        said.append(f"Exactly one empty mask counts as the image's diagonal; such rows per seed: {told}.")
    return said
