"""Pictures of two structures of which every case annotates one: what is left of two datasets trained together."""

from pathlib import Path

import numpy as np
from PIL import Image

from fakes import write_manifest
from medseg.rng import generator

CLASSES = ["background", "gland", "nodule"]


def draw_both(seed: int, *, size: tuple[int, int] = (40, 48)) -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy uint8 image (H, W) with a dark square (1) on the left and a bright one (2) on the right."""
    rng = generator(seed, "partial")
    mask = np.zeros(size, np.uint8)
    for label in (1, 2):
        top, side = int(rng.integers(4, 16)), int(rng.integers(12, 18))
        left = int(rng.integers(2, 7)) + 22 * (label - 1)
        mask[top : top + side, left : left + side] = label
    grey = np.array([130, 40, 220])[mask] + rng.normal(0, 12, size)
    return np.clip(grey, 0, 255).astype(np.uint8), mask


def write_partial_dataset(root: Path, *, patients: int = 12, folds: int = 4, column: bool = True) -> Path:
    """Write images/, masks/ and manifest.csv: even patients annotate the gland alone, odd ones the nodule alone.

    Args:
        root: folder to write.
        patients: p00, p01, ... with a picture each.
        folds: column ``fold`` by pairs of patients, so that each fold has both kinds.
        column: whether the manifest says what is annotated.
    """
    rows: list[dict[str, object]] = []
    for patient in range(patients):
        stem, label = f"p{patient:02d}", 1 + patient % 2
        image, mask = draw_both(patient)
        for folder, pixels in (("images", image), ("masks", np.where(mask == label, mask, 0).astype(np.uint8))):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / folder / f"{stem}.png")
        row = {"id": stem, "image": f"images/{stem}.png", "mask": f"masks/{stem}.png", "group": stem}
        rows.append({**row, "fold": patient // 2 % folds} | ({"annotated": CLASSES[label]} if column else {}))
    write_manifest(root, rows)
    return root
