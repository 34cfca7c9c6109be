"""Any architecture of segmentation_models_pytorch with any encoder, and encoder weights from a local file."""

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, checked_choice, crop_to, pad_to_multiple

LOG = logging.getLogger(__name__)

ARCHITECTURES = (
    "Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet",
    "Segformer", "DPT",
)  # fmt: skip
"""Class names in segmentation_models_pytorch."""

DOWNLOAD = "imagenet"
"""The one value of ``encoder_weights`` that is not a file."""

_FILE_PREFIXES = ("", "module.", "encoder.", "model.encoder.", "net.model.encoder.", "backbone.", "model.")
_ENCODER_PREFIXES = ("", "model.")


def inflate(weight: Tensor, in_channels: int) -> Tensor:
    """Return the weights of a first convolution for another number of input channels.

    Every new channel gets the mean over the old ones times old / new, so that the sum over the input channels stays the
    same: a grey image answers as its three-fold copy did.

    Args:
        weight: (O, C, kh, kw).
        in_channels: the new C.
    """
    old = weight.shape[1]
    if old == in_channels:
        return weight
    return weight.mean(dim=1, keepdim=True).repeat(1, in_channels, 1, 1) * (old / in_channels)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a ``.safetensors`` file or of a ``.pt``/``.pth`` state dict; code in it is never run.

    Raises:
        ConfigError: the file is missing, of another kind, or holds something else than a state dict.
    """
    if not path.is_file():
        raise ConfigError(
            f"net.encoder_weights={path}: no such file; give a state dict (.safetensors, .pt, .pth) or null."
        )
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise ConfigError(f"net.encoder_weights={path}: unknown kind of file; give .safetensors, .pt or .pth.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"net.encoder_weights={path} cannot be read as plain weights: {reason}") from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)} if content else {}
    if not tensors:
        raise ConfigError(f"net.encoder_weights={path} holds no tensors; give a state dict.")
    return tensors


def _renamed(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the file's tensors under the encoder's names, by the pair of prefixes that matches most names."""
    trials = [
        {add + key.removeprefix(cut): value for key, value in tensors.items() if key.startswith(cut)}
        for cut in _FILE_PREFIXES
        for add in _ENCODER_PREFIXES
    ]
    return max(trials, key=lambda trial: len(trial.keys() & wanted.keys()))


def load_encoder(encoder: nn.Module, tensors: Mapping[str, Tensor], *, in_channels: int, source: str) -> None:
    """Put weights into an encoder and log how many fitted.

    Names are compared after taking off a common prefix. The first convolution is inflated (see :func:`inflate`) where
    it only differs in its input channels; other tensors of a wrong shape stay out.

    Args:
        encoder: changed in place.
        tensors: name to tensor.
        in_channels: input channels of the encoder.
        source: file or origin, for messages.

    Raises:
        ConfigError: less than half of the encoder's tensors are there.
    """
    wanted = encoder.state_dict()
    given = _renamed(tensors, wanted)
    fitting: dict[str, Tensor] = {}
    for key in wanted.keys() & given.keys():
        have, need = given[key], wanted[key].shape
        if have.ndim == 4 and have.shape != need and have.shape[0] == need[0] and have.shape[2:] == need[2:]:
            have = inflate(have, in_channels) if need[1] == in_channels else have
        if have.shape == need:
            fitting[key] = have
    missing = sorted(wanted.keys() - fitting.keys())
    unused = sorted(given.keys() - fitting.keys())
    if 2 * len(fitting) < len(wanted):
        raise ConfigError(
            f"net.encoder_weights={source}: only {len(fitting)} of the encoder's {len(wanted)} tensors are in it, "
            f"missing for instance {missing[0]}; give the weights of this encoder_name."
        )
    encoder.load_state_dict({**wanted, **fitting})
    LOG.info(
        "encoder weights from %s: %d tensors matched, %d missing %s, %d unused %s",
        source, len(fitting), len(missing), missing[:5], len(unused), unused[:5],
    )  # fmt: skip


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
            load_encoder(self.model.encoder, tensors, in_channels=in_channels, source=str(encoder_weights))
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
