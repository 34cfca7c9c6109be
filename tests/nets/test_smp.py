"""Encoder weights from local files, inflation, and no download unless asked."""

import logging
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch.encoders as smp_encoders
import torch
from safetensors.torch import save_file
from torch import Tensor

from medseg.errors import ConfigError
from medseg.nets.smp import SmpNet
from medseg.nets.weights import inflate


def small(channels: int = 3, classes: int = 2, **arguments: Any) -> SmpNet:
    return SmpNet(in_channels=channels, num_classes=classes, **{"encoder_name": "resnet18", **arguments})


@pytest.fixture(scope="module")
def encoder_state() -> dict[str, Tensor]:
    torch.manual_seed(7)
    return small().model.encoder.state_dict()


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_inflation_keeps_the_sum_over_input_channels(channels: int) -> None:
    weight = torch.randn(5, 3, 7, 7)
    wider = inflate(weight, channels)
    assert wider.shape == (5, channels, 7, 7)
    torch.testing.assert_close(wider.sum(1), weight.sum(1))
    if channels == 3:
        assert torch.equal(wider, weight)


@pytest.mark.parametrize("kind", ["safetensors", "pt", "pth"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_weights_of_a_local_file_arrive(
    kind: str, channels: int, encoder_state: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / f"weights.{kind}"
    if kind == "safetensors":
        save_file(encoder_state, path)
    else:
        torch.save({"state_dict": {f"module.{key}": value for key, value in encoder_state.items()}}, path)
    loaded = small(channels, encoder_weights=str(path)).model.encoder.state_dict()
    for key, value in encoder_state.items():
        assert torch.equal(loaded[key], inflate(value, channels) if key == "conv1.weight" else value), key


def test_a_grey_encoder_answers_as_the_colour_one_on_a_copied_image(
    encoder_state: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file(encoder_state, tmp_path / "w.safetensors")
    grey, colour = (small(n, encoder_weights=str(tmp_path / "w.safetensors")).model.encoder.eval() for n in (1, 3))
    image = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(grey(image)[1], colour(image.repeat(1, 3, 1, 1))[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prefix", ["encoder.", "model.encoder.", "backbone."])
def test_prefixes_come_off_and_the_log_counts(
    prefix: str, encoder_state: dict[str, Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = {prefix + key: value for key, value in encoder_state.items() if key != "layer4.1.bn2.weight"}
    content[prefix + "fc.weight"] = torch.zeros(3, 3)
    save_file(content, tmp_path / "w.safetensors")
    with caplog.at_level(logging.INFO, logger="medseg.nets.weights"):
        small(encoder_weights=str(tmp_path / "w.safetensors"))
    expected = f"{len(encoder_state) - 1} tensors matched, 1 missing ['layer4.1.bn2.weight'], 1 unused ['fc.weight']"
    assert expected in caplog.text


def test_timm_names_are_found_below_model(tmp_path: Path) -> None:
    torch.manual_seed(3)
    state = small(encoder_name="tu-resnet10t").model.encoder.state_dict()
    save_file({key.removeprefix("model."): value for key, value in state.items()}, tmp_path / "w.safetensors")
    loaded = small(1, encoder_name="tu-resnet10t", encoder_weights=str(tmp_path / "w.safetensors")).model.encoder
    assert torch.equal(loaded.state_dict()["model.layer1.0.conv1.weight"], state["model.layer1.0.conv1.weight"])
    assert torch.equal(loaded.state_dict()["model.conv1.0.weight"], inflate(state["model.conv1.0.weight"], 1))


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refuse(*_arguments: Any, **_named: Any) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    monkeypatch.setattr(smp_encoders, "hf_hub_download", refuse)


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet10t"])
def test_nothing_is_downloaded_unasked(encoder: str) -> None:
    small(encoder_name=encoder)
    with pytest.raises(ConfigError, match=r"would download.*allow_download=true"):
        small(encoder_name=encoder, encoder_weights="imagenet")
    with pytest.raises(ConfigError, match=r"encoder_weights=False: give null"):
        small(encoder_name=encoder, encoder_weights=False)


def test_asked_for_a_download_goes_through_the_same_inflation(
    monkeypatch: pytest.MonkeyPatch, encoder_state: dict[str, Tensor]
) -> None:
    real = smp_encoders.get_encoder
    asked = []

    def offline(name: str, *, in_channels: int, weights: object) -> torch.nn.Module:
        asked.append((name, in_channels, weights))
        encoder = real(name, in_channels=in_channels, weights=None)
        encoder.load_state_dict(dict(encoder_state))
        return encoder

    monkeypatch.setattr(smp_encoders, "get_encoder", offline)
    net = small(2, encoder_weights="imagenet", allow_download=True)
    assert asked == [("resnet18", 3, "imagenet")]
    assert torch.equal(net.model.encoder.conv1.weight, inflate(encoder_state["conv1.weight"], 2))


def test_files_that_do_not_serve_are_named(tmp_path: Path, encoder_state: dict[str, Tensor]) -> None:
    with pytest.raises(ConfigError, match=r"absent\.pt: no such file"):
        small(encoder_weights=str(tmp_path / "absent.pt"))
    (tmp_path / "w.bin").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"w\.bin: unknown kind of file"):
        small(encoder_weights=str(tmp_path / "w.bin"))
    (tmp_path / "w.safetensors").write_bytes(b"not weights")
    with pytest.raises(ConfigError, match=r"w\.safetensors cannot be read as plain weights"):
        small(encoder_weights=str(tmp_path / "w.safetensors"))
    torch.save({"a": 1}, tmp_path / "none.pt")
    with pytest.raises(ConfigError, match=r"none\.pt holds no tensors"):
        small(encoder_weights=str(tmp_path / "none.pt"))
    torch.save(encoder_state, tmp_path / "r18.pt")
    with pytest.raises(ConfigError, match=r"only \d+ of the network's \d+ tensors"):
        small(encoder_name="mobilenet_v2", encoder_weights=str(tmp_path / "r18.pt"))


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    witness = tmp_path / "witness"

    class Planted:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (witness,))

    torch.save({"weight": Planted()}, tmp_path / "evil.pt")
    with pytest.raises(ConfigError, match=r"evil\.pt cannot be read as plain weights"):
        small(encoder_weights=str(tmp_path / "evil.pt"))
    assert not witness.exists()


def test_unknown_names_are_one_line() -> None:
    with pytest.raises(ConfigError, match=r"net\.architecture='VNet'.*Unet, UnetPlusPlus"):
        small(architecture="VNet")
    with pytest.raises(ConfigError, match=r"encoder_name=resnet19 cannot be built: .*resnet19") as caught:
        small(encoder_name="resnet19")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"unknown \['decoder_widths'\]; Unet takes .*decoder_channels"):
        small(options={"decoder_widths": 3})
    with pytest.raises(ConfigError, match=r"unknown \['classes'\]"):
        small(encoder_name="tu-resnet10t", options={"classes": 3})
    scse = small(options={"decoder_attention_type": "scse"})
    assert sum(p.numel() for p in scse.parameters()) > sum(p.numel() for p in small().parameters())


@pytest.mark.parametrize("architecture", ["FPN", "DeepLabV3Plus", "Linknet"])
def test_other_architectures_take_any_size(architecture: str) -> None:
    net = small(1, architecture=architecture).eval()
    with torch.no_grad():
        assert net(torch.zeros(1, 1, 67, 71)).shape == (1, 2, 67, 71)
