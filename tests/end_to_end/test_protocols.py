"""Published protocols beside the project's own scores, and tables of an older version renewed, by the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from medseg.metrics.legacy import trfe, trfe_means
from medseg.runs import load_run
from medseg.stats.aggregate import headline
from medseg.stats.reliability import read_reliability
from medseg.stats.table import read_scores

Command = Callable[..., int]
Runs = Callable[[], list[Path]]


def test_evaluate_prints_published_protocols_and_renews_old_tables(
    medseg: Command, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medseg("train", "trainer.max_epochs=1") == 0
    (folder,) = runs()
    scores, bins = read_scores(folder / "scores.csv"), read_reliability(folder / "reliability.csv")
    assert scores["ece"].between(0, 1).all()
    pixels = bins.groupby("case")["n"].sum().to_dict()
    assert pixels == scores.set_index("case")[["tp", "fp", "fn", "tn"]].sum(axis=1).to_dict()
    summary = json.loads((folder / "run.json").read_text())["summary"]
    assert set(summary) == {f"test/{name}" for name in headline(scores)}

    capsys.readouterr()
    assert medseg("evaluate", f"run={folder}", "protocol=trfe") == 0
    assert "as the published protocol would print it" in capsys.readouterr().out
    below = folder / "evaluations" / "folder-test"
    assert [path.name for path in below.iterdir()] == ["legacy_trfe.csv"]  # the stored predictions were read
    found = pd.read_csv(below / "legacy_trfe.csv").set_index("score")["value"].to_dict()
    data = load_run(folder).data()
    pairs = [(data.load_prediction(folder / "predictions", case.id), data.read(case)[1]) for case in data.cases("test")]
    assert found == pytest.approx(trfe_means([trfe(*pair) for pair in pairs]), nan_ok=True)

    before = (folder / "scores.csv").read_bytes()
    old = "case,patient,domain,split_side,leaky,class_index,class_name,hd,hd95_directed_voxel,assd\n"
    (folder / "scores.csv").write_text(old)
    assert medseg("evaluate", f"run={folder}", "trainer.enable_progress_bar=false") == 0
    assert "is renewed" in capsys.readouterr().out
    assert (folder / "scores.csv").read_bytes() == before == (below / "scores.csv").read_bytes()
    assert json.loads((folder / "run.json").read_text())["summary"] == pytest.approx(summary, nan_ok=True)

    assert medseg("evaluate", f"run={folder}", "protocol=coco") != 0
    assert "choose one of contract, trfe, seed004" in capsys.readouterr().err
