"""The pixel classifier: layer table, dense against sliding, windows, errors."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from medseg.errors import ConfigError
from medseg.nets.patch_cnn import KERNELS, MultiPatchCNN, PatchCNN


def small(patch: int | list[int] = 33, **options: object) -> PatchCNN:
    torch.manual_seed(0)
    return PatchCNN(in_channels=1, num_classes=2, patch=patch, maps=8, hidden=16, **options).eval()


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_n4_has_the_published_layers_and_219290_parameters() -> None:
    net = PatchCNN(in_channels=1, num_classes=2)
    assert count(net) == 219_290
    sides = []
    features = torch.zeros(1, 1, 95, 95)
    for conv in net.columns[0].convs:
        features = conv(features)
        sides.append(features.shape[-1])
        features = functional.max_pool2d(features, 2)
        sides.append(features.shape[-1])
    assert sides == [92, 46, 42, 21, 18, 9, 6, 3]
    assert net.columns[0].units(features).shape == (1, 200, 1, 1)


@pytest.mark.parametrize("patch", KERNELS)
def test_every_window_halves_without_rest(patch: int) -> None:
    side = patch
    for kernel in KERNELS[patch]:
        side -= kernel - 1
        assert side % 2 == 0
        side //= 2
    assert small(patch).classify(torch.zeros(3, 1, patch, patch)).shape == (3, 2)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("patch", [33, 65, [33, 65]])
def test_dense_and_sliding_give_the_same_numbers(patch: int | list[int], activation: str) -> None:
    dense = small(patch, activation=activation)
    sliding = small(patch, activation=activation, mode="sliding", chunk=50)
    sliding.load_state_dict(dense.state_dict())
    image = torch.rand(2, 1, 12, 9)
    with torch.no_grad():
        torch.testing.assert_close(dense(image), sliding(image), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_dense_and_sliding_agree_in_the_published_size() -> None:
    torch.manual_seed(0)
    dense, sliding = (PatchCNN(in_channels=1, num_classes=2, mode=mode).eval() for mode in ("dense", "sliding"))
    sliding.load_state_dict(dense.state_dict())
    image = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(dense(image), sliding(image), rtol=0, atol=1e-6)


def test_the_dense_answer_is_the_window_cut_by_hand() -> None:
    net, image = small(), torch.rand(1, 1, 50, 60)
    window = image[:, :, 20 - 16 : 20 + 17, 31 - 16 : 31 + 17]
    with torch.no_grad():
        torch.testing.assert_close(net(image)[0, :, 20, 31], net.classify(window)[0], rtol=0, atol=1e-6)


def test_around_the_image_stands_its_mirror_image() -> None:
    net, image = small(), torch.rand(1, 1, 40, 40)
    window = functional.pad(image, [16] * 4, mode="reflect")[:, :, :33, :33]
    with torch.no_grad():
        torch.testing.assert_close(net(image)[0, :, 0, 0], net.classify(window)[0], rtol=0, atol=1e-6)


def test_sliding_evaluates_one_window_a_pixel_in_chunks() -> None:
    net = small(mode="sliding", chunk=20)
    sizes: list[int] = []
    net.head.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    with torch.no_grad():
        net(torch.rand(2, 1, 7, 5))
    assert sizes == [20, 20, 20, 10]


def test_a_pixel_sees_its_window_and_nothing_else() -> None:
    net, image = small(65), torch.rand(1, 1, 99, 99, requires_grad=True)
    net(image)[0, :, 49, 49].sum().backward()
    rows = image.grad[0, 0].abs().sum(1).nonzero().flatten()
    assert (rows.min().item(), rows.max().item()) == (49 - 32, 49 + 32)


def test_training_is_dense_and_reaches_every_weight() -> None:
    net = small(mode="sliding").train()
    net.columns[0].windows = None  # the sliding form would call it
    net(torch.rand(1, 1, 20, 20)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in net.parameters())


def test_fused_windows_add_their_scores() -> None:
    net = MultiPatchCNN(in_channels=1, num_classes=2, patch=[33, 65], maps=8, hidden=16).eval()
    image = torch.rand(1, 1, 10, 10)
    with torch.no_grad():
        parts = [
            functional.conv2d(column(image), net.head.weight[:, 16 * number : 16 * (number + 1)])
            for number, column in enumerate(net.columns)
        ]
        torch.testing.assert_close(net(image), sum(parts) + net.head.bias[:, None, None])
    assert "our reading" in MultiPatchCNN.READING


def test_unknown_windows_modes_and_chunks_say_what_is_known() -> None:
    with pytest.raises(ConfigError, match=r"net\.patch=64: windows of 33, 65, 95"):
        small(64)
    with pytest.raises(ConfigError, match=r"net\.patch=\[\]"):
        small([])
    with pytest.raises(ConfigError, match=r"net\.mode='tiles'.*dense, sliding"):
        small(mode="tiles")
    with pytest.raises(ConfigError, match=r"net\.activation='gelu'.*relu, tanh"):
        small(activation="gelu")
    with pytest.raises(ConfigError, match=r"net\.chunk=0"):
        small(chunk=0)
