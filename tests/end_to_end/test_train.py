"""Train, evaluate, predict, resume, sweep: through the command line, down to the files."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from fakes import write_dataset
from medseg.data.splits import read_split
from medseg.journal import read_journal
from medseg.runs import load_run
from medseg.stats.table import read_scores
from settings import TINY, TWINS

Command = Callable[..., int]
Runs = Callable[[], list[Path]]


def test_a_run_leaves_everything_a_table_needs(medseg: Command, runs: Runs, dataset: Path) -> None:
    assert medseg("train") == 0
    (folder,) = runs()
    names = (
        "config.yaml run.json versions.json split.json metrics.jsonl weights.pt scores.csv overlays.png curves.png DONE"
    )
    assert [name for name in names.split() if not (folder / name).is_file()] == []
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["epochs"] == 2
    assert record["model"]["gflops"] > 0
    assert record["cost"]["peak_memory_mb"] > 0
    assert record["split"]["hash"] == read_split(folder / "split.json").hash
    scores = read_scores(folder / "scores.csv")
    test_side = read_split(folder / "split.json").sides["test"]
    assert sorted(scores["case"]) == sorted(test_side)
    assert record["summary"]["test/dice"] == pytest.approx(scores["dice"].mean(), abs=1e-9)
    # Native pixels: the fake images have 40 or 44 rows of 48.
    assert set(scores[["tp", "fp", "fn", "tn"]].sum(axis=1)) <= {40 * 48, 44 * 48}
    for case in test_side:
        mask = cv2.imread(str(folder / "predictions" / f"{case}.png"), cv2.IMREAD_UNCHANGED)
        assert set(np.unique(mask)) <= {0, 255}
        row = scores[scores["case"] == case].iloc[0]
        assert (mask > 0).sum() == row["prediction_size"]


def test_evaluate_repeats_the_scores_of_the_run_exactly(medseg: Command, runs: Runs) -> None:
    assert medseg("train") == 0
    (folder,) = runs()
    assert medseg("evaluate", f"run={folder}", "trainer.enable_progress_bar=false") == 0
    again = folder / "evaluations" / "folder-test" / "scores.csv"
    assert again.read_bytes() == (folder / "scores.csv").read_bytes()


def test_a_trained_network_is_pruned_to_a_head_and_scored(
    medseg: Command, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medseg("train", "net=unetpp", "net.widths=[4,8,16]", "loss=nnunet") == 0
    (folder,) = runs()
    before = (folder / "scores.csv").read_bytes()
    for level in (1, 2):
        assert medseg("evaluate", f"run={folder}", f"prune={level}") == 0
    tables = [read_scores(folder / "evaluations" / f"folder-test-L{level}" / "scores.csv") for level in (1, 2)]
    assert list(tables[0]["case"]) == list(tables[1]["case"]) == list(read_scores(folder / "scores.csv")["case"])
    assert not tables[0]["tp"].equals(tables[1]["tp"])
    assert (folder / "scores.csv").read_bytes() == before
    capsys.readouterr()
    assert medseg("evaluate", f"run={folder}", "prune=3") == 2
    assert "UNetPlusPlus has no head 3 to prune to; choose one of 1, 2" in capsys.readouterr().err


def test_one_head_cannot_be_pruned_to(medseg: Command, runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    assert medseg("train") == 0
    (folder,) = runs()
    assert medseg("evaluate", f"run={folder}", "prune=1") == 2
    assert "prune=1: UNet of" in capsys.readouterr().err


def test_a_run_loads_without_the_file_that_its_encoder_started_from(
    medseg: Command, runs: Runs, tmp_path: Path, dataset: Path
) -> None:
    import torch

    from medseg.nets.smp import SmpNet

    tiny = [setting for setting in TINY if not setting.startswith("net.")]
    small = ("net=smp_unet", "net.encoder_name=mobilenet_v2", "+net.options.decoder_channels=[8,8,8,8,8]")
    encoder = SmpNet(architecture="Unet", encoder_name="mobilenet_v2", in_channels=1, num_classes=2).model.encoder
    torch.save(encoder.state_dict(), tmp_path / "start.pt")
    start = f"net.encoder_weights={tmp_path / 'start.pt'}"
    assert medseg("train", *tiny, f"data.source.root={dataset}", *small, start, tiny=False) == 0
    (folder,) = runs()
    (tmp_path / "start.pt").unlink()
    assert medseg("evaluate", f"run={folder}") == 0


def test_evaluate_on_another_dataset_scores_every_case(medseg: Command, runs: Runs, tmp_path: Path) -> None:
    assert medseg("train") == 0
    (folder,) = runs()
    other = write_dataset(tmp_path / "other", patients=4, images_per_patient=1)
    assert medseg("evaluate", f"run={folder}", "data=folder", f"data.source.root={other}") == 0
    (scores,) = (folder / "evaluations").glob("*/scores.csv")
    assert len(pd.read_csv(scores)) == 4


def test_predict_writes_what_the_run_predicted(medseg: Command, runs: Runs, dataset: Path, tmp_path: Path) -> None:
    assert medseg("train") == 0
    (folder,) = runs()
    assert medseg("predict", f"run={folder}", f"input={dataset / 'images'}", f"output={tmp_path / 'masks'}") == 0
    assert len(list((tmp_path / "masks").glob("*.png"))) == 18
    for saved in (folder / "predictions").glob("*.png"):
        assert np.array_equal(cv2.imread(str(saved), 0), cv2.imread(str(tmp_path / "masks" / saved.name), 0))


def test_a_finished_run_is_reused_and_a_started_one_continued(medseg: Command, runs: Runs) -> None:
    assert medseg("train", "resume=true") == 0
    (folder,) = runs()
    before = (folder / "weights.pt").read_bytes()
    made = (folder / "weights.pt").stat().st_mtime_ns
    assert medseg("train", "resume=true") == 0
    assert runs() == [folder]
    assert (folder / "weights.pt").stat().st_mtime_ns == made
    # As after a kill between the last epoch and the end.
    for name in ("DONE", "weights.pt", "scores.csv"):
        (folder / name).unlink()
    record = json.loads((folder / "run.json").read_text())
    del record["cost"]
    (folder / "run.json").write_text(json.dumps(record))
    assert medseg("train", "resume=true") == 0
    assert (folder / "DONE").exists()
    rows = read_journal(folder / "metrics.jsonl")
    assert [row["epoch"] for row in rows] == [0, 1]
    # What the first start spent counts, though it was never written down as a cost.
    spent = sum(row["metrics"]["system/epoch_seconds"] for row in rows)
    assert json.loads((folder / "run.json").read_text())["cost"]["fit_seconds"] > spent
    assert (folder / "weights.pt").read_bytes() == before


def test_without_resume_every_start_is_a_run_of_its_own(medseg: Command, runs: Runs) -> None:
    assert medseg("train") == 0
    assert medseg("train") == 0
    assert len(runs()) == 2


def test_a_sweep_goes_on_after_a_failed_job(medseg: Command, runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    assert medseg("train", "-m", "net.widths=[4,8],[0,8]", "seed=1,2") == 2
    records = [json.loads((folder / "run.json").read_text()) for folder in runs()]
    finished = [record for record in records if record["status"] == "finished"]
    assert sorted(record["seed"] for record in finished) == [1, 2]
    assert len({record["sweep"] for record in finished}) == 1
    assert finished[0]["sweep"]
    assert "2 of 4 jobs failed" in capsys.readouterr().err


def test_a_run_can_be_loaded_and_is_refused_when_its_data_changed(medseg: Command, runs: Runs, dataset: Path) -> None:
    from medseg.errors import RunError

    assert medseg("train") == 0
    (folder,) = runs()
    run = load_run(folder)
    assert not run.net.training
    assert len(run.data().cases("test")) == 6
    mask = next((dataset / "masks").glob("*.png"))
    cv2.imwrite(str(mask), 255 - cv2.imread(str(mask), 0))
    with pytest.raises(RunError, match="dataset is not the one the run was made with"):
        run.data()


def test_leaky_twins_are_labelled_in_every_output(medseg: Command, runs: Runs) -> None:
    assert train_twins(medseg, "twins_leaky") == 0
    assert train_twins(medseg, "twins_grouped") == 0
    leaky = {json.loads((f / "run.json").read_text())["split"]["name"]: f for f in runs()}
    assert set(leaky) == {"twins_leaky", "twins_grouped"}
    for name, folder in leaky.items():
        scores = read_scores(folder / "scores.csv")
        assert set(scores["leaky"]) == {int(name == "twins_leaky")}
        assert any(case.endswith("__twin") for case in scores["case"])
        assert json.loads((folder / "run.json").read_text())["split"]["leaky"] is (name == "twins_leaky")
        assert name in folder.name


def train_twins(medseg: Command, split: str) -> int:
    return medseg("train", *TWINS, f"split={split}", tiny=False)
