"""What a fresh machine gets: pins that fit the ranges, a wheel that carries its configs, make targets that exist."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ASKED = [
    Requirement(text)
    for text in PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["dev"]
]
PINS = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
TARGETS = [
    *("help", "setup", "test", "lint", "reproduce-table1", "architectures", "architectures-3d", "sweep", "ui", "bench"),
    *("docs", "clean"),
]


def pinned() -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in PINS)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy with the setuptools that is installed, without asking anybody."""
    place = tmp_path_factory.mktemp("build")
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, place / name, ignore=unwanted)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place / name)
    code = "from setuptools import build_meta; print(build_meta.build_wheel('made'))"
    (place / "made").mkdir()
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place / "made" / done.stdout.splitlines()[-1]


def test_the_wheel_carries_every_config_and_module(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"medseg/conf/{path.relative_to(ROOT / 'conf').as_posix()}" in inside
    for path in (ROOT / "src").rglob("*.py"):
        assert path.relative_to(ROOT / "src").as_posix() in inside
    assert not [name for name in inside if name.startswith(("conf/", "src/", "tests/"))]


def test_the_wheel_has_the_command_and_the_licence(wheel):
    archive = zipfile.ZipFile(wheel)
    (entry,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    assert "medseg = medseg.cli:main" in archive.read(entry).decode()
    (licence,) = [name for name in archive.namelist() if name.endswith("/LICENSE")]
    assert "Apache License" in archive.read(licence).decode()


def test_configs_are_found_in_an_unpacked_wheel(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import medseg, sys\n"
        "from medseg.commands.configuration import CONF\n"
        "print(medseg.__file__, CONF, (CONF / 'paths' / 'default.yaml').exists(), sep='\\n')"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    module, conf, there = done.stdout.splitlines()
    assert Path(module).parent == (tmp_path / "site" / "medseg")
    assert Path(conf) == (tmp_path / "site" / "medseg" / "conf").resolve()
    assert there == "True"


def test_configs_that_are_missing_are_said_to_be(tmp_path):
    from medseg.commands.configuration import CONF, find_conf
    from medseg.errors import ConfigError

    assert CONF == ROOT / "conf"
    with pytest.raises(ConfigError, match=r"no configs in .* install medseg again"):
        find_conf(tmp_path / "a" / "medseg" / "commands" / "configuration.py")


def test_constraints_are_exact_and_come_from_nowhere():
    assert len(PINS) > 100
    for line in PINS:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line), f"{line}: no URL, no local version, no range"
    names = [canonicalize_name(line.split("==")[0]) for line in PINS]
    assert names == sorted(names)
    assert canonicalize_name(PROJECT["project"]["name"]) not in pinned()


@pytest.mark.parametrize("requirement", ASKED, ids=lambda requirement: requirement.name)
def test_every_dependency_is_pinned_within_its_range(requirement):
    version = pinned()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version), f"{requirement.name}: {version} is outside {requirement.specifier}"


def test_what_is_installed_is_what_is_pinned():
    """Where the environment was made by ``make setup``; elsewhere a difference is somebody's choice."""
    if not (Path(sys.prefix) / ".installed").exists():
        pytest.skip("not an environment of `make setup`")
    from importlib.metadata import version

    assert {name: version(name) for name in ("torch", "lightning", "mlflow", "hydra-core")} == {
        name: pinned()[name] for name in ("torch", "lightning", "mlflow", "hydra-core")
    }


def test_the_malicious_releases_of_lightning_are_excluded():
    (lightning,) = [requirement for requirement in ASKED if requirement.name == "lightning"]
    assert not any(lightning.specifier.contains(version) for version in ("2.6.2", "2.6.3"))
    assert Version(pinned()["lightning"]) >= Version("2.6.6")


def test_supported_pythons():
    from packaging.specifiers import SpecifierSet

    supported = SpecifierSet(PROJECT["project"]["requires-python"])
    assert [minor for minor in range(9, 16) if f"3.{minor}" in supported] == [11, 12, 13]


def test_make_explains_itself():
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    described = re.findall(r"^  ([a-z0-9-]+) {2,}\S", done.stdout, re.MULTILINE)
    assert described == TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_can_be_planned(target):
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_make_names_the_remedy_when_python_does_not_fit(tmp_path):
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    done = subprocess.run(["make", "setup", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "medseg needs Python 3.11, 3.12 or 3.13 with venv; name one: make PYTHON=" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_make_passes_over_an_interpreter_that_is_too_old(tmp_path):
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3.12").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    for name in ("python3", "python3.12"):
        (tmp_path / name).chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    environment = {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    environment.pop("PYTHON", None)
    plan = subprocess.run(["make", "--dry-run", "setup"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert '"python3.12" -m venv .venv' in plan.stdout


def test_ci_builds_from_nothing():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")]).returncode == 0
    assert "set -euo pipefail" in script
    assert script.rstrip().endswith('make test ARGS="--slow -n 2"')
    assert "apt" not in script.split()


def test_the_licence_is_whole():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in text
    assert "END OF TERMS AND CONDITIONS" in text
