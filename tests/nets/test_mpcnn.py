"""MPCNN: prongs that do not touch one another, what they see, the rule that makes one label map."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.thyroid.mpcnn import MPCNN
from medseg.types import StructureOutput

THYROID = {"gland": [1], "nodule": [2, 3], "cyst": [3]}


def small(classes: int = 4, structures: dict[str, list[int]] | None = None, **options: object) -> MPCNN:
    torch.manual_seed(0)
    return MPCNN(in_channels=1, num_classes=classes, structures=structures, width=4, **options)


def expected_parameters(structures: int) -> int:
    """Count by the layer table: 3x3 kernels without bias, two numbers a channel of each normalisation."""
    layers = [(1, 64), (64, 64), (64, 128), (128, 128), (128, 256), *[(256, 256)] * 4]
    prong = [(256, 128), (128, 128), (128, 64)]
    trunk = sum(9 * a * b + 2 * b for a, b in layers)
    return trunk + structures * (sum(9 * a * b + 2 * b for a, b in prong) + 64 + 1)


@pytest.mark.parametrize(("classes", "expected"), [(2, 3_432_961), (4, 4_466_563)])
def test_parameters(classes: int, expected: int) -> None:
    with torch.device("meta"):
        net = MPCNN(in_channels=1, num_classes=classes)
    assert sum(parameter.numel() for parameter in net.parameters()) == expected == expected_parameters(classes - 1)


def seen_by(layers: list[nn.Module]) -> int:
    side, jump = 1, 1
    for layer in layers:
        for module in layer.modules():
            if isinstance(module, nn.Conv2d):
                side += (module.kernel_size[0] - 1) * module.dilation[0] * jump
            elif isinstance(module, nn.MaxPool2d):
                side, jump = side + jump, 2 * jump
    return side


def test_a_unit_of_the_trunk_sees_264_pixels_and_one_of_a_prong_320() -> None:
    net = small()
    assert seen_by(list(net.trunk)) == 16 + 4 * 2 * (1 + 2 + 4 + 8 + 16) == 264
    assert seen_by([*net.trunk, net.prongs[0]]) == 264 + 4 * 2 * (2 + 4 + 1) == 320


def test_the_gradient_fills_what_a_unit_sees() -> None:
    net = small().eval()
    for module in net.trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    image = torch.rand(1, 1, 320, 320, requires_grad=True)
    net.trunk(image)[0, 0, 40, 40].backward()
    rows = image.grad[0, 0].abs().sum(1).nonzero().flatten()
    # The poolings pass the gradient of one pixel of each cell, so the outermost rows may stay dark.
    assert 264 - 6 <= int(rows.max() - rows.min()) + 1 <= 264


def test_training_gives_one_map_a_structure_at_the_image_size() -> None:
    output = small(structures=THYROID).train()(torch.rand(2, 1, 21, 30))
    assert isinstance(output, StructureOutput)
    assert output.maps.shape == (2, 3, 21, 30)
    assert output.members == ((1,), (2, 3), (3,))


def test_the_gradient_of_a_prong_reaches_the_trunk_and_no_other_prong() -> None:
    net = small(structures=THYROID).train()
    for number in range(3):
        net.zero_grad()
        net(torch.rand(2, 1, 20, 20)).maps[:, number].square().sum().backward()
        for other, prong in enumerate(net.prongs):
            touched = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in prong.parameters()]
            assert all(touched) if other == number else not any(touched)
        assert all(p.grad.abs().sum() > 0 for p in net.trunk.parameters())


def rule(scores: list[float], members: list[list[int]], labels: list[int]) -> int:
    """The rule in words: above one half, within every whole that contains it; the last one named wins."""
    answer = 0
    for number, labels_of in enumerate(members):
        wholes = [whole for whole in range(len(members)) if set(labels_of) < set(members[whole])]
        if all(scores[place] > 0 for place in [number, *wholes]):
            answer = labels[number]
    return answer


@pytest.mark.parametrize(
    ("members", "labels"),
    [
        ([[1], [2, 3], [3]], [1, 2, 3]),
        ([[1], [2], [3]], [1, 2, 3]),
        ([[1, 2, 3], [2, 3], [3]], [1, 2, 3]),
        ([[3], [1, 2], [1]], [3, 2, 1]),
    ],
)
def test_the_largest_logit_follows_the_rule_for_all_signs(members: list[list[int]], labels: list[int]) -> None:
    net = small(structures={str(number): part for number, part in enumerate(members)}).eval()
    for scores in product([-2.0, -0.5, 0.7, 3.0], repeat=3):
        logits = net.composed(torch.tensor(scores).view(1, 3, 1, 1))
        assert logits.shape == (1, 4, 1, 1)
        assert int(logits.argmax(1)) == rule(list(scores), members, labels), scores


@given(scores=st.lists(st.floats(-5, 5), min_size=3, max_size=3))
@settings(max_examples=50, deadline=None)
def test_a_cyst_lies_within_its_nodule(scores: list[float]) -> None:
    answer = int(small(structures=THYROID).composed(torch.tensor(scores).view(1, 3, 1, 1)).argmax(1))
    if answer == 3:
        assert scores[1] > 0
    if answer in (2, 3):
        assert scores[1] > 0


@pytest.mark.parametrize("classes", [1, 2])
def test_one_structure_has_its_sigmoid_as_probability(classes: int) -> None:
    net = small(classes).eval()
    image = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        logits, maps = net(image), net.maps(image)
    assert logits.shape == (1, classes, 16, 16)
    probability: Tensor = logits.sigmoid()[:, 0] if classes == 1 else logits.softmax(1)[:, 1]
    torch.testing.assert_close(probability, maps.sigmoid()[:, 0])


@pytest.mark.parametrize(
    "structures",
    [
        {"a": [1]},
        {"a": [1, 2], "b": [3]},
        {"a": [1], "b": [1], "c": [2, 3]},
        {"a": [1, 2], "b": [2, 3], "c": [3]},
        {"a": [0], "b": [1], "c": [2], "d": [3]},
    ],
)
def test_structures_that_do_not_tell_labels_apart_are_refused(structures: dict[str, list[int]]) -> None:
    with pytest.raises(ConfigError, match=r"net\.structures=.*every label from 1 to 3"):
        small(structures=structures)


def test_a_part_before_its_whole_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"net\.structures=\[\[1\], \[3\], \[2, 3\]\]: name the whole before"):
        small(structures={"gland": [1], "cyst": [3], "nodule": [2, 3]})
