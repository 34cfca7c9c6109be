"""A dilated ResNet of torchvision under any segmentation head, with an auxiliary head beside the answer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, checked_choice, checked_widths, crop_to, pad_to_multiple
from medseg.nets.blocks import resize
from medseg.nets.weights import load_partial, read_weights
from medseg.types import DeepOutput

DEPTHS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
"""Bottleneck blocks of each stage. The basic blocks of the shallower ResNets cannot be dilated in torchvision."""

WIDTHS = (64, 64, 128, 256, 512)
"""Channels of the stem and inside the blocks of each stage; a stage gives four times as many."""

EXPANSION = 4


def dilated_resnet(
    in_channels: int, *, backbone: str, layers: Sequence[int] | None, widths: Sequence[int], output_stride: int
) -> nn.Module:
    """Return torchvision's ResNet with dilation in place of the last strides, without its classifier.

    Args:
        in_channels: image channels.
        backbone: ``resnet50`` or ``resnet101``.
        layers: blocks of each of the four stages; None: those of the backbone.
        widths: see ``WIDTHS``.
        output_stride: 8, 16 or 32: how much smaller the last map is than the image.

    Returns:
        A module from images to ``{"aux": third stage, "out": fourth stage}``.

    Raises:
        ConfigError: unknown backbone, or another number of layers, widths or stride.
    """
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.resnet import Bottleneck, ResNet

    checked_choice(backbone, sorted(DEPTHS), key="backbone")
    depths = list(DEPTHS[backbone] if layers is None else layers)
    if output_stride not in (8, 16, 32) or len(depths) != 4 or len(widths) != 5:
        raise ConfigError(
            f"net.output_stride={output_stride}, net.layers={depths}, net.widths={list(widths)}: the stride is 8, 16 "
            "or 32, and there are four layers (stages) and five widths (stem and stages)."
        )
    dilate = [False, output_stride == 8, output_stride < 32]
    network = ResNet(Bottleneck, depths, replace_stride_with_dilation=dilate)
    stem, *stages = checked_widths(widths, least=5, net="the dilated ResNet")
    if (stem, *stages) != WIDTHS:
        network.inplanes, network.dilation, network.bn1 = stem, 1, nn.BatchNorm2d(stem)
        for number, (width, depth) in enumerate(zip(stages, depths, strict=True)):
            steps: dict[str, Any] = {"stride": 2, "dilate": dilate[number - 1]} if number else {}
            setattr(network, f"layer{number + 1}", network._make_layer(Bottleneck, width, depth, **steps))
    if in_channels != 3 or stem != WIDTHS[0]:
        network.conv1 = nn.Conv2d(in_channels, stem, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    return IntermediateLayerGetter(network, return_layers={"layer3": "aux", "layer4": "out"})


class DilatedNet(nn.Module):
    """A dilated ResNet, a head on its last stage, and where wanted a fully convolutional head on the stage before.

    Parameters have torchvision's names. Images of any size are padded to the stride by repeating the last row and
    column; the heads' maps are resized bilinearly.

    Args:
        in_channels: image channels C.
        backbone: see :func:`dilated_resnet`.
        classifier: maps (B, 4 widths[4], h, w) to logits (B, K, h, w).
        auxiliary: maps (B, 4 widths[3], h, w) to logits (B, K, h, w), or None.
        aux_weight: of the auxiliary head's loss; the other weighs 1.
        stride: of the last map.
        encoder_weights: None, or a local file with weights of the ResNet or of the whole network.
        pools_to_cell: whether a normalisation meets one value an image, which training on one image cannot do.

    Raises:
        ConfigError: weights that do not fit; in ``forward``, another number of channels, or one image in train mode
            where that is too few.
    """

    READING = ""
    ENCODER = ("backbone",)

    def __init__(
        self,
        in_channels: int,
        backbone: nn.Module,
        classifier: nn.Module,
        *,
        auxiliary: nn.Module | None,
        aux_weight: float,
        stride: int,
        encoder_weights: str | None,
        pools_to_cell: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.backbone = backbone
        self.classifier = classifier
        self.aux_classifier = auxiliary
        heads = {"classifier": classifier, **({} if auxiliary is None else {"aux_classifier": auxiliary})}
        self.HEAD = tuple(f"{name}.{list(dict(head.named_children()))[-1]}" for name, head in heads.items())
        self.aux_weight = aux_weight
        self.stride = stride
        self.pools_to_cell = pools_to_cell
        if encoder_weights is not None:
            tensors = read_weights(Path(encoder_weights))
            whole = any("classifier." in name for name in tensors)
            load_partial(self if whole else self.backbone, tensors, source=encoder_weights, in_channels=in_channels)

    def forward(self, image: Tensor) -> Tensor | DeepOutput:
        """Return logits (B, K, H, W) of images (B, C, H, W) of any size; with an auxiliary head two in train mode."""
        check_channels(image, self.in_channels, net=type(self).__name__)
        if self.training and self.pools_to_cell and len(image) < 2:
            raise ConfigError(
                f"{type(self).__name__} trains on at least 2 images a batch: it normalises over means of whole images."
            )
        padded = pad_to_multiple(image, self.stride)
        features = self.backbone(padded)
        answer = self._sized(self.classifier(features["out"]), image, padded)
        if not self.training or self.aux_classifier is None:
            return answer
        side = self._sized(self.aux_classifier(features["aux"]), image, padded)
        return DeepOutput([answer, side], [1.0, self.aux_weight])

    @staticmethod
    def _sized(logits: Tensor, image: Tensor, padded: Tensor) -> Tensor:
        return crop_to(resize(logits, padded.shape[-2:]), image.shape[-2:])


def fully_convolutional_head(inputs: int, num_classes: int) -> nn.Module:
    """Return torchvision's 3x3 convolution to a quarter of the channels, normalisation, ReLU, dropout, 1x1."""
    from torchvision.models.segmentation.fcn import FCNHead

    return FCNHead(inputs, num_classes)
