"""Curves and overlays, drawn from what a run's folder holds."""

from pathlib import Path

import numpy as np
from pandas import DataFrame

from medseg.data.cases import Case, by_id
from medseg.data.datamodule import SegmentationData
from medseg.evaluation.sections import best_slice, section
from medseg.journal import read_journal
from medseg.report.figures import curves
from medseg.report.overlays import Panel, overlay_grid
from medseg.report.selection import select_cases
from medseg.stats.flags import flags_of


def draw_curves(folder: Path, data: SegmentationData, label: str, *, monitor: str) -> None:
    """Draw ``curves.png`` from ``metrics.jsonl``."""
    rows = read_journal(folder / "metrics.jsonl")
    curves(rows, folder / "curves.png", label, monitor=monitor, flags=flags(data))


def draw_overlays(folder: Path, data: SegmentationData, scores: DataFrame, label: str) -> None:
    """Draw ``overlays.png``: worst, median and best cases as image, truth, prediction and contours."""
    cases = by_id([case for side in data.split.sides for case in data.cases(side)])
    panels = []
    for rank, chosen in select_cases(scores, count=2).items():
        for name in chosen:
            dice = scores.loc[scores["case"] == name, "dice"].mean()
            prediction = data.load_prediction(folder / "predictions", name)
            panels.append(_panel(data, cases[name], f"{rank}: {name}, Dice {dice:.3f}", prediction))
    overlay_grid(panels, folder / "overlays.png", caption=label, flags=flags(data))


def _panel(data: SegmentationData, case: Case, title: str, prediction: np.ndarray) -> Panel:
    """Return a picture with its truth and prediction; of a volume, the slice with most foreground."""
    image, truth = data.read(case)
    if not data.is_volume:
        return Panel(title, _picture(image, modalities=len(case.images)), truth, prediction)
    from medseg.data.volumes.cases import case_grid

    place = best_slice(truth)
    picture, (labels, predicted) = section(image, [truth, prediction], place=place, spacing=case_grid(case).spacing)
    return Panel(f"{title}, slice {place}", picture, labels, predicted)


def _picture(image: np.ndarray, *, modalities: int) -> np.ndarray:
    """Return uint8 (H, W) or (H, W, 3) of a picture (H, W, C); of several modalities the first."""
    return image if image.shape[2] == 3 and modalities == 1 else image[..., 0]


def flags(data: SegmentationData) -> tuple[str, ...]:
    """Return what nobody may overlook: that images are simulated, that the split leaks."""
    return flags_of(synthetic=data.card.synthetic, leaky=data.split.leaky)
