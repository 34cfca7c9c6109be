"""``medseg ensemble`` from trained runs to a folder that reads like a run's, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fakes import write_dataset
from medseg import ledger
from medseg.cli import main as medseg
from medseg.commands.ensemble import main
from medseg.commands.members import overrides_of
from medseg.data.splits import read_split
from medseg.errors import ConfigError, RunError
from medseg.stats.table import read_scores
from settings import TINY

Train = Callable[..., Path]
QUICK = "resamples=200"


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Train a network for a moment; returns its folder."""
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path / "outputs"))
    dataset = write_dataset(tmp_path / "set", patients=12, images_per_patient=2, folds=3)
    root = tmp_path / "outputs" / "runs"

    def train(*overrides: str) -> Path:
        before = set(root.glob("*/*"))
        assert (
            medseg(
                [
                    "train",
                    *TINY,
                    f"data.source.root={dataset}",
                    "trainer.max_epochs=10",
                    "optimizer.lr=0.02",
                    *overrides,
                ]
            )
            == 0
        )
        (made,) = set(root.glob("*/*")) - before
        return made

    return train


def test_folders_and_flags_become_overrides() -> None:
    assert overrides_of(["a/b", "weights=equal", "c d"]) == ["weights=equal", "runs=['a/b','c d']"]
    assert overrides_of(["--sweep", "2026-03-01_10-00"]) == ["sweep='2026-03-01_10-00'"]
    assert overrides_of(["--study=table1", "net=unet"]) == ["study='table1'", "option=unet"]
    assert overrides_of(["--cfg", "job", "x"]) == ["--cfg", "job", "runs=['x']"]
    assert overrides_of(["--help"]) == ["--help"]
    with pytest.raises(ConfigError, match="--sweep needs a value"):
        overrides_of(["--sweep"])


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ([], ConfigError, "give the folders of runs, or --sweep ID, or --study NAME"),
        (["x", "--study", "s"], ConfigError, "one of these only"),
        (["x", "weights=dice"], ConfigError, "weights=dice: choose one of equal, validation"),
        (["nowhere", "no'where"], RunError, r"nowhere: no run\.json there"),
        (["--study", "s", "net=unet"], RunError, "no run of study=s net=unet there"),
    ],
)
def test_what_names_no_runs_is_refused(
    arguments: list[str], kind: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path / "outputs"))
    with pytest.raises(kind, match=message):
        main(arguments)


@pytest.mark.slow
def test_seeds_of_one_split_become_a_run_of_their_own(
    trained: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Another size of the network's grid: members meet on the native one.
    runs = [
        trained("seed=0"),
        trained("seed=1", "split.seed=0"),
        trained("seed=2", "split.seed=0", "preprocess.size=[40,24]"),
    ]
    main([*map(str, runs), "name=three", QUICK])
    folder = tmp_path / "outputs" / "ensembles" / "three"
    record = json.loads((folder / "run.json").read_text())
    scores = read_scores(folder / "scores.csv")
    assert (folder / "DONE").exists()
    assert record["choices"]["net"] == "unet ensemble of 3"
    assert [one["weight"] for one in record["ensemble"]["members"]] == pytest.approx([1 / 3] * 3)
    assert record["summary"]["test/dice"] == pytest.approx(scores["dice"].mean())
    assert set(scores["case"]) == set(read_scores(runs[0] / "scores.csv")["case"])
    assert read_split(folder / "split.json").sides["test"] == read_split(runs[0] / "split.json").sides["test"]
    disagreement = pd.read_csv(folder / "disagreement.csv")
    assert disagreement["pairwise_dice"].between(0, 1).all()
    assert disagreement["pairwise_dice"].nunique() > 1
    merged = disagreement.merge(scores, on=["case", "class_index"])
    assert len(merged) == len(scores)
    assert np.allclose(merged["ensemble_dice"], merged["dice"])
    members = pd.read_csv(folder / "members.csv")
    for run in runs:
        mean = read_scores(run / "scores.csv").groupby("patient")["dice"].mean().mean()
        name = json.loads((run / "run.json").read_text())["name"]
        assert np.isclose(members.loc[members["row"] == name, "value"], mean, atol=1e-8).any()
    from medseg.commands.compared_runs import as_trainings, read_runs

    trainings = as_trainings(read_runs([folder, *runs[:2]]))
    assert [training.method for training in trainings] == [
        "unet ensemble of 3",
        trainings[1].method,
        trainings[1].method,
    ]
    for name in (
        "overlays.png",
        "reliability.csv",
        "cases.csv",
        "members.md",
        "versions.json",
        "config.yaml",
        "ensemble.yaml",
    ):
        assert (folder / name).stat().st_size > 100
    entries = ledger.read(ledger.path_in(tmp_path / "outputs"))
    assert len(next(entry for entry in entries if entry["action"] == "ensemble")["runs"]) == 3
    assert "gain of the ensemble" in " ".join(capsys.readouterr().out.split())

    main([str(runs[0]), str(runs[1]), "name=weighed", "weights=validation", QUICK])
    weighed = json.loads((folder.with_name("weighed") / "run.json").read_text())["ensemble"]["members"]
    weights = [one["weight"] for one in weighed]
    assert sum(weights) == pytest.approx(1)
    assert weights[0] != weights[1]

    copy = tmp_path / "copy"
    shutil.copytree(runs[0], copy)
    with pytest.raises(RunError, match="once more"):
        main([str(runs[0]), str(copy)])
    (copy / "DONE").unlink()
    with pytest.raises(RunError, match="the run is not finished"):
        main([str(runs[1]), str(copy)])


@pytest.mark.slow
def test_folds_are_refused_before_anything_is_predicted_and_a_study_is_found(trained: Train, tmp_path: Path) -> None:
    for fold in (0, 1):
        trained("study=s", f"split.test_fold={fold}", "trainer.max_epochs=1")
    with pytest.raises(RunError, match=r"has learnt from \d+ of the 8 test cases of .*p\d\d_\d"):
        main(["--study", "s", "net=unet"])
    assert not (tmp_path / "outputs" / "ensembles").exists()
    assert all(entry["action"] != "ensemble" for entry in ledger.read(ledger.path_in(tmp_path / "outputs")))
