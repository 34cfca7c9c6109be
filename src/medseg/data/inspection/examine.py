"""One case to its figures and findings: every file read once, nothing raised."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.cases import Case
from medseg.data.inspection.figures import CaseFigures, ChannelFigures, channel_figures, label_figures
from medseg.data.inspection.findings import Collector, Finding
from medseg.data.inspection.integrity import scan
from medseg.data.inspection.pictures import look_at_image, look_at_mask
from medseg.data.inspection.volumes import compare_grids, look_at_label_volume, look_at_volume
from medseg.rng import generator
from medseg.types import IGNORE


@dataclass(frozen=True)
class Expected:
    """What the config says about the data.

    Attributes:
        channels: image channels C.
        labels: value in the mask file to class index.
        threshold: grey level that separates the classes of JPEG masks.
        dims: 2 for pictures, 3 for volumes.
        unit: of distances; anything but ``px`` needs the spacing of every picture.
        recorded: SHA-256 (hex) of files as their owner wrote them down.
        sample: values kept of each channel of a case, and again of its foreground.
    """

    channels: int
    labels: Mapping[int, int]
    threshold: int = 127
    dims: int = 2
    unit: str = "px"
    recorded: Mapping[Path, str] = field(default_factory=dict)
    sample: int = 4096


@dataclass
class _Read:
    """What one case's files gave; a list entry per image file, None where it is missing or refused."""

    images: list[np.ndarray | None] = field(default_factory=list)  # uint8 (H, W, c) or float32 (c, D, H, W)
    dtypes: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    labels: np.ndarray | None = None
    values: dict[float, int] = field(default_factory=dict)
    mask_dtype: str = ""
    grid: Any = None
    comparable: bool = True


def examine(case: Case, expected: Expected) -> tuple[CaseFigures | None, list[Finding]]:
    """Return the figures of a case and what is wrong with it.

    Args:
        case: from a source; twins are not examined, they share the files of their originals.
        expected: what the config says.

    Returns:
        Figures, None where no image could be read; and the findings, in the order of the files.
    """
    collector = Collector(case.id)
    usable = [_usable(path, collector, expected) for path in case.images]
    read = _Read(files=[digest for _, digest in usable])
    if case.images.count(None) == len(case.images):
        collector.add("no-image", "the case names no image file")
    elif None in case.images:
        missing = [str(number) for number, path in enumerate(case.images) if path is None]
        collector.add("missing-modality", f"channel {', '.join(missing)} of {len(case.images)} is missing")
    for path, (fit, _) in zip(case.images, usable, strict=True):
        _take_image(path if fit else None, read, collector, expected, single=len(case.images) == 1)
    _check_channels(case, read, collector, expected)
    masks = [path for path in case.masks if _usable(path, collector, expected)[0]]
    if not case.masks:
        collector.add("no-mask", "the case has no mask")
    for path in masks:
        _take_mask(path, read, collector, expected)
    spacing = _spacing(case, read, collector, expected)
    if all(image is None for image in read.images):
        return None, collector.found
    if len(masks) < len(case.masks) or not read.comparable:
        read.labels = None
    _judge(case, read, collector)
    return replace(_figures(case, read, spacing, expected), unprotected=collector.unprotected), collector.found


def _usable(path: Path | None, collector: Collector, expected: Expected) -> tuple[bool, str]:
    """Return whether a file's bytes are worth decoding, and their SHA-256."""
    if path is None:
        return False, ""
    digest = scan(path, collector, recorded=expected.recorded)
    return digest != "", digest


def _kind_fits(path: Path, collector: Collector, expected: Expected) -> bool:
    from medseg.data.volumes.files import is_volume

    if is_volume(path) == (expected.dims == 3):
        return True
    found = "a volume" if expected.dims == 2 else "a picture"
    collector.add("wrong-dimension", f"{path.name} is {found}, data.card.spatial_dims is {expected.dims}", file=path)
    return False


def _take_image(path: Path | None, read: _Read, collector: Collector, expected: Expected, *, single: bool) -> None:
    array, dtype = None, ""
    if path is not None and _kind_fits(path, collector, expected):
        if expected.dims == 2:
            channels = expected.channels if single and expected.channels == 3 else 1
            picture = look_at_image(path, collector, channels=channels)
            array, dtype = picture or (None, "")
        elif volume := look_at_volume(path, collector):
            array, grid, dtype = volume
            if read.grid is None:
                read.grid = grid
            elif not compare_grids(read.grid, grid, path, collector):
                read.comparable, array = False, None
    first = next((image for image in read.images if image is not None), None)
    if array is not None and first is not None and expected.dims == 2 and array.shape[:2] != first.shape[:2]:
        sizes = ["x".join(map(str, image.shape[:2])) for image in (array, first)]
        collector.add("size-mismatch", f"image is {sizes[0]}, the first of the case {sizes[1]} (rows x columns)",
                      file=path)  # fmt: skip
        read.comparable, array = False, None
    read.images.append(array)
    read.dtypes.append(dtype)


def _check_channels(case: Case, read: _Read, collector: Collector, expected: Expected) -> None:
    """Compare the number of channels with the card; a missing file counts as one."""
    found = len(case.images)
    if expected.dims == 3:
        found = sum(1 if image is None else len(image) for image in read.images)
    elif found == 1 and expected.channels == 3:
        found = 3  # grey is repeated
    if found != expected.channels:
        collector.add("channel-count", f"the case has {found} channel(s), data.card.in_channels is {expected.channels}")


def _take_mask(path: Path, read: _Read, collector: Collector, expected: Expected) -> None:
    if not _kind_fits(path, collector, expected):
        read.comparable = False
        return
    size = _size(read)
    if expected.dims == 2:
        picture = look_at_mask(path, collector, labels=expected.labels, threshold=expected.threshold)
        labels, values, dtype = picture or (None, {}, "")
        if labels is not None and size and labels.shape != size:
            sizes = ["x".join(map(str, shape)) for shape in (labels.shape, size)]
            collector.add("size-mismatch", f"mask {path.name} is {sizes[0]}, the image {sizes[1]} (rows x columns)",
                          file=path)  # fmt: skip
            labels = None
    else:
        volume = look_at_label_volume(path, collector, labels=expected.labels, grid=read.grid)
        labels, grid, values, dtype = volume or (None, None, {}, "")
        if grid is not None and read.grid is not None and not compare_grids(read.grid, grid, path, collector):
            labels = None
    read.mask_dtype = dtype or read.mask_dtype
    for value, number in values.items():
        read.values[value] = read.values.get(value, 0) + number
    if labels is None:
        read.comparable = False
    elif read.labels is None:
        read.labels = labels
    elif read.labels.shape == labels.shape:
        read.labels = np.maximum(read.labels, labels)


def _size(read: _Read) -> tuple[int, ...] | None:
    for image in read.images:
        if image is not None:
            return image.shape[:2] if image.ndim == 3 else image.shape[1:]
    return None


def _spacing(case: Case, read: _Read, collector: Collector, expected: Expected) -> tuple[float, ...] | None:
    """Return the size of a pixel along the axes of the image, from the volume's grid or the manifest."""
    if expected.dims == 3:
        return None if read.grid is None else tuple(read.grid.spacing)
    text = case.attributes.get("spacing", "")
    try:
        sides = tuple(float(part) for part in text.split("x"))
    except ValueError:
        sides = ()
    if len(sides) == 2 and min(sides) > 0 and np.isfinite(sides).all():
        return sides if expected.unit != "px" else None
    if expected.unit != "px":
        collector.add("spacing-unknown", f"spacing '{text}' is not ROWxCOLUMN in {expected.unit}")
    return None


def _judge(case: Case, read: _Read, collector: Collector) -> None:
    """Note what is odd about pixels that were read without a fault."""
    for path, image in zip(case.images, read.images, strict=True):
        if image is not None and path is not None:
            for number, values in enumerate(_channels(image)):
                if values.min() == values.max():
                    which = f"channel {number} of " if image.shape[-1 if image.ndim == 3 else 0] > 1 else ""
                    collector.add("constant", f"{which}{path.name} is {float(values.flat[0]):g} everywhere", file=path)
    labels = read.labels
    if labels is None or not (labels != IGNORE).any():
        return
    inside = (labels > 0) & (labels != IGNORE)
    if not inside.any():
        collector.add("empty-mask", "the mask holds no foreground", file=case.masks[0])
    elif inside[labels != IGNORE].all():
        collector.add("full-mask", "the mask holds nothing but foreground", file=case.masks[0])


def _channels(image: np.ndarray) -> Sequence[np.ndarray]:
    """Return the channels (*S) of uint8 (H, W, C) or float32 (C, D, H, W)."""
    return list(np.moveaxis(image, -1, 0)) if image.ndim == 3 else list(image)


def _figures(case: Case, read: _Read, spacing: tuple[float, ...] | None, expected: Expected) -> CaseFigures:
    rng = generator(0, "inspection", case.id)
    channels: list[ChannelFigures | None] = []
    for image in read.images:
        found = [None] if image is None else _channels(image)
        for values in found:
            sampled = None if values is None else channel_figures(values, read.labels, sample=expected.sample, rng=rng)
            channels.append(sampled)
    counts, components = ({}, {}) if read.labels is None else label_figures(read.labels)
    drawn = read.labels is not None and any(label not in (0, IGNORE) for label in counts)
    size = _size(read)
    assert size is not None
    return CaseFigures(
        case=case.id,
        patient=case.patient,
        size=size,
        spacing=spacing,
        orientation="" if read.grid is None else read.grid.stored,
        channels=tuple(channels),
        dtypes=tuple(read.dtypes),
        mask_dtype=read.mask_dtype,
        mask_values=read.values,
        counts=counts,
        components=components,
        files=tuple(read.files),
        pixels=tuple("" if image is None else _hash(image) for image in read.images),
        outline=_hash(read.labels) if drawn and read.labels is not None else "",
    )


def _hash(array: np.ndarray) -> str:
    found = hashlib.sha256(repr((array.shape, array.dtype.str)).encode())
    found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
