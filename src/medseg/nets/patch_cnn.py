"""The pixel classifier: a small CNN that sees one window and names the class of its central pixel."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, checked_choice, crop_to
from medseg.nets.gaze import Gaze, checked_gaze
from medseg.nets.unet_valid import mirrored

KERNELS = {95: (4, 5, 4, 4), 65: (4, 4, 5), 33: (4, 4, 3)}
"""Window side to the kernels of its convolutions, each followed by a halving pooling. 95: network N4 of the paper."""

PUBLISHED = 95
"""Side of the window whose layer table is public; the layers of the others are our reading."""


class Column(nn.Module):
    """Convolutions and poolings from a window to ``hidden`` units, without padding and normalisation.

    Args:
        in_channels: image channels C.
        patch: side of the window, a key of ``KERNELS``.
        maps: channels of each convolution.
        hidden: units of the fully connected layer.
        activation: ``relu`` or ``tanh``; acts after each pooling and after the fully connected layer.
        gaze: how windows are looked at first; None: as they are.
    """

    side: int

    def __init__(
        self, in_channels: int, *, patch: int, maps: int, hidden: int, activation: str, gaze: Gaze | None = None
    ) -> None:
        super().__init__()
        self.patch, self.gaze = patch, gaze
        self.side = patch if gaze is None else gaze.side
        kernels, side = KERNELS[patch], patch
        for kernel in kernels:
            side = (side - kernel + 1) // 2
        inputs = [in_channels, *[maps] * (len(kernels) - 1)]
        self.convs = nn.ModuleList(
            nn.Conv2d(count, maps, kernel) for count, kernel in zip(inputs, kernels, strict=True)
        )
        self.units = nn.Conv2d(maps, hidden, side)
        self.act = nn.Tanh() if activation == "tanh" else nn.ReLU()

    def windows(self, windows: Tensor) -> Tensor:
        """Return units (N, hidden, 1, 1) of windows (N, C, side, side), as the layer table says."""
        if self.gaze is not None:
            windows = self.gaze(windows)
        for conv in self.convs:
            windows = self.act(F.max_pool2d(conv(windows), 2))
        return self.act(self.units(windows))

    def forward(self, image: Tensor) -> Tensor:
        """Return units (B, hidden, H, W) of images that are mirrored here: one window around each pixel.

        Each pooling is done from its four possible origins, and the four results go on side by side in the batch
        (Giusti et al., ICIP 2013: max-pooling fragments). In the end they interleave to one vector of units a pixel,
        the numbers of :meth:`windows`.
        """
        half = self.patch // 2
        sides = image.shape[-2:]
        period = 2 ** len(self.convs)  # sides that divide by it have fragments of one size
        features = mirrored(image, half, [half + -side % period for side in sides])
        for conv in self.convs:
            features = self.act(_fragments(conv(features)))
        units = self.act(self.units(features))
        for _ in self.convs:
            units = _interleaved(units)
        return crop_to(units, sides)


def _fragments(features: Tensor) -> Tensor:
    """Return the 2x2 maxima (4 N, C, h, w) from all four origins of maps (N, C, 2 h + 1, 2 w + 1)."""
    height, width = (side - 1 for side in features.shape[-2:])
    origins = [(top, left) for top in (0, 1) for left in (0, 1)]
    return torch.cat([F.max_pool2d(features[..., y : y + height, x : x + width], 2) for y, x in origins])


def _interleaved(fragments: Tensor) -> Tensor:
    """Return the maps (N, C, 2 h, 2 w) whose rows and columns take turns in the fragments (4 N, C, h, w)."""
    _, channels, height, width = fragments.shape
    parts = fragments.view(2, 2, -1, channels, height, width)  # origin along rows, along columns, N, C, h, w
    return parts.permute(2, 3, 4, 0, 5, 1).reshape(-1, channels, 2 * height, 2 * width)


class PatchCNN(nn.Module):
    """Sliding-window pixel classifier of Ciresan, Giusti, Gambardella and Schmidhuber, NIPS 2012.

    With the 95x95 window it is their network N4: four convolutions of 48 maps, each followed by 2x2 pooling, 200 fully
    connected units; 219,290 parameters from one channel to two classes. Around the image the window sees its mirror
    image. The smaller windows' layers are our reading: the paper uses 65x65 windows too, of which no layer table was
    at hand.

    ``mode=sliding`` in eval mode evaluates each of the H W windows by itself, as published. ``mode=dense`` computes
    the same numbers (to 1e-6) for all pixels at once, with no layer evaluated twice at one place. Training always
    takes the dense form: the logits of all pixels, against the whole label map. Our reading of the paper's balanced
    sampling of windows (all membrane pixels and as many others) is a loss with class weights, which has the same
    expectation. A batch of one image works in training too.

    ``foveation`` and ``sampling`` are those of :class:`~medseg.nets.gaze.Gaze`. No layer then sees two windows alike,
    so every window is evaluated by itself, in training too: its layers are computed anew for the gradient, which
    keeps the memory to that of a chunk but costs as many windows as the image has pixels. Train on small crops. Left
    out is the paper's monotone cubic calibration fitted on training data; its median filter of 2 pixels' radius on
    the probability is ``postprocess=median``.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        patch: side of the window, 95, 65 or 33; or several sides, whose columns of layers are fused.
        maps: channels of each convolution.
        hidden: units of the fully connected layer.
        activation: ``relu`` or ``tanh``.
        mode: ``dense`` or ``sliding``.
        chunk: windows at a time in ``sliding`` mode.
        foveation: radius in pixels of the blur at the windows' edge; 0 none. Needs ``mode=sliding``.
        sampling: ``uniform``, or ``nonuniform`` (as many samples of a field 1.5 times as wide). Needs ``mode=sliding``.

    Raises:
        ConfigError: unknown patch, activation, mode or sampling, a chunk below one, a negative foveation, either of the
            two with ``mode=dense``; in ``forward``, another number of channels.
    """

    READING = ""
    ENCODER = ("columns",)

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        patch: int | Sequence[int] = 95,
        maps: int = 48,
        hidden: int = 200,
        activation: str = "relu",
        mode: str = "dense",
        chunk: int = 64,
        foveation: float = 0.0,
        sampling: str = "uniform",
    ) -> None:
        super().__init__()
        self.in_channels, self.spatial_dims = in_channels, 2
        self.mode = checked_choice(mode, ["dense", "sliding"], key="mode")
        checked_choice(activation, ["relu", "tanh"], key="activation")
        if chunk < 1:
            raise ConfigError(f"net.chunk={chunk}: give the number of windows at a time, at least 1.")
        self.chunk = chunk
        self.literal = checked_gaze(foveation, sampling, mode)
        sides = _checked_patches(patch)
        self.READING = _reading(self.READING, sides, literal=self.literal)
        self.patch = max(sides)
        columns = [
            Column(
                in_channels, patch=side, maps=maps, hidden=hidden, activation=activation,
                gaze=Gaze(side, foveation=foveation, sampling=sampling) if self.literal else None,
            )
            for side in sides
        ]  # fmt: skip
        self.columns = nn.ModuleList(columns)
        self.side = max(column.side for column in columns)
        self.head = nn.Conv2d(hidden * len(self.columns), num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of images (B, C, H, W) of any size."""
        check_channels(image, self.in_channels, net="PatchCNN")
        if self.literal or (self.mode == "sliding" and not self.training):
            return self._sliding(image)
        return self.head(torch.cat([column(image) for column in self.columns], dim=1))

    def _sliding(self, image: Tensor) -> Tensor:
        batch, _, height, width = image.shape
        side, half = self.side, self.side // 2
        # A view (B, H, W, C, side, side); only the windows of one chunk are copied.
        views = mirrored(image, half, [half, half]).unfold(2, side, 1).unfold(3, side, 1).movedim(1, 3)

        def classified(places: Tensor) -> Tensor:
            return self.classify(views[places // (height * width), places // width % height, places % width])

        anew = self.literal and torch.is_grad_enabled()
        logits = [
            checkpoint(classified, places, use_reentrant=False) if anew else classified(places)
            for places in torch.arange(batch * height * width, device=image.device).split(self.chunk)
        ]
        return torch.cat(logits).view(batch, height, width, -1).movedim(3, 1)

    def classify(self, windows: Tensor) -> Tensor:
        """Return logits (N, K) of the central pixels of windows (N, C, side, side), side that of the largest window."""
        units = []
        for column in self.columns:
            rim = (windows.shape[-1] - column.side) // 2
            inner = slice(rim, rim + column.side)
            units.append(column.windows(windows[..., inner, inner]))
        return self.head(torch.cat(units, dim=1)).flatten(1)


class MultiPatchCNN(PatchCNN):
    """Patch classifier for thyroid nodules after Ma, Wu, Jiang, Zhao and Kong, IJCARS 12:1895-1910, 2017.

    Published: a CNN classifies patches of nodule and of normal thyroid, its answers make a probability map, and a
    multi-view strategy improves it. Our reading: the views are windows of several sides around the same pixel, one
    column of layers of :class:`PatchCNN` for each; the last layer sees the units of all columns.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        patch: sides of the windows.
        **options: see :class:`PatchCNN`.

    Raises:
        ConfigError: see :class:`PatchCNN`.
    """

    READING = "our reading: the multi-view strategy as columns of layers on windows of several sizes, fused last"

    def __init__(
        self, *, in_channels: int, num_classes: int, patch: Sequence[int] = (33, 65, 95), **options: str | float
    ) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, patch=patch, **options)  # type: ignore[arg-type]


def _reading(before: str, sides: Sequence[int], *, literal: bool) -> str:
    """Return what is our reading of a network with these windows, after what is so anyway; empty if nothing is."""
    ours = sorted({side for side in sides if side != PUBLISHED})
    layers = f"the layers of windows of {' and '.join(map(str, ours))} pixels" if ours else ""
    gaze = "foveation and sampling by constants of our own" if literal else ""
    found = "; ".join(filter(None, [before.removeprefix("our reading: "), layers, gaze]))
    return found and f"our reading: {found}"


def _checked_patches(patch: int | Sequence[int]) -> list[int]:
    sides = [patch] if isinstance(patch, int) else [int(side) for side in patch]
    if sides and all(side in KERNELS for side in sides):
        return sides
    known = ", ".join(map(str, sorted(KERNELS)))
    raise ConfigError(f"net.patch={patch}: windows of {known} pixels are known; give one of them or a list.")
