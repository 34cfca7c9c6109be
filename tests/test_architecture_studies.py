"""The two studies over all systems: complete, every cell composes, no two share a folder."""

import itertools
from pathlib import Path

import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from medseg.commands import study as command
from medseg.commands.configuration import CONF, VERSION_BASE
from medseg.commands.isolation import own_global
from medseg.commands.sweeping import left_to_the_jobs
from medseg.commands.systems import System, system_of
from medseg.errors import ConfigError
from medseg.studies.cells import Sweep, expand
from medseg.studies.file import Study, find_study, read_study

ROOT = Path(__file__).parents[1]
STUDIES = {2: "architectures", 3: "architectures_3d"}
USERS_OWN = {"custom"}
"""Options that wait for a network of the user's."""


def the_study(dims: int) -> Study:
    return read_study(find_study(STUDIES[dims], ROOT))


def options(dims: int) -> set[str]:
    """Networks that see so many axes, by their yaml; classical systems see pictures."""
    found = set()
    for path in (CONF / "net").glob("*.yaml"):
        told = OmegaConf.to_container(OmegaConf.load(path)).get("spatial_dims", 2)
        if path.stem not in USERS_OWN and (told == dims or isinstance(told, str)):
            found.add(path.stem)
    return found


@pytest.mark.parametrize("dims", STUDIES)
def test_every_network_is_in_the_study_of_its_dimension_and_no_other(dims: int) -> None:
    swept = {net for plan in the_study(dims).sweeps for net in plan.axes["net"]}
    assert swept == options(dims)


@pytest.mark.slow
@pytest.mark.parametrize("dims", STUDIES)
def test_every_cell_composes_and_has_a_folder_of_its_own(
    dims: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path))
    monkeypatch.setenv("MEDSEG_DATA", str(tmp_path))
    study = the_study(dims)
    folders: list[str] = []
    for preset, data in itertools.product(study.presets, list(study.data)[:1]):
        for sweep in expand(study, preset=preset, data=data, seeds=[0]):
            folders += [cell.folder for cell in command.planned(sweep, tmp_path)]
    assert len(set(folders)) == len(folders)
    assert all(folder.startswith(f"runs/{study.name}/") for folder in folders)


@pytest.mark.slow
@pytest.mark.parametrize("dims", STUDIES)
def test_every_sweep_starts(dims: int) -> None:
    """What Hydra composes before the first job of a sweep has the default network, not the swept ones."""
    for sweep in expand(the_study(dims), preset="quick", data=next(iter(the_study(dims).data)), seeds=[0]):
        given = left_to_the_jobs(["-m", *sweep.arguments])[1:]
        with own_global(), initialize_config_dir(str(CONF.resolve()), "train", VERSION_BASE):
            loader = GlobalHydra.instance().config_loader()
            loader.load_configuration("train", overrides=given, run_mode=RunMode.MULTIRUN)


def protocol_of(sweep: Sweep, groups: tuple[str, ...]) -> set[tuple[str, str]]:
    """Return (key, value) of a sweep's overrides of these groups."""
    pairs = (text.partition("=")[::2] for text in sweep.overrides)
    return {(key, value) for key, value in pairs if key.split(".")[0] in groups}


@pytest.mark.parametrize("dims", STUDIES)
def test_all_systems_of_a_study_share_data_split_loss_and_optimizer(dims: int) -> None:
    study = the_study(dims)
    wanted = ("data", "split", "preprocess", "loss", "optimizer", "scheduler")
    for preset in study.presets:
        # `quick` shows that each system learns; what one needs for that stands in its note, and the table prints it.
        own = {"instances": {"optimizer.lr"}} if preset == "quick" else {}
        sweeps = expand(study, preset=preset, data=next(iter(study.data)))
        assert all(sweep.note for sweep in sweeps if sweep.name in own)
        shared = protocol_of(sweeps[0], wanted)
        for sweep in sweeps:
            assert {key for key, value in protocol_of(sweep, wanted) ^ shared} <= own.get(sweep.name, set()), sweep.name
        deep = [sweep for sweep in sweeps if "method=fitted" not in sweep.overrides]
        epochs = {text for sweep in deep for text in sweep.overrides if text.startswith("trainer.max_epochs=")}
        assert len(epochs) == 1


def test_classical_systems_are_fitted_once() -> None:
    for sweep in expand(the_study(2), preset="full", data="phantom"):
        for net in sweep.axes["net"]:
            target = str(OmegaConf.load(CONF / "net" / f"{net}.yaml")["_target_"])
            assert (".classical." in target) == ("method=fitted" in sweep.overrides)
        if "method=fitted" in sweep.overrides:
            assert sweep.axes["seed"] == ("0",)


def test_a_study_names_a_kind_of_table_that_exists(tmp_path: Path) -> None:
    assert {the_study(dims).table for dims in STUDIES} == {"architectures"}
    assert read_study(find_study("table1", ROOT)).table == "table1"
    content = yaml.safe_load((ROOT / "experiments" / "architectures" / "study.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**content, "table": "ranking"}), encoding="utf-8")
    with pytest.raises(ConfigError, match="table=ranking: '.*study.yaml' knows table1, architectures"):
        read_study(path)


def test_the_header_of_a_yaml_is_read_up_to_the_first_key(tmp_path: Path) -> None:
    text = "# System  A Net\n# Source  Someone, 2020\n# Design  our reading: all of it\n# more\nkey: 1\n# System  no\n"
    (tmp_path / "a_net.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "bare.yaml").write_text("key: 1\n# Design  faithful\n", encoding="utf-8")
    assert system_of("a_net", tmp_path) == System("A Net", "Someone, 2020", "our reading: all of it")
    assert system_of("bare", tmp_path) == system_of("of_the_user", tmp_path) == System()
