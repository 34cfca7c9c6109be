"""``medseg ensemble`` from trained runs to a folder that reads like a run's, and what it refuses."""

import itertools
import json
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from fake_runs import fake_run
from fakes import write_dataset
from medseg import ledger
from medseg.cli import main as medseg
from medseg.commands.ensemble import main
from medseg.commands.members import Divided, Named, divided
from medseg.data.splits import Split, read_split
from medseg.errors import ConfigError, RunError
from medseg.evaluation.ensemble import Member
from medseg.report.cells import Plan, PlannedCell, write_plan
from medseg.stats.table import read_scores
from settings import TINY

Train = Callable[..., Path]
QUICK = "resamples=200"
ROOT = Path(__file__).parents[1]


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


def test_runs_settings_and_flags_are_told_apart() -> None:
    given = divided(["a/b", "weights=equal", "c d"], "ensemble")
    assert (given.named, given.overrides) == (Named(("a/b", "c d")), ["weights=equal"])
    given = divided(["--sweep", "2026-03-01_10-00", "paths.outputs=o", "hydra.verbose=true"], "ensemble")
    assert given.named == Named(groups={"--sweep": "2026-03-01_10-00"})
    assert given.overrides == ["paths.outputs=o", "hydra.verbose=true"]
    given = divided(["--study=table1", "net=unet,vnet", "net.widths=[4,8]", "metric=iou", "optimizer.lr=1"], "ensemble")
    chosen = {"net": ("unet", "vnet"), "net.widths": ("[4,8]",), "optimizer.lr": ("1",)}
    assert (given.named.chosen, given.overrides) == (chosen, ["metric=iou"])
    assert divided(["--cfg", "job", "x"], "ensemble") == Divided(Named(("x",)), [], ["--cfg", "job"])
    assert divided(["x", "net=unet"], "ensemble").overrides == ["net=unet"]
    assert divided(["--help"], "ensemble").flags == ["--help"]
    with pytest.raises(ConfigError, match="--sweep needs a value; see medseg ensemble --help"):
        divided(["--sweep"], "ensemble")


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ([], ConfigError, "medseg ensemble needs one of: run folders, --sweep ID, --study NAME"),
        (["x", "--study", "s"], ConfigError, "needs one of"),
        (["x", "weights=dice"], ConfigError, "weights=dice: choose one of equal, validation"),
        (["x", "net=unet"], ConfigError, "net"),
        (["nowhere", "no'where"], RunError, "nowhere: no run there"),
        (["a" * 32], RunError, "MLflow's ids need MLflow"),
        (["--sweep", "s", "net=unet"], RunError, "no runs there"),
        (["--study", "s", "net=unet"], RunError, "run the study once: medseg study study=s"),
    ],
)
def test_what_names_no_runs_is_refused(
    arguments: list[str], kind: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path / "outputs"))
    with pytest.raises(kind, match=message):
        main(arguments)


def nested_runs(outputs: Path) -> list[PlannedCell]:
    """Finished runs of two outer folds, and beside them one that an older config left in the study's folder."""
    cells = []
    for net, lr, fold, inner in itertools.product(("unet", "attention_unet"), ("0.001", "0.003"), "01", "01"):
        chosen = {"net": net, "split": "nested_kfold", "seed": "0", "optimizer.lr": lr}
        chosen |= {"split.fold": fold, "split.inner_fold": inner, "panel": "candidates"}
        name = "-".join((net, lr, fold, inner))
        cells.append(PlannedCell(name, "candidates", "", chosen, f"runs/nested_cv/{name}"))
    stale = replace(cells[4], folder="runs/nested_cv/stale")
    for cell in (*cells, stale):
        folder = fake_run(outputs, cell, patients=2)
        record = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({**record, "study": "nested_cv", "key": folder.name}))
        Split("nested", 0, False, {"train": ("a",), "val": ("b",), "test": ("c",)}).write(folder / "split.json")
    write_plan(outputs / "nested_cv" / "cells.json", Plan("nested_cv", "quick", "phantom", (0,), (), tuple(cells)))
    return cells


def test_the_line_of_the_nested_study_means_the_inner_models_of_one_outer_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (ROOT / "experiments" / "nested_cv" / "README.md").read_text(encoding="utf-8")
    (line,) = [text for text in readme.splitlines() if text.startswith("medseg ensemble ")]
    arguments = shlex.split(line, comments=True)[2:]
    cells, seen = nested_runs(tmp_path / "outputs"), []
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path / "outputs"))

    def looked_at(members: Sequence[Member]) -> None:
        seen.extend(member.folder.name for member in members)
        raise RunError("seen")

    monkeypatch.setattr("medseg.evaluation.ensemble.check_members", looked_at)
    with pytest.raises(RunError, match="seen"):
        main(arguments)
    assert seen == ["unet-0.003-0-0", "unet-0.003-0-1"]
    (tmp_path / "outputs" / cells[0].folder / "DONE").unlink()  # of another candidate
    with pytest.raises(RunError, match="seen"):
        main(arguments)
    for changed, message in (
        ("split.fold=7", "no run with split.fold=7; split.fold is 0, 1 there"),
        ("preset=full", "no run with preset=full; no run there has a setting preset"),
        ("net=attention_unet,vnet", "no run with net=vnet"),
    ):
        with pytest.raises(ConfigError, match=message):
            main([*arguments, changed])
    (tmp_path / "outputs" / cells[4].folder / "DONE").unlink()
    with pytest.raises(RunError, match=r"study nested_cv: 1 of 2 cells are not finished \(first: unet-0.003-0-0\)"):
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
    assert yaml.safe_load((folder / "ensemble.yaml").read_text())["runs"] == list(map(str, runs))
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
    cells = []
    for fold in (0, 1):
        folder = trained("study=s", f"split.test_fold={fold}", "trainer.max_epochs=1")
        place = folder.relative_to(tmp_path / "outputs").as_posix()
        cells.append(PlannedCell(str(fold), "A", "", {"net": "unet"}, place))
    write_plan(tmp_path / "outputs" / "s" / "cells.json", Plan("s", "quick", "set", (0,), (), tuple(cells)))
    with pytest.raises(RunError, match=r"has learnt from \d+ of the 8 test cases of .*p\d\d_\d"):
        main(["--study", "s", "net=unet"])
    assert not (tmp_path / "outputs" / "ensembles").exists()
    assert all(entry["action"] != "ensemble" for entry in ledger.read(ledger.path_in(tmp_path / "outputs")))
