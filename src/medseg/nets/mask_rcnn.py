"""Mask R-CNN, which finds instances first and then segments each in its box."""

import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, checked_choice
from medseg.nets.instances import SMALLEST, class_probabilities, instances_of, logits_of
from medseg.nets.weights import load_partial, read_weights

BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101")
COLOURS = 3
LEVELS = 5
"""Maps of the feature pyramid, and so sizes of anchors."""

CHANNELS, HIDDEN = 256, 1024
"""Published channels of the pyramid and the mask head, and of the box head's two layers."""

ROI_SIDE = 7
"""Cells a side of what the box head sees of each box."""

ANCHORS = (32, 64, 128, 256, 512)

SCORE_SLACK = 1e-6
"""torchvision keeps scores above a number, not those equal to it."""

OLD_NAMES = (
    (r"^(rpn\.head\.conv)\.(weight|bias)$", lambda found: f"{found[1]}.0.0.{found[2]}"),
    (r"^(backbone\.fpn\.\w+\.\d)\.(weight|bias)$", lambda found: f"{found[1]}.0.{found[2]}"),
    (r"mask_head\.mask_fcn(\d)\.", lambda found: f"mask_head.{int(found[1]) - 1}.0."),
)
"""Names in torchvision's published files that its own loading renames."""


class MaskRCNN(nn.Module):
    """Mask R-CNN of torchvision with a label map as truth and as answer.

    He, Gkioxari, Dollar and Girshick, "Mask R-CNN", ICCV 2017, arXiv:1703.06870; ``version`` 2 is torchvision's
    recipe after Li et al., 2021, arXiv:2111.11429. With two classes 43,975,515 and 45,880,411 parameters.

    Training needs the truth inside: :meth:`losses` makes instances of the connected regions of each class and returns
    the five losses. A region that is to be ignored is nobody's instance; a box proposed there counts as wrong. In eval
    mode the masks of the instances that score enough are merged: a pixel has the largest of the probabilities of its
    class, and the logits are the log-odds.

    Images are neither normalised nor, unless ``min_size`` says so, resized inside: they come prepared. torchvision
    pads them to its stride. A grey image is repeated to three channels; with another number than 1 and 3 the first
    convolution takes them all. Works with one image a batch.

    Args:
        in_channels: image channels C.
        num_classes: classes K, background included; with 1 the only class is the foreground.
        version: 1 or 2 of torchvision's.
        backbone: ``resnet18``, ``resnet34``, ``resnet50`` or ``resnet101``; version 2 has ``resnet50``.
        channels: of the feature pyramid and the mask head; version 2 has 256.
        hidden: units of the box head's layers; version 2 has 1024.
        min_size: shorter side in pixels to which an image is resized inside; None: as it is.
        anchor_sizes: sides in pixels of the anchors on the five maps, finest first.
        smallest: regions of fewer pixels are no instances for training.
        score: instances that score less are not merged.
        encoder_weights: None (random), or a local file with torchvision's weights of the ResNet or of the whole.
        options: further arguments of torchvision's ``MaskRCNN``, for instance ``{box_detections_per_img: 20}``.

    Raises:
        ConfigError: unknown backbone, version or option, weights that do not fit; in ``forward``, another number of
            channels, or train mode; in ``losses``, eval mode.
    """

    READING = ""
    ENCODER = ("model.backbone.body",)
    HEAD = (
        "model.rpn.head.cls_logits", "model.rpn.head.bbox_pred", "model.roi_heads.box_predictor",
        "model.roi_heads.mask_predictor.mask_fcn_logits",
    )  # fmt: skip

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        version: int = 1,
        backbone: str = "resnet50",
        channels: int = CHANNELS,
        hidden: int = HIDDEN,
        min_size: int | None = None,
        anchor_sizes: Sequence[int] = ANCHORS,
        smallest: int = SMALLEST,
        score: float = 0.5,
        encoder_weights: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.probabilistic = num_classes <= 2  # with more the classes' log-odds are compared, which is no softmax
        self.min_size = min_size
        self.smallest = smallest
        self.score = score
        self.repeat = COLOURS if in_channels == 1 else 1
        inputs = in_channels * self.repeat
        asked = {"box_score_thresh": score - SCORE_SLACK, **_checked_options(options or {})}
        asked |= {"image_mean": [0.0] * inputs, "image_std": [1.0] * inputs}
        # Against the background there is at least one class.
        sizes: dict[str, int] = {"num_classes": max(num_classes, 2), "channels": channels, "hidden": hidden}
        self.model: Any = _detector(version, backbone, anchor_sizes, **sizes, **asked)
        if inputs != COLOURS:
            self.model.backbone.body.conv1 = nn.Conv2d(inputs, 64, 7, stride=2, padding=3, bias=False)
        if encoder_weights is not None:
            self._load(encoder_weights)

    def _load(self, source: str) -> None:
        tensors = read_weights(Path(source))
        for old, new in OLD_NAMES:
            tensors = {re.sub(old, new, name): value for name, value in tensors.items()}
        whole = any("roi_heads." in name for name in tensors)
        target = self.model if whole else self.model.backbone.body
        load_partial(target, tensors, source=source, in_channels=self.in_channels * self.repeat)

    def _pictures(self, image: Tensor) -> list[Tensor]:
        """Return the batch as torchvision takes it, after telling it the size at which to work."""
        check_channels(image, self.in_channels, net="MaskRCNN")
        short, long = sorted(image.shape[-2:])
        side = self.min_size or short
        transform = self.model.transform
        # The limit of the longer side never bites: it would change the scale.
        transform.min_size, transform.max_size = (side,), -(-side * long // short) + 1
        return list(image.repeat(1, self.repeat, 1, 1))

    def losses(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Return the losses of the proposals (two), the boxes (two) and the masks; their sum is trained.

        Args:
            image: (B, C, H, W).
            mask: (B, H, W) labels; ``IGNORE`` is no foreground. An image without instances is fine.
        """
        if not self.training:
            raise ConfigError("MaskRCNN.losses needs the train mode; call train() first.")
        return self.model(self._pictures(image), [instances_of(one, smallest=self.smallest) for one in mask])

    def instances(self, image: Tensor) -> list[dict[str, Tensor]]:
        """Return what is found in each image, in eval mode.

        Returns:
            for each image ``boxes`` (N, 4) in its pixels, ``labels`` (N,), ``scores`` (N,) from ``score`` on, falling,
            and ``masks`` (N, 1, H, W) of probabilities.
        """
        if self.training:
            raise ConfigError("MaskRCNN answers in eval mode; while training call losses(image, mask).")
        # Boxes in half precision are off by pixels; the detector is run in single precision throughout.
        with torch.autocast(image.device.type, enabled=False):
            return self.model(self._pictures(image.float()))

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of images (B, C, H, W) of any size; in eval mode only."""
        found = self.instances(image)
        maps = [
            class_probabilities(one, num_classes=self.num_classes, size=image.shape[-2:], score=self.score)
            for one in found
        ]
        return torch.stack([logits_of(one, num_classes=self.num_classes) for one in maps])


def _checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options, refusing those that are no number in torchvision's constructor and those set here."""
    from torchvision.models.detection import FasterRCNN

    parameters = inspect.signature(FasterRCNN.__init__).parameters.items()
    numbers = {name for name, one in parameters if isinstance(one.default, int | float)}
    known = sorted(numbers - {"min_size", "max_size"})
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise ConfigError(f"net.options has unknown {unknown}; MaskRCNN takes {', '.join(known)}.")
    return dict(options)


def _detector(
    version: int, backbone: str, anchor_sizes: Sequence[int], *, channels: int, hidden: int, **arguments: Any
) -> Any:
    from torchvision.models import detection
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    checked_choice(backbone, BACKBONES, key="backbone")
    published = (backbone, channels, hidden) == ("resnet50", CHANNELS, HIDDEN)
    if version not in (1, 2) or (version == 2 and not published) or len(anchor_sizes) != LEVELS:
        raise ConfigError(
            f"net.version={version}, net.backbone={backbone}, net.channels={channels}, net.hidden={hidden}, "
            f"net.anchor_sizes={list(anchor_sizes)}: the version is 1, or 2 with resnet50, {CHANNELS} channels and "
            f"{HIDDEN} hidden, and there are {LEVELS} sizes of anchors."
        )
    anchors = AnchorGenerator(tuple((int(side),) for side in anchor_sizes), ((0.5, 1.0, 2.0),) * LEVELS)
    if version == 1:
        return _first_version(backbone, channels=channels, hidden=hidden, rpn_anchor_generator=anchors, **arguments)
    model = detection.maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, **arguments)
    model.rpn.anchor_generator = anchors
    return model


def _first_version(backbone: str, *, channels: int, hidden: int, num_classes: int, **arguments: Any) -> nn.Module:
    """Return what ``maskrcnn_resnet50_fpn`` builds, with any ResNet and any width."""
    from torchvision.models import resnet
    from torchvision.models.detection import MaskRCNN as Library
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

    body = getattr(resnet, backbone)(weights=None)
    stages = [body.inplanes // 8 * 2**number for number in range(4)]
    names = {f"layer{number + 1}": str(number) for number in range(4)}
    return Library(
        BackboneWithFPN(body, names, stages, channels),
        box_head=TwoMLPHead(channels * ROI_SIDE**2, hidden),
        box_predictor=FastRCNNPredictor(hidden, num_classes),
        mask_head=MaskRCNNHeads(channels, (channels,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(channels, channels, num_classes),
        **arguments,
    )
