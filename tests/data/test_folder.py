"""Manifest and plain folders to cases, and the checks on them."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fakes import draw_pair, write_dataset, write_manifest, write_pair
from medseg.data.checks import check_cases, check_list
from medseg.data.sources.folder import read_folder, read_manifest
from medseg.errors import ConfigError, DataError

LABELS = {0: 0, 255: 1}


def checked(root: Path) -> None:
    check_cases(read_manifest(root), labels=LABELS, channels=1, name="fake")


def test_manifest_rows_become_cases(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, patients=3)
    cases = read_manifest(root)
    assert [case.id for case in cases][:3] == ["p00_0", "p00_1", "p01_0"]
    assert cases[0].patient == "p00" and cases[0].fold == "0" and cases[0].twin is None
    assert cases[0].images == (root / "images/p00_0.png",) and cases[0].masks == (root / "masks/p00_0.png",)
    assert set(cases[0].attributes) == {"split", "fg_fraction"}
    checked(root)


def test_modalities_domain_and_byte_order_mark(tmp_path: Path) -> None:
    text = "id,image,mask,group,domain\na,x.png; y.png,m.png,p1,scanner_b\n"
    (tmp_path / "manifest.csv").write_text(text, encoding="utf-8-sig")
    (case,) = read_manifest(tmp_path)
    assert [path.name for path in case.images] == ["x.png", "y.png"]
    assert case.domain == "scanner_b" and case.fold == ""


def test_absent_root_names_path_variable_and_remedy(tmp_path: Path) -> None:
    for reader in (read_manifest, read_folder):
        with pytest.raises(DataError, match=r"nowhere does not exist; set MEDSEG_DATA .*data=phantom"):
            reader(tmp_path / "nowhere")


def test_manifest_faults(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.csv: manifest is missing; write one with the columns id,image"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.csv").write_text("id,image,mask\na,b,c\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"lacks the column\(s\) group; found id, image, mask"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.csv").write_text("id,image,mask,group\na,b,c,d,e\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 2: row has more or fewer fields"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.csv").write_text("id,image,mask,group\n,b,c,d\n", encoding="utf-8")
    with pytest.raises(DataError, match="column 'id' is empty"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.csv").write_bytes(b"id,image,mask,group\n\xff\xfe,b,c,d\n")
    with pytest.raises(DataError, match="not readable as UTF-8"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.csv").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="found none"):
        read_manifest(tmp_path)


def test_no_rows_is_an_empty_dataset(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("id,image,mask,group\n", encoding="utf-8")
    with pytest.raises(DataError, match="dataset 'fake' has no cases"):
        checked(tmp_path)


@pytest.mark.parametrize("column", ["mask", "image"])
def test_missing_file_is_named_and_others_counted(tmp_path: Path, column: str) -> None:
    root = write_dataset(tmp_path)
    for stem in ("p01_0", "p03_1"):
        (root / f"{column}s/{stem}.png").unlink()
    with pytest.raises(
        DataError, match=rf"{column}s/p01_0\.png: file of case 'p01_0' is missing.*\(1 more problem"
    ) as error:
        checked(root)
    assert "\n" not in str(error.value)


def test_group_missing_id_twice_and_bad_id(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, patients=2, images_per_patient=1)
    row = {"id": "a", "image": "images/p00_0.png", "mask": "masks/p00_0.png", "group": "p"}
    write_manifest(root, [row, {**row, "id": "b", "group": ""}])
    with pytest.raises(DataError, match="case 'b' has no group .*splits can leak"):
        checked(root)
    write_manifest(root, [row, row])
    with pytest.raises(DataError, match="case id 'a' occurs more than once"):
        checked(root)
    write_manifest(root, [row, {**row, "id": "../b"}])
    with pytest.raises(DataError, match="cannot name a file"):
        checked(root)
    write_manifest(root, [row, {**row, "id": "b", "mask": ""}])
    with pytest.raises(DataError, match="case 'b' .* has no mask"):
        check_list(read_manifest(root), name="fake")


def test_all_decoding_problems_are_collected(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, patients=4, images_per_patient=1)
    Image.fromarray(np.full((40, 48), 7, np.uint8)).save(root / "masks/p01_0.png")
    (root / "images/p02_0.png").write_bytes((root / "images/p02_0.png").read_bytes()[:200])
    Image.fromarray(np.zeros((40, 47), np.uint8)).save(root / "masks/p03_0.png")
    with pytest.raises(
        DataError, match=r"p01_0\.png: mask holds value\(s\) 7 .*\(2 more problem\(s\) in dataset 'fake'\)"
    ):
        checked(root)


def test_plain_folder_needs_its_patients_declared(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, patients=2, manifest=False)
    with pytest.raises(DataError, match="leak patients .*patient_pattern=.* or data.source.one_image_per_patient=true"):
        read_folder(root)
    by_pattern = read_folder(root, patient_pattern="^(p[0-9]+)_")
    assert [case.patient for case in by_pattern] == ["p00", "p00", "p01", "p01"]
    each = read_folder(root, one_image_per_patient=True)
    assert [case.patient for case in each] == ["p00_0", "p00_1", "p01_0", "p01_1"]
    check_cases(each, labels=LABELS, channels=1)
    with pytest.raises(DataError, match="no patient found in 'p00_0'"):
        read_folder(root, patient_pattern="^(q[0-9]+)")
    with pytest.raises(ConfigError, match="has no \\(group\\)"):
        read_folder(root, patient_pattern="^p")
    with pytest.raises(ConfigError, match="no regular expression"):
        read_folder(root, patient_pattern="^(p")
    with pytest.raises(ConfigError, match="exclude each other"):
        read_folder(root, patient_pattern="^(p)", one_image_per_patient=True)


def test_plain_folder_faults(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="images: folder is missing"):
        read_folder(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="images: folder is empty"):
        read_folder(tmp_path)
    for stem in ("a", "b"):
        write_pair(tmp_path, stem, *draw_pair(1))
    (tmp_path / "masks/b.png").unlink()
    with pytest.raises(DataError, match=r"case 'b' \(.*images/b\.png\) has no mask"):
        check_list(read_folder(tmp_path, one_image_per_patient=True), name="fake")
    (tmp_path / "images/a.bmp").write_bytes(b"")
    with pytest.raises(DataError, match="same stem as a.bmp"):
        read_folder(tmp_path, one_image_per_patient=True)


def test_folder_with_manifest_uses_it(tmp_path: Path) -> None:
    assert read_folder(write_dataset(tmp_path)) == read_manifest(tmp_path)


def real(name: str) -> Path:
    root = Path(os.environ.get("MEDSEG_DATA", Path(__file__).parents[3] / "shared" / "data")) / name
    if not (root / "manifest.csv").is_file():
        pytest.skip(f"{name} absent: set MEDSEG_DATA to the folder that holds it")
    return root


@pytest.mark.parametrize(("name", "cases", "patients", "fold0"), [("ddti", 504, 302, 126), ("busi", 559, 533, 112)])
def test_real_ultrasound_counts(name: str, cases: int, patients: int, fold0: int) -> None:
    found = read_manifest(real(name))
    assert len(found) == cases
    assert len({case.patient for case in found}) == patients
    assert sum(case.fold == "0" for case in found) == fold0
    check_list(found, name=name)
    check_cases(found[::25], labels=LABELS, channels=1, name=name)


def test_real_colour_fundus() -> None:
    found = read_manifest(real("drive"))
    assert [sum(case.attributes["split"] == side for case in found) for side in ("train", "test")] == [20, 20]
    check_cases(found[::10], labels=LABELS, channels=3, name="drive")


def test_groups_that_an_audit_found_to_belong_together_become_one(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "set", patients=3, images_per_patient=1)
    table = tmp_path / "groups.csv"
    table.write_text("group,belongs_to\np00,p00\np02,p00\n", encoding="utf-8")
    assert [case.patient for case in read_manifest(root, groups=table)] == ["p00", "p01", "p00"]


def test_a_table_of_groups_of_another_dataset_is_refused(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "set", patients=3, images_per_patient=1)
    table = tmp_path / "groups.csv"
    table.write_text("group,belongs_to\nx,p00\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"groups.csv: group 'x' is not in .*manifest.csv"):
        read_manifest(root, groups=table)
    with pytest.raises(DataError, match=r"none.csv: table is missing; correct data.source.groups"):
        read_manifest(root, groups=tmp_path / "none.csv")
    table.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"groups.csv: table lacks the column\(s\) group, belongs_to; found a, b"):
        read_manifest(root, groups=table)
