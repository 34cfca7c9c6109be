"""Confusion counts of a validation batch, beside bare ``np.count_nonzero`` and torchmetrics.

Timed in interleaved rounds; the figure is the ratio of the best CPU times to three ``np.count_nonzero`` per image and
class on uint8 label maps. ``CaseScores`` starts from the int64 tensors that the validation loop has. One thread.
"""

import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassF1Score,
    MulticlassJaccardIndex,
    MulticlassPrecision,
    MulticlassRecall,
)

from medseg.metrics.epoch import CaseScores
from medseg.metrics.overlap import confusion_counts

LIMIT = 1.5
ROUNDS = 15
SHAPES = ((8, 2, 256), (8, 4, 512), (2, 2, 1024))


def bare(labels: NDArray[np.uint8], mask: NDArray[np.uint8], classes: int) -> None:
    """The yardstick: nothing but the counting."""
    for predicted, true in zip(labels, mask, strict=True):
        for label in range(classes):
            here, there = predicted == label, true == label
            np.count_nonzero(here & there), np.count_nonzero(here), np.count_nonzero(there)


def tools_for(number: int, classes: int, size: int) -> dict[str, Callable[[], object]]:
    """Return what is timed, each on the same batch of blocky label maps."""
    small = np.random.default_rng(0).integers(0, classes, (2, number, size // 16, size // 16), dtype=np.uint8)
    labels, mask = small.repeat(16, axis=2).repeat(16, axis=3)
    wide, index = [torch.from_numpy(part.astype(np.int64)) for part in (labels, mask)], torch.arange(number)
    scores = CaseScores(classes)
    kinds = (MulticlassF1Score, MulticlassJaccardIndex, MulticlassPrecision, MulticlassRecall)
    four = MetricCollection([kind(num_classes=classes) for kind in kinds])
    return {
        "bare": lambda: bare(labels, mask, classes),
        "counts": lambda: [confusion_counts(*pair, classes) for pair in zip(labels, mask, strict=True)],
        "scores": lambda: scores.update_batch(*wide, index),
        "four": lambda: four(*wide),
    }


def main() -> int:
    """Print one line per batch; the exit code is 1 when the counts cost over 1.5 times the yardstick."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    over = False
    print(f"{'batch':>14} {'bare':>11} {'counts':>8} {'CaseScores':>11} {'torchmetrics x4':>16}")
    for number, classes, size in SHAPES:
        tools = tools_for(number, classes, size)
        seconds: dict[str, list[float]] = {name: [] for name in tools}
        for _ in range(ROUNDS):
            for name, tool in tools.items():
                start = time.process_time()
                tool()
                seconds[name].append(time.process_time() - start)
        best = {name: min(values) for name, values in seconds.items()}
        ratio = {name: value / best["bare"] for name, value in best.items()}
        over |= ratio["counts"] > LIMIT
        print(
            f"{f'B{number} C{classes} {size}^2':>14} {best['bare'] * 1e3:>8.2f} ms {ratio['counts']:>8.2f} "
            f"{ratio['scores']:>11.2f} {ratio['four']:>16.1f}"
        )
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
