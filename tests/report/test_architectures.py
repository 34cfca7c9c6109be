"""The table over all systems from made runs: sorted, interactive ones apart, costs beside accuracy."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_runs import fake_cell, fake_plan, fake_run, row
from medseg.commands.report import TABLES as BUILDERS
from medseg.commands.report import write_tables
from medseg.commands.study_runs import study_runs
from medseg.report.architectures import DICE, GFLOPS, MILLISECONDS, Names, architecture_tables
from medseg.report.architectures_figure import draw_costs, points_of
from medseg.report.cells import PlannedCell, load
from medseg.report.labels import place_labels
from medseg.report.summary import summarise
from medseg.report.tables import Table, latex, long_list, markdown
from medseg.stats.table import score_rows, write_scores
from medseg.studies.file import TABLES, Preset, Study

LABELS = {"unet": "U-Net", "otsu": "Otsu threshold", "mgunet": "MGU-Net"}


def made(outputs: Path, net: str, *, missed: float, planned: str = "automatic", **changes: Any) -> PlannedCell:
    """Write a finished run whose record has the given values, and return its cell."""
    cell = fake_cell(net, panel=planned, note=changes.pop("note", ""))
    model = {name: changes.pop(name) for name in MODEL if name in changes}
    cost = {name: changes.pop(name) for name in COST if name in changes}
    folder = fake_run(outputs, cell, missed=missed, **changes)
    edit(folder, model={**MODEL, **model}, cost={**COST, **cost})
    return cell


MODEL = {
    "kind": "deep",
    "interaction": "none",
    "design": "faithful",
    "system": "",
    "gflops": 1.5,
    "input_size": [64, 64],
    "parameters": 2_000_000,
}
COST = {"ms_per_image": 12.5, "threads": 2, "peak_memory_mb": 812.4}


def edit(folder: Path, **parts: Mapping[str, Any]) -> None:
    record = json.loads((folder / "run.json").read_text())
    for part, values in parts.items():
        record[part].update(values)
    (folder / "run.json").write_text(json.dumps(record))


def tables_of(outputs: Path, cells: list[PlannedCell], *, names: Names | None = None) -> list[Table]:
    plan = fake_plan(cells)
    return architecture_tables(
        plan, load(plan, outputs), names=names or Names(LABELS), folder=outputs / "architectures"
    )


@pytest.fixture
def cells(tmp_path: Path) -> list[PlannedCell]:
    """Two deep systems, a classical one, an interactive one and one that failed."""
    failed = fake_cell("swin_unet", panel="automatic")
    fake_run(tmp_path, failed, status="failed")
    classical = {"kind": "classical", "parameters": 0, "gflops": None, "design": "library: one of them"}
    marks = "marks simulated from the truth"
    return [
        made(tmp_path, "otsu", missed=0.6, **classical),
        failed,
        made(tmp_path, "unet", missed=0.2),
        made(tmp_path, "fcn8s", missed=0.1, gflops=40.25, reading="Strides & paddings are ours.", design=""),
        made(tmp_path, "mgunet", missed=0.02, planned="interactive", interaction=marks, interactive=True),
    ]


def test_systems_are_sorted_by_dice_deep_and_classical_together_and_unfinished_ones_last(
    cells: list[PlannedCell], tmp_path: Path
) -> None:
    automatic, interactive = tables_of(tmp_path, cells)
    assert [entry[0].text for entry in automatic.rows] == ["fcn8s", "U-Net", "Otsu threshold", "swin_unet"]
    dice = [row(automatic, name)[DICE].value for name in ("fcn8s", "U-Net", "Otsu threshold")]
    assert dice == sorted(dice, reverse=True)
    assert row(automatic, "swin_unet")[DICE].text == "failed"
    assert [entry[0].text for entry in interactive.rows] == ["MGU-Net"]
    assert "Failed: automatic net=swin_unet split=ratio seed=0." in automatic.caption


def test_the_numbers_are_those_of_score_table_and_record(cells: list[PlannedCell], tmp_path: Path) -> None:
    found = row(tables_of(tmp_path, cells)[0], "U-Net")
    scores = pd.read_csv(tmp_path / cells[2].folder / "scores.csv")
    assert found[DICE].value == pytest.approx((2 * scores.tp / (2 * scores.tp + scores.fp + scores.fn)).mean())
    assert found[DICE].low < found[DICE].value < found[DICE].high
    assert found["IoU"].value == pytest.approx((scores.tp / (scores.tp + scores.fp + scores.fn)).mean())
    assert found["HD95 (px)"].value == pytest.approx(4.0)
    assert (found["Parameters"].text, found["Parameters"].value) == ("2.00 M", 2_000_000)
    assert (found[GFLOPS].text, found[GFLOPS].unit) == ("1.50", "GFLOP")
    assert (found[MILLISECONDS].text, found[MILLISECONDS].unit) == ("12.5", "ms")
    assert found["Minutes to fit"].value == pytest.approx(1.5)
    assert found["Peak MB"].text == "812"
    assert (found["Kind"].text, found["Interaction"].text, found["Design"].text) == ("deep", "none", "faithful")


def test_a_classical_system_has_dashes_where_nothing_is_counted(cells: list[PlannedCell], tmp_path: Path) -> None:
    found = row(tables_of(tmp_path, cells)[0], "Otsu threshold")
    assert (found["Kind"].text, found["Parameters"].text, found[GFLOPS].text) == ("classical", "–", "–")
    assert (found["Parameters"].value, found[GFLOPS].value) == (None, None)
    assert found["Design"].text == "library"
    assert found[MILLISECONDS].value == 12.5


def test_a_run_from_before_costs_were_measured_is_still_in_the_table(tmp_path: Path) -> None:
    cell = fake_cell("unet", panel="automatic")
    fake_run(tmp_path, cell)
    (table,) = tables_of(tmp_path, [cell])
    found = row(table, "U-Net")
    assert (found["Kind"].text, found["Interaction"].text) == ("deep", "none")
    assert (found[GFLOPS].text, found[MILLISECONDS].text, found["Design"].text) == ("–", "–", "–")


def test_our_reading_is_said_in_a_footnote_and_prefers_the_record(cells: list[PlannedCell], tmp_path: Path) -> None:
    names = Names(LABELS, {"fcn8s": "faithful", "swin_unet": "our reading: of the header"})
    (automatic, _) = tables_of(tmp_path, cells, names=names)
    # The run itself says that it was not built as its option's header has it.
    assert row(automatic, "fcn8s")["Design"].text == "our reading"
    assert row(automatic, "swin_unet")["Design"].footnotes == ("Of the header.",)
    names = Names(LABELS, {"fcn8s": "faithful, in the usual form", "swin_unet": "library: of somebody"})
    (automatic, _) = tables_of(tmp_path, cells, names=names)
    assert row(automatic, "swin_unet")["Design"].footnotes == ()
    assert row(automatic, "fcn8s")["Design"].footnotes == ("Strides & paddings are ours.",)
    (automatic, _) = tables_of(tmp_path, cells)
    found = row(automatic, "fcn8s")["Design"]
    assert (found.text, found.footnotes) == ("our reading", ("Strides & paddings are ours.",))


def test_what_a_run_was_given_decides_its_table_whatever_was_planned(tmp_path: Path) -> None:
    cell = made(tmp_path, "grabcut", missed=0.1, interaction="a box around the truth")
    automatic = made(tmp_path, "region_growing", missed=0.3, planned="interactive", interaction="none: seeds found")
    first, second = tables_of(tmp_path, [cell, automatic])
    assert (first.name, first.rows[0][0].text) == ("automatic", "region_growing")
    assert (second.name, second.rows[0][2].text) == ("interactive", "a box around the truth")


def test_a_system_with_and_without_its_user_is_two_rows_and_a_note_is_a_footnote(tmp_path: Path) -> None:
    alone = made(tmp_path, "grabcut", missed=0.4, note="box found automatically")
    # The same option in the other panel has a folder of its own.
    asked = made(tmp_path, "grabcut", missed=0.1, planned="interactive", interaction="a box")
    automatic, interactive = tables_of(tmp_path, [alone, asked])
    assert automatic.rows[0][0].footnotes == ("Box found automatically.",)
    assert interactive.rows[0][0].footnotes == ()
    assert automatic.rows[0][4].value < interactive.rows[0][4].value


def test_all_foreground_classes_count(tmp_path: Path) -> None:
    cell = made(tmp_path, "unet", missed=0.2)
    names = [{"case": f"c{i}", "patient": f"c{i}", "domain": ""} for i in range(30)]
    counts = np.array([[[800, 30, 10, 160], [80 - i, 10, 20, 890 + i], [60, 0, 10, 930]] for i in range(30)])
    frame = score_rows(
        counts, None, cases=names, classes=["background", "one", "two"], unit="mm",
        diagonals=np.full(30, 90.0), split_side="test", leaky=False,
    )  # fmt: skip
    write_scores(frame, tmp_path / cell.folder / "scores.csv")
    (result,) = load(fake_plan([cell]), tmp_path)
    both, first = summarise([result], every_class=True), summarise([result])
    assert both is not None and first is not None
    by_class = frame.groupby("class_index")["dice"].mean()
    assert both.dice.mean == pytest.approx(by_class.mean())
    assert first.dice.mean == pytest.approx(by_class[1])
    assert row(tables_of(tmp_path, [cell])[0], "U-Net")[DICE].value == pytest.approx(by_class.mean())


def test_device_size_and_leaks_are_said(tmp_path: Path) -> None:
    cell = made(tmp_path, "unet", missed=0.2, leaky=True)
    (table,) = tables_of(tmp_path, [cell])
    assert table.rows[0][0].text == "U-Net (LEAKY)"
    assert "Cost of an image of 64 x 64, deep systems: cpu, 2 thread(s)." in table.caption
    assert any("SYNTHETIC" in fact for fact in table.caption)


def test_every_writer_takes_the_tables(cells: list[PlannedCell], tmp_path: Path) -> None:
    tables = tables_of(tmp_path, cells)
    assert "| U-Net | deep | none | faithful |" in markdown(tables[0])
    assert r"\begin{tabular}" in latex(tables[1], label="tab:x")
    listed = long_list(tables)
    assert set(listed["panel"]) == {"automatic", "interactive"}
    assert listed.query("row == 'swin_unet'")["value"].isna().all()


def a_study(root: Path) -> Study:
    return Study("architectures", "All", root, (), {"quick": Preset((0,))}, {"phantom": {}}, (), {}, "architectures")


def test_the_study_writes_tables_and_both_pictures_and_the_same_bytes_again(
    cells: list[PlannedCell], tmp_path: Path
) -> None:
    written = []
    for _ in range(2):
        files, tables = write_tables(study_runs(a_study(tmp_path), fake_plan(cells), tmp_path))
        assert [table.name for table in tables] == ["automatic", "interactive"]
        written.append({kind: path.read_bytes() for kind, path in files.items()})
    assert set(written[0]) == {"md", "tex", "csv", "png", "cost"}
    assert written[0] == written[1]
    assert all(written[0][kind].startswith(b"\x89PNG") for kind in ("png", "cost"))
    # Names of systems that nobody labelled come from the headers of their yaml.
    assert "SYNTHETIC" in written[0]["md"].decode()


def test_every_kind_of_table_that_a_study_may_name_has_its_builder() -> None:
    assert set(BUILDERS) == set(TABLES)


def test_points_of_the_plot_are_the_finished_rows_with_a_cost(cells: list[PlannedCell], tmp_path: Path) -> None:
    tables = tables_of(tmp_path, cells)
    counted = points_of(tables, GFLOPS)
    assert [(point.label, point.cost) for point in counted] == [("fcn8s", 40.25), ("U-Net", 1.5), ("MGU-Net", 1.5)]
    timed = {point.label: point for point in points_of(tables, MILLISECONDS)}
    assert timed["Otsu threshold"].classical and not timed["U-Net"].classical
    assert timed["MGU-Net"].interactive and not timed["U-Net"].interactive


def test_a_plot_of_nothing_and_one_of_perfect_systems_can_be_drawn(tmp_path: Path) -> None:
    assert draw_costs([], tmp_path / "none.png", heading="None").stat().st_size > 1000
    cell = made(tmp_path, "unet", missed=0.0)
    assert draw_costs(tables_of(tmp_path, [cell]), tmp_path / "one.png", heading="One").stat().st_size > 1000


BOUNDS = (0.0, 0.0, 1400.0, 700.0)


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    sides = [min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1)]
    return max(0.0, sides[0]) * max(0.0, sides[1])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.floats(300, 1100), st.floats(200, 500)), min_size=1, max_size=30))
def test_names_cover_neither_one_another_nor_points_while_there_is_room(spots: list[tuple[float, float]]) -> None:
    sizes = [(60.0 + 3 * (i % 5), 12.0) for i in range(len(spots))]
    corners = place_labels(spots, sizes, bounds=BOUNDS, radius=5.0)
    boxes = [(x, y, x + w, y + h) for (x, y), (w, h) in zip(corners, sizes, strict=True)]
    markers = [(x - 5, y - 5, x + 5, y + 5) for x, y in spots]
    for i, box in enumerate(boxes):
        assert all(overlap(box, other) < 1e-6 for other in boxes[i + 1 :])
        assert all(overlap(box, marker) < 1e-6 for marker in markers)
        assert box[0] >= -1e-6 and box[1] >= -1e-6 and box[2] <= BOUNDS[2] + 1e-6 and box[3] <= BOUNDS[3] + 1e-6


def test_a_lone_name_stands_right_of_its_point() -> None:
    ((left, bottom),) = place_labels([(500.0, 300.0)], [(60.0, 12.0)], bounds=BOUNDS, radius=5.0)
    assert 505 <= left <= 508
    assert math.isclose(bottom + 6, 300.0)


def test_names_have_a_place_even_where_there_is_no_room() -> None:
    corners = place_labels([(5.0, 5.0)] * 3, [(50.0, 12.0)] * 3, bounds=(0, 0, 20, 20), radius=4.0)
    assert len(corners) == 3
