"""Any architecture of segmentation_models_pytorch with any encoder, and encoder weights from a local file."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, checked_choice, crop_to, pad_to_multiple
from medseg.nets.weights import load_partial, read_weights

ARCHITECTURES = (
    "Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet",
    "Segformer", "DPT",
)  # fmt: skip
"""Class names in segmentation_models_pytorch."""

DOWNLOAD = "imagenet"
"""The one value of ``encoder_weights`` that is not a file."""


class SmpNet(nn.Module):
    """A network of segmentation_models_pytorch under the contract of the other nets.

    Images of any size are padded to the encoder's stride by repeating the last row and column. Nothing is downloaded
    unless ``encoder_weights="imagenet"`` and ``allow_download=true`` say so together. Note that PSPNet of that library
    carries unused layers, that PAN needs more than 64 px, and that DeepLabV3Plus of the paper wants
    ``options={decoder_atrous_rates: [6, 12, 18]}``.

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
        extra = _checked_options(options or {}, network, encoder_name=encoder_name)
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
        self.stride = int(self.model.encoder.output_stride) if self.model.requires_divisible_input_shape else 1

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of images (B, C, H, W) of any size."""
        check_channels(image, self.in_channels, net="SmpNet")
        return crop_to(self.model(pad_to_multiple(image, self.stride)), image.shape[-2:])


def _refuse_unasked_download(encoder_weights: object, *, allow_download: bool) -> None:
    if encoder_weights is not None and not isinstance(encoder_weights, str | Path):
        raise ConfigError(f"net.encoder_weights={encoder_weights!r}: give null for random weights, or a file.")
    if encoder_weights == DOWNLOAD and not allow_download:
        raise ConfigError(
            f"net.encoder_weights={DOWNLOAD} would download weights; set net.allow_download=true, or give a local file."
        )


def _checked_options(options: Mapping[str, Any], network: type[nn.Module], *, encoder_name: str) -> dict[str, Any]:
    """Return the options, refusing unknown ones: the library takes any and forgets those that it does not know."""
    ours = {"self", "encoder_name", "encoder_weights", "in_channels", "classes", "aux_params", "kwargs"}
    known = sorted(inspect.signature(network.__init__).parameters.keys() - ours)
    unknown = sorted(options.keys() - set(known))
    # Encoders of timm take arguments of their own, and timm refuses the ones it does not know.
    if unknown and (not encoder_name.startswith("tu-") or ours & options.keys()):
        raise ConfigError(f"net.options has unknown {unknown}; {network.__name__} takes {', '.join(known)}.")
    return dict(options)


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
