"""A page on disk: plots drawn, pictures made smaller, everything in one file."""

from collections.abc import Sequence
from pathlib import Path

from medseg.report.gallery import gallery
from medseg.report.html.material import Material, Trained
from medseg.report.html.plates import draw_arm
from medseg.report.html.render import render
from medseg.report.html.sections import build_page
from medseg.report.plots.sheet import Drawing
from medseg.whole import write_whole

PICTURES = 15
"""Runs whose cases are shown; with more runs one a method, and no more than this."""
PICTURE_BYTES = 2_200_000
"""For the cases of all runs together, before they are written as text, which makes them a third longer."""


def write_page(material: Material, path: Path) -> dict[str, Path]:
    """Write the page and its plots, and return the files: ``html`` and every plot by its file name.

    Args:
        material: what is shown.
        path: of the page; the plots lie in ``plots`` beside it.
    """
    drawings: list[Drawing] = []
    remarks: list[str] = []
    for arm in material.arms:
        if not arm.runs:
            continue
        plates = draw_arm(arm, path.parent / "plots")
        drawings += plates.drawings
        remarks += plates.remarks
    chosen, said = _shown(material)
    pictures, absent = gallery({run.name: run.overlays for run in chosen}, budget=PICTURE_BYTES)
    said += [f"No picture of cases: {', '.join(absent)}."] if absent else []
    page = build_page(material, drawings, pictures, {"plots": remarks, "overlays": said})
    write_whole(path, render(page))
    files = [file for drawing in drawings for file in (drawing.png, drawing.svg)]
    return {"html": path, **{file.name: file for file in files}}


def _shown(material: Material) -> tuple[Sequence[Trained], list[str]]:
    """Return the runs whose cases are shown, and what was left out."""
    runs = material.runs
    if len(runs) <= PICTURES:
        return runs, []
    firsts = [min(of_it, key=lambda run: run.seed) for arm in material.arms for of_it in arm.methods.values()]
    shown = firsts[:PICTURES]
    return shown, [f"Cases of {len(shown)} of {len(runs)} runs, one a method; the others lie in the runs' folders."]
