"""The fingerprint of a dataset: what its cases add up to, as one JSON file, and one row a case as CSV.

The idea of planning from such figures is nnU-Net's (Isensee et al., Nature Methods 18 (2021) 203-211).
"""

import csv
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.cases import Case
from medseg.data.inspection.examine import Expected
from medseg.data.inspection.figures import CaseFigures, ChannelFigures
from medseg.data.inspection.findings import counted
from medseg.data.inspection.survey import Survey
from medseg.errors import DataError
from medseg.types import IGNORE, DataCard

VERSION = 1
"""Of the JSON's layout; raised when a key changes its meaning."""

PERCENTILES = (0.5, 5, 10, 50, 90, 95, 99.5)

Fingerprint = dict[str, Any]


def stamp(cases: Sequence[Case], expected: Expected) -> str:
    """Return a quick mark (SHA-256, hex) of the files' names, sizes and times and of how they are read.

    It tells whether a fingerprint is out of date without opening a file.
    """
    files = sorted({path for case in cases for path in case.files})
    marks = [(str(path), *_times(path)) for path in files]
    reading = [expected.channels, sorted(expected.labels.items()), expected.threshold, expected.dims, expected.unit]
    rows = [[case.id, case.patient, case.fold, case.attributes.get("spacing", "")] for case in cases]
    return hashlib.sha256(json.dumps([marks, reading, rows]).encode()).hexdigest()


def _times(path: Path) -> list[int]:
    inside = sorted(path.iterdir()) if path.is_dir() else [path]
    return [number for part in inside if part.exists() for number in (part.stat().st_size, part.stat().st_mtime_ns)]


def fingerprint(found: Survey, *, card: DataCard, digest: str | None, stamp: str = "") -> Fingerprint:
    """Return the figures of all cases without an error.

    Args:
        found: from :func:`~medseg.data.inspection.survey.survey`.
        card: of the dataset.
        digest: of the dataset's files and patients; None where not every file could be read.
        stamp: from :func:`stamp`.

    Returns:
        ``version``, ``dataset``, ``digest``, ``stamp``, ``modality``, ``dims``, ``unit``, ``cases``, ``patients``,
        ``left_out`` (cases with an error), ``findings`` (by severity), ``size``, ``sizes``, ``spacing``,
        ``anisotropy``, ``extent`` (size times spacing), ``orientations``, ``channels`` (intensities, one entry each),
        ``classes`` (one entry each, background first), ``foreground`` (share of a case), ``ignored`` (pixels without
        a label). Sizes and spacings are along (H, W) or (D, H, W). A figure that is not known is null.
    """
    figures = found.sound_figures
    spacings = [case.spacing for case in figures if case.spacing is not None]
    middle = np.median(np.asarray(spacings), axis=0) if spacings else None
    return {
        "version": VERSION,
        "dataset": card.name,
        "digest": digest,
        "stamp": stamp,
        "modality": card.modality,
        "dims": card.spatial_dims,
        "unit": card.unit,
        "cases": len(figures),
        "patients": len({case.patient for case in figures}),
        "left_out": len(found.faulty),
        "findings": counted(found.findings),
        "size": _axes([case.size for case in figures]),
        "sizes": _named_counts("x".join(map(str, case.size)) for case in figures),
        "spacing": _axes(spacings),
        "anisotropy": None if middle is None else float(middle.max() / middle.min()),
        "extent": _axes([np.multiply(case.size, case.spacing or 1.0).tolist() for case in figures]),
        "orientations": _named_counts(case.orientation for case in figures if case.orientation),
        "channels": _channels(figures, card),
        "classes": [_class(figures, index, name) for index, name in enumerate(card.classes)],
        "foreground": _spread([case.foreground for case in figures if case.foreground is not None]),
        "ignored": sum(case.counts.get(IGNORE, 0) for case in figures),
    }


def _axes(rows: Sequence[Sequence[float]]) -> dict[str, list[float]] | None:
    """Return minimum, percentiles and maximum along each axis."""
    if not rows:
        return None
    table = np.asarray(rows, float)
    found = {"min": table.min(axis=0), "max": table.max(axis=0)}
    found |= {f"p{share:g}": np.percentile(table, share, axis=0) for share in PERCENTILES}
    return {name: [round(float(value), 6) for value in values] for name, values in found.items()}


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not len(values):
        return None
    array = np.asarray(values, float)
    found = {"min": array.min(), "max": array.max(), "mean": array.mean(), "std": array.std()}
    found |= {f"p{share:g}": np.percentile(array, share) for share in PERCENTILES}
    return {name: float(f"{value:.7g}") for name, value in found.items()}


def _named_counts(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _channels(figures: Sequence[CaseFigures], card: DataCard) -> list[dict[str, Any]]:
    number = max((len(case.channels) for case in figures), default=0)
    names = card.channels if len(card.channels) == number else [f"channel {place}" for place in range(number)]
    listed = []
    for place, name in enumerate(names):
        ranged = [case.channels[place] for case in figures if len(case.channels) > place]
        there = [one for one in ranged if one is not None]
        listed.append({"name": name, "cases": len(there), **_intensities(there)})
    return listed


def _intensities(there: Sequence[ChannelFigures]) -> dict[str, Any]:
    """Return moments with equal weight for every case, and the spread of the values sampled from all of them."""
    if not there:
        return {"min": None, "max": None, "mean": None, "std": None, "sample": None, "foreground": None}
    mean, std = _pooled([(one.mean, one.std) for one in there])
    inside = [(one.inside_mean, one.inside_std) for one in there if one.inside.size]
    found = {
        "min": min(one.minimum for one in there),
        "max": max(one.maximum for one in there),
        "mean": mean,
        "std": std,
        "sample": _spread(np.concatenate([one.sample for one in there])),  # type: ignore[arg-type]
        "foreground": None,
    }
    if inside:
        values = np.concatenate([one.inside for one in there])
        centre, width = _pooled(inside)
        found["foreground"] = {**(_spread(values) or {}), "mean": centre, "std": width}  # type: ignore[arg-type]
    return found


def _pooled(moments: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return mean and standard deviation over cases of equal weight: law of total variance."""
    means, stds = np.asarray(moments, float).T
    return float(means.mean()), float(math.sqrt((stds**2 + means**2).mean() - means.mean() ** 2))


def _class(figures: Sequence[CaseFigures], index: int, name: str) -> dict[str, Any]:
    """Return in how many cases a class is, its share of all labelled pixels, its size and number of pieces there."""
    sizes = [case.counts[index] for case in figures if case.counts.get(index)]
    pieces = [case.components[index] for case in figures if index in case.components]
    areas = [
        case.counts[index] * math.prod(case.spacing)
        for case in figures
        if case.counts.get(index) and case.spacing is not None
    ]
    voxels = sum(case.voxels for case in figures)
    return {
        "name": name,
        "index": index,
        "cases": len(sizes),
        "prevalence": sum(sizes) / voxels if voxels else None,
        "pixels": _spread(sizes),
        "extent": _spread(areas),
        "pieces": _spread(pieces),
    }


def write_fingerprint(path: Path, found: Mapping[str, Any]) -> None:
    """Write a fingerprint as JSON without NaN."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_fingerprint(path: Path) -> Fingerprint:
    """Return a written fingerprint.

    Raises:
        DataError: the file is missing, no fingerprint, or of another version.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version = found["version"]
    except FileNotFoundError:
        raise DataError(f"{path}: fingerprint is missing; write it with medseg data check.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is no fingerprint ({error}); write it anew with medseg data check.") from None
    if version != VERSION:
        raise DataError(f"{path}: fingerprint of version {version}, {VERSION} is needed; run medseg data check again.")
    return found


def write_cases(path: Path, found: Survey, *, classes: Sequence[str]) -> None:
    """Write one row a case: size, spacing, intensities of each channel, pixels and pieces of each class, its findings.

    A case of which nothing could be read has a row with its id and findings only.
    """
    number = max((len(case.channels) for case in found.figures), default=0)
    kinds: dict[str, set[str]] = {}
    for finding in found.findings:
        kinds.setdefault(finding.case, set()).add(finding.kind)
    known = {case.case: case for case in found.figures}
    rows = []
    for case in found.cases:
        row: dict[str, object] = {"case": case.id, "patient": case.patient}
        if case.id in known:
            row |= _row(known[case.id], number, classes)
        rows.append({**row, "findings": " ".join(sorted(kinds.get(case.id, ())))})
    columns = list(max(rows, key=len, default={"case": "", "patient": "", "findings": ""}))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)


def _row(case: CaseFigures, channels: int, classes: Sequence[str]) -> dict[str, object]:
    row: dict[str, object] = {
        "size": "x".join(map(str, case.size)),
        "spacing": "" if case.spacing is None else "x".join(f"{side:.6g}" for side in case.spacing),
        "orientation": case.orientation,
        "foreground": "" if case.foreground is None else f"{case.foreground:.6f}",
    }
    for place in range(channels):
        one = case.channels[place] if place < len(case.channels) else None
        for name in ("minimum", "low", "mean", "std", "high", "maximum"):
            row[f"channel{place}_{name}"] = "" if one is None else f"{getattr(one, name):.6g}"
    for index, name in enumerate(classes):
        row[f"{name}_pixels"] = case.counts.get(index, 0)
        row[f"{name}_pieces"] = case.components.get(index, 0) if index else ""
    return row
