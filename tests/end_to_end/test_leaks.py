"""A split whose sides share a picture: refused, or trained with the label on every output; then repaired."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import pandas as pd
import pytest

from fakes import write_dataset
from medseg.cli import main
from medseg.data.splits import read_split
from medseg.runs import load_run
from medseg.tracking import find_runs

Command = Callable[..., int]
Runs = Callable[[], list[Path]]
LARGE = ("preprocess.size=[32,32]", "trainer.max_epochs=1", "data.batch_size=2")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Return a dataset in which a picture of one patient is the mirror image of another patient's in the next fold."""
    root = write_dataset(tmp_path / "set", patients=6, images_per_patient=1, folds=3, size=(120, 144))
    for kind in ("images", "masks"):
        picture = cv2.imread(str(root / kind / "p00_0.png"), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(root / kind / "p01_0.png"), cv2.flip(picture, 1))
    return root


def test_a_leaking_split_is_refused_by_name(medseg: Command, runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    assert medseg("train", *LARGE) == 2
    line = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("medseg: error: "))
    assert "1 leak(s)" in line
    assert "p00_0" in line and "p01_0" in line
    assert "audit.allow_leaks=true" in line
    assert runs() == []


def test_an_allowed_leak_is_written_on_every_output(medseg: Command, runs: Runs) -> None:
    assert medseg("train", *LARGE, "audit.allow_leaks=true") == 0
    (folder,) = runs()
    assert json.loads((folder / "audit.json").read_text())["verdict"] == "leaks"
    assert json.loads((folder / "run.json").read_text())["split"]["leaky"] is True
    assert read_split(folder / "split.json").leaky
    assert pd.read_csv(folder / "scores.csv")["leaky"].all()
    assert load_run(folder).data().split.leaky, "the run finds its own split again"
    assert medseg("evaluate", f"run={folder}", "trainer.enable_progress_bar=false") == 0


def test_the_groups_that_the_audit_found_repair_the_split(
    medseg: Command, runs: Runs, dataset: Path, tmp_path: Path
) -> None:
    where = ("data=folder", f"data.source.root={dataset}", "split=manifest_fold", "split.val_fraction=0.25")
    assert main(["data", "audit", *where]) == 0
    (groups,) = (tmp_path / "outputs" / "audit").glob("*/groups.csv")
    assert groups.read_text().split() == ["group,belongs_to", "p00,p00", "p01,p00"]
    assert medseg("train", *LARGE, "split=kfold", "split.folds=3", f"data.source.groups={groups}") == 0
    (folder,) = runs()
    assert json.loads((folder / "audit.json").read_text())["verdict"] == "clean"
    sides = read_split(folder / "split.json").sides
    assert any({"p00_0", "p01_0"} <= set(cases) for cases in sides.values())


def test_the_certificate_goes_to_mlflow_with_the_run(medseg: Command, runs: Runs, tmp_path: Path) -> None:
    assert medseg("train", *LARGE, "audit.allow_leaks=true", "tracking=mlflow") == 0
    stored = find_runs(f"sqlite:///{tmp_path / 'outputs' / 'mlflow.db'}")
    assert stored["tags.audit"].tolist() == ["leaks"]
    assert not [name for name in stored if "data.about" in name]
    (kept,) = (tmp_path / "outputs" / "mlartifacts").rglob("audit.json")
    (folder,) = runs()
    assert kept.read_bytes() == (folder / "audit.json").read_bytes()
