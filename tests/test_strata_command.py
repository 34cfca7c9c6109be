"""``medseg strata``: from a run's folder to its tables, never on a side that chose, every look noted."""

import json
from pathlib import Path

import pandas as pd
import pytest

from fake_runs import fake_cell, fake_run
from fakes import write_dataset
from medseg import ledger
from medseg.cli import VERBS, main
from medseg.data.cases import Case
from medseg.data.splits import Split
from medseg.stats.case_table import case_table, write_case_table
from medseg.stats.table import read_scores, write_scores
from settings import TINY


@pytest.fixture(autouse=True)
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path))
    for verb in ("strata", "ledger"):
        monkeypatch.setitem(VERBS, verb, "")
    return tmp_path


@pytest.fixture
def run(outputs: Path) -> Path:
    """A finished run of 30 patients with its split, half of its cases benign."""
    folder = fake_run(outputs, fake_cell("unet"), missed=0.3)
    frame = read_scores(folder / "scores.csv").drop_duplicates("case")
    Split("ratio", 0, False, {"train": ("t",), "val": ("v",), "test": tuple(frame["case"])}).write(
        folder / "split.json"
    )
    cases = [
        Case(row.case, row.patient, (None,), attributes={"label": "benign" if place % 2 else "", "width": "64"})
        for place, row in enumerate(frame.itertuples())
    ]
    write_case_table(case_table(cases), folder / "cases.csv")
    return folder


def test_the_tables_of_a_run_are_written_printed_and_noted(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["strata", f"run={run}", "count=5"]) == 0
    shown = capsys.readouterr().out
    text = (run / "strata" / "strata.md").read_text()
    for title in ("By size", "By lesions", "What went wrong", "Worst cases"):
        assert f"## {title}" in text
        assert title in shown
    assert "By label" not in text, "one stated value divides nothing"
    assert "SYNTHETIC." in text
    assert "No picture of the worst cases" in shown
    worst = pd.read_csv(run / "strata" / "worst.csv")
    frame = read_scores(run / "scores.csv")
    assert worst["dice"].tolist() == pytest.approx(sorted(frame["dice"])[:5])
    assert len(pd.read_csv(run / "strata" / "failures.csv")) == len(frame)
    assert "\\begin{table}" in (run / "strata" / "strata.tex").read_text()
    numbers = pd.read_csv(run / "strata" / "strata.csv")
    sizes = numbers[(numbers["panel"] == "strata_size") & (numbers["column"] == "cases")]
    assert sizes["value"].sum() == len(frame)
    (entry,) = ledger.read(ledger.path_in(run.parents[2]))
    assert (entry["action"], entry["side"], entry["runs"]) == ("strata", "test", ["0123456789"])


def test_what_divides_can_be_named(run: Path) -> None:
    assert main(["strata", f"run={run}", "by=label,size", "thresholds=250,300"]) == 0
    text = (run / "strata" / "strata.md").read_text()
    assert "| benign | 30 | 30 |" in text
    assert "| not stated | 30 | 30 |" in text
    assert "250 to \\< 300" in text
    assert "By lesions" not in text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("by=tirads", "'tirads' divides nothing here; choose from size, lesions, domain, label, width"),
        ("count=0", "count=0"),
        ("thresholds=9,3", "must increase"),
        ("rules.dice=2", "taxonomy: dice=2.0"),
        ("rules.nsd=2", "nsd"),
        ("evaluation=busi-test", "no scores.csv there"),
        ("run=nowhere", "no run.json there"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    run: Path, override: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["strata", f"run={run}", override]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def on_validation(run: Path) -> None:
    """Put the run's scores to the side that chose its weights."""
    frame = read_scores(run / "scores.csv").assign(split_side="val")
    write_scores(frame, run / "scores.csv")
    sides = {"train": ("t",), "val": tuple(frame["case"].unique()), "test": ("x",)}
    Split("ratio", 0, False, sides).write(run / "split.json")


def test_the_side_that_chose_is_refused_and_labelled_where_it_is_allowed(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on_validation(run)
    assert main(["strata", f"run={run}"]) == 2
    assert "allow_selection_side=true" in capsys.readouterr().err
    assert not (run / "strata").exists()
    assert ledger.read(ledger.path_in(run.parents[2])) == []
    assert main(["strata", f"run={run}", "allow_selection_side=true"]) == 0
    text = (run / "strata" / "strata.md").read_text()
    assert text.count("SELECTION SIDE.") == text.count("## ")
    assert ledger.read(ledger.path_in(run.parents[2]))[0]["side"] == "val"


def test_another_dataset_is_no_side_of_the_run(run: Path) -> None:
    folder = run / "evaluations" / "busi-test"
    folder.mkdir(parents=True)
    frame = read_scores(run / "scores.csv")
    write_scores(frame.assign(case="busi_" + frame["case"]), folder / "scores.csv")
    assert main(["strata", f"run={run}", "evaluation=busi-test"]) == 0
    (entry,) = ledger.read(ledger.path_in(run.parents[2]))
    assert entry["dataset"] == ["busi-test"]
    same = Split("test_only", 0, False, {"train": (), "val": (), "test": tuple(sorted("busi_" + frame["case"]))})
    assert entry["split"] == [same.hash]
    assert "SYNTHETIC" not in (folder / "strata" / "strata.md").read_text()


def test_a_table_of_other_cases_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (run / "cases.csv").read_text().splitlines()
    (run / "cases.csv").write_text("\n".join(text[:-1]) + "\n")
    assert main(["strata", f"run={run}"]) == 2
    assert "is missing (1 in all)" in capsys.readouterr().err


def test_without_a_case_table_the_rest_is_there(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "cases.csv").unlink()
    assert main(["strata", f"run={run}"]) == 0
    assert "No cases.csv beside the scores" in capsys.readouterr().out


def test_runs_remember_lines_that_are_gone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads((run / "run.json").read_text())
    anchor = {"line": 7, "sha256": "0" * 64}
    (run / "run.json").write_text(json.dumps({**record, "ledger": anchor}))
    assert main(["ledger"]) == 0
    assert f"{run}: its record remembers a line that is not in this ledger" in capsys.readouterr().out


@pytest.mark.slow
def test_the_worst_cases_of_a_trained_run_are_drawn(outputs: Path, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "set", patients=9, images_per_patient=2, folds=3)
    assert main(["train", *TINY, f"data.source.root={dataset}", "trainer.max_epochs=1"]) == 0
    (folder,) = (outputs / "runs" / "single").iterdir()
    assert main(["strata", f"run={folder}", "count=2"]) == 0
    assert (folder / "strata" / "worst.png").stat().st_size > 5000
