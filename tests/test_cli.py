"""The command line: light at the start, one line per error, jobs that do not disturb one another."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from medseg import __version__, cli
from medseg.errors import DataError

TASK = """
import json, os, sys, types
from pathlib import Path

def task(cfg):
    from medseg.commands.configuration import choices, freeze
    config = freeze(cfg, choices(cfg))
    if config.fail == "data" and config.seed == 1:
        from medseg.errors import DataError
        raise DataError("case a: the mask has the value 7; declare it or repair the mask.")
    if config.fail == "bug" and config.seed == 1:
        raise RuntimeError("a bug")
    if config.fail == "wrapped":
        from hydra.utils import instantiate
        card = {"name": "x", "in_channels": 1, "num_classes": 1, "classes": []}
        instantiate({"_target_": "medseg.types.DataCard", **card})
    if config.fail == "keyword":
        from hydra.utils import instantiate
        instantiate({"_target_": "string.Template", "widht": 1})
    if config.fail == "terminated":
        raise type("SIGTERMException", (SystemExit,), {})()
    rank = "0"
    if config.devices > 1:
        rank = train(config.devices)
    note = {"choices": dict(config.choices), "seed": config.seed, "argv": sys.argv[1:], "runs": config.paths.runs}
    Path(os.environ["NOTES"], f"{config.choices.shape}-{config.seed}-{rank}.json").write_text(json.dumps(note))

def train(devices):
    import torch
    from lightning.pytorch import LightningModule, Trainer

    class Line(LightningModule):
        def __init__(self):
            super().__init__()
            self.line = torch.nn.Linear(1, 1)

        def training_step(self, batch, _):
            return self.line(batch).mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

        def train_dataloader(self):
            return torch.utils.data.DataLoader(torch.ones(4, 1), batch_size=2)

    trainer = Trainer(accelerator="cpu", devices=devices, strategy="ddp", max_epochs=1, logger=False,
                      enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Line())
    assert trainer.world_size == devices
    return trainer.global_rank

def main(overrides):
    from medseg.commands.configuration import run_hydra
    run_hydra("train", task, overrides)

from medseg import cli
sys.modules["medseg.commands.train"] = types.SimpleNamespace(main=main)
if __name__ == "__main__":
    sys.exit(cli.main())
"""

ROOT_CONFIG = """
defaults:
  - paths: default
  - hydra: default
  - shape: small
  - _self_
seed: 0
devices: 1
fail: null
"""


class Toy:
    """A verb ``train`` with configs of its own, run in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.start, self.notes = folder, folder / "start", folder / "notes"
        for option in ("small", "large"):
            _write(folder / "conf" / "shape" / f"{option}.yaml", f"name: {option}\n")
        _write(folder / "conf" / "toy.yaml", ROOT_CONFIG)
        _write(folder / "toy.py", TASK)
        self.start.mkdir()
        self.notes.mkdir()

    def run(self, *overrides: str, **environment: str) -> subprocess.CompletedProcess[str]:
        variables = {"NOTES": str(self.notes), "MEDSEG_OUTPUTS": str(self.folder / "outputs"), **environment}
        flags = [f"--config-dir={self.folder / 'conf'}", "--config-name=toy"]
        return subprocess.run(
            [sys.executable, str(self.folder / "toy.py"), "train", *flags, *overrides],
            cwd=self.start, env={**os.environ, **variables}, capture_output=True, text=True, timeout=240,
        )  # fmt: skip

    def written(self) -> dict[str, dict]:
        return {path.stem: json.loads(path.read_text()) for path in sorted(self.notes.iterdir())}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_names_every_verb_and_shows_examples(arguments, capsys):
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    for verb, line in cli.VERBS.items():
        assert f"  {verb:9} {line}" in printed
    assert "medseg train -m net=" in printed


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["trian"]])
def test_the_command_line_itself_imports_nothing_heavy(arguments):
    code = (
        "import sys\nfrom medseg import cli\n"
        f"cli.main({arguments!r})\n"
        "heavy = {'torch', 'numpy', 'hydra', 'omegaconf', 'lightning', 'mlflow', 'pandas', 'argparse', 'logging'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)), len(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy, count = done.stdout.splitlines()[-1].removeprefix("HEAVY ").rsplit(" ", 1)
    assert heavy == "[]"
    assert int(count) < 120  # an interpreter alone has some 60


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"medseg {__version__}\n"


def test_an_unknown_verb_names_the_nearest_and_the_list(capsys):
    assert cli.main(["evalute", "run=x"]) == 2
    message = capsys.readouterr().err
    assert "unknown verb 'evalute'. Did you mean 'evaluate'?" in message
    assert all(verb in message for verb in cli.VERBS)
    assert cli.main(["zzz"]) == 2
    assert "Did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize("how", [["-m", "medseg"], ["-c", "import sys; from medseg.cli import main; sys.exit(main())"]])
def test_the_exit_code_reaches_the_shell(how):
    done = subprocess.run([sys.executable, *how, "nonsense"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("medseg: error: unknown verb 'nonsense'")
    assert len(done.stderr.splitlines()) == 1


def test_an_error_of_a_command_is_one_line(monkeypatch, capsys):
    def main(overrides):
        raise DataError(f"image.png: unreadable {overrides}; replace it.")

    monkeypatch.setitem(sys.modules, "medseg.commands.report", type("Command", (), {"main": staticmethod(main)}))
    assert cli.main(["report", "a=1"]) == 2
    assert capsys.readouterr().err == "medseg: error: image.png: unreadable ['a=1']; replace it.\n"
    monkeypatch.setenv("MEDSEG_TRACEBACK", "1")
    with pytest.raises(DataError, match=r"image\.png: unreadable"):
        cli.main(["report", "a=1"])


def test_every_verb_has_its_command():
    commands = Path(cli.__file__).parent / "commands"
    missing = [verb for verb in cli.VERBS if not (commands / f"{verb}.py").exists()]
    assert missing == []


def test_a_job_gets_its_config_and_leaves_the_folder_clean(toy):
    done = toy.run("shape=large", "seed=3")
    assert done.returncode == 0, done.stderr
    (note,) = toy.written().values()
    assert note["choices"] == {"paths": "default", "shape": "large"}
    assert note["runs"] == str(toy.folder / "outputs" / "runs")
    assert list(toy.start.iterdir()) == []
    assert list((toy.folder / "outputs" / "hydra").glob("*/*/train.log"))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("shape=of_nobody", "Could not find 'shape/of_nobody' Available options in 'shape': large, small"),
        ("sede=1", "Could not override 'sede'."),
        ("seed=1,2", "To sweep over it, add --multirun"),
        ("+x=${y}", "Interpolation key 'y' not found"),
        ("fail=wrapped", "data.card of 'x': num_classes=1"),
        ("fail=keyword", "got an unexpected keyword argument 'widht'"),
    ],
)
def test_a_wrong_setting_is_one_line(toy, override, expected):
    done = toy.run(override)
    assert done.returncode == 2
    assert done.stderr.startswith("medseg: error: ")
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_our_own_mistakes_keep_their_traceback(toy):
    done = toy.run("fail=bug", "seed=1")
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("RuntimeError: a bug")
    assert "Traceback" in done.stderr


def test_a_terminated_job_does_not_look_like_success(toy):
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    assert SIGTERMException.__name__ == "SIGTERMException"  # by which it is recognised without importing Lightning
    assert issubclass(SIGTERMException, SystemExit)
    assert toy.run("fail=terminated").returncode == 143


@pytest.mark.parametrize(
    ("fail", "reason"), [("data", "case a: the mask has the value 7"), ("bug", "RuntimeError: a bug")]
)
def test_a_failed_job_does_not_stop_a_sweep_and_is_listed_at_the_end(toy, fail, reason):
    done = toy.run("-m", f"fail={fail}", "seed=0,1,2")
    assert done.returncode == 2
    assert sorted(toy.written()) == ["small-0-0", "small-2-0"]
    last = done.stderr.splitlines()[-2:]
    assert last[0] == "medseg: error: 1 of 3 jobs failed:"
    assert last[1].startswith(f"  fail={fail} seed=1: {reason}")


@pytest.mark.parametrize(
    "arguments", [("-m", "seed=5,6"), ("seed=5,6", "-m"), ("shape=large", "--multirun", "seed=5,6")]
)
def test_flags_may_stand_anywhere(toy, arguments):
    assert toy.run(*arguments).returncode == 0
    assert [note["seed"] for note in toy.written().values()] == [5, 6]


def test_a_sweep_is_refused_as_a_whole_when_an_option_does_not_exist(toy):
    done = toy.run("-m", "shape=small,nothing")
    assert done.returncode == 2
    assert "Could not find 'shape/nothing'" in done.stderr
    assert toy.written() == {}


@pytest.mark.parametrize("flags", [("seed=5",), pytest.param(("-m", "seed=5,6"), marks=pytest.mark.slow)])
def test_other_ranks_run_the_same_job(toy, flags):
    """Two gloo processes, alone and within a sweep, where Lightning by itself would repeat the whole sweep."""
    done = toy.run("devices=2", "shape=large", *flags)
    assert done.returncode == 0, done.stderr
    seeds = flags[-1].removeprefix("seed=").split(",")
    assert sorted(toy.written()) == sorted(f"large-{seed}-{rank}" for seed in seeds for rank in (0, 1))
    for note in toy.written().values():
        assert note["argv"][0] == "train"
        assert note["argv"].count(f"seed={note['seed']}") == 1
        assert "hydra.mode=RUN" in note["argv"]
    assert "Tip: " not in done.stderr
    assert done.stderr.count("`Trainer.fit` stopped") == len(seeds)


def test_every_action_of_data_has_its_command_and_the_help_names_it(capsys):
    from medseg.commands.data import ACTIONS, main

    folder = Path(cli.__file__).parent / "commands" / "datasets"
    modules = {{"list": "catalogue", "info": "catalogue"}.get(action, action) for action in ACTIONS}
    assert sorted(name for name in modules if not (folder / f"{name}.py").exists()) == []
    main([])
    shown = capsys.readouterr().out
    assert all(f"  {action} " in shown for action in ACTIONS)


def test_an_unknown_action_of_data_lists_the_known_ones(capsys):
    assert cli.main(["data", "chek"]) == 2
    assert "unknown action 'chek'; choose one of: list, info," in capsys.readouterr().err
