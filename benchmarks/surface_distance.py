"""HD, both HD95, ASSD, MASD and NSD of one pair of masks, beside a distance transform on the box and other tools.

Every tool is timed once a round, in turn, so that a busy machine disturbs all of them alike; the figure is the ratio of
the best CPU times to "scipy EDT" (border by binary erosion, two distance transforms on the box of both masks, the same
numbers read off). One thread. From 256 x 256 medseg has to stay at or below a quarter of it, in 3D below 0.7; in
smaller images the price of calling anything at all counts, and nothing is asked. The last column is the most memory
that medseg's arrays took on top of the masks (the trees, about 0.1 kB for each border pixel, are not in it).
"""

import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from numpy.typing import NDArray
from scipy import ndimage
from torchmetrics.segmentation import HausdorffDistance

from medseg.metrics.surface import border_distances

LIMITS = {2: 0.25, 3: 0.7}
ROUNDS = 25
ROUNDS_IN_3D = 7
SHAPES = ((96, 96), (256, 256), (512, 512), (1024, 1024), (64, 128, 128), (128, 256, 256))


def nodules(shape: tuple[int, ...], seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return two irregular ellipsoids about half as wide as the image that overlap with a Dice of about 0.9."""
    draw = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    angle, radius = np.arctan2(axes[-2], axes[-1]), np.sqrt(sum(axis**2 for axis in axes))
    waves = [(k, draw.normal(0, 0.06 / k), draw.uniform(0, 6)) for k in range(2, 8)]
    outlines = [0.5 + sum(size * scale * np.cos(k * angle + turn) for k, size, turn in waves) for scale in (1.0, -0.6)]
    return radius < outlines[0], np.roll(radius < outlines[1], shape[0] // 50, axis=0)


def numbers_of(to_truth: NDArray[Any], to_prediction: NDArray[Any]) -> tuple[float, ...]:
    """Return HD, HD95 directed and pooled, ASSD, MASD and NSD at 1 from both directed distances."""
    both = np.concatenate([to_truth, to_prediction])
    hd95 = max(np.percentile(to_truth, 95), np.percentile(to_prediction, 95)), np.percentile(both, 95)
    return both.max(), *hd95, both.mean(), (to_truth.mean() + to_prediction.mean()) / 2, (both <= 1).mean()


def scipy_transform(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[float, ...]:
    """The yardstick."""
    box = ndimage.find_objects((prediction | truth).astype(np.uint8))[0]
    first, second = prediction[box], truth[box]
    border, other = first & ~ndimage.binary_erosion(first), second & ~ndimage.binary_erosion(second)
    to_truth = ndimage.distance_transform_edt(~other)[border]
    return numbers_of(to_truth, ndimage.distance_transform_edt(~border)[other])


def medseg(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[float, ...]:
    """The project's own."""
    found = border_distances(prediction, truth)
    hd95 = found.hd95_directed_voxel, found.hd95_pooled_voxel
    return found.hd, *hd95, found.assd, found.masd, found.nsd(1)


def monai(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[float, ...]:
    """MONAI's four calls."""
    pair = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (prediction, truth)]
    hd, hd95 = (compute_hausdorff_distance(*pair, include_background=True, percentile=p).item() for p in (None, 95))
    assd = compute_average_surface_distance(*pair, include_background=True, symmetric=True).item()
    return hd, hd95, assd, compute_surface_dice(*pair, class_thresholds=[1.0], include_background=True).item()


def torchmetrics(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[float, ...]:
    """Plain HD alone, by all pairs of pixels; it would take gigabytes above 256 x 256."""
    score = HausdorffDistance(num_classes=2, input_format="index", include_background=False)
    score.update(*(torch.from_numpy(mask[None]).long() for mask in (prediction, truth)))
    return (score.compute().item(),)


def best(tools: dict[str, Callable[..., tuple[float, ...]]], pair: tuple[Any, Any], rounds: int) -> dict[str, float]:
    """Return the best CPU seconds of each tool over interleaved rounds, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in tools}
    for turn in range(rounds + 1):
        for name, tool in tools.items():
            start = time.process_time()
            tool(*pair)
            if turn:
                seconds[name].append(time.process_time() - start)
    return {name: min(values) for name, values in seconds.items()}


def peak(pair: tuple[Any, Any]) -> int:
    """Return the most bytes that medseg's arrays held at once."""
    tracemalloc.start()
    medseg(*pair)
    bytes_held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return bytes_held


def main() -> int:
    """Print one line per shape; the exit code is 1 when medseg is over its limit anywhere."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    over = False
    print(f"{'shape':>16} {'scipy EDT':>12} {'medseg':>8} {'MONAI':>8} {'torchmetrics (HD only)':>24} {'memory':>9}")
    for shape in SHAPES:
        pair = nodules(shape, seed=0)
        np.testing.assert_allclose(medseg(*pair), scipy_transform(*pair), atol=1e-9)
        fast = best({"scipy": scipy_transform, "medseg": medseg}, pair, ROUNDS if len(shape) == 2 else ROUNDS_IN_3D)
        slow = best({"monai": monai} | ({"torchmetrics": torchmetrics} if shape == (256, 256) else {}), pair, 2)
        ratio = {name: f"{value / fast['scipy']:.2f}" for name, value in (fast | slow).items()}
        over |= max(shape) > 100 and fast["medseg"] / fast["scipy"] > LIMITS[len(shape)]
        size = "x".join(map(str, shape))
        print(
            f"{size:>16} {fast['scipy'] * 1e3:>9.2f} ms {ratio['medseg']:>8} {ratio['monai']:>8} "
            f"{ratio.get('torchmetrics', '-'):>24} {peak(pair) / 1e6:>6.2f} MB"
        )
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
