"""What a training takes over arrives, what is frozen stays, and what shall learn slowly does."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_resume import KilledError, StopAfter
from torch import nn

from medseg.errors import ConfigError
from medseg.nets.unet import UNet
from medseg.training.cost import parameter_counts
from medseg.training.module import SegmentationModule
from medseg.training.schedules import one_cycle
from medseg.training.transfer import Transfer, layers_of, scale_rates
from tiny import make_data, make_module, make_trainer


def unet(channels: int = 1, classes: int = 2, widths: tuple[int, ...] = (4, 8), seed: int = 0, dims: int = 2) -> UNet:
    torch.manual_seed(seed)
    return UNet(in_channels=channels, num_classes=classes, widths=widths, spatial_dims=dims)


def state_of(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def test_a_run_folder_gives_its_weights_when_asked_and_not_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = unet(seed=1)
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    net = unet(3, 4, seed=2)
    before = state_of(net)
    module = make_module(net, num_classes=4, transfer=Transfer(weights=str(tmp_path)))
    # An evaluation builds the module around weights that must not be replaced.
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    with caplog.at_level(logging.INFO):
        module.take_over()
    assert torch.equal(
        net.encoder.levels[1].state_dict()["0.0.weight"], source.encoder.levels[1].state_dict()["0.0.weight"]
    )
    assert torch.equal(net.head.weight, before["head.weight"])
    for words in ("weights.pt", "tensors matched", "2 missing ['head.bias', 'head.weight']", "1 inflated"):
        assert words in caplog.text


@pytest.mark.parametrize("dims", [2, 3])
def test_a_part_alone_takes_weights_over(dims: int, tmp_path: Path) -> None:
    source, net = unet(seed=1, dims=dims), unet(4, seed=2, dims=dims)
    torch.save(source.encoder.state_dict(), tmp_path / "encoder.pt")
    before = state_of(net)
    match = Transfer(weights=tmp_path / "encoder.pt", part="encoder", least=1.0).load(net)
    assert match is not None
    assert not match.missing
    assert len(match.inflated) == 1
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("encoder.") for name in changed)
    deep = "encoder.levels.1.0.0.weight"
    assert torch.equal(net.state_dict()[deep], source.state_dict()[deep])


def test_weights_named_by_timm_reach_the_encoder_of_smp(tmp_path: Path) -> None:
    import timm

    from medseg.nets.smp import SmpNet

    torch.manual_seed(0)
    state = timm.create_model("resnet18").state_dict()
    torch.save(state, tmp_path / "resnet18.pth")
    net = SmpNet(in_channels=1, num_classes=2, encoder_name="resnet18")
    match = Transfer(weights=tmp_path / "resnet18.pth").load(net)
    assert match is not None
    assert match.unused == ("fc.bias", "fc.weight")
    assert match.inflated == ("model.encoder.conv1.weight",)
    assert torch.equal(net.model.encoder.layer3[0].conv1.weight, state["layer3.0.conv1.weight"])
    frozen = Transfer(freeze=["encoder"]).frozen(net)
    assert frozen == [name for name, _ in net.named_parameters() if name.startswith("model.encoder.")]


def test_frozen_parts_keep_weights_and_statistics_and_the_rest_learns(tmp_path: Path) -> None:
    net = unet()
    before = state_of(net)
    module = make_module(net, transfer=Transfer(freeze=["encoder"]))
    encoder = sum(parameter.numel() for parameter in net.encoder.parameters())
    total = sum(parameter.numel() for parameter in net.parameters())
    assert parameter_counts(net) == (total, total - encoder)
    make_trainer(tmp_path, 2).fit(module, make_data(tmp_path))
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("encoder."), name
    (group,) = module.optimizers().optimizer.param_groups  # type: ignore[union-attr]
    assert sum(parameter.numel() for parameter in group["params"]) == total - encoder
    module.train()
    assert not any(layer.training for layer in net.encoder.modules() if isinstance(layer, nn.BatchNorm2d))
    assert all(layer.training for layer in net.stages.modules())


def test_a_linear_probe_trains_the_head_alone() -> None:
    net = unet()
    make_module(net, transfer=Transfer(freeze=["*", "!head"]))
    assert [name for name, p in net.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]


def thawing() -> SegmentationModule:
    return make_module(unet(), transfer=Transfer(freeze=["encoder"], frozen_epochs=2))


class Watch(StopAfter):
    """Keeps a weight of the encoder at the end of each epoch."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.seen: list[torch.Tensor] = []

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        state = pl_module.net.state_dict()
        self.seen.append(
            torch.cat([state[f"encoder.levels.0.{name}"].flatten() for name in ("0.0.weight", "0.1.running_mean")])
        )


def test_a_part_that_was_frozen_for_some_epochs_learns_after_them_also_when_resumed(tmp_path: Path) -> None:
    whole, half, again, watch = thawing(), thawing(), thawing(), Watch()
    trainer = make_trainer(tmp_path / "whole", 4)
    trainer.callbacks.insert(0, watch)
    trainer.fit(whole, make_data(tmp_path))
    assert torch.equal(watch.seen[0], watch.seen[1])
    assert not torch.equal(watch.seen[1], watch.seen[2])
    for stop in (1, 3):
        folder = tmp_path / f"halves{stop}"
        half, again = thawing(), thawing()
        stopped = make_trainer(folder, 4)
        stopped.callbacks.insert(0, StopAfter(stop))
        with pytest.raises(KilledError):
            stopped.fit(half, make_data(tmp_path))
        make_trainer(folder, 4).fit(again, make_data(tmp_path), ckpt_path=folder / "last.ckpt", weights_only=True)
        for name, value in whole.net.state_dict().items():
            assert torch.equal(value, again.net.state_dict()[name]), name


def test_rates_of_groups_are_ratios_that_the_schedule_keeps(tmp_path: Path) -> None:
    module = make_module(
        unet(),
        transfer=Transfer(rates={"encoder": 0.1, "encoder.levels.1": 0.5}),
        optimizer=partial(torch.optim.SGD, lr=0.02, momentum=0.9),
        scheduler=partial(one_cycle, warmup=0.3),
    )
    make_trainer(tmp_path, 2).fit(module, make_data(tmp_path))
    groups = module.optimizers().optimizer.param_groups  # type: ignore[union-attr]
    assert [group["max_lr"] for group in groups] == pytest.approx([0.02, 0.01, 0.002])
    first = groups[0]["lr"]
    assert [group["lr"] for group in groups] == pytest.approx([first, first / 2, first / 10])
    members = [{id(parameter) for parameter in group["params"]} for group in groups]
    assert members[1] == {id(parameter) for parameter in module.net.encoder.levels[1].parameters()}
    assert members[2] == {id(parameter) for parameter in module.net.encoder.levels[0].parameters()}
    assert sum(map(len, members)) == len(list(module.net.parameters()))


def test_layers_of_the_encoder_decay_towards_the_image() -> None:
    net = unet(widths=(4, 8, 8))
    factors = Transfer(layer_decay=0.5, rates={"head": 2.0}).rate(net)
    expected = {"encoder.levels.0": 0.125, "encoder.levels.1": 0.25, "encoder.levels.2": 0.5, "head": 2.0}
    for name, factor in factors.items():
        wanted = next((value for start, value in expected.items() if name.startswith(start)), 1.0)
        assert factor == wanted, name


class Transformer(nn.Module):
    """A part with position embeddings, a stem with its norm, and nearly everything in one list of blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 4))
        self.stem = nn.Conv2d(1, 4, 2)
        self.stem_norm = nn.LayerNorm(4)
        self.blocks = nn.Sequential(*(nn.Linear(4, 40) for _ in range(3)))
        self.dropout = nn.Dropout()
        self.norm = nn.LayerNorm(4)


@pytest.mark.parametrize("wrapped", [False, True])
def test_layers_are_counted_inside_the_list_that_holds_them(wrapped: bool) -> None:
    part = Transformer()
    layers = list(layers_of(nn.ModuleDict({"model": part}) if wrapped else part))
    assert [len(layer) for layer in layers] == [5, 2, 2, 4]
    assert layers[0][0] is part.position
    assert layers[3][-1] is part.norm.bias
    assert len({id(p) for layer in layers for p in layer}) == len(list(part.parameters()))


@given(decay=st.floats(0.1, 1.0), rate=st.floats(1e-5, 1.0))
def test_every_parameter_is_in_one_group_at_its_own_rate(decay: float, rate: float) -> None:
    net = unet()
    transfer = Transfer(layer_decay=decay, decay_norms=False)
    groups = transfer.groups(net, [name for name, _ in net.named_parameters()])
    optimizer = scale_rates(torch.optim.AdamW(groups, lr=rate, weight_decay=0.1))
    factors, seen = transfer.rate(net), {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert id(parameter) not in seen
            seen[id(parameter)] = group
    for name, parameter in net.named_parameters():
        group = seen[id(parameter)]
        assert group["lr"] == pytest.approx(rate * factors[name])
        assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0)


def test_without_a_transfer_there_is_one_group_of_everything(tmp_path: Path) -> None:
    module = make_module()
    make_trainer(tmp_path, 1).fit(module, make_data(tmp_path))
    (group,) = module.optimizers().optimizer.param_groups  # type: ignore[union-attr]
    assert [id(p) for p in group["params"]] == [id(p) for p in module.net.parameters()]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Transfer(freeze=["encoder", "stages", "head"]).frozen(unet()), "leaves nothing to learn.*head"),
        (lambda: Transfer(freeze=["backbone"]).frozen(unet()), r"transfer.freeze: no parameter .* 'backbone'.*encoder"),
        (lambda: Transfer(rates={"tail": 0.1}).rate(unet()), r"transfer.rates: no parameter .* 'tail'.*encoder"),
        (lambda: Transfer(rates={"head": 0.0}), r"transfer.rates.head=0.0: give a positive"),
        (lambda: Transfer(layer_decay=1.5), "transfer.layer_decay=1.5"),
        (lambda: Transfer(layer_decay=0.5, part="body").rate(unet()), "transfer.part=body.*encoder, stages, head"),
        (lambda: Transfer(frozen_epochs=2), "transfer.frozen_epochs=2"),
        (lambda: Transfer(least=2), "transfer.least=2"),
        (lambda: Transfer(weights="absent.pt").load(unet()), "transfer.weights=absent.pt: no such file"),
    ],
)
def test_settings_that_cannot_be_met_are_one_line(build: Callable[[], object], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match=r"transfer.weights=.*weights.pt: only 0 of the network's"):
        Transfer(weights=tmp_path).load(unet())


def test_frozen_parts_that_shall_learn_later_want_one_process() -> None:
    module = thawing()
    module.trainer = type("Many", (), {"world_size": 2, "profiler": None})()  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="transfer.frozen_epochs=2 needs a single process"):
        SegmentationModule.setup(module, "fit")
