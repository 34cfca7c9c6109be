"""Weights find their places under other programs' names, and what does not fit is said."""

import logging
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from medseg.errors import ConfigError
from medseg.nets.unet import UNet
from medseg.nets.weights import ADDED, first_channels, inflate, load_partial, read_weights


def unet(channels: int = 1, classes: int = 2, dims: int = 2, seed: int = 0) -> UNet:
    torch.manual_seed(seed)
    return UNet(in_channels=channels, num_classes=classes, widths=[4, 8], spatial_dims=dims)


@given(old=st.integers(1, 6), new=st.integers(1, 6), dims=st.sampled_from([2, 3]))
def test_inflation_keeps_the_answer_to_a_grey_image(old: int, new: int, dims: int) -> None:
    weight = torch.randn(3, old, *[3] * dims, generator=torch.Generator().manual_seed(old * 10 + new))
    wider = inflate(weight, new)
    assert wider.shape == (3, new, *[3] * dims)
    assert torch.allclose(wider.sum(1), weight.sum(1), atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_network_for_other_channels_and_classes_takes_all_but_the_head(
    dims: int, channels: int, caplog: pytest.LogCaptureFixture
) -> None:
    source, target = unet(2, 2, dims).state_dict(), unet(channels, 3, dims, seed=1)
    head = {name: value.clone() for name, value in target.state_dict().items() if name.startswith("head")}
    with caplog.at_level(logging.INFO, logger="medseg.nets.weights"):
        match = load_partial(target, source, source="w.pt", in_channels=channels)
    first = "encoder.levels.0.0.0.weight"
    assert match.inflated == (first,)
    assert set(match.missing) == set(head) == {"head.weight", "head.bias"}
    assert match.unused == ("head.bias", "head.weight")
    loaded = target.state_dict()
    for name, value in source.items():
        if name in head:
            assert torch.equal(loaded[name], head[name])
        else:
            assert torch.equal(loaded[name], inflate(value, channels) if name == first else value), name
    expected = f"{len(source) - 2} tensors matched, 2 missing ['head.bias', 'head.weight']"
    assert expected in caplog.text
    assert f"1 inflated ['{first}']" in caplog.text
    assert f"2 left out for their shape [head.bias (2,) for (3,); head.weight (2, 4{', 1' * dims})" in caplog.text


@pytest.mark.parametrize("prefix", ["", "net.", "module.", "model.", "_orig_mod.", "net._orig_mod."])
def test_prefixes_of_checkpoints_come_off(prefix: str) -> None:
    source, target = unet().state_dict(), unet(seed=1)
    extra = {"val_scores.total": torch.zeros(1)} if prefix else {}
    match = load_partial(target, {f"{prefix}{n}": v for n, v in source.items()} | extra, source="w.pt")
    assert not match.missing
    assert match.unused == tuple(extra)
    assert all(torch.equal(value, source[name]) for name, value in target.state_dict().items())


class Flat(nn.Module):
    """Named as timm's feature extractors are."""

    def __init__(self) -> None:
        super().__init__()
        self.stem_0 = nn.Conv2d(3, 4, 3)
        self.stages_0 = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))


class Segmenter(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.model = encoder
        self.decoder = nn.Conv2d(4, 2, 1)


def test_timms_names_find_their_flattened_forms_inside_a_segmenter() -> None:
    timm = {"stem.0.weight": torch.randn(4, 3, 3, 3), "stem.0.bias": torch.randn(4)}
    timm |= {f"stages.0.{name}": torch.randn_like(v) for name, v in nn.Conv2d(4, 4, 3).named_parameters("0")}
    timm |= {"head.fc.weight": torch.randn(1000, 4)}
    target = Segmenter(Flat())
    match = load_partial(target, timm, source="timm.safetensors", least=0.3, added=ADDED)
    assert match.unused == ("head.fc.weight",)
    assert torch.equal(target.encoder.model.stages_0[0].weight, timm["stages.0.0.weight"])
    assert torch.equal(target.encoder.model.stem_0.weight, timm["stem.0.weight"])


class Twins(nn.Module):
    """Two names that differ in a dot alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.ModuleDict({"b": nn.Linear(1, 1, bias=False)})
        self.a_b = nn.Linear(1, 1, bias=False)


def test_names_that_differ_in_a_dot_alone_stay_apart() -> None:
    source, target = Twins(), Twins()
    load_partial(target, source.state_dict(), source="w.pt")
    assert torch.equal(target.a_b.weight, source.a_b.weight)
    assert torch.equal(target.a["b"].weight, source.a["b"].weight)


def test_weights_of_another_architecture_are_refused_even_where_nothing_is_asked_of_them() -> None:
    other = nn.Linear(2, 2).state_dict()
    with pytest.raises(ConfigError, match=r"net\.encoder_weights=w\.pt: only 0 of the network's \d+ tensors"):
        load_partial(unet(), other, source="w.pt", least=0.0)
    part = {name: value for name, value in unet().state_dict().items() if name.startswith("head")}
    with pytest.raises(ConfigError, match="only 2 of the network's"):
        load_partial(unet(), part, source="w.pt")
    assert len(load_partial(unet(), part, source="w.pt", least=0.0).matched) == 2


def test_the_first_convolution_says_how_many_channels_come_in() -> None:
    assert first_channels(unet(4, dims=3)) == 4
    assert first_channels(nn.Linear(2, 2)) is None
    assert first_channels(nn.Conv2d(4, 4, 3, groups=4)) is None


@pytest.mark.parametrize("kind", ["safetensors", "pt", "ckpt"])
def test_files_of_each_kind_are_read(kind: str, tmp_path: Path) -> None:
    state, path = unet().state_dict(), tmp_path / f"w.{kind}"
    if kind == "safetensors":
        from safetensors.torch import save_file

        save_file({name: value.contiguous() for name, value in state.items()}, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if kind == "ckpt" else state, path)
    read = read_weights(path)
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], value) for name, value in state.items())
