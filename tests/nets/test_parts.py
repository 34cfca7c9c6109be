"""Every deep network says what its encoder and its head are, and the two ready transfers keep to that."""

import re
from functools import cache
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from medseg.errors import ConfigError
from medseg.nets.parts import WORDS, declared, in_order, layers_of, restricted
from medseg.nets.unet import UNet
from medseg.training.freezing import Freezing
from medseg.training.transfer import Transfer
from tiny_nets import FOLDER, OPTIONS, build, dimensions, kind, trained_once, untrained

DEEP = [(option, dims) for option in OPTIONS if kind(option) == "deep" for dims in dimensions(option)]
NESTED = {"unetr", "swin_unetr"}
"""Networks with a second way in beside the encoder: convolutions of the image for the finest skip."""


def transfer_of(name: str) -> Transfer:
    """Return the transfer of an option under conf/transfer, completed by what it inherits."""
    folder = FOLDER.parent / "transfer"
    merged = OmegaConf.merge(OmegaConf.load(folder / "none.yaml"), OmegaConf.load(folder / f"{name}.yaml"))
    settings = OmegaConf.to_container(merged)
    return Transfer(**{key: value for key, value in settings.items() if key not in ("_target_", "defaults")})


@cache
def shapes(option: str, dims: int, channels: int, classes: int) -> dict[str, torch.Size]:
    net = build(option, channels, classes, dims=dims)
    return {name: parameter.shape for name, parameter in net.named_parameters()}


def changed(one: dict[str, torch.Size], other: dict[str, torch.Size]) -> set[str]:
    return {name for name in one.keys() & other.keys() if one[name] != other[name]}


def of_word(net: nn.Module, word: str) -> set[str]:
    """Return the names of a part's parameters, from the declaration or the attribute of that name."""
    starts = tuple(f"{name}." for name in declared(net, word) or [word])
    return {name for name, _ in net.named_parameters() if name.startswith(starts)}


@pytest.mark.parametrize(("option", "dims"), DEEP)
def test_what_depends_on_the_classes_is_head_and_what_takes_the_image_is_encoder(option: str, dims: int) -> None:
    net = build(option, 4, 2, dims=dims)
    encoder, head = of_word(net, "encoder"), of_word(net, "head")
    assert encoder
    assert head
    assert not encoder & head
    assert changed(shapes(option, dims, 4, 2), shapes(option, dims, 4, 3)) <= head
    taking = changed(shapes(option, dims, 4, 2), shapes(option, dims, 3, 2))
    assert taking & encoder or option == "vnet", "the library's V-Net pads 3 channels to 4"
    assert option in NESTED or taking <= encoder
    assert len(encoder) > len(head)


@pytest.mark.parametrize(("option", "dims"), DEEP)
def test_a_linear_probe_trains_exactly_the_head(option: str, dims: int) -> None:
    net = build(option, 1, 2, dims=dims).train()
    head = {name for name in of_word(net, "head") if not untrained(net, name)}
    fixed = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
    freezing = Freezing(net, transfer_of("linear_probe"))
    freezing.hold()
    assert {name for name, parameter in net.named_parameters() if parameter.requires_grad} == head - fixed
    trained_once(net, 1, 2, *((64, 64) if dims == 2 else (16, 20, 18)))
    learnt = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert learnt
    assert learnt <= head


@pytest.mark.parametrize(("option", "dims"), DEEP)
def test_finetuning_slows_exactly_the_encoder_and_its_layers_decay_towards_the_image(option: str, dims: int) -> None:
    net = build(option, 1, 2, dims=dims)
    encoder = of_word(net, "encoder")
    rates = transfer_of("finetune").rate(net)
    assert {name for name, rate in rates.items() if rate == 0.1} == encoder
    assert {rate for name, rate in rates.items() if name not in encoder} == {1.0}
    decayed = Transfer(layer_decay=0.5).rate(net)
    assert {name for name, rate in decayed.items() if rate < 1} == encoder
    assert min(decayed.values()) < 0.5, "there are several layers"


@pytest.mark.parametrize("option", ["attention_unet", "unetpp", "dynunet", "smp_unet", "tf_unet", "unet", "vnet_paper"])
def test_the_encoder_alone_comes_from_a_run_of_the_whole_network(option: str, tmp_path: Path) -> None:
    source, net = build(option, 1, 3, draw=1), build(option, 1, 2, draw=2)
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    match = Transfer(weights=tmp_path, part="encoder", least=1.0).load(net)
    assert match is not None
    assert not match.missing
    starts = tuple(f"{name}." for name in declared(net, "encoder") or ["encoder"])
    theirs = source.state_dict()
    for name, value in [*net.named_parameters(), *net.named_buffers()]:  # DynUNet's state has them under two names
        if name not in theirs:
            continue  # a buffer that is no part of the state
        assert torch.equal(value, theirs[name] if name.startswith(starts) else before[name]), name


def test_an_encoder_alone_in_a_file_finds_its_place_inside_the_network(tmp_path: Path) -> None:
    source, net = build("deeplabv3", draw=1), build("deeplabv3", draw=2)
    torch.save(source.backbone.state_dict(), tmp_path / "resnet.pt")
    match = Transfer(weights=tmp_path / "resnet.pt", part="encoder", least=1.0).load(net)
    assert match is not None
    assert not match.missing
    assert torch.equal(net.backbone.layer2[0].conv1.weight, source.backbone.layer2[0].conv1.weight)


class Told(nn.Module):
    """A network of a user who says what is what."""

    ENCODER = ("trunk.stem", "trunk.blocks", "absent")
    HEAD = "last"

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Module()
        self.trunk.blocks = nn.ModuleList(nn.Conv2d(2, 2, 1) for _ in range(3))
        self.trunk.stem = nn.Conv2d(1, 2, 1)
        self.trunk.neck = nn.Conv2d(2, 2, 1)
        self.last = nn.Conv2d(2, 2, 1)


def test_a_users_words_count_in_their_order_and_what_is_not_there_is_passed_over() -> None:
    net = Told()
    assert declared(net, "encoder") == ("trunk.stem", "trunk.blocks")
    assert declared(net, "head") == ("last",)
    assert declared(net, "trunk") == ()
    part = restricted(net, declared(net, "encoder"))
    assert set(part.state_dict()) == {name for name in net.state_dict() if ".stem." in name or ".blocks." in name}
    assert part.trunk.stem is net.trunk.stem
    assert [layer[0] is net.trunk.stem.weight for layer in layers_of(in_order(net, declared(net, "encoder")))] == [
        True, False, False, False,
    ]  # fmt: skip
    rates = Transfer(layer_decay=0.5, rates={"head": 2.0}).rate(net)
    assert rates["trunk.stem.weight"] == 0.5**4
    assert rates["trunk.blocks.2.bias"] == 0.5
    assert rates["trunk.neck.weight"] == 1.0
    assert rates["last.weight"] == 2.0
    assert {name for name, rate in Transfer(rates={"trunk": 0.5, "encoder": 0.1}).rate(net).items() if rate == 0.5} == {
        "trunk.neck.weight", "trunk.neck.bias",
    }  # fmt: skip


class Untold(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.tail = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1)


def test_a_network_that_says_nothing_is_told_how_and_by_the_setting_that_was_given() -> None:
    with pytest.raises(ConfigError, match=r"^transfer\.layer_decay=0\.5: .*transfer\.part, one of body, tail\.$"):
        Transfer(layer_decay=0.5).rate(Untold())
    with pytest.raises(ConfigError, match=r"^transfer\.part=neck: .*body, tail\.$"):
        Transfer(layer_decay=0.5, part="neck").rate(Untold())
    with pytest.raises(ConfigError, match=r"^transfer\.rates: .*'encoder' \(ENCODER in its class .*body, tail\.$"):
        transfer_of("finetune").rate(Untold())
    with pytest.raises(ConfigError, match=r"leaves nothing to learn.*body, tail"):
        transfer_of("linear_probe").frozen(Untold())
    assert Transfer(freeze=["encoder"]).frozen(UNet(in_channels=1, num_classes=2, widths=[4, 8]))


def test_the_reserved_names_of_a_users_network_are_the_same_in_both_places() -> None:
    import medseg.nets

    lines = (FOLDER / "custom.yaml").read_text(encoding="utf-8").splitlines()
    listed = [line.split(maxsplit=2)[2] for line in lines if line.startswith(("#   methods ", "#   attributes "))]
    names = [name for text in listed for name in text.split(", ")]
    told = re.findall(r"``(\w+)[`(]", "\n".join(re.findall(r"^(?:\* |  ).*$", str(medseg.nets.__doc__), re.MULTILINE)))
    assert set(names) == set(told) - {"encoder", "head", "forward"}
    assert {*WORDS.values(), "losses", "fit", "tune", "prompt", "mark", "READING"} <= set(names)
