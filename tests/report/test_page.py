"""The page of a study and of a comparison, made from run folders that are known in advance."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from omegaconf import OmegaConf
from page_reader import noise, read

from fake_runs import LABELS, STUDY, fake_cell, fake_plan, fake_run
from medseg import ledger
from medseg.commands import report
from medseg.commands.page import comparison_page, power_of, study_page
from medseg.commands.page_runs import method_of
from medseg.commands.study_runs import compared_arm, study_runs
from medseg.errors import ConfigError
from medseg.report.cells import Plan, PlannedCell, load
from medseg.report.html import plates, write
from medseg.report.html.arrays import patient_matrix, patients_by_seed, reliability, sizes
from medseg.report.html.blocks import Page
from medseg.report.html.energy import Power
from medseg.report.html.material import Arm, Material, Trained
from medseg.report.tables import Cell, Table
from medseg.stats.table import read_scores, write_scores
from medseg.studies.file import read_study

EVIL = "<script>alert(1)</script>"
BUDGET = 6_000_000


def config(outputs: Path) -> object:
    return OmegaConf.create(
        {"paths": {"outputs": str(outputs)}, "tracking": {"_target_": "medseg.tracking.CsvTracker"}}
    )


def finished(outputs: Path, cell: PlannedCell, *, patients: int = 8, missed: float = 0.2, evil: bool = False) -> Path:
    """Return a run with everything that a page shows."""
    folder = fake_run(outputs, cell, patients=patients, images=1, missed=missed)
    settings = {"seed": int(cell.choices["seed"]), "net": {"name": cell.choices["net"]}, "optimizer": {"lr": 0.001}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    row = {"epoch": 0, "step": 1, "time": 1.0, "metrics": {"val/dice": 0.5, "train/loss": 1.0}}
    lines = [json.dumps({**row, "epoch": epoch, "metrics": {"val/dice": 0.5 + epoch / 10}}) for epoch in range(3)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    scores = read_scores(folder / "scores.csv")
    if evil:
        scores["case"] = [EVIL + name for name in scores["case"]]
        write_scores(scores, folder / "scores.csv")
    bins = [(case, 1, place, 10, 10 * (place + 0.5) / 15, place // 2) for case in scores["case"] for place in range(15)]
    columns = ["case", "class_index", "bin", "n", "probability_sum", "positives"]
    pd.DataFrame(bins, columns=columns).to_csv(folder / "reliability.csv", index=False)
    return folder


def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the drawing out, which has tests of its own."""
    monkeypatch.setattr(write, "draw_arm", lambda arm, folder: plates.Plates())


def study_of(outputs: Path, plan: Plan) -> tuple[dict[str, Path], str]:
    table = Table("A", "Panel", (Cell("Model"), Cell("Dice")), ((Cell("U-Net"), Cell("0.8", 0.8)),))
    files = study_page(study_runs(read_study(STUDY), plan, outputs), [table], config(outputs))
    return files, files["html"].read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_study_of_five_runs_has_a_whole_page_within_its_budget(tmp_path: Path) -> None:
    cells = [fake_cell(net, seed=seed) for net in ("unet", "dmunet") for seed in (0, 1)] + [fake_cell("threshold")]
    for cell in cells:
        folder = finished(tmp_path, cell, missed=0.1 if cell.choices["net"] == "unet" else 0.3, evil=True)
        shutil.copy(noise(tmp_path / "noise.png"), folder / "overlays.png")
    (tmp_path / cells[0].folder / "model_card.md").write_text("card", encoding="utf-8")
    files, text = study_of(tmp_path, fake_plan(cells, seeds=(0, 1)))
    assert files["html"].stat().st_size < BUDGET
    reader = read(text)
    assert "<script>alert" not in text
    assert EVIL in reader.text
    assert {"plots", "overlays", "strata", "published", "provenance", "cost", "ledger"} <= set(reader.ids)
    assert {"methods.png", "methods.svg", "differences.png", "seeds.svg", "calibration.png"} <= set(files)
    assert all(path.is_file() for path in files.values())
    assert "../runs/table1/A-unet-ratio-s0/model_card.md" in reader.links
    assert "SYNTHETIC" in reader.text
    assert "fewer seeds: Threshold of the whole image" in reader.text
    before = {name: path.read_bytes() for name, path in files.items()}
    again, _ = study_of(tmp_path, fake_plan(cells, seeds=(0, 1)))
    assert {name: path.read_bytes() for name, path in again.items()} == before


def test_a_case_called_like_a_script_stays_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_plots(monkeypatch)
    finished(tmp_path, fake_cell("unet"), evil=True)
    _, text = study_of(tmp_path, fake_plan([fake_cell("unet")]))
    assert EVIL in read(text).text
    assert "<script>alert" not in text


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_plots(monkeypatch)
    cells = [fake_cell("unet"), fake_cell("dmunet"), fake_cell("mgunet")]
    fake_run(tmp_path, cells[0], patients=4, images=1)
    fake_run(tmp_path, cells[1], status="failed")
    _, text = study_of(tmp_path, fake_plan(cells))
    said = read(text).text
    assert "A net=dmunet seed=0: failed" in said
    assert "A net=mgunet seed=0: missing" in said
    assert "no claim. Not compared: nothing to compare: only 'U-Net'" in said
    assert "No config.yaml: A-unet-ratio-s0." in said
    assert "No picture of cases: A-unet-ratio-s0." in said
    assert "medseg card run=FOLDER" in said
    assert "none noted" in said  # the ledger


def test_a_study_without_a_run_has_a_page_that_says_so(tmp_path: Path) -> None:
    files, text = study_of(tmp_path, fake_plan([fake_cell("unet")]))
    said = read(text).text
    assert list(files) == ["html"]
    assert "A net=unet seed=0: missing" in said
    assert "No run has finished." in said


def test_panels_are_compared_apart_and_a_leak_marks_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[Page] = []
    arms: list[Arm] = []
    monkeypatch.setattr(write, "draw_arm", lambda arm, folder: (arms.append(arm), plates.Plates())[1])
    monkeypatch.setattr(write, "render", lambda page: (pages.append(page), "")[1])
    cells = [fake_cell("unet"), fake_cell("dmunet"), fake_cell("unet", panel="B", split="twins_leaky")]
    for cell in cells:
        finished(tmp_path, cell, missed=0.1 if cell.choices["net"] == "unet" else 0.3)
    study_of(tmp_path, fake_plan(cells))
    assert pages[0].flags == ("SYNTHETIC", "LEAKY SPLIT")
    assert [(arm.name, arm.flags) for arm in arms] == [
        ("A", ("SYNTHETIC", "ONE SEED")),
        ("B", ("SYNTHETIC", "LEAKY SPLIT")),
    ]
    assert arms[0].comparison is not None
    assert arms[1].comparison is None


def test_runs_on_other_patients_are_shown_and_not_compared(tmp_path: Path) -> None:
    results = []
    for net, patients in (("unet", 8), ("dmunet", 9)):
        cell = fake_cell(net)
        folder = finished(tmp_path, cell, patients=patients)
        scores = read_scores(folder / "scores.csv")
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        results.append(Trained(folder.name, net, 0, record, {}, scores))
    arm = compared_arm("", results)
    assert arm.comparison is None
    assert arm.refusal.startswith("Not compared: ")
    assert list(arm.methods) == ["unet", "dmunet"]


def trained(values: dict[str, float], *, method: str = "a", seed: int = 0, **other: object) -> Trained:
    """Return a run with one case of each patient."""
    scores = pd.DataFrame(
        {
            "case": [f"{patient}_0" for patient in values],
            "patient": list(values),
            "dice": list(values.values()),
            "reference_size": 100,
            "prediction_size": 90,
            "unit": "mm",
            "ece": 0.1,
        }
    )
    record = {"data": {"synthetic": False}, "split": {"leaky": False}, "model": {}, "cost": {}}
    return Trained(f"{method}-{seed}", method, seed, record, {}, scores, **other)


def test_folds_of_a_seed_are_one_test_of_every_patient() -> None:
    runs = (
        *(trained({"p1": 0.8, "p2": 0.6}), trained({"p3": 0.4})),
        *(trained({"p1": 0.6, "p2": 0.6}, seed=1), trained({"p3": 0.8}, seed=1)),
        trained({"p2": 1.0}, method="b"),
    )
    tables = patients_by_seed(Arm("", runs))
    assert tables["a"].shape == (2, 3)
    np.testing.assert_allclose(patient_matrix(tables), [[0.7, 0.6, 0.6], [np.nan, 1.0, np.nan]])


def test_sizes_are_areas_only_where_every_spacing_is_known() -> None:
    values = {"p1": 0.8, "p2": 0.6}
    known = pd.DataFrame({"case": ["p1_0", "p2_0"], "patient": ["p1", "p2"], "spacing": ["0.1x0.2", "0.5x0.5"]})
    measured, scored, unit = sizes([trained(values, cases=known), trained(values, seed=1, cases=known)])
    assert unit == "mm2"
    np.testing.assert_allclose(measured.reference, [2, 25])
    np.testing.assert_allclose(measured.prediction, [1.8, 22.5])
    np.testing.assert_allclose(scored.score, [0.8, 0.6])
    partly = known.assign(spacing=["0.1x0.2", ""])
    measured, _, unit = sizes([trained(values, cases=partly)])
    assert unit == "pixels"
    np.testing.assert_allclose(measured.reference, 100)


def test_reliability_is_summed_over_runs_and_absent_without_probabilities() -> None:
    table = pd.DataFrame({"bin": [0, 1], "n": [10, 4], "probability_sum": [1.0, 3.0], "positives": [2, 3]})
    found = reliability([trained({"p": 1.0}, reliability=table), trained({"p": 1.0}, seed=1, reliability=table)])
    assert found is not None
    np.testing.assert_allclose(found[0], [[20, 2, 4], [8, 6, 6]])
    assert found[1] == pytest.approx(0.1)
    assert reliability([trained({"p": 1.0})]) is None


def test_every_plot_that_is_left_out_has_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("method_boxes", "bland_altman", "size_dice"):
        monkeypatch.setattr(plates, name, lambda *args, **kwargs: None)
    found = plates.draw_arm(Arm("B", (trained({"p1": 0.5, "p2": 0.7}),)), tmp_path)
    said = "\n".join(found.remarks)
    assert len(found.drawings) == 3
    assert all(remark.startswith("B: ") for remark in found.remarks)
    for words in (
        "nothing was compared",
        "One seed",
        "No learning curves",
        "No accuracy against cost",
        "No calibration",
    ):
        assert words in said


def test_a_method_is_named_by_what_the_study_varies_but_seed_and_fold(tmp_path: Path) -> None:
    cell = fake_cell("unet", panel="B", split="twins_leaky")
    fake_run(tmp_path, cell)
    (result,) = load(fake_plan([cell]), tmp_path)
    assert method_of(result, LABELS) == "U-Net split=twins_leaky"
    assert method_of(result, {}) == "unet split=twins_leaky"


def test_the_report_notes_its_access_and_prints_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_plots(monkeypatch)
    cell = fake_cell("unet")
    finished(tmp_path, cell, patients=4)
    files = report.publish(read_study(STUDY), fake_plan([cell]), config(tmp_path))
    printed = capsys.readouterr().out
    assert str(files["html"]) in printed
    assert "chain intact" in printed
    (entry,) = ledger.read(ledger.path_in(tmp_path))
    assert (entry["action"], entry["side"]) == ("report", "test")
    assert "report 1" in files["html"].read_text(encoding="utf-8")


def test_assumptions_of_the_estimate_come_from_the_config() -> None:
    assert power_of(OmegaConf.create({})) == Power()
    given = power_of(OmegaConf.create({"energy": {"grid_grams": 51, "grid_source": "France 2020"}}))
    assert (given.grid_grams, given.grid_source, given.overhead) == (51.0, "France 2020", 1.67)
    assert power_of(OmegaConf.create({"energy": {"grid_grams": 51}})).grid_source == "as configured, no source given"
    with pytest.raises(ConfigError, match="energy.grid: no such assumption"):
        power_of(OmegaConf.create({"energy": {"grid": 51}}))
    with pytest.raises(ConfigError, match="energy.overhead=0: give a number above 0"):
        power_of(OmegaConf.create({"energy": {"overhead": 0}}))


def test_a_comparison_has_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medseg.commands.compared_runs import as_trainings, read_runs
    from medseg.stats.comparison import compare
    from medseg.stats.evidence import gather

    no_plots(monkeypatch)
    folders = [finished(tmp_path, fake_cell(net), missed=missed) for net, missed in (("unet", 0.1), ("dmunet", 0.3))]
    runs = read_runs(folders)
    trainings = as_trainings(runs)
    comparison = compare(gather(trainings))
    path = tmp_path / "compare" / "x" / "comparison.html"
    files = comparison_page(comparison, runs, trainings, [], path, config(tmp_path))
    reader = read(path.read_text(encoding="utf-8"))
    assert files["html"] == path
    assert "ONE SEED" in reader.text
    assert "Variance shares: not estimable" in reader.text
    assert "../../runs/table1/A-unet-ratio-s0" in reader.links


def test_many_runs_show_the_cases_of_one_a_method() -> None:
    runs = tuple(trained({"p": 0.5}, method=method, seed=seed) for method in "ab" for seed in range(9))
    shown, said = write._shown(Material("t", (), (Arm("", runs),)))
    assert [run.name for run in shown] == ["a-0", "b-0"]
    assert said == ["Cases of 2 of 18 runs, one a method; the others lie in the runs' folders."]


def test_strata_count_every_fold_of_the_first_seed_once(tmp_path: Path) -> None:
    from medseg.commands.page_extras import with_extras

    scores = read_scores(finished(tmp_path, fake_cell("unet"), patients=8) / "scores.csv")
    record = {"data": {"synthetic": False}, "split": {"leaky": False}, "model": {}, "cost": {}}
    halves = [scores[scores["patient"] < "p04"], scores[scores["patient"] >= "p04"]]
    assert all(len(half) for half in halves)
    folds = [Trained(f"fold{n}", "unet", 0, record, {}, half) for n, half in enumerate(halves)]
    again, later = Trained("again", "unet", 0, record, {}, scores), Trained("later", "unet", 1, record, {}, scores)
    arm = Arm("", (later, *folds, again), None, "no comparison")
    strata = with_extras(Material("t", (), (arm,), ()), tmp_path).strata
    (tables,) = strata.values()
    assert list(strata) == ["unet, seed 0"]
    sizes = next(table for table in tables if table.title == "By size")
    assert sum(int(row[1].text) for row in sizes.rows) == len(scores)
