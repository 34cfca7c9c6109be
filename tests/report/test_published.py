"""The published numbers in the repository, row by row, and the board that shows them."""

import csv
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fake_folders import tn3k_record as record
from medseg.errors import ScoreError
from medseg.report.published import GREY, board, find_published, published_of
from medseg.report.published_rows import COLUMNS, METRICS, Published, read_published_rows
from medseg.report.tables import latex, markdown

FOLDER = Path(__file__).parents[2] / "experiments" / "published"
FILES = sorted(FOLDER.glob("*.csv"))
ROWS = [row for path in FILES for row in read_published_rows(path)]
WORDS = {
    "split": {
        *("official", "published lists", "random", "5-fold", "cross-dataset", "challenge test"),
        *("challenge validation", "unknown"),
    },
    "patient_grouped": {"yes", "no", "unknown"},
    "metric_definition": {
        *("per-image mean", "per-volume mean", "pooled", "derived from mean IoU", "not applicable", "unknown"),
    },
    "averaging": {
        *("foreground", "mean over foreground classes", "mean over regions", "one class", "background included"),
        *("not applicable", "unknown"),
    },
    "selection_rule": {"validation", "last", "best on test", "unknown"},
    "tta": {"yes", "no", "unknown"},
    "verified": {"yes", "no"},
}
IDENTITY = 0.00035
"""What rounding to two decimals of a percent leaves between Dice and 2 IoU/(1 + IoU)."""
HEADLINE = {"unet": (0.81, 0.79, 0.83)}


def row(**changes: str) -> Published:
    """A row of TN3K whose protocol is that of ``fake_folders.tn3k_record``."""
    made = Published(
        *("tn3k", "3493", "Net", "nodule", "dice", "80.50", "", "", "", "%", "A paper", "2024", "official", ""),
        *("unknown", "256x256", "per-image mean", "foreground", "validation", "no", "none", "none", "yes", ""),
    )
    return replace(made, **changes)


def written(folder: Path, *rows: Published) -> Path:
    folder.mkdir(exist_ok=True)
    with (folder / "some.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([[getattr(one, name) for name in COLUMNS] for one in rows])
    return folder


def test_there_are_files_for_the_datasets_that_are_compared_most() -> None:
    known = {row.dataset for row in ROWS}
    assert {"tn3k", "ddti", "tnscui2020", "thyroidxl", "tn5000", "busi", "acdc_official", "brats2020"} <= known
    assert {"msd_hippocampus", "msd_prostate", "promise12", "btcv", "lits", "kits", "amos"} <= known
    assert len(ROWS) > 200


@pytest.mark.parametrize("name", WORDS)
def test_every_tag_is_a_word_of_the_readme(name: str) -> None:
    assert {getattr(row, name) for row in ROWS} <= WORDS[name]
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"`{word}`" in text for word in WORDS[name])


def test_the_readme_explains_every_column_and_metric() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [name for name in (*COLUMNS, *METRICS) if f"`{name}`" not in text] == []


def test_no_number_stands_twice() -> None:
    keys = [(row.dataset, row.method, row.target, row.metric, row.source) for row in ROWS]
    assert sorted(key for key in set(keys) if keys.count(key) > 1) == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.dataset}-{row.method}-{row.target}-{row.metric}")
def test_every_number_is_plausible(row: Published) -> None:
    numbers = [float(text) for text in (row.value, row.low, row.high, row.sd) if text]
    assert all(number > 0 for number in numbers)
    assert numbers or row.caveat.startswith("Not reported")
    if row.low and row.high:
        assert float(row.low) < float(row.high)
        assert not row.value or float(row.low) <= float(row.value) <= float(row.high)
    if row.unit in ("%", "1") and row.value and row.metric == "dice":
        assert 0.05 < row.number < 0.98
    if row.unit in ("px", "mm"):
        assert max(numbers) < 60
    assert row.year == "unknown" or re.fullmatch("20[12][0-9]", row.year)
    assert row.verified == "yes" or row.caveat


def test_a_dice_is_tagged_as_derived_exactly_where_it_is_a_function_of_the_iou() -> None:
    ious = {(r.dataset, r.method, r.target, r.source): r.number for r in ROWS if r.metric == "iou" and r.value}
    judged = 0
    for dice in (r for r in ROWS if r.metric == "dice" and r.value):
        iou = ious.get((dice.dataset, dice.method, dice.target, dice.source))
        if iou is None:
            assert dice.metric_definition != "derived from mean IoU"
            continue
        derived = abs(dice.number - 2 * iou / (1 + iou)) <= IDENTITY
        assert derived == (dice.metric_definition == "derived from mean IoU"), dice.method
        judged += derived
    assert judged == 8 + 1 + 4  # eight of nine rows on TN3K and the one from memory, four on DDTI


def test_what_was_not_read_where_it_stands_is_marked() -> None:
    doubtful = re.compile("from memory|excerpt|second-hand", re.IGNORECASE)
    assert {row.method for row in ROWS if doubtful.search(row.caveat) and row.verified == "yes"} == set()
    assert {"TRFE+", "BiSF-Net", "V-Net"} <= {row.method for row in ROWS if row.verified == "no"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": "80,5"}, "line 2: value '80,5' is no number"),
        ({"value": "805"}, "line 2: value 805 is above 100 %"),
        ({"value": "80.5", "unit": "1"}, "line 2: value 80.5 is above 1 1"),
        ({"metric": "hd95", "unit": "%"}, "line 2: unit '%' of hd95; write px or mm"),
        ({"metric": "magic"}, "metric 'magic' is unknown"),
        ({"source": ""}, "line 2: source is empty"),
        ({"selection_rule": ""}, "line 2: selection_rule is empty"),
        ({"verified": "perhaps"}, "verified='perhaps'"),
        ({"value": ""}, "no number and no caveat"),
    ],
)
def test_a_broken_row_is_refused_with_its_line(changes: dict[str, str], message: str, tmp_path: Path) -> None:
    folder = written(tmp_path / "published", row(**changes))
    with pytest.raises(ScoreError, match=re.escape(message)):
        read_published_rows(folder / "some.csv")


def test_other_columns_and_lost_fields_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n", encoding="utf-8")
    with pytest.raises(ScoreError, match="its columns must be dataset, cases, method"):
        read_published_rows(path)
    path.write_text(",".join(COLUMNS) + "\ntn3k,3493\n", encoding="utf-8")
    with pytest.raises(ScoreError, match="line 2: 2 fields under 24 columns"):
        read_published_rows(path)


def test_numbers_keep_their_digits_as_fractions() -> None:
    assert row().text == "0.8050"
    assert row().number == pytest.approx(0.805)
    assert row(value="68.61", sd="2.86").text == "0.6861 ± 0.0286"
    assert row(value="", low="0.868", high="0.885", unit="1").text == "0.868 to 0.885"
    assert row(value="", low="0.90", unit="1").text == "≥ 0.90"
    assert row(value="", caveat="Not reported.").text == "not reported"
    assert row(metric="hd95", value="18.39", unit="px").text == "18.39"


def test_the_folder_is_found_from_below_and_absence_is_fine(tmp_path: Path) -> None:
    (tmp_path / "experiments" / "published").mkdir(parents=True)
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert find_published(tmp_path / "a" / "b") == tmp_path / "experiments" / "published"
    assert find_published(Path(tmp_path.anchor)) is None
    assert board([record()], None, headline=HEADLINE) is None


def test_a_dataset_brings_its_relatives_and_no_others() -> None:
    assert {row.dataset for row in published_of(FOLDER, "acdc")} == {"acdc_official"}
    assert {row.dataset for row in published_of(FOLDER, "tn3k")} == {"tn3k"}
    assert published_of(FOLDER, "phantom") == []


def test_a_row_of_the_same_protocol_stands_plain_between_ours_and_the_muted(tmp_path: Path) -> None:
    rows = (row(method="Muted", resolution="224x224"), row(method="Plain"))
    found = board([record()], written(tmp_path, *rows), headline=HEADLINE, labels={"unet": "U-Net"})
    assert found is not None
    assert [cells[0].text for cells in found.table.rows] == [
        "U-Net (ours)",
        "Plain, nodule",
        f"{GREY}Muted, nodule",
    ]
    assert (found.ours, found.muted) == (frozenset({0}), frozenset({2}))
    assert found.table.rows[0][1].text == "0.810 [0.790, 0.830]"
    assert found.table.footnotes == ["Not comparable: resolution: 224x224, ours 256x256."]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"verified": "no"}, "number not checked against its source"),
        ({"value": "", "low": "70", "high": "80"}, "no single number was printed"),
        ({"selection_rule": "best on test"}, "weights chosen by: best on test, ours validation"),
        ({"prompts": "boxes of the truth"}, "prompts: boxes of the truth, ours none"),
        ({"tta": "unknown"}, "not stated there: test-time augmentation"),
    ],
)
def test_a_muted_row_says_why(changes: dict[str, str], reason: str, tmp_path: Path) -> None:
    found = board([record()], written(tmp_path, row(**changes)), headline=HEADLINE)
    assert found is not None
    assert found.muted == {1}
    assert found.table.rows[1][0].footnotes == (f"Not comparable: {reason}.",)


def test_a_row_has_to_agree_with_each_of_our_methods(tmp_path: Path) -> None:
    marked = record(choices__net="mgunet", model={"interactive": True, "interaction": "marks"})
    headline = {**HEADLINE, "mgunet": (0.9, math.nan, math.nan)}
    found = board([record(), marked], written(tmp_path, row()), headline=headline)
    assert found is not None
    assert found.ours == {0, 1}
    assert found.table.rows[1][1].text == "0.900"
    assert found.table.rows[2][0].footnotes == ("Not comparable: prompts: none, ours marks.",)


def test_f1_stands_for_dice_only_where_there_is_no_dice(tmp_path: Path) -> None:
    rows = (
        row(method="A", metric="f1", value="70.00"),
        row(method="B", metric="f1", value="71.00"),
        row(method="B", metric="dice", value="72.00"),
        row(method="C", metric="iou", value="60.00"),
    )
    found = board([record()], written(tmp_path, *rows), headline=HEADLINE)
    assert found is not None
    assert [(cells[1].text, cells[2].text) for cells in found.table.rows[1:]] == [
        ("0.7000 (F1)", ""),
        ("0.7200", "F1 0.7100"),
    ]


def test_runs_on_two_datasets_make_no_board(tmp_path: Path) -> None:
    other: dict[str, Any] = record(choices__data="ddti")
    with pytest.raises(ScoreError, match="runs on ddti, tn3k; make one board for each dataset"):
        board([record(), other], written(tmp_path, row()), headline=HEADLINE)


def test_the_board_of_tn3k_mutes_the_dice_that_come_from_a_mean_iou_and_prints_in_every_form() -> None:
    found = board([record()], FOLDER, headline=HEADLINE)
    assert found is not None
    (unet,) = [cells for cells in found.table.rows if cells[0].text == f"{GREY}U-Net, nodule"]
    assert unet[1].text == "0.7855"
    assert "metric: derived from mean IoU, ours per-image mean" in unet[0].footnotes[0]
    assert markdown(found.table).count("\n| ") == len(found.table.rows) + 1
    assert latex(found.table, label="tab:x").count(r"\\") == len(found.table.rows) + 1
