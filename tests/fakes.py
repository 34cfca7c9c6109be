"""Makers of tiny datasets in the layout of the real ones."""

import csv
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from medseg.data.cases import Case
from medseg.rng import generator

COLUMNS = ("id", "image", "mask", "group", "fold", "split", "fg_fraction")


def draw_pair(seed: int, *, size: tuple[int, int] = (40, 48), channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return a speckled uint8 image (H, W, C) with a dark ellipse and its mask (H, W) of 0 and 255."""
    rng = generator(seed, "fake")
    height, width = size
    mask = np.zeros(size, np.uint8)
    centre = (int(width * rng.uniform(0.35, 0.65)), int(height * rng.uniform(0.35, 0.65)))
    axes = (int(width * rng.uniform(0.1, 0.3)), int(height * rng.uniform(0.1, 0.3)))
    cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
    grey = np.where(mask > 0, 60, 150)[..., None] * rng.gamma(8, 1 / 8, (height, width, channels))
    return np.clip(grey, 6, 255).astype(np.uint8), mask


def write_pair(root: Path, stem: str, image: np.ndarray, mask: np.ndarray) -> None:
    """Write images/STEM.png and masks/STEM.png."""
    for folder, pixels in (("images", image.squeeze()), ("masks", mask)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / folder / f"{stem}.png")


def write_manifest(root: Path, rows: Sequence[dict[str, object]]) -> None:
    """Write manifest.csv with the columns of the first row."""
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_dataset(
    root: Path,
    *,
    patients: int = 6,
    images_per_patient: int = 2,
    size: tuple[int, int] = (40, 48),
    channels: int = 1,
    folds: int = 3,
    manifest: bool = True,
) -> Path:
    """Write a folder with images/, masks/ and manifest.csv (folds by patient; ``split`` test for every third patient).

    Every second image is 4 rows higher, so that native sizes differ.
    """
    rows: list[dict[str, object]] = []
    for patient in range(patients):
        for number in range(images_per_patient):
            stem = f"p{patient:02d}_{number}"
            extra = 4 * (number % 2)
            image, mask = draw_pair(100 * patient + number, size=(size[0] + extra, size[1]), channels=channels)
            write_pair(root, stem, image, mask)
            values = [stem, f"images/{stem}.png", f"masks/{stem}.png", f"p{patient:02d}", patient % folds]
            side = "test" if patient % 3 == 2 else "train"
            rows.append(dict(zip(COLUMNS, [*values, side, round(float((mask > 0).mean()), 4)], strict=True)))
    if manifest:
        write_manifest(root, rows)
    return root


def listed_cases(sizes: Sequence[int], *, seed: int = 0, folds: int = 3) -> list[Case]:
    """Return cases without files: one patient per entry of ``sizes`` with that many images and random foreground."""
    rng = generator(seed, "listed")
    return [
        Case(
            id=f"p{patient:03d}_{number}",
            patient=f"p{patient:03d}",
            images=(Path(f"p{patient:03d}_{number}.png"),),
            masks=(Path(f"m{patient:03d}_{number}.png"),),
            fold=str(patient % folds),
            attributes={
                "fg_fraction": f"{rng.uniform(0, 0.4):.4f}",
                "split": "test" if patient % 2 else "train",
            },
        )
        for patient, size in enumerate(sizes)
        for number in range(size)
    ]
