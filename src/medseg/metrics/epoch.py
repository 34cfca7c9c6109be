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
from medseg.metrics.case import BINS, CaseMeasures, measure_case, only_annotated
from medseg.metrics.overlap import confusion_counts, label_map
from medseg.metrics.surface import diagonal
from medseg.types import IGNORE


@dataclass(frozen=True)
class CaseRows:
    """What was recorded, one entry per case, in order of the case's index in its dataset.

    Attributes:
        index: (N,) int64, strictly increasing.
        counts: (N, K, 4) int64 in the order of ``medseg.scores.COUNTS``, background included; 0 of classes that a case
            does not annotate, and then of its background.
        measured: (N, K-1, 16) float64 in the order of ``medseg.scores.MEASURED``; None if only counts were asked for.
        reliability: (N, K-1, 15, 3) float64, the bins of :class:`medseg.metrics.case.CaseMeasures`; None if no case
            came with probabilities.
        diagonals: (N,) float64, the physical diagonal of each case's grid.
        tolerances: (N,) float64, of ``nsd_voxel``.
    """

    index: NDArray[np.int64]
    counts: NDArray[np.int64]
    measured: NDArray[np.float64] | None
    reliability: NDArray[np.float64] | None
    diagonals: NDArray[np.float64]
    tolerances: NDArray[np.float64]

    def columns(self) -> dict[str, NDArray[np.float64]] | None:
        """Return the measurements by name, each (N, K-1), as ``medseg.stats.table.score_rows`` takes them."""
        if self.measured is None:
            return None
        return {name: self.measured[..., place] for place, name in enumerate(scores.MEASURED)}


class CaseScores(Metric):
    """Keep the counts of every case, and if asked all else that a score table says; gather them over processes.

    Nothing is averaged while batches come in, so the result does not depend on batch size, on a short last batch or on
    how many processes share the split. States are lists that torchmetrics concatenates over processes; a case that
    a distributed sampler repeated to even out the processes is recognised by its index and counted once (the first
    of them, in rank order).

    Args:
        num_classes: classes K, background included.
        measure: also measure what :func:`medseg.metrics.case.measure_case` does, on the CPU, one case at a time.
        prefix: put before every key of ``compute``, for instance ``val/``.
        kwargs: for ``torchmetrics.Metric`` (``sync_on_compute``, ``process_group``, ...).
    """

    full_state_update = False
    is_differentiable = False

    case_index: list[Tensor]
    case_counts: list[Tensor]
    case_measured: list[Tensor]
    case_reliability: list[Tensor]
    case_diagonals: list[Tensor]
    case_tolerances: list[Tensor]

    def __init__(self, num_classes: int, *, measure: bool = False, prefix: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_classes < 2:
            raise ScoreError(f"CaseScores: num_classes={num_classes}; give at least 2, background included.")
        self.num_classes, self.measure, self.prefix = num_classes, measure, prefix
        for name in self._empty():
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(
        self,
        prediction: NDArray[Any] | Tensor,
        truth: NDArray[Any] | Tensor,
        *,
        index: int | Tensor,
        spacing: Sequence[float] | None = None,
        tolerance: float = 1.0,
        probabilities: NDArray[Any] | None = None,
        annotated: NDArray[np.bool_] | Sequence[bool] | Tensor | None = None,
    ) -> None:
        """Record one case on its native grid, or a batch when ``index`` is a (B,) tensor.

        Args:
            prediction: (*S) integer labels, with a leading batch axis for a batch of tensors.
            truth: the same shape; ``IGNORE`` pixels are left out.
            index: position of the case in its dataset.
            spacing: size of a pixel along each axis of S, 1 each if not given.
            tolerance: of ``nsd_voxel``, in the unit of the spacing.
            probabilities: (K - 1, *S) of the foreground classes of one case; None where they are not known.
            annotated: (K,) which classes the case annotates, background always, with a leading batch axis for a batch;
                all of them if not given.

        Raises:
            ScoreError: shapes differ, labels are not whole numbers or outside 0..K-1 (on the CPU; a CUDA batch is
                not inspected, which would stall the device).
        """
        known = None if annotated is None else torch.as_tensor(annotated, dtype=torch.bool)
        if self.measure and (not isinstance(index, Tensor) or index.ndim == 0):
            found = measure_case(
                _array(prediction), _array(truth), num_classes=self.num_classes, spacing=spacing, tolerance=tolerance,
                probabilities=probabilities, annotated=None if known is None else known.cpu().numpy(),
            )  # fmt: skip
            self.record(int(index), found)
            return
        if not isinstance(index, Tensor) or index.ndim == 0:
            index, prediction, truth = torch.tensor([int(index)]), prediction[None], truth[None]
            known = None if known is None else known[None]
        if prediction.shape != truth.shape or len(prediction) != len(index):
            raise ScoreError(
                f"batch of {tuple(prediction.shape)} predictions, {tuple(truth.shape)} masks and {len(index)} indices; "
                "give one of each per case."
            )
        if self.measure:
            each = [None] * len(index) if known is None else list(known)
            for number, labels, mask, flags in zip(index.tolist(), prediction, truth, each, strict=True):
                self.update(labels, mask, index=number, spacing=spacing, tolerance=tolerance, annotated=flags)
            return
        if isinstance(prediction, Tensor) and isinstance(truth, Tensor) and prediction.is_cuda:
            counts = batch_counts(prediction, truth, self.num_classes)
        else:
            pairs = zip(_array(prediction), _array(truth), strict=True)
            counts = torch.from_numpy(np.stack([confusion_counts(*pair, self.num_classes) for pair in pairs]))
        size = diagonal(truth.shape[1:], spacing)
        if known is not None:
            counts = only_annotated(counts, known.to(counts.device))
        self.case_index.append(index.detach().to(self.device, torch.int64))
        self.case_counts.append(counts.to(self.device))
        self.case_diagonals.append(torch.full((len(index),), size, dtype=torch.float64, device=self.device))
        self.case_tolerances.append(torch.full((len(index),), tolerance, dtype=torch.float64, device=self.device))

    def record(self, index: int, found: CaseMeasures) -> None:
        """Record one case that was measured elsewhere, for instance in another thread.

        Args:
            index: position of the case in its dataset.
            found: its measurements.
        """
        parts = {
            "case_index": np.int64(index),
            "case_counts": found.counts,
            "case_measured": found.measured,
            "case_reliability": found.reliability,
            "case_diagonals": np.float64(found.diagonal),
            "case_tolerances": np.float64(found.tolerance),
        }
        for name, value in parts.items():
            getattr(self, name).append(torch.from_numpy(np.array(value)[None]).to(self.device))

    def update_batch(self, labels: Tensor, mask: Tensor, index: Tensor, annotated: Tensor | None = None) -> None:
        """Record (B, *S) labels against (B, *S) masks for the cases ``index`` (B,); the way of the validation loop.

        Where a case annotates some classes only, ``annotated`` (B, K) bool says which.
        On CUDA only a few kernels are queued and nothing waits for them (unless distances were asked for).
        """
        self.update(labels, mask, index=index, annotated=annotated)

    def compute(self) -> dict[str, float]:
        """Return what the counts say, as fractions, each key behind ``prefix``.

        Those of ``medseg.scores.case_means`` (per case) and ``medseg.scores.Pooled.headline`` (one summed confusion
        matrix, each class over the cases that annotate it, background and ``pa`` over those that annotate all); what
        else was measured has its means in ``medseg.stats.aggregate.headline``.
        """
        rows = self._rows()
        if not len(rows.index):
            raise ScoreError("CaseScores: no case was recorded; call update before compute.")
        values = scores.case_means(rows.counts[:, 1:]) | scores.pooled(rows.counts).headline()
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
            "case_measured": torch.empty(0, classes - 1, len(scores.MEASURED), dtype=torch.float64, device=device),
            "case_reliability": torch.empty(0, classes - 1, BINS, 3, dtype=torch.float64, device=device),
            "case_diagonals": torch.empty(0, dtype=torch.float64, device=device),
            "case_tolerances": torch.empty(0, dtype=torch.float64, device=device),
        }

    def _rows(self) -> CaseRows:
        gathered = {name: _joined(getattr(self, name), empty) for name, empty in self._empty().items()}
        index, first = np.unique(gathered["case_index"], return_index=True)
        bins = gathered["case_reliability"][first] if self.measure else np.array(np.nan)
        return CaseRows(
            index=index,
            counts=gathered["case_counts"][first],
            measured=gathered["case_measured"][first] if self.measure else None,
            reliability=None if np.isnan(bins).all() else bins,
            diagonals=gathered["case_diagonals"][first],
            tolerances=gathered["case_tolerances"][first],
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
