"""What only shows when cases are compared: the list itself, copies, outliers, values of the masks."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from medseg.data.cases import Case
from medseg.data.inspection.figures import CaseFigures
from medseg.data.inspection.findings import Collector, Finding
from medseg.data.inspection.pictures import suggested_labels

SPACING_FACTOR = 2.0
"""A spacing this many times the median, or this part of it, is an outlier."""

FLAT = 4.0
"""A stack with this many times fewer slices than the shorter of its other sides is taken for one of thick slices."""

RANGE_FACTOR = 20.0
"""An intensity range this many times as wide as the median, or this part of it, is an outlier."""


def list_findings(cases: Sequence[Case]) -> list[Finding]:
    """Return what is wrong with the list of cases, no file opened: ids, groups, folds, names."""
    if not cases:
        collector = Collector("")
        collector.add("no-cases", "the dataset has no cases")
        return collector.found
    seen: dict[str, Case] = {}
    folds: dict[str, list[str]] = defaultdict(list)
    names: dict[str, dict[str, str]] = defaultdict(dict)
    found: list[Finding] = []
    for case in cases:
        collector = Collector(case.id)
        if case.id in seen:
            collector.add("duplicate-id", f"id '{case.id}' occurs more than once")
        seen[case.id] = case
        if not case.id or case.id.startswith(".") or any(mark in case.id for mark in "/\\\0\n"):
            collector.add("unsafe-id", f"id {case.id!r} cannot name a file")
        if not case.patient:
            collector.add("no-group", f"case '{case.id}' has no group (patient)")
        if case.fold:
            folds[case.patient].append(case.fold)
        for path in case.images:
            if path is not None:
                names[path.name].setdefault(case.patient, case.id)
        found += collector.found
    return [*found, *_cut_groups(cases, folds), *_equal_names(names)]


def _cut_groups(cases: Sequence[Case], folds: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Blame the cases outside the fold that most of their patient's cases are in (the first such fold)."""
    found: list[Finding] = []
    for case in cases:
        own = folds.get(case.patient, ())
        if case.patient and case.fold and len(set(own)) > 1:
            usual = Counter(own).most_common(1)[0][0]
            if case.fold != usual:
                collector = Collector(case.id)
                collector.add("folds-cut-group", f"patient '{case.patient}' is in fold {usual} and in fold {case.fold}")
                found += collector.found
    return found


def _equal_names(names: Mapping[str, Mapping[str, str]]) -> list[Finding]:
    found: list[Finding] = []
    for name, holders in names.items():
        if len(holders) > 1:
            ids = sorted(holders.values())
            collector = Collector(ids[1])
            collector.add("same-name-other-group", f"'{name}' also names an image of case '{ids[0]}'")
            found += collector.found
    return found


def unused_files(cases: Sequence[Case], root: Path) -> list[Finding]:
    """Return files below ``images/`` and ``masks/`` of a dataset's folder that no case names; hidden ones pass."""
    named = {path.resolve() for case in cases for path in case.files}
    collector = Collector("")
    for folder in ("images", "masks"):
        if (root / folder).is_dir():
            for path in sorted((root / folder).rglob("*")):
                known = path.resolve() in named or any(parent.resolve() in named for parent in path.parents)
                if path.is_file() and not path.name.startswith(".") and not known:
                    collector.add("unused-file", f"no case names {folder}/{path.name}", file=path)
    return collector.found


def unprotected_files(figures: Sequence[CaseFigures]) -> list[Finding]:
    """Return one note on how many files have no checksum, so that a flipped bit in them would pass unseen."""
    number = sum(case.unprotected for case in figures)
    collector = Collector("")
    if number:
        what = "carry no checksum of their own (JPEG, BMP, TIFF, unpacked volumes, DICOM), and none is recorded"
        collector.add("unprotected", f"{number} file(s) {what}: a flipped bit in them would pass unseen")
    return collector.found


def copy_findings(figures: Sequence[CaseFigures], files: Mapping[str, Sequence[Path | None]]) -> list[Finding]:
    """Return images that occur twice, equal in bytes or in decoded pixels, and outlines shared by different images.

    The later case (in order of the list) is blamed.

    Args:
        figures: of the cases that could be read.
        files: case id to its image files.
    """
    found: list[Finding] = []
    first: dict[str, tuple[CaseFigures, int]] = {}
    outlines: dict[str, CaseFigures] = {}
    for case in figures:
        collector = Collector(case.case)
        copied = False
        for place, pixels in enumerate(case.pixels):
            known = first.setdefault(pixels, (case, place)) if pixels else (case, place)
            if known == (case, place):
                continue
            copied |= _copy(collector, case, place, known, files[case.case][place])
        other = outlines.setdefault(case.outline, case) if case.outline else case
        if other is not case and not copied:
            collector.add("same-mask", f"its mask is that of case '{other.case}', their images differ")
        found += collector.found
    return found


def _copy(
    collector: Collector, case: CaseFigures, place: int, known: tuple[CaseFigures, int], path: Path | None
) -> bool:
    """Note a copy and return whether it is one of another case."""
    other, where = known
    how = "byte by byte" if case.files[place] == other.files[where] else "pixel by pixel"
    if other is case:
        collector.add("same-channels", f"channel {place} equals channel {where} {how}", file=path)
        return False
    kind = "same-image" if case.patient == other.patient else "same-image-other-group"
    whose = "" if case.patient == other.patient else f", patient '{other.patient}' (here '{case.patient}')"
    collector.add(kind, f"equals the image of case '{other.case}' {how}{whose}", file=path)
    return True


def comparison_findings(figures: Sequence[CaseFigures], *, unit: str = "mm") -> list[Finding]:
    """Return cases whose spacing, orientation, intensity range or type of number stands apart from the others.

    Args:
        figures: of the cases that could be read.
        unit: of distances; with ``px`` nobody relies on the spacing.
    """
    found: list[Finding] = []
    spacings = [case.spacing for case in figures if case.spacing is not None]
    if spacings:
        middle = np.median(np.asarray(spacings), axis=0)
        for case in figures:
            if case.spacing is not None and _far(np.asarray(case.spacing) / middle, SPACING_FACTOR):
                shown = ["x".join(f"{side:.3g}" for side in sides) for sides in (case.spacing, middle)]
                found += _one(case, "spacing-outlier", f"spacing {shown[0]}, the median of the dataset {shown[1]}")
    found += _lost_spacing(figures) if unit != "px" else []
    found += _unusual(figures, "orientation", "orientation", [case.orientation for case in figures])
    found += _unusual(
        figures,
        "dtype",
        "image type",
        ["+".join(sorted({dtype for dtype in case.dtypes if dtype})) for case in figures],
    )
    found += _unusual(figures, "dtype", "mask type", [case.mask_dtype for case in figures])
    for channel in range(max((len(case.channels) for case in figures), default=0)):
        found += _ranges(figures, channel)
    return found


def _far(ratios: np.ndarray, factor: float) -> bool:
    return bool(((ratios >= factor) | (ratios <= 1 / factor)).any())


def _lost_spacing(figures: Sequence[CaseFigures]) -> list[Finding]:
    """Return a finding if every volume claims cubes of exactly 1 mm although one axis is far shorter than the others.

    Files whose header was not filled read so; thick slices are then taken for thin ones.
    """
    volumes = [case for case in figures if len(case.size) == 3]
    if not volumes or any(case.spacing != (1.0, 1.0, 1.0) for case in volumes):
        return []
    size = np.median(np.asarray([case.size for case in volumes]), axis=0)
    if size.min() * FLAT > np.sort(size)[1]:
        return []
    collector = Collector("")
    shown = "x".join(f"{side:g}" for side in size)
    collector.add("spacing-doubtful", f"all volumes state a spacing of 1x1x1 mm, their median size is {shown} voxels")
    return collector.found


def _one(case: CaseFigures, kind: str, what: str) -> list[Finding]:
    collector = Collector(case.case)
    collector.add(kind, what)
    return collector.found


def _unusual(figures: Sequence[CaseFigures], kind: str, name: str, values: Iterable[str]) -> list[Finding]:
    """Return a finding for each case whose value is not the most frequent one; unknown values ("") pass."""
    listed = list(values)
    counts = Counter(value for value in listed if value)
    if len(counts) < 2:
        return []
    usual, number = counts.most_common(1)[0]
    return [
        finding
        for case, value in zip(figures, listed, strict=True)
        if value and value != usual
        for finding in _one(case, kind, f"{name} {value}, {number} of {len(listed)} cases have {usual}")
    ]


def _ranges(figures: Sequence[CaseFigures], channel: int) -> list[Finding]:
    ranged = [(case, case.channels[channel]) for case in figures if len(case.channels) > channel]
    widths = {case.case: one.high - one.low for case, one in ranged if one is not None and one.high > one.low}
    if not widths:
        return []
    middle = float(np.median(list(widths.values())))
    return [
        finding
        for case, one in ranged
        if one is not None and case.case in widths and _far(np.asarray([widths[case.case] / middle]), RANGE_FACTOR)
        for finding in _one(
            case, "intensity-outlier",
            f"channel {channel} ranges from {one.low:.4g} to {one.high:.4g}, a width of {widths[case.case]:.4g}; "
            f"the median width is {middle:.4g}",
        )
    ]  # fmt: skip


def label_findings(
    values: Mapping[float, int], *, labels: Mapping[int, int], present: Mapping[int, int], names: Sequence[str]
) -> list[Finding]:
    """Return one note on the values of all lossless masks, with the labels that would fit where the declared do not.

    Args:
        values: value in the files to pixels, over all cases.
        labels: value in the file to class index, as declared.
        present: class index to pixels, over all cases that could be mapped.
        names: class names in label order.
    """
    if not values:
        return []
    collector = Collector("")
    shown = ", ".join(f"{value:g} ({number} px)" for value, number in sorted(values.items())[:10])
    strange = [value for value in values if value not in labels]
    if strange:
        remedy = suggested_labels(values, classes=len(names)) if len(values) <= len(names) else ""
        collector.add("label-values", f"masks hold {shown}; declared are {sorted(labels)}",
                      remedy=remedy or "see the cases with undeclared values")  # fmt: skip
        return collector.found
    absent = [name for index, name in enumerate(names) if index in labels.values() and not present.get(index)]
    what = f"masks hold {shown}" + (f"; no pixel is {', '.join(absent)}" if absent else "")
    collector.add("label-values", what)
    return collector.found
