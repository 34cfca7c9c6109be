"""Mask R-CNN: counts, the five losses, masks merged to logits, sizes left alone, weights from a file."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from medseg.errors import ConfigError
from medseg.nets.instances import merged_mask
from medseg.nets.mask_rcnn import MaskRCNN
from medseg.types import IGNORE
from tiny_nets import build

FIVE = {"loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg"}


def tiny(channels: int = 1, classes: int = 2, **arguments: Any) -> Any:
    return build("mask_rcnn", channels, classes, **arguments)


def blob(label: int = 1) -> Tensor:
    mask = torch.zeros(2, 64, 64, dtype=torch.int64)
    mask[:, 10:30, 20:44] = label
    return mask


def count(**arguments: Any) -> int:
    with torch.device("meta"):
        built = MaskRCNN(**{"in_channels": 3, "num_classes": 2, **arguments})
    return sum(parameter.numel() for parameter in built.parameters())


def test_parameter_counts() -> None:
    assert count() == count(in_channels=1) == count(num_classes=1) == 43_975_515
    assert count(num_classes=91) == 44_454_513
    assert count(version=2) == 45_880_411
    assert count(version=2, num_classes=91) == 46_359_409
    assert count(in_channels=4) == 43_975_515 + 64 * 49


def test_version_1_has_the_names_and_shapes_of_torchvision() -> None:
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    with torch.device("meta"):
        theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
        ours = MaskRCNN(in_channels=3, num_classes=3).model
    shapes = [{name: value.shape for name, value in net.state_dict().items()} for net in (theirs, ours)]
    assert shapes[0] == shapes[1]


def test_nothing_is_resized_or_normalised_unless_asked() -> None:
    seen: list[Tensor] = []
    net = tiny().eval()
    net.model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.randn(2, 1, 67, 90)
    with torch.no_grad():
        net(image)
        net.min_size = 128
        net(image)
    assert seen[0].shape == (2, 3, 96, 96)  # padded to the stride
    for channel in range(3):
        torch.testing.assert_close(seen[0][:, channel, :67, :90], image[:, 0])
    assert not seen[0][:, :, 67:].any()
    assert not seen[0][..., 90:].any()
    assert seen[1].shape == (2, 3, 128, 192)  # 90 * 128 / 67 = 171.9, and the stride


def test_the_five_losses_are_finite_with_and_without_instances() -> None:
    net = tiny().train()
    image = torch.randn(2, 1, 64, 64)
    for mask in (blob(), torch.zeros_like(blob()), torch.stack([blob()[0], torch.zeros(64, 64).long()])):
        losses = net.losses(image, mask)
        assert set(losses) == FIVE
        assert all(value.ndim == 0 and torch.isfinite(value) for value in losses.values())
    assert net.losses(image, torch.zeros_like(blob()))["loss_mask"] == 0
    assert set(net.losses(image[:1], blob()[:1])) == FIVE


def test_pixels_to_ignore_are_no_instances() -> None:
    net = tiny().train()
    image = torch.randn(2, 1, 64, 64)
    values = []
    for mask in (torch.zeros_like(blob()), blob(IGNORE)):
        torch.manual_seed(0)
        values.append(torch.stack(list(net.losses(image, mask).values())))
    torch.testing.assert_close(*values)


def test_several_foreground_classes_train() -> None:
    mask = blob()
    mask[:, 40:60, 5:25] = 2
    losses = tiny(classes=3).train().losses(torch.randn(2, 1, 64, 64), mask)
    assert losses["loss_mask"] > 0


def planted(net: Any, boxes: list[list[float]], labels: list[int], scores: list[float]) -> None:
    """Make the detector answer with full masks (0.9) in these boxes of 64 x 64 images."""
    masks = torch.zeros(len(boxes), 1, 64, 64)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[0, int(top) : int(bottom), int(left) : int(right)] = 0.9
    one = {"boxes": Tensor(boxes), "labels": torch.tensor(labels), "scores": Tensor(scores), "masks": masks}
    net.model.forward = lambda images: [one for _ in images]


def test_logits_are_the_merged_instances() -> None:
    net = tiny(classes=3).eval()
    planted(net, [[5, 5, 20, 20], [30, 30, 50, 60], [0, 0, 64, 64]], [1, 2, 1], [0.9, 0.5, 0.4])
    logits = net(torch.zeros(2, 1, 64, 64))
    expected = torch.zeros(64, 64, dtype=torch.int64)
    expected[5:20, 5:20], expected[30:60, 30:50] = 1, 2
    assert torch.equal(logits.argmax(1), expected.expand(2, 64, 64))
    torch.testing.assert_close(logits[0, 1, 10, 10], torch.tensor(0.9).logit())


def test_the_answer_is_what_its_own_instances_say() -> None:
    net = tiny().eval()
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        (found,) = net.instances(image)
        logits = net(image)
    assert (found["scores"] >= 0.5).all()
    masks = found["masks"][:, 0]
    union = masks.amax(0, keepdim=True) if len(masks) else torch.zeros(1, 64, 64)
    assert torch.equal(logits.argmax(1)[0], merged_mask(union))


def test_modes_are_told_apart() -> None:
    with pytest.raises(ConfigError, match=r"while training call losses"):
        tiny().train()(torch.zeros(1, 1, 64, 64))
    with pytest.raises(ConfigError, match=r"needs the train mode"):
        tiny().eval().losses(torch.zeros(2, 1, 64, 64), blob())


def test_published_names_of_old_files_arrive(tmp_path: Path) -> None:
    source = tiny(3)
    old = {}
    for name, value in source.model.state_dict().items():
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        for number in range(4):
            name = name.replace(f"mask_head.{number}.0.", f"mask_head.mask_fcn{number + 1}.")
            for block in ("inner_blocks", "layer_blocks"):
                name = name.replace(f"fpn.{block}.{number}.0.", f"fpn.{block}.{number}.")
        old[name] = value
    assert old.keys() != source.model.state_dict().keys()
    save_file(old, tmp_path / "old.safetensors")
    torch.manual_seed(3)
    loaded = tiny(3, encoder_weights=str(tmp_path / "old.safetensors"))
    for name, value in source.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value), name


def test_weights_of_a_resnet_go_to_the_backbone(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(4)
    resnet = resnet18(weights=None).state_dict()
    save_file(resnet, tmp_path / "resnet.safetensors")
    for channels in (1, 3, 4):
        body = tiny(channels, encoder_weights=str(tmp_path / "resnet.safetensors")).model.backbone.body.state_dict()
        assert torch.equal(body["layer4.1.conv2.weight"], resnet["layer4.1.conv2.weight"])
        torch.testing.assert_close(body["conv1.weight"].sum(1), resnet["conv1.weight"].sum(1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"version": 3}, r"net\.version=3"),
        ({"version": 2, "backbone": "resnet18"}, r"net\.version=2, net\.backbone=resnet18"),
        ({"version": 2, "channels": 64}, r"net\.version=2, .*net\.channels=64"),
        ({"backbone": "vgg16"}, r"net\.backbone='vgg16'"),
        ({"anchor_sizes": [32]}, r"5 sizes of anchors"),
        ({"options": {"min_size": 3}}, r"unknown \['min_size'\]; MaskRCNN takes .*box_detections_per_img"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        MaskRCNN(in_channels=1, num_classes=2, **settings)
    assert "\n" not in str(caught.value)
