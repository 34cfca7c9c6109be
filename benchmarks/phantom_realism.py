"""Compares the phantom with a folder of real ultrasound images, by figures.

    python benchmarks/phantom_realism.py [--real data/ddti] [--phantom FOLDER] [--images 120] [--sheet sheet.png]

Both folders hold ``images/``, ``masks/`` and ``manifest.csv``; without ``--phantom`` one is simulated into a temporary
folder, without ``--real`` the phantom's figures stand alone. Per set: grey-level percentiles inside the scan frame,
mean grey at ten depths, spread and skewness of the speckle in even patches, its autocorrelation lengths (full width at
half maximum, pixels) along depth and across, contrast of the nodule against its surroundings, area shares. A figure
that lies far from the real one names what the simulator should change; none of them proves realism. The sheet shows
both sets and may contain real patients' images: keep it local.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from medseg.data.cases import Case
from medseg.data.files import read_image, read_mask
from medseg.data.sources.folder import read_manifest
from medseg.data.sources.phantom import phantom
from medseg.rng import generator

PATCH = 48
GREYS = (5, 10, 25, 50, 75, 90, 95, 99)
SHARES = (5, 25, 50, 75, 95)


@dataclass
class Figures:
    """Figures of one set: plain arrays, named in :func:`table`."""

    grey: np.ndarray
    depth: np.ndarray
    speckle: np.ndarray
    contrast: np.ndarray
    area: np.ndarray
    patches: int


def scan_frame(image: np.ndarray) -> tuple[slice, slice]:
    """Return the bounding box of the largest area that is not screen: where most of the 15 x 15 surroundings is lit."""
    lit = ndimage.uniform_filter((image > 12).astype(np.float64), 15) > 0.35
    labels, count = ndimage.label(lit)
    if count == 0:
        return slice(0, image.shape[0]), slice(0, image.shape[1])
    largest = int(np.argmax(np.bincount(labels.ravel())[1:]))
    return ndimage.find_objects(labels)[largest]


def half_width(profile: np.ndarray) -> float:
    """Return the full width at half maximum of a symmetric profile whose maximum is its first value."""
    below = np.flatnonzero(profile < profile[0] / 2)
    if below.size == 0:
        return float(2 * len(profile))
    k = int(below[0])
    return float(2 * (k - 1 + (profile[k - 1] - profile[0] / 2) / (profile[k - 1] - profile[k])))


def speckle_of(patch: np.ndarray) -> tuple[float, float, float, float]:
    """Return standard deviation, skewness, and autocorrelation length along depth and across, after a high pass."""
    fine = patch - ndimage.gaussian_filter(patch, 6)
    fine -= fine.mean()
    power = np.abs(np.fft.rfft2(fine, s=(2 * PATCH, 2 * PATCH))) ** 2
    correlation = np.fft.irfft2(power)
    spread = fine.std()
    lengths = half_width(correlation[:PATCH, 0]), half_width(correlation[0, :PATCH])
    return float(spread), float(((fine / spread) ** 3).mean()), *lengths


def even_patches(scan: np.ndarray) -> list[np.ndarray]:
    """Return the patches of medium grey without edges or black: tissue, as far as a rule can tell."""
    found = []
    for top in range(0, scan.shape[0] - PATCH, PATCH // 2):
        for left in range(0, scan.shape[1] - PATCH, PATCH // 2):
            patch = scan[top : top + PATCH, left : left + PATCH]
            mean = patch.mean()
            lit = 45 < mean < 130 and patch.std() < 0.6 * mean and (patch < 5).mean() < 0.02
            if lit and ndimage.gaussian_filter(patch, 6).std() < 0.15 * mean:
                found.append(patch)
    return found


def contrast_of(image: np.ndarray, mask: np.ndarray) -> float:
    """Return the mean grey inside the nodule minus that of a ring 5 to 14 pixels outside."""
    distance = ndimage.distance_transform_edt(~mask)
    return float(image[mask].mean() - image[(distance > 5) & (distance <= 14)].mean())


def measure(cases: list[Case]) -> Figures:
    """Return the figures of a set."""
    histogram = np.zeros(256)
    depth, speckle, contrast, area = [], [], [], []
    for case in cases:
        image = read_image(case.images[0], channels=1)[..., 0]
        mask = read_mask(case.masks[0], labels={0: 0, 255: 1}) > 0
        scan = image[scan_frame(image)].astype(np.float64)
        histogram += np.bincount(scan.astype(np.uint8).ravel(), minlength=256)
        depth.append([rows.mean() for rows in np.array_split(scan, 10)])
        speckle += [speckle_of(patch) for patch in even_patches(scan)]
        area.append(mask.mean())
        if mask.any():
            contrast.append(contrast_of(image, mask))
    share = histogram.cumsum() / histogram.sum()
    grey = np.searchsorted(share, np.array(GREYS) / 100)
    return Figures(
        grey, np.mean(depth, axis=0), np.median(speckle, axis=0), np.percentile(contrast, SHARES),
        np.percentile(area, SHARES), len(speckle),
    )  # fmt: skip


def table(sets: dict[str, Figures]) -> str:
    """Return the figures of each named set in a column of its own."""
    found = list(sets.values())
    rows = [["figure", *sets], ["even patches", *(str(figures.patches) for figures in found)]]
    for index, name in enumerate(("speckle sd, grey levels", "speckle skewness", "length in depth, px", "across, px")):
        rows.append([name, *(f"{figures.speckle[index]:.2f}" for figures in found)])
    for name, attribute, form in (
        (f"grey percentiles {GREYS}", "grey", "{:.0f}"),
        ("mean grey at ten depths", "depth", "{:.0f}"),
        (f"nodule contrast percentiles {SHARES}", "contrast", "{:.0f}"),
        (f"nodule area share percentiles {SHARES}", "area", "{:.3f}"),
    ):
        rows.append([name, *(" ".join(form.format(x) for x in getattr(figures, attribute)) for figures in found)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def sheet(real: list[Case], simulated: list[Case]) -> Image.Image:
    """Return three rows of four images, real ones in the two columns on the left."""
    page = Image.new("L", (4 * 400, 3 * 360))
    for number in range(12):
        row, column = divmod(number, 4)
        cases = real if column < 2 else simulated
        with Image.open(cases[2 * row + column % 2].images[0]) as picture:
            shown = picture.convert("L")
        shown.thumbnail((400, 360))
        page.paste(shown, (400 * column, 360 * row))
    return page


def sample(cases: list[Case], count: int) -> list[Case]:
    """Return up to ``count`` cases, the same ones at every call."""
    chosen = generator(0, "realism").permutation(len(cases))[:count]
    return [cases[int(index)] for index in chosen]


def main() -> None:
    """Read both sets, print the table, write the sheet if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, help="folder with manifest.csv of real ultrasound images")
    parser.add_argument("--phantom", type=Path, help="folder with manifest.csv of a simulated set; made if absent")
    parser.add_argument("--images", type=int, default=120, help="images per set")
    parser.add_argument("--sheet", type=Path, help="PNG with both sets side by side")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        made = read_manifest(given.phantom) if given.phantom else phantom(scratch)
        simulated = sample(made, given.images)
        real = sample(read_manifest(given.real), given.images) if given.real else simulated
        sets = {"real": real, "phantom": simulated} if given.real else {"phantom": simulated}
        sys.stdout.write(table({name: measure(cases) for name, cases in sets.items()}) + "\n")
        if given.sheet:
            sheet(real, simulated).save(given.sheet)


if __name__ == "__main__":
    main()
