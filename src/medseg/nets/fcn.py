"""Fully convolutional networks on VGG-16: FCN-32s, FCN-16s, FCN-8s."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, checked_choice, crop_to, pad_to_multiple
from medseg.nets.weights import load_partial, read_weights

STEPS = {32: (32,), 16: (2, 16), 8: (2, 2, 8)}
"""Answer stride to the strides of its transposed convolutions, coarsest first; each kernel is twice its stride."""

AT_ONCE = (0.01, 0.0001)
"""What pool4 and pool3 are multiplied by where all three streams train together."""

CAFFE_OFFSETS = {32: 19, 16: 27, 8: 31}
"""Rows and columns before the image in the uncropped answer of the released models."""

CAFFE_SKIP_OFFSETS = (5, 9)
"""The same for the scores of pool4 and pool3."""


class Trunk(nn.Module):
    """VGG-16 up to its fully connected layers, these as convolutions.

    Weights start as VGG's do in torchvision: normal, variance 2 / outgoing nodes, biases zero. With torch's defaults
    the signal would fade on its way through fifteen layers without normalisation.

    Args:
        in_channels: image channels C.
        width: factor of VGG's channels and of the 4096 units.
        dropout: probability of dropping a unit after fc6 and fc7.
        caffe: padding of 100 in the first layer and none in fc6, poolings that keep an odd row.
    """

    def __init__(self, in_channels: int, *, width: float, dropout: float, caffe: bool) -> None:
        super().__init__()
        from torchvision.models.vgg import cfgs, make_layers

        plan = [step if isinstance(step, str) else max(int(step * width), 4) for step in cfgs["D"]]
        self.features = make_layers(plan)
        first = self.features[0]
        self.features[0] = nn.Conv2d(in_channels, first.out_channels, 3, padding=100 if caffe else 1)
        self.pools = [number for number, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d)]
        for number in self.pools:
            self.features[number].ceil_mode = caffe
        self.channels = [int(plan[number]) for number in (8, 12)]  # of pool3 and pool4
        self.units = max(int(4096 * width), 4)
        self.fc6 = nn.Conv2d(int(plan[-2]), self.units, 7, padding=0 if caffe else 3)
        self.fc7 = nn.Conv2d(self.units, self.units, 1)
        self.drop = nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(dropout))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return fc7, pool4 and pool3, coarsest first; without padding their sides are 1/32, 1/16 and 1/8."""
        pooled = []
        for number, layer in enumerate(self.features):
            image = layer(image)
            if number in self.pools:
                pooled.append(image)
        return self.drop(self.fc7(self.drop(self.fc6(image)))), pooled[3], pooled[2]


class FCN(nn.Module):
    """FCN-32s, FCN-16s and FCN-8s of Long, Shelhamer and Darrell, CVPR 2015, PAMI 2017.

    VGG-16 whose fully connected layers are convolutions; 1x1 scores of its end, and in 16s and 8s of pool4 and pool3,
    are added after transposed convolutions without bias that start as bilinear interpolation. The scores start at
    zero, so that a fresh network answers zero everywhere; in its first step only they learn. 134,285,122, 134,273,924
    and 134,271,430 parameters (32s, 16s, 8s) from 3 channels to 2 classes. The units of fc6 see 404 pixels. Batch size
    1 works in training too.

    ``style=caffe`` has the alignment of the released models: a padding of 100 in the first layer and crops at fixed
    offsets. ``style=clean``, the default, pads each layer by half its kernel, the image to a multiple of 32, and crops
    the centre.

    ``encoder_weights`` names a local file: VGG-16 weights as torchvision names them, or one of these networks saved
    with a coarser answer, which is the staged training 32s, 16s, 8s of the paper.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        stride: of the finest scores: 32, 16 or 8.
        style: ``clean`` or ``caffe``.
        at_once: multiply pool4 by 0.01 and pool3 by 0.0001, to train all streams together and not in stages.
        deconv: which transposed convolutions learn: ``learned`` all, ``inner`` all but the last (the paper of 2015),
            ``fixed`` none.
        dropout: probability of dropping a unit after fc6 and fc7.
        width: factor of all widths of VGG-16.
        zero_scores: start the scores at zero; false: at torch's default.
        encoder_weights: None (random) or the path of a local state dict.

    Raises:
        ConfigError: unknown stride, style or deconv; weights that are absent or do not fit; in ``forward``, another
            number of channels.
    """

    READING = ""
    ENCODER, HEAD = ("trunk",), ("scores", "ups")

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        stride: int = 8,
        style: str = "clean",
        at_once: bool = False,
        deconv: str = "learned",
        dropout: float = 0.5,
        width: float = 1.0,
        zero_scores: bool = True,
        encoder_weights: str | None = None,
    ) -> None:
        super().__init__()
        if stride not in STEPS:
            raise ConfigError(f"net.stride={stride} is unknown; choose one of 32, 16, 8.")
        self.in_channels, self.spatial_dims, self.stride = in_channels, 2, stride
        self.caffe = checked_choice(style, ["clean", "caffe"], key="style") == "caffe"
        learns = checked_choice(deconv, ["learned", "inner", "fixed"], key="deconv")
        steps = STEPS[stride]
        self.factors = (1.0, *(AT_ONCE if at_once else (1.0, 1.0)))
        self.trunk = Trunk(in_channels, width=width, dropout=dropout, caffe=self.caffe)
        pool3, pool4 = self.trunk.channels
        sources = (self.trunk.units, pool4, pool3)[: len(steps)]
        self.scores = nn.ModuleList(nn.Conv2d(channels, num_classes, 1) for channels in sources)
        self.ups = nn.ModuleList(upsampling(num_classes, step, cropped=not self.caffe) for step in steps)
        if zero_scores:
            for parameter in self.scores.parameters():
                nn.init.zeros_(parameter)
        for number, up in enumerate(self.ups, start=1):
            up.requires_grad_(learns == "learned" or (learns == "inner" and number < len(steps)))
        if encoder_weights is not None:
            self._load(Path(encoder_weights))

    def _load(self, path: Path) -> None:
        tensors = read_weights(path)
        staged = any(name.endswith("trunk.fc6.weight") for name in tensors)
        module: nn.Module = self if staged else self.trunk
        load_partial(module, as_convolutions(tensors), source=str(path), in_channels=self.in_channels)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of images (B, C, H, W) of any size."""
        check_channels(image, self.in_channels, net="FCN")
        sources = self.trunk(image if self.caffe else pad_to_multiple(image, 32))
        scores = [
            score(source * factor if factor != 1 else source)
            for score, source, factor in zip(self.scores, sources, self.factors, strict=False)
        ]
        answer = self.ups[0](scores[0])
        for up, skip, offset in zip(self.ups[1:], scores[1:], CAFFE_SKIP_OFFSETS, strict=False):
            answer = up(answer + crop_to(skip[..., offset:, offset:] if self.caffe else skip, answer.shape[-2:]))
        start = CAFFE_OFFSETS[self.stride] if self.caffe else 0
        return crop_to(answer[..., start:, start:], image.shape[-2:])


def bilinear_kernel(side: int) -> Tensor:
    """Return the weights (side, side) of a transposed convolution that interpolates bilinearly; side even."""
    taps = 1 - (torch.arange(side) - (side - 1) / 2).abs() / (side / 2)
    return taps[:, None] * taps


def upsampling(channels: int, step: int, *, cropped: bool) -> nn.ConvTranspose2d:
    """Return a transposed convolution that starts as bilinear interpolation of each channel by itself.

    Args:
        channels: of input and output.
        step: how much the grid grows; the kernel is twice as wide.
        cropped: to ``step`` times the input's sides; else ``step`` rows and columns more.
    """
    up = nn.ConvTranspose2d(channels, channels, 2 * step, stride=step, padding=step // 2 if cropped else 0, bias=False)
    with torch.no_grad():
        up.weight.copy_(torch.eye(channels)[:, :, None, None] * bilinear_kernel(2 * step))
    return up


def as_convolutions(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return VGG-16 weights with the first two fully connected layers as ``fc6`` (7x7) and ``fc7`` (1x1)."""
    renamed = dict(tensors)
    for linear, layer, side in (("classifier.0.", "fc6.", 7), ("classifier.3.", "fc7.", 1)):
        for name in [name for name in tensors if linear in name]:
            value = renamed.pop(name)
            kernel = value.view(len(value), -1, side, side) if value.ndim == 2 else value
            renamed[name.replace(linear, layer)] = kernel
    return renamed
