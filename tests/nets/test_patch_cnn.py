"""The pixel classifier: layer table, dense against sliding, windows, how they are looked at, errors."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from medseg.errors import ConfigError
from medseg.nets.gaze import Gaze
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


GAZES = [{"foveation": 3.0}, {"sampling": "nonuniform"}, {"foveation": 2.5, "sampling": "nonuniform"}]


@pytest.mark.parametrize("mode", ["dense", "sliding"])
def test_without_foveation_and_sampling_every_bit_is_as_before(mode: str) -> None:
    net = small([33, 65], mode=mode, foveation=0.0, sampling="uniform")
    assert {name.split(".")[0] for name in net.state_dict()} == {"columns", "head"}
    assert not list(net.buffers())
    windows = torch.rand(5, 1, 65, 65)
    units = []
    for column, inner in zip(net.columns, (windows[..., 16:49, 16:49], windows), strict=True):
        for conv in column.convs:
            inner = functional.relu(functional.max_pool2d(conv(inner), 2))
        units.append(functional.relu(column.units(inner)))
    image = torch.rand(1, 1, 9, 8)
    with torch.no_grad():
        assert torch.equal(net.classify(windows), net.head(torch.cat(units, 1)).flatten(1))
        assert torch.equal(net(image), small([33, 65], mode=mode)(image))


@pytest.mark.parametrize("patch", KERNELS)
@pytest.mark.parametrize("options", GAZES)
def test_a_flat_window_stays_exactly_what_it_is(patch: int, options: dict[str, object]) -> None:
    gaze = Gaze(patch, **{"foveation": 0.0, "sampling": "uniform", **options})
    for value in (0.1, -3.7, 1e4):
        seen = gaze(torch.full((2, 3, gaze.side, gaze.side), value))
        assert torch.equal(seen, torch.full((2, 3, patch, patch), value))


@pytest.mark.parametrize("patch", KERNELS)
def test_foveation_leaves_the_middle_and_blurs_more_and_more_outwards(patch: int) -> None:
    window, gaze = torch.rand(4, 1, patch, patch), Gaze(patch, foveation=4.0, sampling="uniform")
    seen, middle = gaze(window), patch // 2
    rows, columns = torch.meshgrid(*[torch.arange(patch) - middle] * 2, indexing="ij")
    share = torch.hypot(rows.double(), columns.double()) / middle
    assert torch.equal(seen[..., share <= 0.5], window[..., share <= 0.5])
    assert (share <= 0.5)[middle - 5 : middle + 6, middle - 5 : middle + 6].all()
    rings = [seen[..., (share > low) & (share <= low + 0.1)].std() for low in (0.4, 0.6, 0.75, 0.9)]
    assert rings == sorted(rings, reverse=True)


def test_at_the_edge_the_blur_is_the_mean_of_a_disc_of_the_radius_asked_for() -> None:
    window = torch.rand(1, 1, 33, 33, dtype=torch.float64)
    wide = functional.pad(window, [3] * 4, mode="replicate")[0, 0]
    disc = [(down, right) for down in range(-3, 4) for right in range(-3, 4) if down**2 + right**2 <= 9]
    seen = Gaze(33, foveation=3.0, sampling="uniform")(window)[0, 0]
    for row, column in ((0, 16), (16, 32), (3, 5), (0, 0)):  # as far from the centre as half the side, or farther
        wanted = torch.stack([wide[row + 3 + down, column + 3 + right] for down, right in disc]).mean()
        assert seen[row, column].item() == pytest.approx(wanted.item(), abs=1e-6)
    # Half of the way there the radius is 1.5: half of the disc of 1 and half of the disc of 2.
    means = [
        torch.stack([window[0, 0, 16 + down, 28 + right] for down, right in disc if down**2 + right**2 <= r * r]).mean()
        for r in (1, 2)
    ]
    assert seen[16, 28].item() == pytest.approx(sum(means).item() / 2, abs=1e-6)


@pytest.mark.parametrize("patch", KERNELS)
def test_nonuniform_samples_keep_the_centre_reach_the_edge_and_lie_ever_wider_apart(patch: int) -> None:
    gaze = Gaze(patch, foveation=0.0, sampling="nonuniform")
    half, reach = patch // 2, gaze.side // 2
    places = gaze.places - reach
    assert reach == int(1.5 * half)
    assert places[half] == 0
    assert (places[0], places[-1]) == (-reach, reach)
    assert torch.equal(places, -places.flip(0))
    steps = places[half:].diff()
    assert (steps[: half // 2] == 1).all()
    assert steps.min() == 1
    thirds = [part.double().mean() for part in steps.chunk(3)]
    assert thirds == sorted(thirds)
    assert thirds[2] > 1.5
    window = torch.rand(2, 3, gaze.side, gaze.side)
    seen = gaze(window)
    assert torch.equal(seen[..., half, half], window[..., reach, reach])
    assert torch.equal(seen[..., 0, -1], window[..., 0, -1])
    assert Gaze(patch, foveation=1.0, sampling="uniform").places.tolist() == list(range(patch))


@pytest.mark.parametrize("options", GAZES)
def test_looking_otherwise_costs_no_parameter_and_no_checkpoint(options: dict[str, object]) -> None:
    net, plain = (
        PatchCNN(in_channels=1, num_classes=2, mode="sliding", **more) for more in (options, {})
    )  # fmt: skip
    assert count(net) == count(plain) == 219_290
    assert net.state_dict().keys() == plain.state_dict().keys()
    net.load_state_dict(plain.state_dict())


@pytest.mark.parametrize("options", GAZES)
@pytest.mark.parametrize("patch", [33, [33, 65]])
def test_a_foveated_answer_is_that_of_the_window_cut_and_looked_at_by_hand(
    patch: int | list[int], options: dict[str, object]
) -> None:
    net, plain, image = small(patch, mode="sliding", chunk=7, **options), small(patch), torch.rand(2, 1, 6, 5)
    half = net.side // 2
    rows, columns = ([_folded(place, side) for place in range(-half, side + half)] for side in (6, 5))
    mirror = image[:, :, rows][..., columns]
    with torch.no_grad():
        window = mirror[1:, :, 4 : 4 + net.side, 2 : 2 + net.side]
        units = []
        for column, bare in zip(net.columns, plain.columns, strict=True):
            rim = (net.side - column.side) // 2
            inner = window[..., rim : net.side - rim, rim : net.side - rim]
            units.append(bare.windows(column.gaze(inner)))
        wanted = plain.head(torch.cat(units, 1)).flatten()
        torch.testing.assert_close(net(image)[1, :, 4, 2], wanted, rtol=0, atol=1e-6)
        assert not torch.allclose(net(image), plain(image), atol=1e-6)


def _folded(place: int, side: int) -> int:
    place %= 2 * (side - 1)
    return min(place, 2 * (side - 1) - place)


@pytest.mark.parametrize("options", GAZES)
def test_foveated_training_looks_at_windows_and_has_the_gradients_of_all_of_them(options: dict[str, object]) -> None:
    net = small(mode="sliding", chunk=9, **options).train()
    image = torch.rand(1, 1, 5, 4, requires_grad=True)
    sizes: list[int] = []
    handle = net.columns[0].units.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    answer = net(image)
    assert sizes == [9, 9, 2]
    answer.square().sum().backward()
    handle.remove()
    assert sorted(sizes) == sorted([9, 9, 2] * 2), "each chunk once more for the gradient"
    found = [parameter.grad.clone() for parameter in net.parameters()]
    assert all(torch.isfinite(one).all() and one.abs().sum() > 0 for one in found)
    assert image.grad.abs().sum() > 0
    net.zero_grad()
    net.chunk = 1000
    whole = net(image.detach())
    torch.testing.assert_close(whole, answer)
    whole.square().sum().backward()
    for one, parameter in zip(found, net.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("sampling", "reach"), [("uniform", 16), ("nonuniform", 24)])
def test_a_foveated_pixel_sees_its_field_and_nothing_else(sampling: str, reach: int) -> None:
    net = small(mode="sliding", foveation=3.0, sampling=sampling)
    image, other = torch.rand(2, 1, 1, 53, 53).unbind(0)
    field = (..., slice(26 - reach, 27 + reach), slice(26 - reach, 27 + reach))
    other[field] = image[field]
    with torch.no_grad():
        assert torch.equal(looked_at(net, other), looked_at(net, image))
        other[..., 26 - reach, 26] += 100
        assert not torch.equal(looked_at(net, other), looked_at(net, image))


def looked_at(net: PatchCNN, image: torch.Tensor) -> torch.Tensor:
    """Return the logits of the pixel in the middle, without those of all others."""
    half, middle = net.side // 2, image.shape[-1] // 2
    inside = slice(middle - half, middle + half + 1)
    return net.classify(image[..., inside, inside])


def test_foveation_and_sampling_need_windows_and_say_so() -> None:
    for options in GAZES:
        with pytest.raises(ConfigError, match=r"net\.mode=dense.*set net\.mode=sliding, or net\.foveation=0") as caught:
            small(**options)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"net\.foveation=-1"):
        small(mode="sliding", foveation=-1.0)
    with pytest.raises(ConfigError, match=r"net\.sampling='random'.*uniform, nonuniform"):
        small(mode="sliding", sampling="random")
    assert PatchCNN.READING == small(95).READING == ""
    assert small(95, mode="sliding", foveation=1.0).READING.endswith(": foveation and sampling by constants of our own")
    both = MultiPatchCNN(in_channels=1, num_classes=2, patch=[33], maps=4, hidden=4, mode="sliding", foveation=1.0)
    assert both.READING.startswith(f"{MultiPatchCNN.READING}; ")


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
