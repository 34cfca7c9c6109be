"""Tables of strata, failures and accesses say what they count, and nothing that was flagged is lost on the way."""

import math
from pathlib import Path

import pandas as pd

from medseg import ledger
from medseg.report.failures import failure_table, worst_table
from medseg.report.ledger import ledger_table
from medseg.report.strata import strata_table
from medseg.report.tables import Table, latex, long_list, markdown, plain
from medseg.stats.bootstrap import Interval
from medseg.stats.strata import Stratum
from medseg.stats.taxonomy import LABELS, Rules

WIDE = Interval(0.8123, 0.7, 0.9, 0.71, 0.91, 60, 30, "BCa", True)
FEW = Interval(0.5, 0.3, 0.6, 0.25, 0.75, 20, 20, "BCa", False)
ALONE = Interval(0.4, math.nan, math.nan, math.nan, math.nan, 2, 1, "undefined", False)


def a_stratum(name: str, dice: Interval | None = WIDE, *, class_name: str = "nodule") -> Stratum:
    return Stratum("tirads", class_name, name, 60, 30, dice, 7.25, 0, 0.05, 0.1, 0, 0)


def texts(table: Table, place: int) -> dict[str, str]:
    columns = [column.text for column in table.columns]
    return dict(zip(columns, (plain(table, cell) for cell in table.rows[place]), strict=True))


def test_a_row_holds_the_mean_its_interval_and_what_was_missed() -> None:
    table = strata_table([a_stratum("4a")], unit="mm", run="runs/x", source="medseg, x")
    assert texts(table, 0) == {
        "stratum": "4a", "cases": "60", "patients": "30", "Dice [95 % CI]": "0.812 [0.700, 0.900]",
        "HD95 (mm)": "7.2", "missed": "5.0 %", "missed lesions": "10.0 %", "no structure": "0", "undefined": "0",
    }  # fmt: skip
    listed = long_list([table]).set_index("column")
    assert listed.loc["Dice [95 % CI]", ["value", "low", "high"]].tolist() == [0.8123, 0.7, 0.9]
    assert set(listed["run"]) == {"runs/x"}


def test_few_patients_are_labelled_and_what_is_undefined_says_so() -> None:
    table = strata_table([a_stratum("3", FEW), a_stratum("4", ALONE), a_stratum("5", None)], unit="px")
    assert texts(table, 0)["Dice [95 % CI]"] == "0.500 [0.300, 0.600] (1)"
    assert "Fewer than 25 patients" in table.footnotes[0]
    assert "0.250 to 0.750" in table.footnotes[0]
    assert texts(table, 1)["Dice [95 % CI]"] == "0.400 (2)"
    assert "from 1 patients: undefined" in table.footnotes[1]
    assert texts(table, 2)["Dice [95 % CI]"] == "undefined"


def test_flags_open_the_caption_in_every_format_and_classes_are_named_where_there_are_several() -> None:
    found = [a_stratum("4a"), a_stratum("4a", class_name="cyst")]
    table = strata_table(found, unit="px", remarks=("SYNTHETIC", "SELECTION SIDE"))
    assert [row[0].text for row in table.rows] == ["nodule: 4a", "cyst: 4a"]
    assert table.caption[:2] == ("SYNTHETIC.", "SELECTION SIDE.")
    assert "SELECTION SIDE." in markdown(table)
    assert "SELECTION SIDE." in latex(table, label="x")


def a_count(label: str, n: int, n_any: int) -> dict[str, object]:
    return {
        "class_index": 1, "class_name": "nodule", "label": label, "n": n, "share": n / 10, "patients": n,
        "n_any": n_any, "share_any": n_any / 10,
    }  # fmt: skip


def test_failures_that_never_happened_are_left_out_and_the_rules_are_stated() -> None:
    held = {"missed": (1, 1), "boundary": (0, 3), "correct": (9, 9)}
    counts = pd.DataFrame([a_count(label, *held.get(label, (0, 0))) for label in LABELS])
    table = failure_table(counts, Rules(dice=0.75), remarks=("LEAKY SPLIT",))
    assert [row[0].text for row in table.rows] == ["missed", "boundary", "correct"]
    assert texts(table, 1)["share with it at all"] == "30.0 %"
    assert texts(table, 0)["share"] == "10.0 %"
    assert table.caption[0] == "LEAKY SPLIT."
    assert "Dice below 0.75, or HD95 above 5 %" in " ".join(table.caption)


def test_the_worst_cases_carry_all_labels_and_their_strata() -> None:
    worst = pd.DataFrame({
        "case": ["a", "b", "c"], "patient": ["p", "q", "r"], "class_index": 1, "class_name": "nodule",
        "dice": [0.0, 0.25, 0.3], "hd95_directed_voxel": [math.inf, 12.34, math.nan],
        "label": ["missed", "wrong place", "boundary"],
        "labels": ["missed", "wrong place; false positive; boundary", "boundary"], "by_size": ["Q1", "Q2", "Q2"],
    })  # fmt: skip
    table = worst_table(worst, unit="px", undefined=2)
    assert [texts(table, place)["HD95 (px)"] for place in range(3)] == ["one mask empty", "12.3", "not measured"]
    assert texts(table, 1)["what went wrong"] == "wrong place (also false positive, boundary)"
    assert texts(table, 0)["size"] == "Q1"
    assert "class" not in texts(table, 0)
    assert table.caption[-1] == "2 without a labelled pixel are not listed."


def test_the_ledger_is_a_table_whose_caption_says_whether_it_can_be_trusted(tmp_path: Path) -> None:
    path = ledger.path_in(tmp_path)
    records = [
        {"key": f"k{number}", "study": "table1", "data": {"name": "ddti"}, "split": {"hash": f"{number}" * 64}}
        for number in range(5)
    ]
    ledger.append(path, ledger.access("compare", records))
    table = ledger_table(ledger.read(path), ledger.verify(path), left_out=3)
    shown = texts(table, 0)
    assert shown["action"] == "compare"
    assert shown["runs"] == "k0, k1, k2 and 2 more"
    assert shown["split"].startswith("00000000, 11111111")
    assert shown["when"].endswith(" UTC")
    assert table.caption == ("Ledger: 1 entries, chain intact.", "3 other entries are not shown.")
    path.write_bytes(path.read_bytes().replace(b"compare", b"marks"))
    assert "CHAIN BROKEN at line 1" in ledger_table(ledger.read(path), ledger.verify(path)).caption[0]
    with path.open("ab") as file:
        file.write(b'{"torn')
    ledger.append(path, ledger.access("report", records[:1]))
    actions = [texts(ledger_table([entry], ledger.verify(path)), 0)["action"] for entry in ledger.read(path)]
    assert actions[1] == "repair of line 2, torn after 6 bytes"
    assert actions[2].startswith("BREAK at line 1: another line was written there")
