"""Table 1 from made runs: its numbers, what is missing in it, and the published ones beside them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fake_runs import PUBLISHED, built, fake_cell, fake_plan, fake_run, row
from medseg.errors import RunError, ScoreError
from medseg.report import table_figure
from medseg.report.cells import Result, load
from medseg.report.summary import summarise
from medseg.report.table1 import PUBLISHED_COLUMNS, read_published
from medseg.report.tables import long_list

HERE = Path(__file__).parent


def test_numbers_are_those_of_the_counts(tmp_path: Path) -> None:
    cell = fake_cell("unet")
    folder = fake_run(tmp_path, cell, missed=0.3)
    scores = pd.read_csv(folder / "scores.csv")
    found = row(built(fake_plan([cell]), tmp_path)[0], "U-Net")
    tp, fp, fn, tn = (scores[name].sum() for name in ("tp", "fp", "fn", "tn"))
    assert found["Pixel accuracy %"].value == pytest.approx(100 * (tp + tn) / (tp + fp + fn + tn))
    dice = found["Dice per case [95 % CI over patients]"]
    assert dice.value == pytest.approx((2 * scores.tp / (2 * scores.tp + scores.fp + scores.fn)).mean())
    assert dice.low < dice.value < dice.high
    assert found["HD95 (px)"].value == pytest.approx(4.0)
    assert found["Parameters"].text == "1.94 M"
    assert found["Minutes to fit"].value == pytest.approx(1.5)


def test_several_seeds_are_averaged_per_case_and_their_scatter_has_a_column(tmp_path: Path) -> None:
    cells = [fake_cell("unet", seed=seed) for seed in (0, 1)]
    frames = [pd.read_csv(fake_run(tmp_path, cell) / "scores.csv") for cell in cells]
    (table,) = built(fake_plan(cells, seeds=(0, 1)), tmp_path)
    found = row(table, "U-Net")
    means = [frame["dice"].mean() for frame in frames]
    assert found["Dice per case [95 % CI over patients]"].value == pytest.approx(np.mean(means))
    assert found["Dice SD over seeds"].value == pytest.approx(np.std(means, ddof=1))
    assert [part.text for part in found["Runs"].parts] == ["s0", "s1"]
    assert "Seeds: 0, 1." in table.caption
    assert "Dice SD over seeds" not in [column.text for column in built(fake_plan(cells[:1]), tmp_path)[0].columns]


def test_the_interval_resamples_patients_not_images(tmp_path: Path) -> None:
    widths = []
    for number, images in enumerate((1, 8)):
        cell = fake_cell("unet")
        fake_run(tmp_path / str(number), cell, missed=0.3, images=images)
        found = summarise(load(fake_plan([cell]), tmp_path / str(number)))
        assert found is not None
        widths.append(found.dice.high - found.dice.low)
    assert widths[1] == pytest.approx(widths[0], rel=0.1)


def test_cells_that_did_not_finish_stand_in_the_table_and_in_the_caption(tmp_path: Path) -> None:
    cells = [fake_cell(net) for net in ("unet", "mgunet", "dmunet")]
    fake_run(tmp_path, cells[0])
    fake_run(tmp_path, cells[1], status="failed")
    fake_run(tmp_path, cells[2], status="running")
    (table,) = built(fake_plan(cells), tmp_path)
    assert row(table, "MGU-Net")["Pixel accuracy %"].text == "failed"
    assert row(table, "MGU-Net")["Published DSC"].text == "0.9576"
    assert row(table, "DMU-Net")["Dice per case [95 % CI over patients]"].text == "missing"
    assert "Failed: A net=mgunet seed=0." in table.caption
    assert "Missing: A net=dmunet seed=0." in table.caption
    listed = long_list([table]).query("row == 'MGU-Net' and column == 'Parameters'")
    assert listed["value"].isna().all()
    assert listed["source"].tolist() == ["failed"]


def test_a_row_with_some_seeds_says_so(tmp_path: Path) -> None:
    cells = [fake_cell("unet", seed=seed) for seed in (0, 1, 2)]
    for cell in cells[:2]:
        fake_run(tmp_path, cell)
    (table,) = built(fake_plan(cells, seeds=(0, 1, 2)), tmp_path)
    assert row(table, "U-Net")["Pixel accuracy %"].footnotes == ("From 2 of 3 seeds; the others are missing.",)


def test_a_study_of_which_nothing_ran_is_still_a_table(tmp_path: Path) -> None:
    cells = [fake_cell("unet"), fake_cell("unet", panel="B", split="twins_leaky")]
    tables = built(fake_plan(cells), tmp_path)
    assert row(tables[0], "U-Net")["Pixel accuracy %"].text == "missing"
    assert row(tables[1], "PA")["Published"].text == "95.5"
    assert row(tables[1], "PA")["LEAKY − grouped"].text == "–"
    table_figure.draw(tables, tmp_path / "empty.png", heading="Table")
    assert (tmp_path / "empty.png").stat().st_size > 10_000


def test_a_leaky_run_in_panel_a_is_labelled(tmp_path: Path) -> None:
    cell = fake_cell("unet", split="ratio")
    fake_run(tmp_path, cell, leaky=True)
    (table,) = built(fake_plan([cell]), tmp_path)
    assert row(table, "U-Net")["Note"].text == "LEAKY"
    assert any(note.startswith("LEAKY") for note in table.footnotes)
    assert any(fact.startswith("LEAKY split") for fact in table.caption)


def test_a_grouped_column_refuses_a_leaky_run(tmp_path: Path) -> None:
    cell = fake_cell("unet", panel="B", split="twins_grouped")
    fake_run(tmp_path, cell, leaky=True)
    with pytest.raises(RunError, match="split=twins_grouped but run.json says leaky=True"):
        built(fake_plan([cell]), tmp_path)


def test_run_json_and_scores_must_agree_about_leakage(tmp_path: Path) -> None:
    cell = fake_cell("unet")
    record = fake_run(tmp_path, cell) / "run.json"
    content = json.loads(record.read_text())
    content["split"]["leaky"] = True
    record.write_text(json.dumps(content))
    with pytest.raises(RunError, match="run.json says leaky=True, scores.csv the opposite"):
        built(fake_plan([cell]), tmp_path)


def test_a_finished_run_with_a_damaged_record_is_named(tmp_path: Path) -> None:
    cell = fake_cell("unet")
    folder = fake_run(tmp_path, cell)
    (folder / "versions.json").write_text("{")
    with pytest.raises(RunError, match="DONE is there, but versions.json is missing or damaged"):
        built(fake_plan([cell]), tmp_path)


def test_few_patients_make_the_interval_unreliable_and_one_patient_none(tmp_path: Path) -> None:
    cells = [fake_cell("unet"), fake_cell("mgunet")]
    fake_run(tmp_path, cells[0], patients=12)
    fake_run(tmp_path, cells[1], patients=1)
    (table,) = built(fake_plan(cells), tmp_path)
    dice = row(table, "U-Net")["Dice per case [95 % CI over patients]"]
    assert "Only 12 patients: the bootstrap interval is unreliable (Student's interval" in dice.footnotes[0]
    single = row(table, "MGU-Net")["Dice per case [95 % CI over patients]"]
    assert (single.low, "[" in single.text) == (None, False)
    assert single.footnotes == ("No bootstrap interval from 1 patients: undefined.",)


def test_every_number_of_ours_links_to_its_run(tmp_path: Path) -> None:
    cells = [fake_cell("unet"), fake_cell("threshold")]
    fake_run(tmp_path, cells[0])
    fake_run(tmp_path, cells[1], tracked=False)
    (table,) = built(fake_plan(cells), tmp_path)
    tracked, untracked = row(table, "U-Net"), row(table, "Threshold")
    page = "http://127.0.0.1:5000/#/experiments/1/runs/id-A-unet-ratio-s0"
    assert {cell.link for cell in tracked.values() if cell.run} == {page}
    assert {cell.link for cell in untracked.values() if cell.run} == {"../runs/table1/A-threshold-ratio-s0"}
    assert tracked["Runs"].parts[0].link == "../runs/table1/A-unet-ratio-s0"


def test_a_server_s_own_address_is_used(tmp_path: Path) -> None:
    cell = fake_cell("unet")
    record = fake_run(tmp_path, cell) / "run.json"
    content = json.loads(record.read_text())
    content["mlflow"]["uri"] = "https://mlflow.example.org/"
    record.write_text(json.dumps(content))
    found = row(built(fake_plan([cell]), tmp_path)[0], "U-Net")
    assert found["Parameters"].link.startswith("https://mlflow.example.org/#/experiments/1/runs/")


def test_the_difference_columns_are_differences(tmp_path: Path) -> None:
    cells = [fake_cell("unet", panel="B", split=split) for split in ("twins_leaky", "twins_grouped")]
    fake_run(tmp_path, cells[0], missed=0.05)
    fake_run(tmp_path, cells[1], missed=0.2)
    found = row(built(fake_plan(cells), tmp_path)[0], "n_IoU")
    leaky, grouped = found["Ours, LEAKY"].value, found["Ours, grouped"].value
    assert found["LEAKY − grouped"].value == pytest.approx(leaky - grouped)
    assert found["LEAKY − grouped"].text.startswith("+")
    assert found["Grouped − published"].value == pytest.approx(grouped - 61.31)


def test_pooled_rows_obey_the_identities_of_two_classes(tmp_path: Path) -> None:
    cells = [fake_cell("unet", panel="B", split=split) for split in ("twins_leaky", "twins_grouped")]
    for cell in cells:
        fake_run(tmp_path, cell, missed=0.25)
    (table,) = built(fake_plan(cells), tmp_path)
    value = {cells[0].text: cells[2].value for cells in table.rows}
    background, nodule = value["b_IoU"] / 100, value["n_IoU"] / 100
    assert value["mIoU"] == pytest.approx(50 * (background + nodule), abs=1e-9)
    error = 1 / (1 + background / (1 - background) + nodule / (1 - nodule))
    assert value["PA"] == pytest.approx(100 * (1 - error), abs=1e-9)
    f1 = 50 * sum(2 * iou / (1 + iou) for iou in (background, nodule))
    assert value["F1 (mean of both classes)"] == pytest.approx(f1, abs=1e-9)
    assert value["PA of predicting all background"] == pytest.approx(100 - value["Foreground prevalence"], abs=1e-9)


def shuffled(results: Sequence[Result]) -> list[Result]:
    return [results[place] for place in np.random.default_rng(0).permutation(len(results))]


def test_the_order_in_which_runs_finished_changes_nothing(tmp_path: Path) -> None:
    cells = [fake_cell("unet", seed=seed) for seed in (0, 1, 2)]
    for seed, cell in reversed(list(enumerate(cells))):
        fake_run(tmp_path, cell, missed=0.1 + 0.1 * seed)
    plan = fake_plan(cells, seeds=(0, 1, 2))
    one, other = summarise(load(plan, tmp_path)), summarise(shuffled(load(plan, tmp_path)))
    assert one is not None and other is not None
    assert other.dice.mean == pytest.approx(one.dice.mean, abs=1e-12)
    assert other.headline == pytest.approx(one.headline, nan_ok=True)


def test_published_numbers_are_complete_and_each_has_its_source_data_and_caveat() -> None:
    frame = read_published(PUBLISHED)
    values = {(row.row, row.metric): row.value for row in frame[frame["panel"] == "A"].itertuples()}
    assert values == {
        ("mgunet", "accuracy"): "97.85",
        ("mgunet", "dsc"): "0.9576",
        ("jpu_unet", "accuracy"): "93.19",
        ("jpu_unet", "dsc"): "0.8558",
        ("reagunet", "accuracy"): "87.30",
        ("reagunet", "dsc"): "0.8690",
        ("dmunet", "accuracy"): "",
        ("dmunet", "dsc"): "0.8107",
    }
    of_b = {row.metric: row.value for row in frame[frame["panel"] == "B"].itertuples()}
    assert of_b == {"b_iou": "95.16", "n_iou": "61.31", "miou": "78.24", "pa": "95.5", "f1": "86.8"}
    for column in ("source", "data", "protocol", "caveat", "unit"):
        assert (frame[column].str.len() > 0).all()
    assert not frame.apply(lambda column: column.str.contains("expected", case=False)).to_numpy().any()


def test_what_published_says_about_its_own_arithmetic_is_true() -> None:
    frame = read_published(PUBLISHED)
    for net, low, high in (("mgunet", 24, 26), ("jpu_unet", 20, 27), ("reagunet", 42, 55)):
        of_net = frame[frame["row"] == net].set_index("metric")["value"].astype(float)
        error, dice = 1 - of_net["accuracy"] / 100, of_net["dsc"]
        found = dice * error / (2 * (1 - dice))
        assert [round(100 * found), round(100 * (found + error))] == [low, high]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("A,unet,dsc,0.9,1,,data,p,c", "line 2: source and data must not be empty"),
        ("A,unet,dsc,high,1,someone,data,p,c", "line 2: value 'high' is no number"),
    ],
)
def test_a_published_number_without_source_is_refused(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "published.csv"
    path.write_text(",".join(PUBLISHED_COLUMNS) + f"\n{line}\n", encoding="utf-8")
    with pytest.raises(ScoreError, match=message):
        read_published(path)
    path.write_text("panel,row\n", encoding="utf-8")
    with pytest.raises(ScoreError, match="its columns must be panel, row, metric"):
        read_published(path)
