"""Curves, overlays and contact sheets, drawn from what a run's folder or a dataset holds."""

from pathlib import Path

import numpy as np
from pandas import DataFrame

from medseg.data.cases import by_id
from medseg.data.datamodule import SegmentationData
from medseg.journal import read_journal
from medseg.report.figures import curves
from medseg.report.overlays import Panel, contact_sheet, overlay_grid
from medseg.report.selection import select_cases


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
            image, truth = data.read(cases[name])
            dice = scores.loc[scores["case"] == name, "dice"].mean()
            prediction = data.read_labels(folder / "predictions" / f"{name}.png")
            panels.append(Panel(f"{rank}: {name}, Dice {dice:.3f}", np.squeeze(image), truth, prediction))
    overlay_grid(panels, folder / "overlays.png", caption=label, flags=flags(data))


def draw_contact_sheet(path: Path, data: SegmentationData, count: int) -> None:
    """Draw evenly spaced cases of a dataset with the contour of their truth."""
    cases = [case for side in data.split.sides for case in data.cases(side)]
    places = np.unique(np.linspace(0, len(cases) - 1, min(count, len(cases))).round().astype(int))
    panels = []
    for case in (cases[place] for place in places):
        image, truth = data.read(case)
        panels.append(Panel(f"{case.id}, {case.patient}", np.squeeze(image), truth, truth))
    contact_sheet(panels, path, caption=data.card.name, flags=flags(data))


def flags(data: SegmentationData) -> list[str]:
    """Return what nobody may overlook: that images are simulated, that the split leaks."""
    return ["SYNTHETIC"] * data.card.synthetic + ["LEAKY SPLIT"] * data.split.leaky
