"""Random changes to pictures and slices: albumentations, with a seed per sample.

albumentations keeps generators of its own that no global seed reaches, that worker processes copy, and that, seeded
through ``Compose.set_random_seed``, start every transform from one and the same state, so that a large angle always
comes with a large gamma. Here each sample gets one fresh pair of generators shared by all transforms.
"""

import os
import random
import warnings
from collections.abc import Callable, Sequence

import numpy as np

from medseg.errors import ConfigError
from medseg.rng import derive

# Importing albumentations asks a server for its newest version unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations


class Pictures:
    """Transforms applied in order to an image and its mask.

    Args:
        transforms: built transforms, albumentations' or of this room.

    Attributes:
        transforms: the same, as a list.
        empty: whether there are none.
    """

    def __init__(self, transforms: Sequence[albumentations.BasicTransform]) -> None:
        self.transforms = list(transforms)

    @property
    def empty(self) -> bool:
        """Whether nothing is ever changed."""
        return not self.transforms

    def __call__(self, image: np.ndarray, mask: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a changed image and its mask, moved alike.

        The result depends on the arguments alone: not on the worker, on earlier samples or on global seeds.

        Args:
            image: uint8 or float32 (H, W, C).
            mask: uint8 (H, W); int64 masks come back in varying types from albumentations, so cast afterwards.
            seed: of this sample.
        """
        if image.shape[:2] != mask.shape:
            raise ValueError(f"image {image.shape} and mask {mask.shape} differ in size")
        state = np.random.default_rng(derive(seed, "arrays")), random.Random(derive(seed, "numbers"))
        # Not through albumentations.Compose, whose checks on every call cost more than some of the transforms.
        changed = {"image": image, "mask": mask}
        for transform in self.transforms:
            transform.set_random_state(*state)
            changed = transform(**changed)
        return changed["image"], changed["mask"]


def compose(
    transforms: Sequence[albumentations.BasicTransform | Callable[[], albumentations.BasicTransform]],
) -> Pictures:
    """Return one augmentation out of transforms, applied in order.

    Args:
        transforms: transforms, or functions without arguments that build them (in yaml: ``_partial_: true``, so that
            they are built here and a misspelt argument is an error instead of a warning).

    Raises:
        ConfigError: an argument is unknown to its transform or has an impossible value.
    """
    return Pictures([_built(transform) for transform in transforms])


def _built(
    transform: albumentations.BasicTransform | Callable[[], albumentations.BasicTransform],
) -> albumentations.BasicTransform:
    if isinstance(transform, albumentations.BasicTransform | albumentations.BaseCompose):
        return transform
    name = getattr(getattr(transform, "func", transform), "__name__", str(transform))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            return transform()
        except (UserWarning, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"augment transform {name}: {reason}; see its signature in albumentations 2.0.") from None
