"""How fast images reach the network: decoding, the cache, each augmentation, the whole loader.

CPU time of one thread, median of interleaved rounds, 192 px. Two yardsticks, two limits: reading from the cache costs
at most 2 % of decoding and resizing the PNG pair it replaces, and ``augment=light`` costs no more than the same
operations written out by hand with cv2 and numpy, which draws its noise afresh. Other augmentations, and other
libraries beside them, are in ``augmentation.py``. The loader with worker processes is timed by the clock, for
information.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from hydra.utils import instantiate
from PIL import Image

from medseg.commands.configuration import compose
from medseg.data.augment.contract import Augmentation
from medseg.data.cases import Case
from medseg.data.datamodule import SegmentationData
from medseg.data.preprocess import Preprocess
from medseg.data.splits import ratio
from medseg.types import DataCard

SIDE, CASES, ROUNDS = 192, 64, 9
LIMITS = {"cache": 0.02, "light": 1.0}


def write_cases(root: Path) -> list[Case]:
    """Write speckled 360x560 PNG pairs, as large and as hard to compress as real ultrasound."""
    rng, cases = np.random.default_rng(0), []
    for number in range(CASES):
        mask = cv2.ellipse(np.zeros((360, 560), np.uint8), (280, 180), (90, 60), 10.0 * number, 0, 360, 255, -1)
        speckle = cv2.GaussianBlur(rng.normal(90, 60, (360, 560)), (0, 0), 1.2)
        paths = root / f"{number}.png", root / f"{number}_mask.png"
        for path, pixels in zip(paths, (np.clip(speckle, 0, 255).astype(np.uint8), mask), strict=True):
            Image.fromarray(pixels).save(path)
        cases.append(Case(str(number), str(number), (paths[0],), (paths[1],), attributes={"fg_fraction": "0.08"}))
    return cases


def make_data(folder: Path, cases: list[Case], augmentation: Augmentation, workers: int) -> SegmentationData:
    """Return the data module that training uses, with nine tenths of the cases on the train side."""
    data = SegmentationData(
        card=DataCard("benchmark", 1, 2, ["background", "nodule"]),
        source=lambda: cases,
        split=partial(ratio, seed=0, fractions=(0.9, 0.0, 0.1)),
        preprocess=Preprocess(size=SIDE),
        augment=augmentation,
        batch_size=8,
        seed=0,
        cache_root=folder / "cache",
        num_workers=workers,
    )
    data.setup()
    return data


def bare_light(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The yardstick of augmentation: the operations of ``augment=light`` written out for one image."""
    matrix = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), rng.uniform(-15, 15), rng.uniform(0.8, 1.25))
    matrix[:, 2] += rng.uniform(-0.08, 0.08, 2) * SIDE
    image = cv2.warpAffine(image, matrix, (SIDE, SIDE))
    mask = cv2.warpAffine(mask, matrix, (SIDE, SIDE), flags=cv2.INTER_NEAREST)
    if rng.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    values = (image.astype(np.float32) / 255) ** np.float32(rng.uniform(0.7, 1.4)) * np.float32(rng.uniform(0.8, 1.2))
    return values + 0.03 * rng.standard_normal(values.shape, dtype=np.float32), mask


def medians(tools: dict[str, Callable[[int], object]]) -> dict[str, float]:
    """Return the median CPU seconds per image of each tool over interleaved rounds."""
    spent: dict[str, list[float]] = {name: [] for name in tools}
    for _ in range(ROUNDS):
        for name, tool in tools.items():
            before = time.process_time()
            for number in range(CASES):
                tool(number)
            spent[name].append((time.process_time() - before) / CASES)
    return {name: statistics.median(times) for name, times in spent.items()}


def loader_rates(folder: Path, cases: list[Case], light: Augmentation) -> None:
    """Print images per second by the clock, after a first epoch that starts the workers."""
    for workers in (0, 1, 2):
        loader = make_data(folder, cases, light, workers).train_dataloader()
        epochs = []
        for _ in range(4):
            before = time.perf_counter()
            count = sum(len(batch["image"]) for batch in loader)
            epochs.append(count / (time.perf_counter() - before))
        print(f"loader, light, {workers} workers {statistics.median(epochs[1:]):10.0f} images/s by the clock")


def main() -> int:
    """Print one line per tool; the exit code is 1 when a limit is exceeded."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    light, strong = (instantiate(compose("train", [f"augment={name}"]).augment.in_2d) for name in ("light", "strong"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = write_cases(folder)
        data = make_data(folder, cases, light, 0)
        cache = data.side("train").store
        pairs = [(cache.image(case.id), cache.mask(case.id)) for case in cases]
        rng = np.random.default_rng(0)
        seconds = medians(
            {
                "decode": lambda number: data.preprocess.do(*data.read(cases[number])),
                "cache": lambda number: (cache.image(cases[number].id), cache.mask(cases[number].id)),
                "bare light": lambda number: bare_light(pairs[number][0][..., 0], pairs[number][1], rng),
                "light": lambda number: light(*pairs[number], seed=number),
                "strong": lambda number: strong(*pairs[number], seed=number),
            }
        )
        for tool, spent in seconds.items():
            print(f"{tool:23} {1 / spent:10.0f} images/s of one core")
        loader_rates(folder, cases, light)
    ratios = {"cache": seconds["cache"] / seconds["decode"], "light": seconds["light"] / seconds["bare light"]}
    for tool, yardstick in (("cache", "decode"), ("light", "bare light")):
        print(f"{tool} / {yardstick:15} {ratios[tool]:10.3f} (limit {LIMITS[tool]})")
    return int(any(ratios[tool] > limit for tool, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
