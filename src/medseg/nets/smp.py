"""Any architecture of segmentation_models_pytorch with any encoder, and encoder weights from a local file."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, checked_choice, crop_to, pad_to_multiple
from medseg.nets.libraries import checked_options
from medseg.nets.weights import load_partial, read_weights

ARCHITECTURES = (
    "Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet",
    "Segformer", "DPT",
)  # fmt: skip
"""Class names in segmentation_models_pytorch."""

DOWNLOAD = "imagenet"
"""The one value of ``encoder_weights`` that is not a file."""

OURS = ("encoder_name", "encoder_weights", "in_channels", "classes", "aux_params", "activation")
"""Arguments of the library that the wrapper sets itself, or that would break the contract."""

PAN_CELLS = 8
"""Least side of PAN's deepest map: its pyramid halves it three times."""


class SmpNet(nn.Module):
    """A network of segmentation_models_pytorch under the contract of the other nets.

    Images of any size are padded to the encoder's stride by repeating the last row and column; PAN's to eight of its
    deepest cells a side, and DPT's to two of its patches. Nothing is downloaded unless ``encoder_weights="imagenet"``
    and ``allow_download=true`` say so together. Batch >= 2 in train mode.

    Three architectures are not the published ones at the library's defaults. PSPNet stops at the encoder's third level
    and carries the deeper ones unused (``UNTRAINED`` names them, for ResNets): ``options={encoder_depth: 5,
    output_stride: 8}`` dilates them instead, as published. DeepLabV3Plus of the paper wants
    ``options={decoder_atrous_rates: [6, 12, 18]}``. DPT takes vision transformers of timm only
    (``encoder_name=tu-vit_...``), and images of any size with ``options={dynamic_img_size: true}``. What never gets a
    gradient is left out: PAN's biases before a batch normalisation, what DPT's transformer has behind its blocks.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        architecture: class name in the library, see ``ARCHITECTURES``.
        encoder_name: encoder of the library, or ``tu-<name>`` for one of timm.
        encoder_weights: None (random), the path of a local state dict, or ``imagenet``.
        allow_download: whether ``imagenet`` may fetch the weights.
        options: further arguments of the architecture.

    Raises:
        ConfigError: unknown architecture, encoder or option; weights that are absent, do not fit or would need a
            download; in ``forward``, another number of channels.
    """

    READING = ""
    ENCODER, HEAD = ("model.encoder",), ("model.segmentation_head",)

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        architecture: str = "Unet",
        encoder_name: str = "resnet34",
        encoder_weights: str | None = None,
        allow_download: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        import segmentation_models_pytorch as smp

        checked_choice(architecture, ARCHITECTURES, key="architecture")
        _refuse_unasked_download(encoder_weights, allow_download=allow_download)
        self.in_channels = in_channels
        network = getattr(smp, architecture)
        timm = encoder_name.startswith("tu-")
        # Encoders of timm take arguments of their own, and timm refuses the ones it does not know.
        more = ("output_stride",) if architecture == "PSPNet" else ()
        extra = checked_options(options, network, ours=OURS, more=more, anything=timm)
        try:
            self.model = network(
                encoder_name=encoder_name, encoder_weights=None, in_channels=in_channels, classes=num_classes, **extra
            )
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0][:200]
            raise ConfigError(
                f"net: {architecture} with encoder_name={encoder_name} cannot be built: {reason}; change the two."
            ) from error
        if encoder_weights is not None:
            tensors = _downloaded(encoder_name) if encoder_weights == DOWNLOAD else read_weights(Path(encoder_weights))
            load_partial(self.model.encoder, tensors, source=str(encoder_weights), in_channels=in_channels)
        if architecture == "DPT":
            _leave_out(self.model.encoder.model)
        usual = inspect.signature(network.__init__).parameters["encoder_depth"].default
        self.UNTRAINED = _unused(self.model.encoder, extra.get("encoder_depth", usual))
        self.stride = int(self.model.encoder.output_stride) if self.model.requires_divisible_input_shape else 1
        if architecture == "DPT":  # its decoder halves the grid of patches once more
            self.stride *= 2
        self.least = 0
        if architecture == "PAN":
            self.least = PAN_CELLS * self.stride
            _leave_out_biases(self.model.decoder)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of images (B, C, H, W) of any size."""
        check_channels(image, self.in_channels, net="SmpNet")
        size = image.shape[-2:]
        multiples = [self.least if side < self.least else self.stride for side in size]
        return crop_to(self.model(pad_to_multiple(image, multiples)), size)


def _unused(encoder: nn.Module, depth: int) -> tuple[str, ...]:
    """Return the names of a ResNet's stages that an encoder of this depth carries but does not call."""
    names = (f"layer{number}" for number in range(depth, 5))
    return tuple(f"model.encoder.{name}." for name in names if hasattr(encoder, name))


def _leave_out(transformer: nn.Module) -> None:
    """Take out of a vision transformer what is behind the blocks that DPT looks at."""
    for name in ("norm", "fc_norm", "head_drop", "head"):
        if hasattr(transformer, name):
            setattr(transformer, name, nn.Identity())


def _leave_out_biases(decoder: nn.Module) -> None:
    """Take out the biases of PAN's convolutions: the batch normalisation behind each subtracts them again."""
    for block in decoder.modules():
        if isinstance(conv := getattr(block, "conv", None), nn.Conv2d) and hasattr(block, "bn"):
            conv.register_parameter("bias", None)


def _refuse_unasked_download(encoder_weights: object, *, allow_download: bool) -> None:
    if encoder_weights is not None and not isinstance(encoder_weights, str | Path):
        raise ConfigError(f"net.encoder_weights={encoder_weights!r}: give null for random weights, or a file.")
    if encoder_weights == DOWNLOAD and not allow_download:
        raise ConfigError(
            f"net.encoder_weights={DOWNLOAD} would download weights; set net.allow_download=true, or give a local file."
        )


def _downloaded(encoder_name: str) -> dict[str, Tensor]:
    """Return the published weights of an encoder for three channels; asks the network."""
    from segmentation_models_pytorch.encoders import get_encoder

    try:
        weights: Any = True if encoder_name.startswith("tu-") else DOWNLOAD
        return get_encoder(encoder_name, in_channels=3, weights=weights).state_dict()
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ConfigError(
            f"net.encoder_weights={DOWNLOAD}: the weights of {encoder_name} cannot be fetched: {reason}"
        ) from error
