"""UNet++: nodes, counts, modes of evaluation, pruning."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.unetpp import UNetPlusPlus, mean_probability_logits
from medseg.types import DeepOutput

ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
SMALL = [4, 8, 12, 16, 20]


def small(channels: int = 1, classes: int = 2, **arguments) -> UNetPlusPlus:
    torch.manual_seed(0)
    return UNetPlusPlus(in_channels=channels, num_classes=classes, **{"widths": SMALL, **arguments})


def count(channels: int, **arguments) -> int:
    with torch.device("meta"):
        net = UNetPlusPlus(in_channels=channels, num_classes=1, **arguments)
    return sum(parameter.numel() for parameter in net.parameters())


def test_parameters_are_the_published_ones() -> None:
    assert count(1) == 9_041_700
    assert [count(3, prune=level) for level in (1, 2, 3, 4)] == [101_537, 511_681, 2_205_537, 9_042_177]
    assert count(1, norm="batch") == 9_048_996
    assert count(3, norm="batch", up="bilinear", prune=4) == 9_163_329


def test_there_are_15_nodes_of_two_convolutions_each_on_its_grid() -> None:
    net = small()
    maps = net.features(torch.zeros(1, 1, 32, 48))
    assert len(net.nodes) == len(maps) == 15
    assert sum(isinstance(module, nn.Conv2d) for module in net.nodes.modules()) == 30
    for (depth, _), features in maps.items():
        assert features.shape == (1, SMALL[depth], 32 >> depth, 48 >> depth)
    assert [len(small(prune=level).nodes) for level in (1, 2, 3, 4)] == [3, 6, 10, 15]


def test_a_node_gets_all_before_it_in_its_row_and_the_one_below() -> None:
    net = small()
    first = {name: node[0].in_channels for name, node in net.nodes.items()}
    for depth in range(4):
        assert [first[f"{depth}_{position}"] for position in range(1, 5 - depth)] == [
            (position + 1) * SMALL[depth] for position in range(1, 5 - depth)
        ]
    below = small(up="bilinear").nodes["1_2"][0].in_channels
    assert below == 2 * SMALL[1] + SMALL[2]


def test_training_gives_every_head_at_equal_weights_the_last_first() -> None:
    net = small().train()
    image = torch.randn(2, 1, 21, 30)
    output = net(image)
    assert isinstance(output, DeepOutput)
    assert output.weights is None
    heads = net.head_logits(image)
    assert list(heads) == [1, 2, 3, 4]
    for logits, level in zip(output.maps, (4, 3, 2, 1), strict=True):
        assert torch.equal(logits, heads[level])


@pytest.mark.parametrize("classes", [1, 3])
def test_accurate_mode_averages_probabilities_and_fast_mode_takes_the_last_head(classes: int) -> None:
    def probability(logits: Tensor) -> Tensor:
        return logits.sigmoid() if classes == 1 else logits.softmax(1)

    image = 3 * torch.randn(2, 1, 32, 32)
    net = small(classes=classes).eval()
    fast = small(classes=classes, mode="fast").eval()
    heads = net.head_logits(image)
    mean = sum(probability(logits) for logits in heads.values()) / 4
    torch.testing.assert_close(probability(net(image)), mean)
    assert torch.equal(fast(image), heads[4])
    assert not torch.allclose(net(image), sum(heads.values()) / 4, atol=1e-3)  # it is no mean of logits


def test_the_mean_of_certain_heads_stays_finite() -> None:
    maps = [torch.tensor([[[[400.0]]]]), torch.tensor([[[[-400.0]]]])]
    torch.testing.assert_close(mean_probability_logits(maps), torch.zeros(1, 1, 1, 1))
    both = [torch.tensor([500.0, -500.0]).view(1, 2, 1, 1), torch.tensor([-500.0, 500.0]).view(1, 2, 1, 1)]
    torch.testing.assert_close(mean_probability_logits(both).softmax(1), torch.full((1, 2, 1, 1), 0.5))
    assert torch.isfinite(mean_probability_logits([maps[0], maps[0]])).all()


@pytest.mark.parametrize("options", [{}, {"norm": "batch", "up": "bilinear"}, {"norm": "group", "spatial_dims": 3}])
def test_a_pruned_net_answers_as_the_same_head_of_the_full_net(options: dict) -> None:
    net = small(channels=2, classes=3, **options)
    size = (9, 18, 11) if options.get("spatial_dims") == 3 else (37, 50)  # padded on every axis
    net.train()(torch.randn(2, 2, *size))  # moves running statistics
    image = torch.randn(1, 2, *size)
    with torch.no_grad():
        heads = net.eval().head_logits(image)
        for level, logits in heads.items():
            cut = net.pruned(level)
            assert not cut.training
            assert torch.equal(cut(image), logits)
            fresh = small(channels=2, classes=3, prune=level, **options).eval()
            fresh.load_state_dict(net.state_dict(), strict=False)
            assert torch.equal(fresh(image), logits)
    assert sum(p.numel() for p in net.pruned(1).parameters()) < sum(p.numel() for p in net.pruned(2).parameters())


def test_a_pruned_net_has_weights_of_its_own_and_one_map_in_training() -> None:
    net = small()
    cut = net.pruned(2)
    with torch.no_grad():
        cut.heads["2"].bias += 1
    assert not torch.equal(cut.heads["2"].bias, net.heads["2"].bias)
    assert isinstance(cut.train()(torch.zeros(2, 1, 16, 16)), Tensor)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=ON_GPU)])
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_a_net_that_was_loaded_is_pruned_where_it_is_and_as_it_is(
    device: str, precision: torch.dtype, tmp_path: Path
) -> None:
    trained = small(classes=1, norm="batch")
    trained(torch.randn(2, 1, 32, 32))
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    net = small(classes=1, norm="batch").to(device, precision).eval()
    net.load_state_dict(torch.load(tmp_path / "weights.pt", map_location=device, weights_only=True))
    for parameter in net.nodes["0_0"].parameters():
        parameter.requires_grad_(False)
    image = torch.randn(1, 1, 21, 34).to(device, precision)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        heads = net.head_logits(image)
        for level in (1, 2, 3, 4):
            cut = net.pruned(level)
            assert torch.equal(cut(image), heads[level])
            assert {one.device for one in cut.state_dict().values()} == {image.device}
            frozen = {name for name, parameter in cut.named_parameters() if not parameter.requires_grad}
            assert frozen == {f"nodes.0_0.{name}" for name, _ in net.nodes["0_0"].named_parameters()}
            assert torch.equal(cut.pruned(level)(image), heads[level])
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_loss_of_a_head_reaches_only_the_nodes_that_feed_it() -> None:
    net = small()
    net.head_logits(torch.randn(2, 1, 32, 32))[2].sum().backward()
    reached = {name for name, node in net.nodes.items() if node[0].weight.grad is not None}
    assert reached == {"0_0", "0_1", "0_2", "1_0", "1_1", "2_0"}


def test_wrong_settings_say_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"net\.prune=5: give a level from 1 to 4, or null"):
        small(prune=5)
    with pytest.raises(ConfigError, match=r"net\.mode='slow'.*accurate, fast"):
        small(mode="slow")
    with pytest.raises(ConfigError, match=r"net\.norm='layer'.*none, batch, instance, group"):
        small(norm="layer")
    with pytest.raises(ConfigError, match=r"net\.up='nearest'.*transpose, bilinear"):
        small(up="nearest")
    with pytest.raises(ConfigError, match=r"no head 1 to prune to; choose one of 3\."):
        small(prune=3).pruned(1)
