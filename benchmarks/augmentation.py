"""How fast random changes are: this project's default beside albumentations, batchgeneratorsv2 and MONAI.

CPU time of one thread, median over interleaved rounds in one process, one picture of 256 x 256 with its mask. Two
comparisons have limits. All operations of ``augment=light`` and an elastic deformation on every picture, beside the
same list in albumentations with its ``ElasticTransform``: at least 3 times as fast. ``augment=nnunet`` beside the same
list in batchgeneratorsv2, both with nnU-Net's probabilities, ready for the network (float32, normalised): at least 6
times. ``augment=light`` changes every picture in every way, so beside nnU-Net's probabilities it has no limit; nor
have volumes, whose rows show why ``VolumeWarp`` stands beside MONAI's transforms.
"""

import importlib.util
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import albumentations
import cv2
import numpy as np
import torch
from hydra.utils import instantiate

from medseg.commands.configuration import compose as compose_config
from medseg.data.augment.pictures import Pictures, compose
from medseg.data.augment.tone import Tone
from medseg.data.augment.volume_warp import VolumeWarp
from medseg.data.augment.volumes import compose as compose_volumes
from medseg.data.augment.warp import Warp

SIDE, ROUNDS, PICTURES, VOLUME = 256, 9, 60, (48, 96, 96)
LIMITS = {("albumentations, elastic", "light and elastic"): 3.0, ("batchgeneratorsv2", "augment=nnunet"): 6.0}
PAIRS = [
    *LIMITS,
    ("batchgeneratorsv2", "augment=light"),
    ("3D affine, MONAI", "3D affine, VolumeWarp"),
    ("3D elastic, MONAI", "3D elastic, VolumeWarp"),
]

Tool = Callable[[int], object]


def pictures() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return speckled uint8 pictures (H, W, 1) with masks (H, W)."""
    rng, made = np.random.default_rng(0), []
    for number in range(8):
        speckle = cv2.GaussianBlur(rng.normal(90, 60, (SIDE, SIDE)), (0, 0), 1.2)
        mask = cv2.ellipse(np.zeros((SIDE, SIDE), np.uint8), (128, 120), (60, 40), 10.0 * number, 0, 360, 1, -1)
        made.append((np.clip(speckle, 0, 255).astype(np.uint8)[..., None], mask))
    return made


def normalised(image: np.ndarray) -> np.ndarray:
    """Return a picture as the network takes it, float32 (C, H, W)."""
    values = np.multiply(image, np.float32(1 / 51), dtype=np.float32)
    values -= np.float32(1.25)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def own(augmentation: Pictures, pairs: list[tuple[np.ndarray, np.ndarray]], number: int) -> object:
    """Change and normalise one picture."""
    image, mask = augmentation(*pairs[number % len(pairs)], seed=number)
    return normalised(image), mask


def elastic_pair() -> tuple[Pictures, Pictures]:
    """Return flip, affine, elastic, gamma, gain and noise, each certain: ours, and the same of albumentations alone."""
    flip = albumentations.HorizontalFlip(p=0.5)
    moves = {"rotate": [-15, 15], "scale": [0.8, 1.25], "shift": [-0.08, 0.08], "elastic": [0.05, 0.2]}
    ours = compose([Warp(mirror={"columns": 0.5}, **moves), Tone(gamma=[0.7, 1.4], gain=[0.8, 1.2], noise=0.03)])
    affine = albumentations.Affine(
        rotate=(-15, 15), scale=(0.8, 1.25), keep_ratio=True, translate_percent=(-0.08, 0.08), p=1
    )
    theirs = [
        flip,
        affine,
        albumentations.ElasticTransform(alpha=60, sigma=8, p=1),
        albumentations.RandomGamma(gamma_limit=(70, 140), p=1),
        albumentations.MultiplicativeNoise(multiplier=(0.8, 1.2), p=1),
        albumentations.GaussNoise(std_range=(0.03, 0.03), p=1),
    ]
    return ours, compose(theirs)


def nnunet_list() -> Callable[..., dict[str, Any]]:
    """Return nnU-Net's 2D list of batchgeneratorsv2 with its own probabilities; its input is a larger patch."""
    from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
    from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
    from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
    from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
    from batchgeneratorsv2.transforms.utils.random import RandomTransform
    from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform

    each = {"synchronize_channels": False, "p_per_channel": 1}
    gamma = {"gamma": BGContrast((0.7, 1.5)), "p_retain_stats": 1, **each}
    parts = [
        (GaussianNoiseTransform(noise_variance=(0, 0.1), p_per_channel=1, synchronize_channels=True), 0.1),
        (GaussianBlurTransform((0.5, 1.0), synchronize_channels=False, synchronize_axes=False, p_per_channel=0.5), 0.2),
        (MultiplicativeBrightnessTransform(multiplier_range=BGContrast((0.75, 1.25)), **each), 0.15),
        (ContrastTransform(contrast_range=BGContrast((0.75, 1.25)), preserve_range=True, **each), 0.15),
        (SimulateLowResolutionTransform((0.5, 1), False, True, None, None, 0.5), 0.25),
        (GammaTransform(p_invert_image=1, **gamma), 0.1),
        (GammaTransform(p_invert_image=0, **gamma), 0.3),
    ]
    spatial = SpatialTransform(
        (SIDE, SIDE), 0, False, p_rotation=0.2, rotation=(-np.pi, np.pi), p_scaling=0.2, scaling=(0.7, 1.4),
        p_synchronize_scaling_across_axes=1, bg_style_seg_sampling=False,
    )  # fmt: skip
    drawn = [RandomTransform(part, apply_probability=chance) for part, chance in parts]
    return ComposeTransforms([spatial, *drawn, MirrorTransform(allowed_axes=(0, 1)), RemoveLabelTansform(-1, 0)])


def batchgenerators_tool() -> Tool | None:
    """Return nnU-Net's list on its larger patch, or None where the package is missing."""
    if importlib.util.find_spec("batchgeneratorsv2") is None:
        print("batchgeneratorsv2 IS NOT INSTALLED: its row and its limit are left out", file=sys.stderr)
        return None
    change, rng = nnunet_list(), np.random.default_rng(0)
    # nnU-Net loads 301 pixels a side for 256, so that rotated corners have content.
    image = torch.from_numpy(rng.normal(size=(1, 301, 301)).astype(np.float32))
    mask = torch.from_numpy((rng.random((1, 301, 301)) < 0.1).astype(np.int16))
    return lambda number: change(image=image.clone(), segmentation=mask.clone())


def volume_tools() -> dict[str, Tool]:
    """Return affine and elastic moves of one volume, ours and MONAI's."""
    from monai.transforms import Rand3DElasticd, RandAffined

    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, *VOLUME)).astype(np.float32)
    mask = (image[0] > 1).astype(np.uint8)
    turn = {"rotate": [-25, 25], "tilt": [-15, 15], "scale": [0.8, 1.25]}
    both = {"keys": ["image", "mask"], "prob": 1.0, "mode": ["bilinear", "nearest"], "padding_mode": "zeros"}
    affine = {"rotate_range": [0.4, 0.26, 0.26], "scale_range": [0.2] * 3}
    lists = {
        "3D affine, VolumeWarp": partial(VolumeWarp, **turn),
        "3D affine, MONAI": partial(RandAffined, **both, **affine),
        "3D elastic, VolumeWarp": partial(VolumeWarp, **turn, elastic=0.2),
        "3D elastic, MONAI": partial(Rand3DElasticd, sigma_range=(5, 7), magnitude_range=(50, 100), **both, **affine),
        "3D in plane, VolumeWarp": partial(VolumeWarp, rotate=[-25, 25], elastic=0.2, in_plane=True),
    }
    built = {name: compose_volumes([make]) for name, make in lists.items()}
    return {name: (lambda number, change=change: change(image, mask, seed=number)) for name, change in built.items()}


def measure(tools: dict[str, Tool], count: int, rounds: int) -> dict[str, np.ndarray]:
    """Return the CPU seconds per sample of each tool in each of several interleaved rounds."""
    spent: dict[str, list[float]] = {name: [] for name in tools}
    for turn in range(rounds + 1):
        for name, tool in tools.items():
            before = time.process_time()
            for number in range(count):
                tool(turn * count + number)
            spent[name].append((time.process_time() - before) / count)
    return {name: np.array(times[1:]) for name, times in spent.items()}  # the first round warms up


def main() -> int:
    """Print one line per tool; the exit code is 1 when a limit is missed."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    pairs, (ours, theirs) = pictures(), elastic_pair()
    names = ("light", "strong", "ultrasound", "nnunet")
    configured = {name: instantiate(compose_config("train", [f"augment={name}"]).augment.in_2d) for name in names}
    tools: dict[str, Tool] = {f"augment={name}": partial(own, change, pairs) for name, change in configured.items()}
    tools |= {"light and elastic": partial(own, ours, pairs), "albumentations, elastic": partial(own, theirs, pairs)}
    peer = batchgenerators_tool()
    if peer is not None:
        tools["batchgeneratorsv2"] = peer
    seconds = measure(tools, PICTURES, ROUNDS) | measure(volume_tools(), 1, 5)
    for name, spent in seconds.items():
        print(f"{name:26} {1 / np.median(spent):8.0f} a second of one core")
    failed = False
    for name, base in PAIRS:
        if {name, base} <= seconds.keys():
            ratio, limit = float(np.median(seconds[name] / seconds[base])), LIMITS.get((name, base))
            print(f"{base:24} beside {name:24} {ratio:6.1f} times as fast" + (f" (limit {limit:g})" if limit else ""))
            failed |= limit is not None and ratio < limit
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
