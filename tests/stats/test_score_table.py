"""The score table: what is written comes back bit for bit, and a changed file is found out, line and column named."""

import csv
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medseg.errors import ScoreError
from medseg.stats.table import SCORE_COLUMNS, read_scores, score_rows, write_scores

inf = math.inf
CASES = [
    {"case": "007", "patient": "NA", "domain": ""},
    {"case": 'b,"x"', "patient": "p2", "domain": "scanner 2"},
    {"case": "null", "patient": "p2", "domain": "ä"},
    {"case": "d", "patient": "1e5", "domain": ""},
]
#         tp  fp  fn  tn
COUNTS = [[30, 4, 7, 59], [0, 0, 25, 75], [0, 0, 0, 100], [0, 1, 0, 99]]
MEASURED = {
    "hd_voxel": [1 / 3, inf, 0, inf],
    "hd95_directed_voxel": [0.1 + 0.2, inf, 0, inf],
    "hd95_pooled_voxel": [0.25, inf, 0, inf],
    "assd_pooled_voxel": [1e-17, inf, 0, inf],
    "masd_voxel": [1e-17, inf, 0, inf],
    "nsd_voxel": [0.1 + 0.2, 0, 1, 0],
    "boundary_iou": [1 / 3, 0, 1, 0],
    "cldice": [1 / 7, 0, 1, 0],
    "reference_lesions": [3, 1, 0, 0],
    "prediction_lesions": [2, 0, 0, 1],
    "detected_lesions": [2, 0, 0, 0],
    "false_lesions": [0, 0, 0, 1],
    "split_lesions": [0, 0, 0, 0],
    "merged_lesions": [1, 0, 0, 0],
    "ece": [0.1, 0.2, 0, 0.3],
    "brier": [0.01, 1 / 3, 0, 1],
}


def rows(cases=CASES, counts=COUNTS, measured=MEASURED, **changes):
    foreground = np.array(counts)
    options = {
        "cases": cases,
        "diagonals": [math.sqrt(200)] * len(cases),
        "classes": ["background", "nodule"],
        "unit": "px",
        "split_side": "test",
        "leaky": False,
    }
    both = np.stack([foreground[:, ::-1], foreground], axis=1)
    columns = None if measured is None else {name: np.array(values)[:, None] for name, values in measured.items()}
    return score_rows(both, columns, **(options | changes))


def test_rows_hold_the_raw_values():
    frame = rows()
    assert tuple(frame.columns) == SCORE_COLUMNS
    assert frame["dice"].tolist() == pytest.approx([60 / 71, 0, 1, 0])
    assert frame["sensitivity"].tolist() == pytest.approx([30 / 37, 0, math.nan, math.nan], nan_ok=True)
    assert frame["precision"].tolist() == pytest.approx([30 / 34, 0, math.nan, 0], nan_ok=True)
    assert frame["balanced_accuracy"].tolist() == pytest.approx(
        [(30 / 37 + 59 / 63) / 2, 0.5, math.nan, math.nan], nan_ok=True
    )
    assert frame["volumetric_similarity"].tolist() == pytest.approx([1 - 3 / 71, 0, 1, 0])
    for name, values in MEASURED.items():
        assert frame[name].tolist() == values, name
    assert frame["merged_lesions"].dtype == np.int64
    assert frame["tolerance"].tolist() == [1] * 4
    assert frame["reference_size"].tolist() == [37, 25, 0, 0]
    assert frame["empty_reference"].tolist() == [0, 0, 1, 1]
    assert frame["empty_prediction"].tolist() == [0, 1, 1, 0]
    assert frame["leaky"].tolist() == [0] * 4


def test_several_classes_follow_each_other_within_a_case():
    counts = np.random.default_rng(0).integers(1, 9, (2, 3, 4))
    distances = {"hd_voxel": [[3, 5], [6, 6]], "assd_pooled_voxel": [[2, 5], [3, 4]]}
    names = ["background", "gland", "cyst"]
    options = {"cases": CASES[:2], "diagonals": [5, 6], "unit": "mm", "split_side": "val", "leaky": True}
    options["tolerances"] = [2.5, 3.5]
    frame = score_rows(counts, distances, classes=names, **options)
    assert frame["case"].tolist() == ["007", "007", 'b,"x"', 'b,"x"']
    assert frame["class_name"].tolist() == ["gland", "cyst"] * 2
    assert frame["class_index"].tolist() == [1, 2, 1, 2]
    assert frame["tp"].tolist() == counts[:, 1:, 0].ravel().tolist()
    assert frame["assd_pooled_voxel"].tolist() == [2, 5, 3, 4]
    assert frame["tolerance"].tolist() == [2.5, 2.5, 3.5, 3.5]
    assert frame["diagonal"].tolist() == [5, 5, 6, 6]
    assert frame["leaky"].tolist() == [1] * 4


def test_round_trip_is_exact(tmp_path):
    path = tmp_path / "scores.csv"
    write_scores(rows(), path)
    pd.testing.assert_frame_equal(read_scores(path), rows(), check_exact=True, check_dtype=False)
    assert read_scores(path)["case"].tolist() == [case["case"] for case in CASES]
    assert {str(kind) for kind in read_scores(path).dtypes[["tp", "leaky", "class_index"]]} == {"int64"}
    text = path.read_text(encoding="utf-8")
    assert ",inf,inf,inf,inf,inf,0.0,0.0,0.0,1,0,0,0,0,0,0.2," in text
    assert ",1.0,1.0,nan,1.0,nan,nan,1.0,0.0,0.0,0.0,0.0,0.0,1.0,1.0,1.0,0,0,0,0,0,0,0.0,0.0," in text
    write_scores(read_scores(path), tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == path.read_bytes()


def test_what_was_not_measured_is_nan_throughout(tmp_path):
    write_scores(rows(measured=None), tmp_path / "scores.csv")
    found = read_scores(tmp_path / "scores.csv")
    assert found[list(MEASURED)].isna().all().all()
    write_scores(found, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "scores.csv").read_bytes()


def test_a_case_without_a_labelled_pixel_has_no_distance():
    counts = [COUNTS[0], [0, 0, 0, 0]]
    parts = {name: [values[0], math.nan] for name, values in MEASURED.items()}
    parts |= {name: [values[0], 0] for name, values in MEASURED.items() if name.endswith("_lesions")}
    assert rows(cases=CASES[:2], counts=counts, measured=parts)["nsd_voxel"].isna().tolist() == [False, True]
    with pytest.raises(ScoreError, match="line 3 .* column 'cldice': 1.0 must be nan without a labelled pixel"):
        rows(cases=CASES[:2], counts=counts, measured=parts | {"cldice": [0.5, 1]})


def test_a_refused_table_leaves_the_old_one(tmp_path):
    path = tmp_path / "scores.csv"
    write_scores(rows(), path)
    before = path.read_bytes()
    with pytest.raises(ScoreError, match=r"column 'dice': 0\.25 contradicts tp, fp, fn, tn"):
        write_scores(rows().assign(dice=0.25), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["scores.csv"]


def test_a_crash_while_writing_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "scores.csv"
    write_scores(rows(), path)
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_scores(rows(), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["scores.csv"]


FAULTS = {  # row (0-based), column, text put there, what the message must say
    "score": (0, "dice", "0.8450704245", r"line 2 \(case '007', class 'nodule'\), column 'dice': 0\.8450704245 contra"),
    "score gone": (0, "iou", "nan", "line 2 .* column 'iou': nan contradicts tp, fp, fn, tn"),
    "infinite score": (1, "dice", "inf", "line 3 .* column 'dice': inf contradicts"),
    "count": (0, "tp", "29", "line 2 .* column 'reference_size': 37 contradicts tp, fp, fn"),
    "negative count": (3, "tn", "-99", "line 5 .* column 'tn': -99 must be >= 0"),
    "size": (1, "prediction_size", "3", "line 3 .* column 'prediction_size': 3 contradicts"),
    "flag": (2, "empty_reference", "0", "line 4 .* column 'empty_reference': 0 contradicts"),
    "leaky": (2, "leaky", "2", "line 4 .* column 'leaky': 2 must be 0 or 1"),
    "class": (2, "class_index", "0", "line 4 .* column 'class_index': 0 must be >= 1"),
    "duplicate": (3, "case", "007", "line 5 .* column 'case': 007 stands twice"),
    "no name": (1, "patient", "", "line 3 .* column 'patient':  must not be empty"),
    "sum of sensitivities": (0, "balanced_accuracy", "0.8", "line 2 .* 'balanced_accuracy': 0.8 contradicts tp"),
    "volume": (3, "volumetric_similarity", "nan", "line 5 .* 'volumetric_similarity': nan contradicts tp"),
    "finite distance of a missed mask": (1, "hd_voxel", "12.5", "line 3 .* column 'hd_voxel': 12.5 must be inf"),
    "infinite distance": (0, "masd_voxel", "inf", "line 2 .* column 'masd_voxel': inf must be inf with exactly one"),
    "distance beyond the image": (0, "hd_voxel", "14.2", "line 2 .* 'hd_voxel': 14.2 must not exceed diagonal"),
    "more than the largest": (0, "hd95_pooled_voxel", "0.34", "line 2 .* 0.34 must not exceed hd_voxel"),
    "share above 1": (0, "nsd_voxel", "1.01", "line 2 .* 'nsd_voxel': 1.01 must be a share from 0 to 1"),
    "share of a missed mask": (1, "boundary_iou", "0.1", "line 3 .* 0.1 must be 0 with exactly one empty mask"),
    "share of empty masks": (2, "cldice", "0.0", "line 4 .* 'cldice': 0.0 must be 1 with both masks empty"),
    "share gone": (0, "cldice", "nan", "line 2 .* 'cldice': nan must be a share"),
    "half a lesion": (0, "split_lesions", "0.5", "line 2, column 'split_lesions': '0.5' is not a whole number"),
    "lesion gone": (0, "merged_lesions", "nan", "line 2, column 'merged_lesions': 'nan' is not a whole number"),
    "negative lesions": (0, "false_lesions", "-1", "line 2 .* 'false_lesions': -1 must be >= 0"),
    "lesions of nothing": (2, "reference_lesions", "1", "line 4 .* 1 must be 0 with an empty reference"),
    "no lesion of something": (3, "prediction_lesions", "0", "line 5 .* 0 must be 0 with an empty prediction, else"),
    "more found than there": (0, "detected_lesions", "4", "line 2 .* 4 must not exceed reference_lesions"),
    "more false than found": (3, "false_lesions", "2", "line 5 .* 2 must not exceed prediction_lesions"),
    "calibration": (1, "ece", "1.5", "line 3 .* 'ece': 1.5 must lie from 0 to 1"),
    "calibration gone": (1, "brier", "nan", "line 3 .* 'brier': nan must lie from 0 to 1, or be nan in every row"),
    "tolerance": (2, "tolerance", "0", "line 4 .* 'tolerance': 0.0 must be finite and > 0"),
    "distance of empty masks": (2, "hd95_directed_voxel", "1", "line 4 .* must be 0 with both masks empty"),
    "negative distance": (0, "hd_voxel", "-1", "line 2 .* column 'hd_voxel': -1.0 must be a distance"),
    "undefined distance": (0, "hd_voxel", "nan", "line 2 .* column 'hd_voxel': nan must be a distance"),
    "diagonal": (3, "diagonal", "inf", "line 5 .* column 'diagonal': inf must be finite"),
    "text": (1, "fp", "3.0", "line 3, column 'fp': '3.0' is not a whole number"),
    "empty field": (1, "fn", "", "line 3, column 'fn': '' is not a whole number"),
    "word": (1, "dice", "n/a", "line 3, column 'dice': 'n/a' is not a number, inf or nan"),
}


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "scores.csv"
    write_scores(rows(), path)
    with path.open(newline="", encoding="utf-8") as file:
        return path, list(csv.reader(file))


def rewrite(path, lines):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    return path


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_named(table, fault):
    path, lines = table
    row, column, text, message = FAULTS[fault]
    lines[row + 1][SCORE_COLUMNS.index(column)] = text
    with pytest.raises(ScoreError, match=message) as raised:
        read_scores(rewrite(path, lines))
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_one_case_belongs_to_one_patient():
    counts = np.ones((1, 3, 4), int)
    options = {"diagonals": [9], "unit": "px", "split_side": "test", "leaky": False, "classes": ["b", "x", "y"]}
    frame = score_rows(counts, None, cases=CASES[:1], **options)
    frame.loc[1, "patient"] = "somebody else"
    with pytest.raises(ScoreError, match="column 'patient': somebody else differs from the case's first row"):
        write_scores(frame, Path("never.csv"))


def test_damaged_files_are_named(table, tmp_path):
    path, lines = table
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(ScoreError, match=r"scores.csv, line 5: \d+ fields under 41 columns"):
        read_scores(path)
    path.write_bytes(whole.replace("ä".encode(), b"\xff"))
    with pytest.raises(ScoreError, match="cannot read the score table"):
        read_scores(path)
    with pytest.raises(ScoreError, match=r"missing: \['dice'\], unknown: \['DSC'\]"):
        read_scores(rewrite(path, [["DSC" if name == "dice" else name for name in lines[0]], *lines[1:]]))
    with pytest.raises(ScoreError, match="all must stand once and in order"):
        read_scores(rewrite(path, [[*line, line[0]] for line in lines]))
    with pytest.raises(ScoreError, match="no rows"):
        read_scores(rewrite(path, lines[:1]))
    with pytest.raises(ScoreError, match="columns missing"):
        read_scores(rewrite(path, []))
    with pytest.raises(ScoreError, match=r"absent\.csv: cannot read"):
        read_scores(tmp_path / "absent.csv")


FIRST_VERSION = (
    "case,patient,domain,split_side,leaky,class_index,class_name,tp,fp,fn,tn,reference_size,prediction_size,dice,iou,"
    "sensitivity,specificity,precision,hd,hd95_directed_voxel,assd,diagonal,unit,empty_reference,empty_prediction\n"
)


def test_a_table_of_an_older_version_says_so(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text(FIRST_VERSION + "a,a,,test,0,1,nodule,1,0,0,3,1,1,1,1,1,1,1,0,0,0,2.8,px,0,0\n")
    with pytest.raises(ScoreError, match=r"scores\.csv: written by an older medseg .* `medseg evaluate run=FOLDER`"):
        read_scores(path)


def test_misshapen_input_is_named():
    with pytest.raises(ScoreError, match=r"counts has shape \(4, 2, 4\), but cases and classes ask for \(3, 2, 4\)"):
        rows(cases=CASES[:3])
    with pytest.raises(ScoreError, match=r"ece has shape \(3, 1\)"):
        rows(measured={"ece": [0.1, 0.2, 0.3]})
    with pytest.raises(ScoreError, match=r"unknown column hd95; there are hd_voxel, "):
        rows(measured={"hd95": [0, 0, 0, 0]})
    with pytest.raises(ScoreError, match=r"column 'split_lesions': dtype float64, must be whole numbers"):
        rows(measured={"split_lesions": [0.5, 0, 0, 0]})
    with pytest.raises(ScoreError, match=r"diagonals has shape \(1,\)"):
        rows(diagonals=[1.0])
    with pytest.raises(ScoreError, match=r"score rows, line 3 .* column 'case': 007 stands twice"):
        rows(cases=[CASES[0], *CASES[:3]])


def test_statistics_need_no_torch():
    """A table of a paper is rebuilt from the CSV alone, on a machine without torch."""
    code = (
        "import sys; import medseg.stats.table, medseg.stats.aggregate, medseg.stats.bootstrap;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'lightning', 'torchmetrics')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
