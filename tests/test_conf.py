"""Every option of every group is a call its target accepts, and every root config composes with it."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from medseg.commands.configuration import CONF, choices, compose, freeze
from medseg.errors import ConfigError
from medseg.targets import check_targets

ROOTS = sorted(path.stem for path in CONF.glob("*.yaml"))
OPTIONS = sorted(
    (path.parent.name, path.stem) for path in CONF.glob("*/*.yaml") if path.parent.name not in ("hydra", "experiment")
)
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
REQUIRED = {
    "card": ["run=x"],
    "evaluate": ["run=x"],
    "marks": ["run=x"],
    "predict": ["run=x", "input=x", "output=x"],
    "refine": ["run=x"],
    "strata": ["run=x"],
    "track": ["run=x"],
}
ROOT_OF = {"postprocess": "refine", "tta": "refine", "energy": "report"}
"""Which verb a group is shown with; all others are of `medseg train`."""
EXTRA = {
    ("split", "file"): ["split.path=split.json"],
    ("data", "folder"): ["data.source.root=x"],
    ("transfer", "weights"): ["transfer.weights=x.pt"],
    ("net", "custom"): ["net._target_=medseg.nets.unet.UNet"],
}


NEEDS_VALUES = {"smp_segformer", "swin_unetr"}
"""Networks whose constructors read values of tensors, which the meta device does not have."""


def calls(node: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield where, node
        for key, value in node.items():
            yield from calls(value, f"{where}.{key}" if where else key)
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from calls(value, f"{where}[{number}]")


def check_signatures(config: Any) -> None:
    for where, node in calls(config):
        given = {key: value for key, value in node.items() if not key.startswith("_")}
        signature = inspect.signature(get_object(node["_target_"]))
        # A partial is completed later, and a trainer gets its callbacks from the command.
        bind = signature.bind_partial if node.get("_partial_") else signature.bind
        try:
            bind(**given)
        except TypeError as error:
            pytest.fail(f"{where}: {node['_target_']}{signature} cannot take {sorted(given)}: {error}")


def frozen(root: str, overrides: list[str]) -> Any:
    composed = compose(root, overrides)
    return OmegaConf.to_container(freeze(composed, choices(composed)))


def root_of(group: str) -> str:
    return "train" if group in OmegaConf.to_yaml(OmegaConf.load(CONF / "train.yaml")) else group


@pytest.mark.parametrize("root", ROOTS)
def test_every_root_composes_and_names_only_allowed_calls(root: str) -> None:
    config = frozen(root, REQUIRED.get(root, []))
    check_targets(config)
    check_signatures(config)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_is_a_call_its_target_accepts(group: str, option: str) -> None:
    root = ROOT_OF.get(group, "train")
    config = frozen(root, [*REQUIRED.get(root, []), f"{group}={option}", *EXTRA.get((group, option), [])])
    check_targets(config)
    check_signatures(config)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes(experiment: str) -> None:
    config = frozen("train", [f"experiment={experiment}"])
    check_targets(config)
    check_signatures(config)


@pytest.mark.parametrize("option", sorted(path.stem for path in (CONF / "net").glob("*.yaml")))
def test_every_network_is_built_by_its_config(option: str) -> None:
    import torch

    node = frozen("train", [f"net={option}", *EXTRA.get(("net", option), [])])["net"]
    with torch.device("cpu" if ".classical." in node["_target_"] or option in NEEDS_VALUES else "meta"):
        net = instantiate(node)
    assert isinstance(net, torch.nn.Module)


@pytest.mark.parametrize(
    ("group", "option"),
    [pair for pair in OPTIONS if pair[0] in ("loss", "callbacks", "augment", "preprocess", "split", "tracking")],
)
def test_every_other_part_is_built_by_its_config(group: str, option: str, tmp_path: Path) -> None:
    node = frozen(
        "train",
        [f"{group}={option}", f"paths.outputs={tmp_path}", f"folder={tmp_path}", *EXTRA.get((group, option), [])],
    )[group]
    parts = node.values() if group in ("callbacks", "augment") else [node]
    assert all(instantiate(part) is not None for part in parts if part is not None)


@pytest.mark.parametrize("option", sorted(path.stem for path in (CONF / "data").glob("*.yaml")))
def test_every_dataset_is_built_by_its_config_without_reading_a_file(option: str, tmp_path: Path) -> None:
    config = frozen("train", [f"data={option}", f"paths.data={tmp_path}", *EXTRA.get(("data", option), [])])
    data = instantiate(config["data"])
    assert data.card.name
    assert data.card.num_classes == len(data.card.classes)


@pytest.mark.parametrize("option", sorted(path.stem for path in (CONF / "trainer").glob("*.yaml")))
def test_every_trainer_is_built_or_says_that_the_machine_lacks_its_device(option: str, tmp_path: Path) -> None:
    import torch

    node = frozen("train", [f"trainer={option}", f"folder={tmp_path}"])["trainer"]
    if node["accelerator"] == "gpu" and not torch.cuda.is_available():
        with pytest.raises(Exception, match="gpu backend|GPU|CUDA"):
            instantiate(node)
        return
    assert instantiate(node).max_epochs == node["max_epochs"]


def test_a_misspelt_key_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="widht"):
        compose("train", ["net.widht=3"])


def test_an_unknown_network_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"nett.*unet"):
        compose("train", ["net=nett"])
