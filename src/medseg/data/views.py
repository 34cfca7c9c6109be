"""Views: how cases become training samples and how a whole image goes through a network.

A view is shared by the datamodule, which asks it for the training dataset, and by whatever evaluates, which hands it
the network and whole images. ``dims`` is the number of axes the network sees. ``samples``, always ``in_{dims}d``, is
read by data configs alone (``${augment.${view.samples}}``): their interpolations cannot piece a name together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor

from medseg.data.dataset import CaseDataset, Side
from medseg.data.patches import PatchDataset
from medseg.data.windows import Network, slice_by_slice, sliding_window
from medseg.errors import ConfigError


class View(Protocol):
    """What every view does."""

    @property
    def dims(self) -> int:
        """Axes that the network sees."""
        ...

    def check(self, spatial_dims: int, *, name: str) -> None:
        """Refuse data that the view cannot show, with a ``ConfigError``."""
        ...

    def training(self, side: Side) -> "CaseDataset | PatchDataset":
        """Return the training dataset of a side."""
        ...

    def input_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return what the network sees at once of a preprocessed image of ``size``."""
        ...

    def predict(self, net: Network, image: Tensor) -> Tensor:
        """Return logits (B, K, *S) of whole images (B, C, *S)."""
        ...


@dataclass(frozen=True)
class Whole:
    """Pictures whole, in training as in evaluation.

    Attributes:
        dims: axes of the picture.
        samples: which part of an augmentation is used; for the config.
    """

    dims: int = 2
    samples: str = "in_2d"

    def check(self, spatial_dims: int, *, name: str) -> None:
        """Refuse volumes: their sizes differ, and few fit into memory with their gradients."""
        if spatial_dims != 2:
            raise ConfigError(f"view: volumes of data={name} are not shown whole; use view=patches or view=slices.")

    def training(self, side: Side) -> CaseDataset:
        """Return each case once an epoch; cases without any labelled pixel are left out."""
        if not side.sparse:
            return CaseDataset(side)
        return CaseDataset(replace(side, cases=tuple(side.cases[number] for number in side.drawable())))

    def input_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the size itself."""
        return tuple(size)

    def predict(self, net: Network, image: Tensor) -> Tensor:
        """Return logits (B, K, *S) of whole images (B, C, *S) in one pass."""
        return net(image)


@dataclass(frozen=True)
class Patches:
    """Patches in training, a sliding window over the whole image in evaluation.

    Attributes:
        dims: axes of the data.
        samples: which part of an augmentation is used; for the config.
        size: of a patch along each axis, (D, H, W) or (H, W).
        epoch_samples: patches of an epoch.
        foreground: share of patches placed around foreground.
        overlap: least share of a window that the next one covers again.
        window_batch: windows that go through the network together.
    """

    dims: int = 3
    samples: str = "in_3d"
    size: Sequence[int] | None = None
    epoch_samples: int = 256
    foreground: float = 0.33
    overlap: float = 0.5
    window_batch: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1 or self.window_batch < 1:
            raise ConfigError(
                f"view.overlap={self.overlap}, view.window_batch={self.window_batch}: give a share in [0, 1) and at "
                "least 1."
            )

    def check(self, spatial_dims: int, *, name: str) -> None:
        """Refuse a patch that does not have the axes of the data."""
        size = [] if self.size is None else list(self.size)
        if self.dims != spatial_dims or len(size) != spatial_dims or min(size) < 1:
            raise ConfigError(
                f"view.size={self.size}: data={name} needs a patch of {spatial_dims} positive numbers; set view.size, "
                "or data.card.patch."
            )

    def training(self, side: Side) -> PatchDataset:
        """Return patches drawn anew in each epoch."""
        return PatchDataset(side, size=self._patch, count=self.epoch_samples, foreground=self.foreground)

    def input_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the patch."""
        return self._patch

    def predict(self, net: Network, image: Tensor) -> Tensor:
        """Return logits (B, K, *S) of whole images (B, C, *S) by a sliding window with Gaussian weights."""
        return sliding_window(net, image, patch=self._patch, overlap=self.overlap, batch=self.window_batch)

    @property
    def _patch(self) -> tuple[int, ...]:
        return tuple(int(side) for side in self.size or ())


@dataclass(frozen=True)
class Slices:
    """Slices of volumes for networks of pictures, whole slices one after the other in evaluation.

    Attributes:
        dims: axes of a slice.
        samples: which part of an augmentation is used; for the config.
        axis: along which slices are taken: 0 axial, 1 coronal, 2 sagittal (the order of D, H, W).
        size: (rows, columns) of a training sample; larger than a slice, it is filled with repeated edges.
        patch: (D, H, W) patch of the data; gives the size where none is set.
        epoch_samples: slices of an epoch.
        foreground: share of slices chosen because they hold foreground.
        batch: slices that go through the network together in evaluation.
    """

    dims: int = 2
    samples: str = "in_2d"
    axis: int = 0
    size: Sequence[int] | None = None
    patch: Sequence[int] | None = field(default=None, repr=False)
    epoch_samples: int = 256
    foreground: float = 0.33
    batch: int = 8

    def check(self, spatial_dims: int, *, name: str) -> None:
        """Refuse pictures, and a slice without a size."""
        if spatial_dims != 3:
            raise ConfigError(f"view=slices: data={name} holds pictures, not volumes; use view=default.")
        if self.axis not in (0, 1, 2) or self.batch < 1:
            raise ConfigError(f"view.axis={self.axis}, view.batch={self.batch}: give 0, 1 or 2, and at least 1.")
        if len(self._plane) != 2 or min(self._plane) < 1:
            raise ConfigError(
                f"view.size={self.size}: give [rows, columns] of the slices of data={name}, or data.card.patch."
            )

    @property
    def _plane(self) -> tuple[int, ...]:
        if self.size is not None:
            return tuple(int(side) for side in self.size)
        return tuple(int(side) for axis, side in enumerate(self.patch or ()) if axis != self.axis)

    def training(self, side: Side) -> PatchDataset:
        """Return slices drawn anew in each epoch."""
        size = list(self._plane)
        size.insert(self.axis, 1)
        return PatchDataset(side, size=size, count=self.epoch_samples, foreground=self.foreground, squeeze=self.axis)

    def input_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return (rows, columns) of a training sample."""
        return self._plane

    def predict(self, net: Network, image: Tensor) -> Tensor:
        """Return logits (B, K, D, H, W) of volumes (B, C, D, H, W), slice by slice."""
        return slice_by_slice(net, image, axis=self.axis, batch=self.batch)


def default(*, dims: int = 2, samples: str = "in_2d", size: Sequence[int] | None = None) -> View:
    """Return pictures whole in 2D, patches in 3D."""
    if dims == 2:
        return Whole(dims, samples)
    return Patches(dims, samples, size)
