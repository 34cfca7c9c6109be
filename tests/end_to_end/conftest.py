"""Runs of the real commands on tiny data, in this process."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes import write_dataset
from medseg.cli import main
from settings import TINY


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Return a folder with images, masks and manifest."""
    return write_dataset(tmp_path / "set", patients=9, images_per_patient=2, folds=3)


@pytest.fixture
def medseg(tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Return the command line with the tiny settings; ``medseg("train", "seed=1")`` gives the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    def run(verb: str, *overrides: str, tiny: bool = True) -> int:
        settings = (*TINY, f"data.source.root={dataset}") if verb == "train" and tiny else ()
        return main([verb, *settings, *overrides])

    return run


@pytest.fixture
def runs(tmp_path: Path) -> Callable[[], list[Path]]:
    """Return the folders of runs made so far."""
    return lambda: sorted(path.parent for path in (tmp_path / "outputs" / "runs").glob("*/*/run.json"))
