"""The record of one pass over a split: raw numbers of every case, gathered over processes, averaged at the end only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from medseg import scores
from medseg.errors import ScoreError
from medseg.metrics.overlap import confusion_counts, label_map
from medseg.metrics.surface import border_distances, diagonal
from medseg.types import IGNORE


@dataclass(frozen=True)
class CaseRows:
    """What was recorded, one entry per case, in order of the case's index in its dataset.

    Attributes:
        index: (N,) int64, strictly increasing.
        counts: (N, K, 4) int64 in the order of ``medseg.scores.COUNTS``, background included.
        surfaces: (N, K-1, 3) float64 in the order of ``medseg.scores.DISTANCES``, inf for exactly one empty mask; None
            if distances were not asked for.
        diagonals: (N,) float64, the physical diagonal of each case's grid.
    """

    index: NDArray[np.int64]
    counts: NDArray[np.int64]
    surfaces: NDArray[np.float64] | None
    diagonals: NDArray[np.float64]


class CaseScores(Metric):
    """Keep confusion counts (and border distances) of every case; compute the headline from them.

    Nothing is averaged while batches come in, so the result does not depend on batch size, on a short last batch or on
    how many processes share the split. States are lists that torchmetrics concatenates over processes; a case that
    a distributed sampler repeated to even out the processes is recognised by its index and counted once (the first
    of them, in rank order).

    Args:
        num_classes: classes K, background included.
        surface: also measure border distances; they run on the CPU, one case at a time.
        prefix: put before every key of ``compute``, for instance ``val/``.
        kwargs: for ``torchmetrics.Metric`` (``sync_on_compute``, ``process_group``, ...).
    """

    full_state_update = False
    is_differentiable = False

    case_index: list[Tensor]
    case_counts: list[Tensor]
    case_surfaces: list[Tensor]
    case_diagonals: list[Tensor]

    def __init__(self, num_classes: int, *, surface: bool = False, prefix: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_classes < 2:
            raise ScoreError(f"CaseScores: num_classes={num_classes}; give at least 2, background included.")
        self.num_classes, self.surface, self.prefix = num_classes, surface, prefix
        for name in self._empty():
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(
        self,
        prediction: NDArray[Any] | Tensor,
        truth: NDArray[Any] | Tensor,
        *,
        index: int | Tensor,
        spacing: Sequence[float] | None = None,
    ) -> None:
        """Record one case on its native grid, or a batch when ``index`` is a (B,) tensor.

        Args:
            prediction: (*S) integer labels, with a leading batch axis for a batch of tensors.
            truth: the same shape; ``IGNORE`` pixels are left out.
            index: position of the case in its dataset.
            spacing: size of a pixel along each axis of S, 1 each if not given.

        Raises:
            ScoreError: shapes differ, labels are not whole numbers or outside 0..K-1 (on the CPU; a CUDA batch is
                not inspected, which would stall the device).
        """
        if not isinstance(index, Tensor) or index.ndim == 0:
            index, prediction, truth = torch.tensor([int(index)]), prediction[None], truth[None]
        if prediction.shape != truth.shape or len(prediction) != len(index):
            raise ScoreError(
                f"batch of {tuple(prediction.shape)} predictions, {tuple(truth.shape)} masks and {len(index)} indices; "
                "give one of each per case."
            )
        if isinstance(prediction, Tensor) and isinstance(truth, Tensor) and prediction.is_cuda and not self.surface:
            counts, surfaces = batch_counts(prediction, truth, self.num_classes), None
        else:
            counts, surfaces = self._measured(_array(prediction), _array(truth), spacing)
        size = diagonal(truth.shape[1:], spacing)
        self.case_index.append(index.detach().to(self.device, torch.int64))
        self.case_counts.append(counts.to(self.device))
        self.case_diagonals.append(torch.full((len(index),), size, dtype=torch.float64, device=self.device))
        if surfaces is not None:
            self.case_surfaces.append(surfaces.to(self.device))

    def update_batch(self, labels: Tensor, mask: Tensor, index: Tensor) -> None:
        """Record (B, *S) labels against (B, *S) masks for the cases ``index`` (B,); the way of the validation loop.

        On CUDA only a few kernels are queued and nothing waits for them (unless distances were asked for).
        """
        self.update(labels, mask, index=index)

    def compute(self) -> dict[str, float]:
        """Return the headline numbers as fractions, each key behind ``prefix``.

        Those of ``medseg.scores.case_means`` (per case) and ``medseg.scores.Pooled.headline`` (one summed confusion
        matrix), and with distances ``hd``, ``hd95``, ``assd``: means in which one empty mask counts as the diagonal.
        """
        rows = self._rows()
        if not len(rows.index):
            raise ScoreError("CaseScores: no case was recorded; call update before compute.")
        values = scores.case_means(rows.counts[:, 1:]) | scores.pooled(rows.counts).headline()
        if rows.surfaces is not None:
            distances = scores.penalised(rows.surfaces, rows.diagonals[:, None, None])
            names = ("hd", "hd95", "assd")
            values |= {name: scores.mean_of_defined(distances[..., column]) for column, name in enumerate(names)}
        return {self.prefix + name: value for name, value in values.items()}

    def gathered(self) -> CaseRows:
        """Return every recorded case of all processes; with several processes, all of them must call it."""
        if self._is_synced:
            return self._rows()
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            return self._rows()

    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return index (N,) and counts (N, K, 4) of all processes (see ``gathered``)."""
        rows = self.gathered()
        return rows.index, rows.counts

    def surfaces(self) -> NDArray[np.float64]:
        """Return raw distances (N, K-1, 3) of all processes (see ``gathered``).

        Raises:
            ScoreError: distances were not asked for.
        """
        rows = self.gathered()
        if rows.surfaces is None:
            raise ScoreError("CaseScores: distances were not measured; construct it with surface=True.")
        return rows.surfaces

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the states; a process without a case sends typed empty ones (torchmetrics would send float32)."""
        for name, empty in self._empty().items():
            if isinstance(getattr(self, name), list) and not getattr(self, name):
                setattr(self, name, [empty])
        super().sync(*args, **kwargs)

    def _empty(self) -> dict[str, Tensor]:
        classes, device = self.num_classes, self.device
        return {
            "case_index": torch.empty(0, dtype=torch.int64, device=device),
            "case_counts": torch.empty(0, classes, 4, dtype=torch.int64, device=device),
            "case_surfaces": torch.empty(0, classes - 1, len(scores.DISTANCES), dtype=torch.float64, device=device),
            "case_diagonals": torch.empty(0, dtype=torch.float64, device=device),
        }

    def _measured(
        self, prediction: NDArray[np.uint8], truth: NDArray[np.uint8], spacing: Sequence[float] | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return counts (B, K, 4) and, if asked for, distances (B, K-1, 3) of (B, *S) label maps on the CPU."""
        cases = list(zip(prediction, truth, strict=True))
        counts = [confusion_counts(labels, mask, self.num_classes) for labels, mask in cases]
        if not self.surface:
            return torch.from_numpy(np.stack(counts)), None
        distances = [self._distances(labels, mask, spacing) for labels, mask in cases]
        return torch.from_numpy(np.stack(counts)), torch.from_numpy(np.stack(distances))

    def _distances(
        self, prediction: NDArray[np.uint8], truth: NDArray[np.uint8], spacing: Sequence[float] | None
    ) -> NDArray[np.float64]:
        counted = truth != IGNORE
        values = np.empty((self.num_classes - 1, len(scores.DISTANCES)))
        for label in range(1, self.num_classes):
            found = border_distances((prediction == label) & counted, truth == label, spacing=spacing)
            values[label - 1] = [getattr(found, name) for name in scores.DISTANCES]
        return values

    def _rows(self) -> CaseRows:
        gathered = {name: _joined(getattr(self, name), empty) for name, empty in self._empty().items()}
        index, first = np.unique(gathered["case_index"], return_index=True)
        return CaseRows(
            index=index,
            counts=gathered["case_counts"][first],
            surfaces=gathered["case_surfaces"][first] if self.surface else None,
            diagonals=gathered["case_diagonals"][first],
        )


def batch_counts(labels: Tensor, mask: Tensor, num_classes: int, *, ignore: int = IGNORE) -> Tensor:
    """Return (B, K, 4) int64 counts of (B, *S) labels against masks, on their device and without waiting for it.

    The same numbers as ``medseg.metrics.overlap.confusion_counts``, without its look at stray labels.
    """
    labels, mask = labels.flatten(1), mask.flatten(1)
    valid = mask != ignore
    total = valid.sum(1)
    counts = []
    for label in range(num_classes):
        here, there = (labels == label) & valid, mask == label
        shared = (here & there).sum(1)
        false_positive, false_negative = here.sum(1) - shared, there.sum(1) - shared
        counts.append(
            torch.stack([shared, false_positive, false_negative, total - shared - false_positive - false_negative], 1)
        )
    return torch.stack(counts, 1)


def _array(labels: NDArray[Any] | Tensor) -> NDArray[np.uint8]:
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    return label_map(array, name="label map")


def _joined(state: list[Tensor] | Tensor, empty: Tensor) -> NDArray[Any]:
    return dim_zero_cat(state if isinstance(state, Tensor) or state else [empty]).cpu().numpy()
