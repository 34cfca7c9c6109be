"""What every room may know: the shape vocabulary, the sample, the data card.

Shapes: B batch, C image channels, K classes, S spatial axes (``H, W`` or ``D, H, W``).
Images are float32 ``(B, C, *S)``, masks int64 ``(B, *S)``, logits ``(B, K, *S)`` without activation, K >= 2.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NotRequired, TypedDict

from medseg.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

IGNORE = 255
"""Label value that losses and metrics leave out."""


@dataclass(frozen=True)
class DataCard:
    """What other rooms may know about a dataset.

    Attributes:
        name: short name, used in run names and tables.
        in_channels: image channels C.
        num_classes: classes K, background included.
        classes: K names in label order; the first is the background.
        spatial_dims: 2 or 3.
        unit: unit of distances, ``px`` where the spacing is unknown, else ``mm``.
        nsd_tolerance: how far two borders may lie apart and still count as one in NSD, in ``unit``.
        synthetic: whether the images are simulated; every output says so.
        citation: how to cite the data.
        licence: under which terms the data may be used.
        modality: what made the images, for instance ``ultrasound``, ``MR``, ``CT``, ``fundus``.
        channels: names of the image channels, one for each of C, for instance ``[T1, T1c, T2, FLAIR]``; may be empty.
        patch: (D, H, W) patch size that suits volumes of this dataset; None in 2D.
    """

    name: str
    in_channels: int
    num_classes: int
    classes: list[str]
    spatial_dims: int = 2
    unit: str = "px"
    synthetic: bool = False
    citation: str = ""
    licence: str = ""
    modality: str = ""
    channels: list[str] = field(default_factory=list)
    patch: list[int] | None = None
    nsd_tolerance: float = 1.0

    def __post_init__(self) -> None:
        if len(self.classes) != self.num_classes or self.num_classes < 2:
            raise ConfigError(
                f"data.card of '{self.name}': num_classes={self.num_classes} but classes={list(self.classes)}; "
                "give one name per class, background first, at least two."
            )
        if not 0 < self.nsd_tolerance < float("inf"):
            raise ConfigError(
                f"data.card of '{self.name}': nsd_tolerance={self.nsd_tolerance}; give a positive distance in "
                f"{self.unit}."
            )
        if self.channels and len(self.channels) != self.in_channels:
            raise ConfigError(
                f"data.card of '{self.name}': in_channels={self.in_channels} but channels={list(self.channels)}; "
                "name every channel or none."
            )


@dataclass(frozen=True)
class Geometry:
    """How a preprocessed grid maps back to the image file.

    Attributes:
        native_size: S of the image as loaded, (H, W) or (D, H, W).
        box: of the part kept by cropping, in native pixels: its start along each axis, then its size along each,
            (top, left, height, width) in 2D.
        size: S of the preprocessed grid.
        spacing: size of a native pixel along each axis, in ``DataCard.unit``.
    """

    native_size: tuple[int, ...]
    box: tuple[int, ...]
    size: tuple[int, ...]
    spacing: tuple[float, ...] = (1.0, 1.0)


class Sample(TypedDict):
    """One preprocessed case, or a patch or slice of one, as the dataset returns it."""

    image: "Tensor"  # (C, *S) float32
    mask: "Tensor"  # (*S) int64
    index: int  # position in the dataset's case list
    case: str
    patient: str
    annotated: "NotRequired[Tensor]"  # (K,) bool, background True; where some case of the side annotates not all


class Batch(TypedDict, total=False):
    """What ``collate`` makes of samples. ``truth`` and ``geometry`` are there in evaluation only."""

    image: "Tensor"  # (B, C, *S) float32
    mask: "Tensor"  # (B, *S) int64
    index: "Tensor"  # (B,) int64
    case: list[str]
    patient: list[str]
    weight: "Tensor"  # (B, *S) float32 pixel weights, where the loss asks for them
    annotated: "Tensor"  # (B, K) bool, where some case of the side does not annotate every class
    truth: "list[np.ndarray]"  # native uint8 label maps, (H, W) or (D, H, W)
    geometry: list[Geometry]


@dataclass
class BranchOutput:
    """What a network with mutually learning branches returns while training (DMU-Net).

    Attributes:
        fused: (B, K, *S) logits of the aggregated output; the network's answer in eval mode.
        branches: logits (B, K, *S) of each branch.
        margin: (B, 1, *S) logits of the boundary map, or None.
    """

    fused: "Tensor"
    branches: "list[Tensor]" = field(default_factory=list)
    margin: "Tensor | None" = None


@dataclass
class DeepOutput:
    """What a network with side outputs returns while training (deep supervision, auxiliary heads).

    Attributes:
        maps: logits (B, K, *S) at the image's size, the one that is the answer in eval mode first.
        weights: of each map's loss; None: equal, their sum 1.
        presence: (B, max(K - 1, 1)) logits of "this foreground class is in the image", or None (UNet 3+).
    """

    maps: "list[Tensor]"
    weights: list[float] | None = None
    presence: "Tensor | None" = None


@dataclass
class StructureOutput:
    """What a network with overlapping structures returns while training (Kumar et al. 2020).

    Attributes:
        maps: (B, P, *S) logits, one independent sigmoid a structure.
        members: for each structure the labels whose union it is, for instance ((1, 2), (2,)) for nodules that
            contain their cysts.
    """

    maps: "Tensor"
    members: tuple[tuple[int, ...], ...]


def offers(part: object, method: str) -> bool:
    """Return whether a network or a loss has one of the methods that it may have beside ``forward``.

    A network's are ``losses``, ``fit``, ``tune``, ``prompt`` and ``mark``, see :mod:`medseg.nets`; a loss's is
    ``start_epoch``. A layer, or a list of them, that happens to have such a name is none.
    """
    found = getattr(part, method, None)
    return callable(found) and not hasattr(found, "state_dict")
