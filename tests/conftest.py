"""What every test finds: one thread, nothing that asks the network, composed configs, slow tests on request only."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from omegaconf import DictConfig

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "Agg",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "HF_HUB_OFFLINE": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}
for _name, _value in ENVIRONMENT.items():  # before torch, albumentations or mlflow are imported anywhere
    os.environ.setdefault(_name, _value)

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow") or "slow" in (config.getoption("-m") or ""):
        return
    skip = pytest.mark.skip(reason="slow: ask for it with --slow")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)


@pytest.fixture
def compose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Callable[..., DictConfig]":
    """Compose a root config with outputs in the test's own folder: ``compose("train", "net=unet")``."""
    from medseg.commands.configuration import compose as compose_config

    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path / "outputs"))

    def composed(config_name: str, *overrides: str, config_dir: Path | None = None) -> "DictConfig":
        return compose_config(config_name, overrides, config_dir=config_dir)

    return composed


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real datasets; without it the test is skipped and says what to set."""
    candidates: Sequence[Path] = [Path(os.environ["MEDSEG_DATA"])] if "MEDSEG_DATA" in os.environ else []
    for folder in (*candidates, ROOT.parent / "shared" / "data"):
        if folder.is_dir():
            return folder.resolve()
    pytest.skip("real datasets absent: set MEDSEG_DATA to the folder that holds them")
