"""Random changes to volumes and patches: MONAI's dictionary transforms, with a seed per sample.

MONAI's transforms draw each from a state of its own. Left alone, these start from the operating system's noise; given
one and the same seed, a large angle would always come with much noise. Here every transform gets, for every sample, a
seed derived from the sample's and from the transform's place in the list.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from medseg.errors import ConfigError
from medseg.rng import derive

Transform = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Volumes:
    """Transforms applied in order to a volume and its label map.

    Args:
        transforms: built dictionary transforms on the keys ``image`` and ``mask``, MONAI's or ``volume_warp``'s.

    Attributes:
        transforms: the same, as a list.
        empty: whether there are none.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = list(transforms)

    @property
    def empty(self) -> bool:
        """Whether nothing is ever changed."""
        return not self.transforms

    def __call__(self, image: np.ndarray, mask: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a changed volume and its labels, moved alike.

        Args:
            image: float32 (C, D, H, W).
            mask: uint8 (D, H, W).
            seed: of this sample.
        """
        # Copies, as some of MONAI's transforms write into what they are given, which may be the cache.
        data: Mapping[str, Any] = {
            "image": torch.from_numpy(np.array(image, np.float32)),
            "mask": torch.from_numpy(np.array(mask[None], np.uint8)),
        }
        for place, transform in enumerate(self.transforms):
            if hasattr(transform, "set_random_state"):
                # MONAI takes what fits NumPy's old generator.
                transform.set_random_state(seed=derive(seed, "volume", place) % 2**32)
            data = transform(data)
        return _array(data["image"], np.float32), _array(data["mask"], np.uint8)[0]


def compose(transforms: Sequence[Transform | Callable[[], Transform]]) -> Volumes:
    """Return one augmentation out of transforms, applied in order.

    Args:
        transforms: functions without arguments that build them (in yaml: ``_partial_: true``).

    Raises:
        ConfigError: an argument is unknown to its transform or has an impossible value.
    """
    return Volumes([_built(transform) for transform in transforms])


def _built(transform: Any) -> Transform:
    if not hasattr(transform, "func"):
        return transform
    try:
        return transform.func(*transform.args, **transform.keywords)
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"augment transform {transform.func.__name__}: {reason}; see its signature.") from None


def _array(values: Any, kind: type) -> np.ndarray:
    """Return a plain array; labels come back from some of MONAI's transforms as float32, whole numbers all the same."""
    array = values.as_tensor().numpy() if hasattr(values, "as_tensor") else np.asarray(values)
    return np.ascontiguousarray(np.rint(array) if kind is np.uint8 and array.dtype.kind == "f" else array, dtype=kind)
