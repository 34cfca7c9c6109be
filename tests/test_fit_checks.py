"""A network, view or loss that does not go with the data is refused at the start, in one line, and leaves no trace."""

import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from fakes import write_dataset
from medseg import runs
from medseg.cli import main
from medseg.commands.fitting import check_selection
from medseg.commands.rehearsal import try_network
from medseg.data import splits
from medseg.errors import ConfigError
from medseg.losses.combine import DeepSupervision
from medseg.losses.pixelwise import CrossEntropy
from medseg.nets.classical.threshold import Threshold
from medseg.nets.unet import UNet
from medseg.training.fitted import FittedModule
from medseg.training.schedules import one_cycle, poly
from medseg.types import BranchOutput, DeepOutput
from settings import TINY
from tiny import make_data, make_module
from tiny_volumes import make_volumes

CHOICES = {"net": "mine", "data": "theirs", "loss": "ours", "optimizer": "adamw", "scheduler": "one_cycle"}
CONFIG = OmegaConf.create({"choices": CHOICES})


class Plain(nn.Module):
    """A user's network: knows nothing of this package."""

    def __init__(self, in_channels: int = 1, num_classes: int = 2) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(in_channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.out = nn.Conv2d(4, num_classes, 1)

    def forward(self, image: Tensor) -> Any:
        return self.out(self.body(image))


class Halved(Plain):
    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.max_pool2d(super().forward(image), 2)


class Listed(Plain):
    def forward(self, image: Tensor) -> list[Tensor]:
        return [super().forward(image)]


class Labels(Plain):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image) > 0


class Broken(Plain):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image) + torch.zeros(7)


class Tuples(Plain):
    """Its training output is of no known kind."""

    def forward(self, image: Tensor) -> Any:
        logits = super().forward(image)
        return (logits, logits) if self.training else logits


class Fixed(Plain):
    """Takes one size alone, and its size is large."""

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[-1] != 300:
            raise ValueError("300 px, please")
        return super().forward(image)


class Branches(Plain):
    def forward(self, image: Tensor) -> Any:
        logits = super().forward(image)
        return BranchOutput(logits, [logits]) if self.training else logits


def rehearse(tmp_path: Path, net: nn.Module, **changes: Any) -> None:
    try_network(CONFIG, make_data(tmp_path), make_module(net, **changes))


@pytest.mark.parametrize("net", [Plain(), Branches(), UNet(in_channels=1, num_classes=2, widths=[4, 8], dropout=0.5)])
def test_a_network_that_fits_is_left_as_it_was(net: nn.Module, tmp_path: Path) -> None:
    module = make_module(net)
    module.net.eval()
    module.net.body = getattr(net, "body", None)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    modes = [layer.training for layer in module.modules()]
    torch.manual_seed(5)
    try_network(CONFIG, make_data(tmp_path), module)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    assert [layer.training for layer in module.modules()] == modes
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize(
    ("net", "changes", "words"),
    [
        (
            Plain(3),
            {},
            r"net=mine fails in eval mode on images of data=theirs, shape \(1, 1, 32, 32\): RuntimeError: .*3 ch",
        ),
        (Plain(1, 3), {}, r"net=mine makes \(1, 3, 32, 32\) of an image .* data=theirs has 2 classes; .*num_classes"),
        (Halved(), {}, r"net=mine makes \(1, 2, 16, 16\) of an image \(1, 1, 32, 32\); logits \(1, 2, 32, 32\)"),
        (Listed(), {}, r"net=mine answers in eval mode with a list; one tensor"),
        (Labels(), {}, r"net=mine answers in eval mode with a torch.bool"),
        (Broken(), {}, r"net=mine fails in eval mode .*RuntimeError: The size of tensor"),
        (Tuples(), {}, r"loss=ours cannot judge what net=mine returns in train mode, a tuple"),
        (Plain(), {"loss": CrossEntropy([1.0, 1.0, 1.0])}, r"class_weights"),
        (Plain(), {"loss": nn.CrossEntropyLoss(torch.ones(3))}, r"loss=ours cannot judge .*masks of 2 classes"),
        (Plain(), {"loss": nn.CrossEntropyLoss(reduction="none")}, r"loss=ours returns Tensor instead of one number"),
        (
            Threshold(in_channels=1, num_classes=2),
            {},
            r"net=mine has no parameter that learns by gradients; use method=fitted",
        ),
        (nn.Identity(), {}, r"net=mine has no parameter that learns by gradients; use method=fitted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_does_not_fit_is_refused_in_one_line(
    net: nn.Module, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        rehearse(tmp_path, net, **changes)
    assert "\n" not in str(caught.value)


class PerBatch(Plain):
    """Normalises one value a channel over the batch, as pooled branches do."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image) + self.norm(image.mean((2, 3)))[..., None, None]


def test_batches_of_one_image_are_tried_with_one(tmp_path: Path) -> None:
    try_network(CONFIG, make_data(tmp_path), make_module(PerBatch()))
    with pytest.raises(ConfigError, match=r"net=mine fails in train mode on .*\(1, 1, 32, 32\).*more than 1 value"):
        try_network(CONFIG, make_data(tmp_path, batch_size=1), make_module(PerBatch()))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": partial(torch.optim.SGD, lr=-1.0)}, "ValueError: Invalid learning rate: -1.0"),
        ({"optimizer": partial(torch.optim.SGD, lr=0.1, nesterov=True)}, "ValueError: Nesterov momentum requires"),
        ({"optimizer": partial(torch.optim.SGD, lr=0.1, betas=(0.9, 0.9))}, "TypeError: .*unexpected keyword.*betas"),
        ({"scheduler": partial(poly, power="high")}, "TypeError: "),
    ],
)
def test_optimizers_and_schedules_that_cannot_be_built_are_refused_at_start(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"^optimizer=\w+ with scheduler=\w+ cannot be built: {words}"):
        rehearse(tmp_path, Plain(), **changes)
    with pytest.raises(ConfigError, match=r"^scheduler\.warmup=2\.0: give a fraction"):
        rehearse(tmp_path, Plain(), scheduler=partial(one_cycle, warmup=2.0))
    rehearse(tmp_path, Plain(), scheduler=partial(one_cycle, warmup=0))


def test_what_a_network_calls_by_the_name_of_a_method_is_none(tmp_path: Path) -> None:
    class Named(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.losses, self.fit, self.prompt = nn.ModuleList([nn.ReLU()]), 3, nn.Dropout()

    rehearse(tmp_path, Named())


def test_choices_that_do_nothing_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Own(Plain):
        def losses(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
            return {"one": self(image).mean()}

    config = OmegaConf.merge(CONFIG, {"choices": {"loss": "lovasz", "optimizer": "adamw"}})
    with caplog.at_level(logging.WARNING):
        try_network(config, make_data(tmp_path), make_module(Own()))
    assert "loss=lovasz: not used, net=mine learns by losses of its own" in caplog.text
    caplog.clear()
    config = OmegaConf.merge(CONFIG, {"choices": {"loss": "dice_ce", "optimizer": "sgd"}})
    base = make_module()
    given = {"loss": base.loss, "optimizer": base.optimizer, "scheduler": base.scheduler, "num_classes": 2}
    with caplog.at_level(logging.WARNING):
        try_network(config, make_data(tmp_path), FittedModule(Threshold(in_channels=1, num_classes=2), **given))
    assert "optimizer=sgd: not used, net=mine is fitted without gradients" in caplog.text
    assert "loss=" not in caplog.text


def test_level_weights_that_the_network_overrules_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Deep(Plain):
        def forward(self, image: Tensor) -> Any:
            logits = super().forward(image)
            return DeepOutput([logits, logits], [1.0, 0.4]) if self.training else logits

    with caplog.at_level(logging.WARNING):
        rehearse(tmp_path, Deep(), loss=DeepSupervision(CrossEntropy(), "halved"))
    assert "net=mine has weights of its own, [1.0, 0.4], and they are used" in caplog.text


def test_a_network_of_one_size_is_tried_at_the_size_of_the_data(tmp_path: Path) -> None:
    from medseg.data.preprocess import Preprocess

    data = make_data(tmp_path, preprocess=Preprocess(size=300))
    try_network(CONFIG, data, make_module(Fixed()))
    with pytest.raises(ConfigError, match=r"shape \(1, 1, 32, 32\): ValueError: 300 px, please"):
        rehearse(tmp_path, Fixed())


def test_nothing_is_read_for_it(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    data._prepared = None

    def read() -> list[Any]:
        raise AssertionError("cases were listed")

    data.source = read
    try_network(CONFIG, data, make_module())


def test_volumes_are_tried_with_the_patch(tmp_path: Path) -> None:
    data = make_volumes(tmp_path)
    fitting = UNet(in_channels=1, num_classes=2, widths=[4, 8], spatial_dims=3)
    try_network(CONFIG, data, make_module(fitting, view=data.view))
    other = UNet(in_channels=2, num_classes=2, widths=[4, 8], spatial_dims=3)
    with pytest.raises(ConfigError, match="in_channels=2"):
        try_network(CONFIG, data, make_module(other, view=data.view))


def test_a_baseline_without_parameters_is_only_asked_for_its_shape(tmp_path: Path) -> None:
    class Half(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.cat([image, -image], 1)

    base = make_module()
    given = {"loss": base.loss, "optimizer": base.optimizer, "scheduler": base.scheduler, "num_classes": 2}
    try_network(CONFIG, make_data(tmp_path), FittedModule(Half(), **given))
    with pytest.raises(ConfigError, match=r"^net=mine learns by gradients, and method=fitted would score it as it"):
        try_network(CONFIG, make_data(tmp_path), FittedModule(Plain(), **given))
    try_network(CONFIG, make_data(tmp_path), FittedModule(Threshold(in_channels=1, num_classes=2), **given))


def test_a_scheduler_that_watches_an_empty_validation_side_is_refused(tmp_path: Path) -> None:
    data = make_data(tmp_path, split=partial(splits.manifest_fold, seed=0, test_fold=0, val_fraction=0.0))
    scheduler = {"monitor": "val/dice"}
    config = OmegaConf.create(
        {
            "choices": {"split": "ratio", "scheduler": "plateau"},
            "scheduler": scheduler,
            "callbacks": {},
            "monitor": "train/loss",
        }
    )
    with pytest.raises(
        ConfigError, match=r"split=ratio leaves no validation case and scheduler=plateau watches val/dice"
    ):
        check_selection(config, data)
    config.scheduler.monitor = "train/loss"
    check_selection(config, data)
    config.monitor = "val/dise"
    with pytest.raises(
        ConfigError, match=r"^monitor=val/dise is not logged by an epoch; choose one of train/loss, val/"
    ):
        check_selection(config, data)


NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, in_channels, num_classes, width=4):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, image):
        return self.head(self.body(image))
"""


@pytest.fixture
def medseg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command line with tiny settings, in a folder with a package of the user's."""
    import logging

    package = tmp_path / "code" / "someones_nets"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "module.py").write_text(NET)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    for name in [name for name in sys.modules if name.startswith("someones_nets")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    data = write_dataset(tmp_path / "set", patients=9, images_per_patient=1, folds=3)
    tiny = [setting for setting in TINY if not setting.startswith("net.")]
    return lambda *given: main(["train", *tiny, "data.batch_size=2", f"data.source.root={data}", *given])


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("medseg: error: ")]
    return line


MINE = ("net=custom", "net._target_=someones_nets.module.Net")


def test_a_users_network_trains_and_its_run_loads_for_those_who_trust_it(
    medseg: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medseg(*MINE, "trusted_targets=[someones_nets]", "+net.width=6", "callbacks=ema") == 0
    (folder,) = (path.parent for path in (tmp_path / "outputs" / "runs").glob("*/*/DONE"))
    record = runs.read_record(folder)
    assert record["summary"]["test/dice"] is not None
    assert record["choices"]["net"] == "custom"
    run = runs.load_run(folder, trusted=("someones_nets",))
    assert run.net.body[0].out_channels == 6
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["averaging_state"]["n_averaged"] > 0
    for name, value in run.net.state_dict().items():
        assert torch.equal(value, best["state_dict"][f"net.{name}"]), name
    with pytest.raises(ConfigError, match="trusted_targets"):
        runs.load_run(folder)
    # And the run can be the beginning of another.
    started = ("transfer=weights", f"transfer.weights={folder}", "transfer.freeze=[body]", "trainer.max_epochs=1")
    assert medseg(*MINE, "trusted_targets=[someones_nets]", "+net.width=6", *started) == 0
    (second,) = (p.parent for p in (tmp_path / "outputs" / "runs").glob("*/*/DONE") if p.parent != folder)
    assert runs.read_record(second)["model"]["trainable_parameters"] == 6 * 2 + 2
    frozen = torch.load(second / "weights.pt", weights_only=True)
    assert all(torch.equal(value, run.net.state_dict()[n]) for n, value in frozen.items() if n.startswith("body"))
    capsys.readouterr()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (MINE, r"someones_nets.module.Net.*trusted_targets=\[someones_nets\]"),
        (("net=custom",), r"'net._target_' has no value yet"),
        (
            (*MINE, "trusted_targets=[someones_nets]", "net.in_channels=3"),
            r"net=custom fails in eval mode .*3 channels",
        ),
        ((*MINE, "trusted_targets=[someones_nets]", "net.num_classes=3"), r"net=custom makes .* has 2 classes"),
        (("net.widths=[4,8]", "loss=cross_entropy", "loss.class_weights=[1,2,3]"), r"class_weights"),
        (("net.widths=[4,8]", "transfer=weights"), r"'transfer.weights' has no value yet"),
        (("net.widths=[4,8]", "transfer.weights=absent.pt"), r"transfer.weights=absent.pt: no such file"),
        (("net.widths=[4,8]", "transfer.freeze=['*']"), r"leaves nothing to learn"),
    ],
)
def test_the_command_line_says_it_in_one_line(
    given: tuple[str, ...], words: str, medseg: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    assert medseg(*given) == 2
    assert re.search(words, last_line(capsys))
