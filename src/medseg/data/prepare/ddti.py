"""DDTI: thyroid nodules in B-mode ultrasound with contours in XML (Pedraza et al., Proc. SPIE 9287, 2015).

Layout as described by public loaders and by the archive's copies: one folder with ``CASE.xml`` and its frames
``CASE_1.jpg``, ``CASE_2.jpg``, ... The XML holds ``case/mark`` elements with ``image`` (the frame's number) and ``svg``
(a JSON list of shapes with ``points`` of ``x`` and ``y`` in pixels); a frame may have several.

Many frames show two windows side by side. They stay whole here, so both windows are in one case; copies in circulation
cut them in two (480 frames became 637 pictures). A case number is the group. A case is not proven to be one patient.
"""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from medseg.data.files import image_size
from medseg.data.prepare.layout import Layout
from medseg.data.prepare.official import Groups, find_all, identical_files
from medseg.errors import ConfigError, DataError

NAME = "DDTI"
SAME_PICTURE = (("150", "233", "323", "326", "349"), ("353", "396"))
"""Cases that show one and the same picture, found by comparing the pixels of all frames with one another."""


def prepare(source: Path, layout: Layout, *, damaged: str = "leave_out") -> None:
    """Add every outlined frame with a mask drawn from its contours.

    Columns: ``tirads``, ``sex``, ``age`` as the XML states them, ``contours`` (how many outlines the frame has).

    Args:
        source: folder of the unpacked archive.
        layout: receives the cases.
        damaged: ``leave_out`` frames whose contours cannot be read (some of the archive's are cut short) and name
            them in the provenance, or ``error``.

    Raises:
        ConfigError: ``damaged`` is neither of them.
        DataError: there is no XML or frame, an XML is no XML, or contours are damaged and ``damaged=error``.
    """
    if damaged not in ("leave_out", "error"):
        raise ConfigError(f"damaged={damaged}: choose leave_out or error.")
    reports = {path.stem: path for path in find_all(source, r"\d+\.xml", dataset=NAME, what="files like 1.xml")}
    frames = find_all(source, r"\d+_\d+\.(jpg|jpeg|JPG|png)", dataset=NAME, what="files like 1_1.jpg")
    contours, facts = _read_reports(reports)
    groups = _groups(frames)
    for frame in frames:
        shapes, number = contours.pop(frame.stem, []), frame.stem.partition("_")[0]
        if isinstance(shapes, str) and damaged == "error":
            raise DataError(f"{reports[number]}: contours of {frame.name} are damaged ({shapes}); damaged=leave_out.")
        if isinstance(shapes, str) or not shapes:
            layout.leave_out(frame.stem, f"damaged contours ({shapes})" if shapes else "no contour in its XML")
            continue
        layout.add(
            id=f"ddti_{frame.stem}",
            images=[frame],
            masks=[_draw(shapes, image_size(frame))],
            group=f"case{groups.of(number)}",
            contours=len(shapes),
            **facts[number],
        )
    for stem in contours:
        layout.leave_out(stem, "contours without a frame")
    layout.note(
        f"DDTI: the case number is the group; cases that show one picture are one group ({groups.joined - len(frames)} "
        "joined another). Frames with two windows stay whole. A case is not proven to be one patient.",
    )


def _groups(frames: list[Path]) -> Groups:
    """Return the groups of case numbers: those that share a picture are together."""
    numbers = {frame.stem: frame.stem.partition("_")[0] for frame in frames}
    groups = identical_files({frame.stem: frame for frame in frames}, group=lambda stem: numbers[stem])
    present = set(numbers.values())
    for cases in SAME_PICTURE:
        here = [case for case in cases if case in present]
        for case in here[1:]:
            groups.join(here[0], case)
    return groups


def _read_reports(
    reports: Mapping[str, Path],
) -> tuple[dict[str, list[np.ndarray] | str], dict[str, dict[str, Any]]]:
    """Return the contours under the frames' stems (a text where they are damaged) and the facts of each case."""
    contours: dict[str, list[np.ndarray] | str] = {}
    facts: dict[str, dict[str, Any]] = {}
    for number, path in reports.items():
        views, facts[number] = _read_report(path)
        contours.update({f"{number}_{view}": shapes for view, shapes in views.items()})
    return contours, facts


def _read_report(path: Path) -> tuple[dict[str, list[np.ndarray] | str], dict[str, Any]]:
    """Return the contours (N, 2) of each frame, or what is wrong with them, and the facts of the case."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if re.search(r"<!(DOCTYPE|ENTITY)", text):
        raise DataError(f"{path}: declares entities, which DDTI's reports do not; take the official archive.")
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise DataError(f"{path}: not readable as XML ({error}); take the file from the official archive.") from None
    found: dict[str, list[np.ndarray] | str] = {}
    for mark in root.iter("mark"):
        view, svg = (mark.findtext("image") or "").strip(), (mark.findtext("svg") or "").strip()
        if not svg:
            continue
        shapes, before = _contours(svg), found.get(view, [])
        found[view] = shapes if isinstance(shapes, str) else before if isinstance(before, str) else [*before, *shapes]
    return found, {name: (root.findtext(name) or "").strip() for name in ("tirads", "sex", "age")}


def _contours(svg: str) -> list[np.ndarray] | str:
    try:
        shapes = json.loads(svg)
        contours = [np.array([(point["x"], point["y"]) for point in shape["points"]], float) for shape in shapes]
    except (ValueError, TypeError, KeyError) as error:
        return type(error).__name__
    return [contour for contour in contours if len(contour) > 2]


def _draw(contours: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    for contour in contours:
        # One by one: together they would cancel each other where they overlap.
        cv2.fillPoly(mask, [np.round(contour).astype(np.int32)], 255)
    return mask
