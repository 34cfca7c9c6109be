"""The exam of every option under conf/net: a new yaml enrols itself."""

import re

import pytest
import torch
from torch import nn

from medseg.commands.systems import system_of
from medseg.errors import ConfigError
from tiny_nets import (
    FOLDER,
    IN_2D,
    IN_3D,
    OPTIONS,
    build,
    dimensions,
    image_of,
    kind,
    loss_of,
    marked,
    random_mask,
    ready,
    trained_once,
    untrained,
)


def small_size(dims: int) -> tuple[int, ...]:
    return (64, 64) if dims == 2 else (16, 20, 18)


EVERY = [(option, dims) for dims, options in ((2, IN_2D), (3, IN_3D)) for option in options]
DEEP = [(option, dims) for option, dims in EVERY if kind(option) == "deep"]


def test_the_folder_has_options() -> None:
    assert {"unet", "smp_unet", "mgunet", "jpu_unet", "reagunet", "dmunet", "threshold", "ellipse_marks"} <= set(
        OPTIONS
    )
    assert {option for option, _ in EVERY} == set(OPTIONS)


@pytest.mark.parametrize("option", IN_2D)
@pytest.mark.parametrize(("channels", "classes", "size"), [(1, 2, (64, 64)), (3, 3, (67, 71)), (4, 2, (96, 80))])
def test_logits_have_the_image_size_and_the_classes(
    option: str, channels: int, classes: int, size: tuple[int, int]
) -> None:
    check_logits(option, channels, classes, size)


@pytest.mark.parametrize("option", IN_3D)
@pytest.mark.parametrize(("channels", "classes", "size"), [(1, 2, (16, 24, 16)), (4, 3, (13, 22, 17))])
def test_logits_of_volumes_have_their_size_and_the_classes(
    option: str, channels: int, classes: int, size: tuple[int, int, int]
) -> None:
    check_logits(option, channels, classes, size)


def check_logits(option: str, channels: int, classes: int, size: tuple[int, ...]) -> None:
    net = ready(build(option, channels, classes, dims=len(size)), channels).eval()
    image = image_of(channels, *size)
    before = image.clone()
    with torch.no_grad():
        logits = net(marked(net, image))
        again = net(marked(net, image))
        plain = net(image)
    assert logits.shape == plain.shape == (2, classes, *size)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()
    assert torch.equal(logits, again)
    assert torch.equal(image, before)


@pytest.mark.parametrize(("option", "dims"), EVERY)
def test_training_outputs_have_the_image_size_and_reach_every_parameter(option: str, dims: int) -> None:
    size = (67, 71) if dims == 2 else (16, 22, 17)
    silent: set[str] = set()
    for draw in range(3):  # a few units behind a ReLU may all be dead in one draw of the weights, never in all
        net = ready(build(option, 1, 3, dims=dims, draw=draw), 1).train()
        for output in trained_once(net, 1, 3, *size):
            assert output.shape[2:] == size
        unheard = unreached(net)
        silent = silent & unheard if draw else unheard
        if not silent:
            return
    assert not silent


def unreached(net: nn.Module) -> set[str]:
    """Return the parameters whose gradient is zero; those that never train must have none."""
    names = set()
    for name, parameter in net.named_parameters():
        if untrained(net, name):
            assert parameter.grad is None or not parameter.grad.any(), name
            continue
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        if not parameter.grad.any():
            names.add(name)
    return names


@pytest.mark.parametrize(("option", "dims"), EVERY)
def test_state_dict_brings_the_answer_along(option: str, dims: int) -> None:
    size = small_size(dims)
    net = ready(build(option, dims=dims), 1)
    if list(net.parameters()):
        trained_once(net.train(), 1, 2, *size)  # moves the running statistics
    twin = build(option, dims=dims)
    for parameter in twin.parameters():
        nn.init.zeros_(parameter)
    twin.load_state_dict(net.state_dict())
    image = marked(net, image_of(1, *size))
    with torch.no_grad():
        assert torch.equal(net.eval()(image), twin.eval()(image))


@pytest.mark.parametrize(("option", "dims"), EVERY)
def test_one_class_constructs(option: str, dims: int) -> None:
    net = ready(build(option, 1, 1, dims=dims), 1).eval()
    with torch.no_grad():
        assert net(image_of(1, *small_size(dims))).shape == (2, 1, *small_size(dims))


@pytest.mark.parametrize(("option", "dims"), EVERY)
def test_wrong_channel_count_names_both_numbers(option: str, dims: int) -> None:
    net = ready(build(option, 3, dims=dims), 3).eval()
    with pytest.raises(ConfigError, match=r"in_channels=\d.*5 channels") as caught:
        net(image_of(5, *small_size(dims)))
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"in_channels=\d.*shape \(3, "):
        net(image_of(3, *small_size(dims))[0])


@pytest.mark.parametrize("option", IN_2D)
def test_channels_last_gives_the_same_answer(option: str) -> None:
    net = ready(build(option, 3), 3).eval()
    image = marked(net, image_of(3, 64, 64))
    with torch.no_grad():
        plain = net(image)
        other = net.to(memory_format=torch.channels_last)(image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(plain, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("option", OPTIONS)
def test_a_reading_is_one_line_and_said_by_the_head_of_the_yaml_and_by_the_network_alike(option: str) -> None:
    said = system_of(option, FOLDER).design
    # At the yaml's own settings but for the size: the small ones of the other tests may be less published.
    smaller = {"patch_cnn": {"patch": 95}}.get(option, {})
    reading = build(option, dims=dimensions(option)[0], **smaller).READING
    assert isinstance(reading, str)
    assert "\n" not in reading
    assert said.startswith(("faithful", "our reading: ", "library: "))
    assert ("our reading" in said) == bool(reading), f"{option}: the head says {said!r}, the network {reading!r}"


@pytest.mark.parametrize(
    ("option", "dims", "settings", "words"),
    [
        ("patch_cnn", 2, {"patch": 95}, ""),
        ("patch_cnn", 2, {"patch": 65}, "layers of windows of 65 pixels"),
        ("patch_cnn", 2, {"patch": 33, "mode": "sliding", "foveation": 2.0}, "windows of 33 pixels; foveation"),
        ("patch_cnn_ma2017", 2, {"patch": [33, 95]}, "multi-view strategy.*layers of windows of 33 pixels"),
        ("attention_unet", 2, {}, "blocks around the gates"),
        ("attention_unet", 2, {"form": "released"}, ""),
        ("attention_unet", 3, {}, ""),
        ("attention_unet", 3, {"form": "plain"}, "blocks around the gates"),
        ("unet3plus", 2, {"classification_guided": False}, ""),
    ],
)
def test_a_reading_is_that_of_the_settings(option: str, dims: int, settings: dict[str, object], words: str) -> None:
    reading = build(option, dims=dims, **settings).READING
    assert bool(reading) == bool(words)
    assert re.search(words, reading)
    assert reading.count("our reading") == bool(words)


@pytest.mark.parametrize(("option", "dims"), DEEP)
def test_bf16_autocast_stays_finite(option: str, dims: int) -> None:
    net, image = build(option, dims=dims).train(), image_of(1, *((64, 64) if dims == 2 else (16, 16, 16)))
    # Without gradients, and volumes once: a CPU without bf16 arithmetic needs minutes for 3D convolutions.
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(net, marked(net, image), random_mask(image, 2))
        answer = net.eval()(image) if dims == 2 else loss
    assert torch.isfinite(loss)
    assert torch.isfinite(answer).all()
