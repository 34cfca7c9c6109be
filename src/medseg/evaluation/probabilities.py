"""Class probabilities of a side's cases on their native grids: predicted one by one, kept in files, scored."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pandas import DataFrame
from torch import Tensor, nn

from medseg.data.cases import Case, annotated_classes
from medseg.data.datamodule import SegmentationData
from medseg.data.preprocess import native_logits
from medseg.errors import RunError, ScoreError
from medseg.evaluation.postprocess.contract import Labels, Probabilities
from medseg.evaluation.score import table_of
from medseg.evaluation.tta import Tta
from medseg.metrics.epoch import CaseScores
from medseg.stats.reliability import reliability_rows
from medseg.training.measuring import gives_probabilities
from medseg.training.module import SegmentationModule
from medseg.types import Geometry

STEPS_OF_ONE = 65534
"""A kept probability is a whole number of these parts; one more is room for the winner of a tie."""

SPARE_BYTES = 100_000_000
"""Space that a folder must have left."""


@dataclass(frozen=True)
class Predicted:
    """What a network says about one case.

    Attributes:
        number: place of the case in its side.
        case: the case.
        plain: (K, *S) float32 probabilities on the native grid, from the image as it is.
        mean: (K, *S) likewise, the mean over the views; the same array where there is one view.
        truth: (*S) uint8.
        spacing: size of a native pixel along each axis.
        annotated: (K,) which classes the case annotates; None: all of them.
    """

    number: int
    case: Case
    plain: Probabilities
    mean: Probabilities
    truth: Labels
    spacing: tuple[float, ...]
    annotated: tuple[bool, ...] | None = None


def predicted(
    module: SegmentationModule, data: SegmentationData, side: str, *, tta: Tta | None = None, device: str = "cpu"
) -> Iterator[Predicted]:
    """Yield every case of a side, in order; no more than a batch is held.

    An interactive network gets the exact marks of its simulated user, as when it was scored.

    Args:
        module: with the weights to be used.
        data: prepared and set up.
        side: ``train``, ``val`` or ``test``.
        tta: the views; the image as it is if not given.
        device: as torch names it.
    """
    module.to(device).eval()
    views, cases = tta or Tta(), data.cases(side)
    for batch in data.evaluation_dataloader(side):
        batch["image"] = batch["image"].to(device)
        with torch.inference_mode():
            image = module.prompted(batch, jitter=False)
            plain, mean = views.logits(lambda seen: module.view.predict(module, seen), image)
        for place, geometry in enumerate(batch["geometry"]):
            number = int(batch["index"][place])
            first = _native(plain[place], geometry, case=cases[number].id)
            second = first if mean is plain else _native(mean[place], geometry, case=cases[number].id)
            flags = annotated_classes(cases[number], classes=data.card.classes)
            known, truth = None if all(flags) else flags, batch["truth"][place]
            yield Predicted(number, cases[number], first, second, truth, geometry.spacing, known)


def _native(logits: Tensor, geometry: Geometry, *, case: str) -> Probabilities:
    with torch.inference_mode():
        probabilities = native_logits(logits, geometry).softmax(0)
    if bool(torch.isnan(probabilities).any()):
        raise ScoreError(f"case '{case}': the network's output is not a number (NaN); look at its weights.")
    return probabilities.cpu().numpy()


def grey_image(data: SegmentationData, case: Case) -> NDArray[np.float32]:
    """Return the native image of a case as grey values (*S) in 0..1, of several channels of a volume the first."""
    image, _ = data.read(case)
    return as_grey(image, volume=data.is_volume)


def as_grey(image: NDArray[np.uint8] | NDArray[np.float32], *, volume: bool) -> NDArray[np.float32]:
    """Return grey values (*S) in 0..1 of a picture uint8 (H, W, C), or of a volume (C, D, H, W) between percentiles."""
    if not volume:
        return image.mean(axis=2, dtype=np.float32) / np.float32(255)
    low, high = np.percentile(image[0], (0.5, 99.5))
    return np.clip((image[0] - low) / max(float(high - low), 1e-6), 0, 1).astype(np.float32)


@dataclass(frozen=True)
class Stored:
    """What a store knows of a case beside its arrays; ``annotated`` as in :class:`Predicted`."""

    number: int
    case: str
    patient: str
    spacing: tuple[float, ...]
    annotated: tuple[bool, ...] | None = None


class ProbabilityStore:
    """Probabilities and truths of cases in a folder, one case in memory at a time.

    Probabilities are kept as 16-bit whole numbers; the label map of what is read is that of what was written.

    Args:
        folder: an empty folder, made if it is not there.

    Raises:
        RunError: in :meth:`put`, the folder's disk is nearly full.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.cases = folder, list[Stored]()
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, entry: Stored, probabilities: Probabilities, truth: Labels | None = None) -> None:
        """Write a case, or new probabilities of a case that is there (then without a truth)."""
        if shutil.disk_usage(self.folder).free < probabilities.nbytes + SPARE_BYTES:
            raise RunError(
                f"{self.folder}: no space left for the probabilities of case '{entry.case}'; set TMPDIR to a folder on "
                "a larger disk."
            )
        np.save(self._path("probabilities", entry.number), quantised(probabilities))
        if truth is not None:
            np.save(self._path("truth", entry.number), truth)
            self.cases.append(entry)

    def probabilities(self, number: int) -> Probabilities:
        """Return the probabilities (K, *S) float32 of a case."""
        return np.load(self._path("probabilities", number)).astype(np.float32) / np.float32(STEPS_OF_ONE)

    def truth(self, number: int) -> Labels:
        """Return the truth (*S) uint8 of a case."""
        return np.load(self._path("truth", number))

    def _path(self, kind: str, number: int) -> Path:
        return self.folder / f"{kind}-{number}.npy"


def quantised(probabilities: Probabilities) -> NDArray[np.uint16]:
    """Return probabilities (K, *S) as whole numbers of ``STEPS_OF_ONE`` whose largest class is the same everywhere."""
    whole = np.rint(np.clip(probabilities, 0, 1) * np.float32(STEPS_OF_ONE)).astype(np.uint16)
    winner = probabilities.argmax(axis=0)
    places = np.nonzero(whole.argmax(axis=0) != winner)  # rounding can only make ties
    whole[(winner[places], *places)] += 1
    return whole


class Scorer:
    """The tables of one side, case by case.

    Args:
        data: whose card names the classes.
        side: that is scored.
        probabilities: whether what is scored are probabilities; of hard answers no calibration is measured.
    """

    def __init__(self, data: SegmentationData, side: str, *, probabilities: bool = True) -> None:
        self.data, self.side, self.probabilities = data, side, probabilities
        self.scores = CaseScores(num_classes=data.card.num_classes, measure=True)

    def add(self, item: Predicted, probabilities: Probabilities, labels: Labels) -> None:
        """Score the probabilities (K, *S) and the label map (*S) that were made of a prediction."""
        self.scores.update(
            labels,
            item.truth,
            index=item.number,
            spacing=item.spacing,
            tolerance=self.data.card.nsd_tolerance,
            probabilities=probabilities[1:] if self.probabilities else None,
            annotated=item.annotated,
        )

    def tables(self) -> tuple[DataFrame, DataFrame | None]:
        """Return the score table and the reliability table of all cases added, None for hard answers."""
        rows = self.scores.gathered()
        scores = table_of(rows, self.data, self.side)
        if rows.reliability is None:
            return scores, None
        cases = self.data.cases(self.side)
        return scores, reliability_rows(rows.reliability, [cases[number].id for number in rows.index])


def all_give_probabilities(nets: Sequence[nn.Module]) -> bool:
    """Return whether the mean of what these networks answer is a probability."""
    return all(gives_probabilities(net) for net in nets)
