"""Composed, chosen, frozen: what a command gets from the command line."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ReadonlyConfigError

from medseg.commands.configuration import choices, compose, freeze
from medseg.commands.isolation import flags_first
from medseg.commands.sweeping import left_to_the_jobs
from medseg.errors import ConfigError, RunError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Configs of a root ``toy`` that uses the project's own paths."""
    files = {
        "toy.yaml": "defaults: [paths: default, hydra: default, net: small, extra: null, _self_]\n"
        "seed: 0\nfolder: null\nbest: ${folder}/best.pt\nwidth: ${net.width}\n",
        "open.yaml": "defaults: [paths: default, hydra: default, _self_]\nnet:\n  width: ???\n",
        "net/small.yaml": "width: 4\nlayers: [1, '${.width}']\n".replace("${.width}", "${net.width}"),
        "net/large.yaml": "width: 8\nlayers: []\n",
    }
    own = Path(__file__).resolve().parents[1] / "conf"
    for name in ("paths/default.yaml", "hydra/default.yaml"):
        files[name] = (own / name).read_text(encoding="utf-8")
    for name, text in files.items():
        (tmp_path / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / name).write_text(text, encoding="utf-8")
    return tmp_path / "conf"


def test_choices_name_the_option_of_every_group(folder):
    chosen = choices(compose("toy", ["net=large"], config_dir=folder))
    assert chosen == {"net": "large", "paths": "default"}


def test_choices_outside_a_job_need_a_composed_config():
    with pytest.raises(RunError, match=r"known to compose\(\) and inside a job"):
        choices(OmegaConf.create({"net": 1}))


def test_a_frozen_config_is_whole_and_final(folder):
    composed = compose("toy", ["folder=here"], config_dir=folder)
    frozen = freeze(composed, choices(composed))
    assert "hydra" not in frozen
    assert OmegaConf.to_container(frozen, resolve=False) == OmegaConf.to_container(frozen, resolve=True)
    assert (frozen.width, frozen.best, list(frozen.net.layers)) == (4, "here/best.pt", [1, 4])
    assert dict(frozen.choices) == {"net": "small", "paths": "default"}
    with pytest.raises(ReadonlyConfigError, match="read-only"):
        frozen.net.width = 5
    with pytest.raises(ConfigAttributeError, match="widht"):
        _ = frozen.net.widht


def test_freezing_leaves_the_composed_config_open_for_a_second_time(folder):
    composed = compose("toy", config_dir=folder)
    chosen = choices(composed)
    freeze(composed, chosen)
    composed.folder = "later"
    assert freeze(composed, chosen).best == "later/best.pt"
    assert freeze(freeze(composed, chosen), chosen).best == "later/best.pt"


def test_folders_become_absolute_from_the_working_folder(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("MEDSEG_DATA", "MEDSEG_OUTPUTS", "MEDSEG_CACHE"):
        monkeypatch.delenv(name, raising=False)
    composed = compose("toy", config_dir=folder)
    paths = freeze(composed, choices(composed)).paths
    assert dict(paths) == {
        "data": str(tmp_path / "data"),
        "outputs": str(tmp_path / "outputs"),
        "cache": str(tmp_path / "outputs" / "cache"),
        "runs": str(tmp_path / "outputs" / "runs"),
    }


def test_folders_come_from_the_environment_or_the_command_line(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSEG_DATA", str(tmp_path / "images"))
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path / "results"))
    monkeypatch.setenv("MEDSEG_CACHE", "~/fast")
    composed = compose("toy", ["paths.runs=there"], config_dir=folder)
    paths = freeze(composed, choices(composed)).paths
    assert paths.data == str(tmp_path / "images")
    assert paths.outputs == str(tmp_path / "results")
    assert paths.cache == str(Path.home() / "fast")
    assert paths.runs == str(Path.cwd() / "there")


@pytest.mark.parametrize(
    ("root", "overrides", "message"),
    [
        ("toy", ["net=huge"], r"Could not find 'net/huge' Available options in 'net': large, small$"),
        ("toy", ["sede=1"], r"Could not override 'sede'"),
        ("toy", ["seed=[1"], r"no viable alternative at input '\[1'"),
        ("toi", [], r"Cannot find primary config 'toi'"),
    ],
)
def test_what_cannot_be_composed_is_said_in_one_line(folder, root, overrides, message):
    with pytest.raises(ConfigError, match=message) as refused:
        compose(root, overrides, config_dir=folder)
    assert "\n" not in str(refused.value)


def test_a_value_left_open_is_named(folder):
    composed = compose("open", config_dir=folder)
    with pytest.raises(ConfigError, match=r"'net\.width' has no value yet; .* net\.width=\.\.\."):
        freeze(composed, {})


def test_an_interpolation_to_nowhere_is_named(folder):
    composed = compose("toy", ["+other=${not_there}"], config_dir=folder)
    with pytest.raises(ConfigError, match="'not_there' not found"):
        freeze(composed, {})


def test_composing_leaves_no_state_behind(folder):
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    compose("toy", config_dir=folder)
    assert not GlobalHydra.instance().is_initialized()
    assert not HydraConfig.initialized()


def test_the_same_call_composes_within_a_job(folder, tmp_path, monkeypatch):
    """A study composes the configs of its cells while it is a job itself, and starts jobs from within a job."""
    import logging
    import sys

    from medseg.commands.configuration import run_hydra

    monkeypatch.setattr(sys, "argv", ["medseg", "study"])
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr("medseg.commands.configuration.CONF", folder)
    handlers = logging.getLogger().handlers[:]

    def inner(cfg):
        return choices(cfg)["net"]

    def outer(cfg):
        composed = compose("toy", ["net=large"], config_dir=folder)
        names = run_hydra("toy", inner, ["-m", "net=small,large"])
        return choices(cfg)["net"], choices(composed)["net"], names, sys.argv

    ((own, composed, names, arguments),) = run_hydra("toy", outer, ["seed=7"])
    assert (own, composed, names) == ("small", "large", ["small", "large"])
    assert arguments == ["medseg", "toy", "--config-name=toy", "hydra.mode=RUN", "seed=7", "hydra.mode=RUN"]
    assert sys.argv == ["medseg", "study"]
    assert logging.getLogger().handlers == handlers


def test_flags_go_before_overrides():
    given = ["seed=1", "-m", "~callbacks", "--config-dir", "my/conf", "+x=2", "--config-name=a"]
    assert flags_first(given) == ["-m", "--config-dir", "my/conf", "--config-name=a", "seed=1", "~callbacks", "+x=2"]


def test_a_sweep_may_set_what_only_its_options_have(folder, tmp_path, monkeypatch):
    """Hydra alone composes the default option first, which has no such key, and starts no job."""
    from medseg.commands.configuration import run_hydra
    from medseg.commands.isolation import job_overrides

    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr("medseg.commands.configuration.CONF", folder)
    for name, depth in (("deep", 3), ("deeper", 9)):
        (folder / "net" / f"{name}.yaml").write_text(f"width: 8\ndepth: {depth}\n", encoding="utf-8")

    def task(cfg):
        return choices(cfg)["net"], cfg.net.depth, list(cfg.net.more), cfg.seed, job_overrides()

    found = run_hydra("toy", task, ["-m", "net=deep,deeper", "net.depth=5", "+net.more=[1,2]", "seed=1"])
    assert [one[:4] for one in found] == [("deep", 5, [1, 2], 1), ("deeper", 5, [1, 2], 1)]
    assert found[0][4] == ["net=deep", "net.depth=5", "+net.more=[1,2]", "seed=1"]
    with pytest.raises(ConfigError, match=r"Could not override 'net.depth'"):  # large has none
        run_hydra("toy", lambda cfg: cfg.net.depth, ["-m", "net=deep,large", "net.depth=5"])


def test_only_settings_of_swept_groups_are_left_to_the_jobs():
    given = [
        "-m",
        "net=a,b",
        "net.x=1",
        "+net.y=[1,2]",
        "net.z=1,2",
        "net.text='p,q'",
        "~net.old",
        "net.none=",
        "seed=1",
    ]
    assert left_to_the_jobs(given) == [
        "-m", "net=a,b", "net.x=choice(1)", "+net.y=choice([1,2])", "net.z=1,2", "net.text=choice('p,q')", "~net.old",
        "net.none=", "seed=1",
    ]  # fmt: skip
    assert left_to_the_jobs(["net=a", "net.x=1"]) == ["net=a", "net.x=1"]
    assert left_to_the_jobs(["--multirun", "net=a", "seed=1,2", "net.x=1"])[-1] == "net.x=1"
