"""What a config may call, and the ways around it that must be closed."""

import pytest

from medseg.errors import ConfigError
from medseg.targets import check_targets

GADGETS = {
    "os.system": "not on the list",
    "builtins.eval": "not on the list",
    "builtins.__import__": "no dotted name",
    "subprocess.run": "not on the list",
    "pathlib.Path.unlink": "not on the list",
    "numpy.load": "not on the list",
    "joblib.load": "not on the list",
    "torch.load": "not on the list",
    "torch.hub.load": "not on the list",
    "torch.utils.collect_env.run": "not on the list",
    "hydra.utils.get_method": "not on the list",
    "torchmetricsevil.run": "not on the list",
    "torch.nn.modules.module.torch.load": "leads into the module 'torch'",
    "torch.nn.modules.module.torch.nn.Linear": "leads into the module 'torch'",
    "albumentations.core.serialization.load": "not on the list",
    "albumentations.load": "belongs to 'albumentations.core.serialization'",
    "albumentations.core.composition.random.seed": "leads into the module 'random'",
    "lightning.pytorch.trainer.trainer.os.system": "leads into the module 'os'",
    "lightning.pytorch.callbacks.model_checkpoint.shutil.rmtree": "leads into the module 'shutil'",
    "lightning.pytorch.cli.LightningCLI": "not on the list",
    "medseg.runs.subprocess.run": "leads into the module 'subprocess'",
    "medseg.runs.Path.unlink": "belongs to 'pathlib'",
    "medseg.cli.main": "not on the list",
    "segmentation_models_pytorch.from_pretrained": "belongs to 'huggingface_hub.hub_mixin'",
    "segmentation_models_pytorch.Unet.from_pretrained": "belongs to 'huggingface_hub.hub_mixin'",
    "torch.nn.Module.__init__.__globals__": "no dotted name",
    "torch.nn.functional.relu.real": "reaches into the function",
    "torch.nn.Linear.mro": "belongs to 'builtins'",
    "torch.nn.Lienar": r"does not exist.*did you mean 'torch\.nn\.Linear'\?",
    "medseg.no_such_room.Net": "'medseg.no_such_room' is not there; check the spelling",
    "medseg": "no dotted name",
    "torch.nn": "is a module",
    "torch.nn.modules": "is a module",
    "torch.nn.Linear()": "no dotted name",
    "": "no dotted name",
}
SOUND = [
    "medseg.types.DataCard",
    "torch.nn.Conv2d",
    "torch.nn.functional.relu",
    "torch.nn.init.kaiming_normal_",
    "torch.optim.AdamW",
    "torch.optim.lr_scheduler.OneCycleLR",
    "segmentation_models_pytorch.Unet",
    "segmentation_models_pytorch.losses.DiceLoss",
    "albumentations.Compose",
    "albumentations.pytorch.ToTensorV2",
    "lightning.pytorch.Trainer",
    "lightning.pytorch.callbacks.ModelCheckpoint",
    "torchmetrics.segmentation.DiceScore",
]


@pytest.mark.parametrize(("target", "reason"), GADGETS.items())
def test_a_gadget_is_refused_before_anything_is_called(target, reason):
    with pytest.raises(ConfigError, match=reason) as refused:
        check_targets({"net": {"_target_": target}})
    assert str(refused.value).startswith("net._target_: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("target", SOUND)
def test_the_libraries_of_the_project_are_allowed(target):
    check_targets({"_target_": target, "_partial_": True})


@pytest.mark.parametrize("value", [None, 3, ["os.system"], {"_target_": "x"}])
def test_a_target_that_is_no_text_is_refused(value):
    with pytest.raises(ConfigError, match="no dotted name"):
        check_targets({"net": {"_target_": value}})


@pytest.mark.parametrize(
    ("config", "where"),
    [
        ({"callbacks": {"best": {"_target_": "os.system"}}}, r"callbacks\.best\._target_"),
        ({"augment": {"transforms": [{"_target_": "torch.nn.ReLU"}, {"_target_": "os.system"}]}}, r"transforms\[1\]"),
        ({"net": {"_target_": "torch.nn.ReLU", "_recursive_": False, "hook": {"_target_": "os.system"}}}, r"net\.hook"),
        ({"net": {"_target_": "os.system", "_partial_": True, "_args_": ["true"]}}, "net"),
        ([{"_target_": "os.system"}], r"\[0\]"),
    ],
)
def test_every_depth_is_searched(config, where):
    with pytest.raises(ConfigError, match=where):
        check_targets(config)


def test_composed_configs_are_read_too():
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create({"name": "os.system", "net": {"_target_": "${name}"}})
    with pytest.raises(ConfigError, match=r"net\._target_: 'os\.system'"):
        check_targets(config)


def test_a_package_can_be_trusted_by_name(tmp_path, monkeypatch):
    package = tmp_path / "borrowed_nets"
    package.mkdir()
    (package / "__init__.py").write_text("import os\n\nclass Net:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"trusted_targets=\[borrowed_nets\]"):
        check_targets({"_target_": "borrowed_nets.Net"})
    check_targets({"_target_": "borrowed_nets.Net"}, ["borrowed_nets"])
    with pytest.raises(ConfigError, match="leads into the module 'os'"):
        check_targets({"_target_": "borrowed_nets.os.getcwd"}, ["borrowed_nets"])


def test_nothing_outside_is_imported_to_find_out(monkeypatch):
    imported = []
    monkeypatch.setattr("importlib.import_module", lambda name: imported.append(name))
    with pytest.raises(ConfigError, match="not on the list"):
        check_targets({"_target_": "this.very.Thing"})
    assert imported == []
