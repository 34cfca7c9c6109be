"""DeepLabV3 and the fully convolutional ResNet of torchvision."""

from collections.abc import Sequence

from medseg.errors import ConfigError
from medseg.nets.dilated import EXPANSION, WIDTHS, DilatedNet, dilated_resnet, fully_convolutional_head


class DeepLabV3(DilatedNet):
    """DeepLabV3: a dilated ResNet and parallel convolutions of several dilations (ASPP).

    Chen, Papandreou, Schroff and Adam, "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017,
    arXiv:1706.05587.

    The head is torchvision's ``DeepLabHead`` and the network its ``deeplabv3_resnet50``: 39,638,869 parameters with
    21 classes. Against the paper: no multi-grid (1, 2, 4) in the last stage, and a 3x3 convolution behind the ASPP.
    The branch that pools the whole image is normalised over the batch, so training needs 2 images a batch.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        backbone: ``resnet50`` or ``resnet101``.
        layers: blocks of each stage; None: those of the backbone.
        widths: channels of the stem and inside the blocks of each stage.
        output_stride: 8 or 16, of the last map.
        rates: dilations of the ASPP; None: 6, 12, 18 at stride 16 and twice these at stride 8, as published.
        aux: whether a second head on the third stage is trained too.
        aux_weight: of its loss.
        encoder_weights: None (random), or a local file with weights of the ResNet or of the whole network, under
            torchvision's names. First convolutions are inflated.

    Raises:
        ConfigError: unknown backbone, widths or layers of another number, weights that do not fit; in ``forward``,
            another number of channels, or one image in train mode.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        backbone: str = "resnet50",
        layers: Sequence[int] | None = None,
        widths: Sequence[int] = WIDTHS,
        output_stride: int = 8,
        rates: Sequence[int] | None = None,
        aux: bool = False,
        aux_weight: float = 0.5,
        encoder_weights: str | None = None,
    ) -> None:
        from torchvision.models.segmentation.deeplabv3 import DeepLabHead

        if output_stride not in (8, 16):
            raise ConfigError(f"net.output_stride={output_stride}: DeepLabV3 is made for 8 and 16.")
        dilations = [rate * 16 // output_stride for rate in (6, 12, 18)] if rates is None else list(rates)
        trunk = dilated_resnet(
            in_channels, backbone=backbone, layers=layers, widths=widths, output_stride=output_stride
        )
        *_, third, fourth = (EXPANSION * width for width in widths)
        super().__init__(
            in_channels,
            trunk,
            DeepLabHead(fourth, num_classes, dilations),
            auxiliary=fully_convolutional_head(third, num_classes) if aux else None,
            aux_weight=aux_weight,
            stride=output_stride,
            encoder_weights=encoder_weights,
            pools_to_cell=True,
        )


class FCNResNet(DilatedNet):
    """The fully convolutional ResNet of torchvision (``fcn_resnet50``), a plain head on a dilated ResNet.

    Named after Long, Shelhamer and Darrell, CVPR 2015, arXiv:1411.4038, whose networks are VGG-16 with skips: this is
    another network. It is DeepLabV3 without the ASPP, the baseline that tells what the ASPP is worth. Works with one
    image a batch.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        backbone: ``resnet50`` or ``resnet101``.
        layers: blocks of each stage; None: those of the backbone.
        widths: channels of the stem and inside the blocks of each stage.
        output_stride: 8, 16 or 32, of the last map.
        aux: whether a second head on the third stage is trained too.
        aux_weight: of its loss.
        encoder_weights: see :class:`DeepLabV3`.

    Raises:
        ConfigError: see :class:`DeepLabV3`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        backbone: str = "resnet50",
        layers: Sequence[int] | None = None,
        widths: Sequence[int] = WIDTHS,
        output_stride: int = 8,
        aux: bool = False,
        aux_weight: float = 0.5,
        encoder_weights: str | None = None,
    ) -> None:
        trunk = dilated_resnet(
            in_channels, backbone=backbone, layers=layers, widths=widths, output_stride=output_stride
        )
        *_, third, fourth = (EXPANSION * width for width in widths)
        super().__init__(
            in_channels,
            trunk,
            fully_convolutional_head(fourth, num_classes),
            auxiliary=fully_convolutional_head(third, num_classes) if aux else None,
            aux_weight=aux_weight,
            stride=output_stride,
            encoder_weights=encoder_weights,
        )
