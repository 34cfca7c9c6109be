"""Every preparer turns its official layout into cases with the right groups, masks and sides, and names a fault."""

import importlib
import inspect
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image

from fake_official import MAKERS, FakeHdf5, blob, ddti_report, grey, labels, nifti, picture, text
from medseg.commands.configuration import CONF
from medseg.data.cases import Case
from medseg.data.checks import check_list
from medseg.data.files import read_case, read_mask
from medseg.data.prepare.archives import opened
from medseg.data.prepare.layout import Layout
from medseg.data.prepare.official import Groups, binary_mask
from medseg.data.sources.folder import read_manifest
from medseg.data.splits import official
from medseg.data.volumes.files import read_label_volume, read_volume
from medseg.errors import ConfigError, DataError

THREE_D = ("msd", "acdc", "promise12", "brats")

EXPECTED: dict[str, dict[str, Any]] = {
    "tn3k": {"cases": 7, "groups": 6, "split": {"train": 4, "val": 1, "test": 2}},
    "tg3k": {"cases": 8, "groups": 3, "split": {"train": 5, "val": 3}},
    "tnscui": {"cases": 3, "groups": 3},
    "ddti": {"cases": 6, "groups": 3},
    "busi": {"cases": 4, "groups": 3},
    "stanford_cine": {"cases": 3, "groups": 2},
    "thyroidxl": {"cases": 4, "groups": 3, "split": {"train": 3, "test": 1}},
    "msd": {"cases": 2, "groups": 2, "values": {0, 1, 2}},
    "acdc": {"cases": 4, "groups": 2, "split": {"train": 2, "test": 2}, "values": {0, 1, 2, 3}},
    "promise12": {"cases": 3, "groups": 3, "split": {"train": 2, "test": 1}, "values": {0, 1}},
    "brats": {"cases": 3, "groups": 3, "values": {0, 1, 2, 4}},
    "lgg": {"cases": 4, "groups": 2},
    "drive": {"cases": 3, "groups": 3, "split": {"train": 2, "test": 1}},
    "chase_db1": {"cases": 3, "groups": 2},
    "isbi2012": {"cases": 12, "groups": 1, "split": {"train": 8, "val": 2, "test": 2}},
    "kvasir": {"cases": 2, "groups": 2},
    "isic": {"cases": 6, "groups": 5, "split": {"train": 2, "val": 2, "test": 2}},
    "chest_xray": {"cases": 3, "groups": 3},
}


@pytest.fixture(autouse=True)
def hdf5(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", SimpleNamespace(File=FakeHdf5))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "official"
    folder.mkdir()
    return folder


def prepared(name: str, source: Path, target: Path | None = None, **options: Any) -> dict[str, Case]:
    """Run a preparer and return the cases of the written set under their ids."""
    target = target or source.parent / "prepared"
    prepare = importlib.import_module(f"medseg.data.prepare.{name}").prepare
    with Layout(target, name) as layout:
        prepare(source, layout, **options)
        layout.finish({})
    cases = read_manifest(target)
    check_list(cases, name=name)
    return {case.id: case for case in cases}


def from_source(name: str, source: Path, target: Path) -> dict[str, Case]:
    """Prepare as the command does: archives are opened first."""
    with opened(source) as folder:
        return prepared(name, folder, target)


def record(source: Path) -> dict[str, Any]:
    return json.loads((source.parent / "prepared/provenance.json").read_text(encoding="utf-8"))


def values_of(case: Case) -> set[int]:
    if case.masks[0].suffix != ".png":
        found = [read_label_volume(path, labels={v: v for v in range(256)}).values for path in case.masks]
    else:
        found = [np.asarray(Image.open(path)) for path in case.masks]
    return {int(value) for values in found for value in np.unique(values)}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_official_layout_becomes_the_expected_cases_groups_values_and_sides(name: str, source: Path) -> None:
    MAKERS[name](source)
    before = sorted(path for path in source.rglob("*"))
    cases, expected = prepared(name, source), EXPECTED[name]
    assert len(cases) == expected["cases"]
    assert len({case.patient for case in cases.values()}) == expected["groups"]
    assert set().union(*map(values_of, cases.values())) == expected.get("values", {0, 255})
    sides = [case.attributes.get("split", "") for case in cases.values()]
    assert {side: sides.count(side) for side in set(sides)} == expected.get("split", {"": len(cases)})
    assert record(source)["notes"], "what a user has to know is in the provenance"
    assert sorted(path for path in source.rglob("*")) == before, "the source is not changed"
    assert not list((source.parent / "prepared").rglob(".unpacked"))


def test_every_maker_has_an_expectation() -> None:
    assert set(MAKERS) == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_folder_that_is_something_else_is_refused_in_one_line_that_says_what_is_there(
    name: str, source: Path
) -> None:
    text(source / "holiday/beach.txt", "")
    with pytest.raises(DataError, match=r"official archive, found here: holiday/") as caught:
        prepared(name, source)
    assert "\n" not in str(caught.value)
    assert not (source.parent / "prepared").exists()


def drop(pattern: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        found = sorted(root.rglob(pattern))
        assert found, pattern
        shutil.rmtree(found[0]) if found[0].is_dir() else found[0].unlink()

    return spoil


def strange_png(pattern: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        picture(sorted(root.rglob(pattern))[0], blob(value=77))

    return spoil


def strange_nifti(pattern: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        nifti(sorted(root.rglob(pattern))[0], labels([0, 1, 9]))

    return spoil


def other(path: str, content: str) -> Callable[[Path], None]:
    return lambda root: text(root / path, content)


FAULTS: list[tuple[str, Callable[[Path], None], str]] = [
    ("tn3k", drop("test-image"), r"TN3K has a folder 'test-image'"),
    ("tn3k", drop("trainval-mask/0002.jpg"), r"0002.jpg: TN3K has a mask for it"),
    ("tn3k", other("tn3k/tn3k-trainval-fold1.json", '{"train": [], "val": [9]}'), r"position 9, but there are 5"),
    ("tn3k", other("tn3k/tn3k-trainval-fold1.json", "{"), r"fold1.json: not readable as JSON"),
    ("tn3k", other("tn3k/label4test.csv", "0000.jpg,maybe"), r"line '0000.jpg,maybe' is not NAME,0"),
    ("tg3k", drop("thyroid-mask/0003.jpg"), r"0003.jpg: TG3K has a mask"),
    ("tg3k", other("tg3k/tg3k-trainval.json", '{"train": [99], "val": []}'), r"a list 'train' of positions in the 8"),
    ("tnscui", strange_png("mask/1.PNG"), r"1.PNG: mask holds value\(s\) \[77\]"),
    ("tnscui", other("TNSCUI2020_train/train.csv", "name,class\n0.PNG,1\n"), r"ID, CATE are expected, found: name"),
    ("ddti", other("1.xml", "<case><mark>"), r"1.xml: not readable as XML"),
    ("ddti", other("1.xml", '<!DOCTYPE a [<!ENTITY b "c">]><case/>'), r"declares entities"),
    ("busi", drop("benign (2)_mask.png"), r"'benign \(2\)_mask.png' beside it"),
    ("busi", drop("normal"), r"BUSI has a folder 'normal'"),
    ("stanford_cine", other("dataset.hdf5", "no HDF5"), r"dataset.hdf5: not readable as HDF5"),
    ("stanford_cine", drop("dataset.hdf5"), r"a file 'dataset.hdf5'"),
    ("thyroidxl", other("test/test_annotations.json", '{"info": {}}'), r"P9_0.png: .* names no patient for it"),
    ("thyroidxl", other("test/test_annotations.json", "[]"), r"PATIENT.* is expected"),
    ("thyroidxl", drop("train/masks/P1_0.png"), r"holds no 'P1_0'"),
    ("msd", drop("labelsTr/prostate_01.nii.gz"), r"named by dataset.json but missing"),
    ("msd", strange_nifti("labelsTr/prostate_00.nii.gz"), r"MSD: .*prostate_00.*value\(s\) 9"),
    ("msd", other("Task05_Prostate/dataset.json", '{"labels": {}}'), r"no dataset.json of the decathlon"),
    (
        "msd",
        other(
            "Task05_Prostate/dataset.json", '{"labels": {"0": "a"}, "training": [{"image": "../../x", "label": "y"}]}'
        ),
        r"'../../x' lies outside",
    ),
    ("acdc", drop("patient101/Info.cfg"), r"patient101: ACDC has 'Info.cfg' in it"),
    ("acdc", drop("patient001_frame12_gt.nii.gz"), r"'patient001_frame12_gt.nii.gz' for phase ES"),
    ("acdc", other("database/training/patient001/Info.cfg", "ED: first\n"), r"states no frame number for ED"),
    ("acdc", strange_nifti("patient001_frame01_gt.nii.gz"), r"ACDC: .*value\(s\) 9"),
    ("promise12", drop("training_data/Case13_segmentation.mhd"), r"'Case13_segmentation.mhd' beside it"),
    ("promise12", drop("training_data/Case13.raw"), r"Case13"),
    ("brats", drop("BraTS20_Training_001_t2.nii"), r"'BraTS20_Training_001_t2.nii.gz' is missing; missing=true"),
    ("brats", drop("BraTS2021_00000_seg.nii"), r"'BraTS2021_00000_seg.nii.gz' is missing"),
    ("brats", other("BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1n.nii.gz", ""), r"BraTS 2023 or later"),
    ("lgg", drop("TCGA_CS_4941_19960909_2_mask.tif"), r"2_mask.tif' beside it"),
    ("drive", drop("21_manual1.gif"), r"'21_manual1.gif' in 1st_manual"),
    ("chase_db1", drop("Image_01R_1stHO.png"), r"'Image_01R_1stHO.png' beside it"),
    ("isbi2012", drop("train-labels.tif"), r"a file 'train-labels.tif'"),
    ("isbi2012", lambda root: picture(root / "train-labels.tif", blob()), r"labels are \(1, 24, 30\), images \(12"),
    ("isbi2012", other("train-volume.tif", "cut"), r"not readable as a stack"),
    ("kvasir", drop("masks/cju0qkwl35piu0993l0dewei2.jpg"), r"Kvasir-SEG has a mask for it"),
    ("isic", drop("ISIC_0000010_segmentation.png"), r"holds no 'ISIC_0000010_segmentation'"),
    ("isic", other("metadata.csv", "isic_id,age\nISIC_0000000,3\n"), r"patient_id or lesion_id"),
    ("chest_xray", drop("rightMask/MCUCXR_0001_0.png"), r"one in rightMask are expected, found \['leftmask'\]"),
]


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    FAULTS,
    ids=[f"{name}-{number}" for number, (name, *_) in enumerate(FAULTS)],
)
def test_a_spoilt_layout_gives_one_clear_line(
    name: str, spoil: Callable[[Path], None], message: str, source: Path
) -> None:
    MAKERS[name](source)
    spoil(source)
    with pytest.raises(DataError, match=message) as caught:
        prepared(name, source)
    assert "\n" not in str(caught.value)
    assert not (source.parent / "prepared").exists()


def test_tn3k_keeps_equal_names_apart_and_flags_a_picture_that_is_in_both_parts(source: Path) -> None:
    MAKERS["tn3k"](source)
    cases = prepared("tn3k", source, fold=2)
    assert cases["trainval_0000"].patient == cases["test_0001"].patient
    assert cases["trainval_0002"].attributes["split"] == "val"
    assert cases["trainval_0003"].attributes["val_fold"] == "3"
    assert cases["trainval_0001"].attributes["label"] == "malignant"
    assert official(list(cases.values()), seed=0)[1].leaky
    assert "no patient ids" in record(source)["notes"][0]


def test_tn3k_without_folds_and_diagnoses_leaves_val_to_the_split(source: Path) -> None:
    MAKERS["tn3k"](source)
    for path in [*source.rglob("*.json"), *source.rglob("*.csv"), source / "tn3k/test-image/0001.jpg"]:
        path.unlink()
    cases = prepared("tn3k", source)
    assert {case.attributes["split"] for case in cases.values()} == {"train", "test"}
    assert not official(list(cases.values()), seed=0)[1].leaky


def test_a_jpeg_mask_is_stored_without_loss_as_it_was_drawn(source: Path) -> None:
    MAKERS["kvasir"](source)
    for case in prepared("kvasir", source).values():
        assert np.array_equal(read_mask(case.masks[0], labels={0: 0, 255: 255}), blob())


def test_tg3k_never_cuts_a_clip_in_its_own_division(source: Path) -> None:
    MAKERS["tg3k"](source)
    cases = list(prepared("tg3k", source).values())
    by_clip: dict[str, set[str]] = {}
    for case in cases:
        by_clip.setdefault(case.patient, set()).add(case.attributes["split_by_clip"])
    assert by_clip == {"clip01": {"train"}, "clip02": {"train"}, "clip03": {"test"}}
    split = official(cases, seed=0, column="split_by_clip", val_fraction=0)[1]
    assert not split.leaky
    assert any("cuts clip02 in two" in note for note in record(source)["notes"])


def test_ddti_draws_every_contour_and_joins_cases_that_show_one_picture(source: Path) -> None:
    MAKERS["ddti"](source)
    cases = prepared("ddti", source)
    mask = np.asarray(Image.open(cases["ddti_1_1"].masks[0])) > 0
    expected = np.zeros(mask.shape, bool)
    expected[3:8, 2:7] = expected[10:17, 12:19] = True  # fillPoly includes the outline
    assert np.array_equal(mask, expected)
    assert cases["ddti_1_1"].attributes["contours"] == "2"
    assert cases["ddti_1_1"].attributes["tirads"] == "4a"
    groups = {name: case.patient for name, case in cases.items()}
    assert groups["ddti_1_1"] == groups["ddti_1_2"] == "case1"
    assert groups["ddti_2_1"] == groups["ddti_7_1"], "equal files"
    assert groups["ddti_353_1"] == groups["ddti_396_1"], "known to show one picture"
    assert set(record(source)["left_out"]) == {"3_1", "3_2", "4_1"}


def test_overlapping_contours_of_ddti_do_not_cancel_each_other(source: Path) -> None:
    square = '{"points": [{"x": 5, "y": 5}, {"x": 15, "y": 5}, {"x": 15, "y": 15}, {"x": 5, "y": 15}]}'
    picture(source / "1_1.jpg", grey(1))
    text(source / "1.xml", ddti_report(1, [(1, f"[{square}]"), (1, f"[{square}]")]))
    case = prepared("ddti", source)["ddti_1_1"]
    assert (np.asarray(Image.open(case.masks[0])) > 0).sum() == 121


def test_ddti_stops_at_damaged_contours_if_told_to(source: Path) -> None:
    MAKERS["ddti"](source)
    with pytest.raises(DataError, match=r"3.xml: contours of 3_1.jpg are damaged \(JSONDecodeError\)"):
        prepared("ddti", source, damaged="error")


def test_busi_unites_masks_and_groups_copies_across_classes(source: Path) -> None:
    MAKERS["busi"](source)
    cases = prepared("busi", source)
    assert len(cases["busi_benign_001"].masks) == 2
    assert cases["busi_benign_002"].patient == cases["busi_malignant_001"].patient
    assert cases["busi_normal_001"].attributes["label"] == "normal"
    assert values_of(cases["busi_normal_001"]) == {0}


def test_stanford_keeps_every_nth_frame_and_both_nodules_of_a_patient_together(source: Path) -> None:
    MAKERS["stanford_cine"](source)
    cases = prepared("stanford_cine", source, every=2)
    assert [name for name in cases if "103" in name] == [f"stanford_103_{n:04d}" for n in (1, 3, 5)]
    assert {case.patient for name, case in cases.items() if "103" not in name} == {"patient10"}
    assert cases["stanford_10_1_0001"].attributes["ti_rads_level"] == "4"
    with pytest.raises(ConfigError, match="every=0"):
        prepared("stanford_cine", source, source.parent / "again", every=0)


def test_without_h5py_the_line_says_how_to_get_it(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MAKERS["stanford_cine"](source)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match="pip install h5py"):
        prepared("stanford_cine", source)


def test_stanford_arrays_of_different_length_are_refused(source: Path) -> None:
    MAKERS["stanford_cine"](source)
    with np.load(source / "dataset.hdf5") as store:
        arrays = dict(store)
    arrays["mask"] = arrays["mask"][:-1]
    with (source / "dataset.hdf5").open("wb") as stream:
        np.savez(stream, **arrays)
    with pytest.raises(DataError, match="differ in length"):
        prepared("stanford_cine", source)


def test_msd_keeps_channels_and_spacing_and_refuses_another_task(source: Path) -> None:
    MAKERS["msd"](source)
    case = prepared("msd", source, task="Task05_Prostate", classes=3)["prostate_00"]
    volume = read_volume(case.images[0])
    assert volume.values.shape == (2, 4, 5, 6)
    assert volume.grid.spacing == pytest.approx((3.6, 0.6, 0.6))
    assert record(source)["left_out"] == {"prostate_03": "test image whose labels are not published"}
    with pytest.raises(DataError, match="Task09_Spleen is expected"):
        prepared("msd", source, source.parent / "again", task="Task09_Spleen")
    with pytest.raises(DataError, match="declares 3 labels"):
        prepared("msd", source, source.parent / "again", classes=2)


def test_acdc_takes_the_two_labelled_frames_and_the_diagnosis(source: Path) -> None:
    MAKERS["acdc"](source)
    cases = prepared("acdc", source)
    assert list(cases) == ["patient101_ED", "patient101_ES", "patient001_ED", "patient001_ES"]
    assert cases["patient001_ES"].attributes["pathology"] == "DCM"
    assert cases["patient101_ED"].attributes["split"] == "test"
    assert cases["patient101_ED"].patient == cases["patient101_ES"].patient == "patient101"


def test_promise12_becomes_one_file_a_volume_with_its_spacing_and_site(source: Path) -> None:
    MAKERS["promise12"](source)
    cases = prepared("promise12", source)
    assert read_volume(cases["Case00"].images[0]).grid.spacing == pytest.approx((3.6, 0.625, 0.625))
    assert (cases["Case00"].domain, cases["Case13"].domain) == ("BIDMC", "RUNMC")
    assert set(record(source)["left_out"]) == {"test_Case01"}


def test_sets_that_come_as_several_archives_are_read_from_them(source: Path, tmp_path: Path) -> None:
    for name, folders in (
        ("promise12", ["training_data", "test_data"]),
        ("isic", [f"ISIC2018_Task1-2_{side}_Input" for side in ("Training", "Validation", "Test")]
                 + [f"ISIC2018_Task1_{side}_GroundTruth" for side in ("Training", "Validation", "Test")]),
        ("drive", ["training", "test"]),
        ("chest_xray", ["MontgomerySet", "ChinaSet_AllFiles", "mask"]),
    ):  # fmt: skip
        plain, packed = tmp_path / name / "plain", tmp_path / name / "packed"
        MAKERS[name](plain)
        packed.mkdir()
        home = plain / "DRIVE" if name == "drive" else plain
        for folder in folders:
            shutil.make_archive(str(packed / folder), "zip", home, folder)
        if name == "isic":
            shutil.copy(plain / "metadata.csv", packed)
        from_folders, from_archives = (
            from_source(name, folder, tmp_path / name / f"to_{folder.name}") for folder in (plain, packed)
        )
        assert set(from_folders) == set(from_archives)
        for identifier, case in from_folders.items():
            assert case.patient == from_archives[identifier].patient
            assert case.attributes == from_archives[identifier].attributes


def test_brats_orders_channels_reads_the_odd_segmentation_and_the_table(source: Path) -> None:
    MAKERS["brats"](source)
    cases = prepared("brats", source)
    case = cases["BraTS20_Training_001"]
    means = [float(read_volume(path).values.mean()) for path in case.images]
    official_means = [
        float(
            read_volume(source / "MICCAI_BraTS2020_TrainingData" / case.id / f"{case.id}_{channel}.nii").values.mean()
        )
        for channel in ("t1", "t1ce", "t2", "flair")
    ]
    assert means == official_means
    assert (case.domain, case.attributes["grade"]) == ("CBICA", "HGG")
    assert values_of(cases["BraTS20_Training_355"]) == {0, 1, 2, 4}


def test_brats_records_a_missing_sequence_if_told_to(source: Path) -> None:
    MAKERS["brats"](source)
    next(source.rglob("BraTS20_Training_001_t2.nii")).unlink()
    case = prepared("brats", source, missing=True)["BraTS20_Training_001"]
    assert [image is None for image in case.images] == [False, False, True, False]


def test_lgg_groups_slices_by_patient_and_keeps_the_institution(source: Path) -> None:
    MAKERS["lgg"](source)
    cases = prepared("lgg", source)
    assert {case.patient for case in cases.values()} == {"TCGA_CS_4941", "TCGA_HT_7473"}
    assert cases["TCGA_CS_4941_19960909_3"].attributes["slice"] == "3"
    assert cases["TCGA_HT_7473_19970826_1"].domain == "HT"


def test_drive_leaves_out_what_an_observer_did_not_outline(source: Path) -> None:
    MAKERS["drive"](source)
    assert list(prepared("drive", source, observer=2)) == ["drive_01"]
    shutil.rmtree(source / "DRIVE/test/1st_manual")
    assert sorted(prepared("drive", source, source.parent / "again")) == ["drive_21", "drive_22"]
    with pytest.raises(ConfigError, match="observer=3"):
        prepared("drive", source, source.parent / "third", observer=3)


def test_isbi2012_is_one_group_whose_blocks_are_flagged(source: Path) -> None:
    MAKERS["isbi2012"](source)
    cases = list(prepared("isbi2012", source).values())
    assert [case.attributes["split"] for case in cases] == ["train"] * 8 + ["val"] * 2 + ["test"] * 2
    assert official(cases, seed=0)[1].leaky
    assert np.array_equal(np.asarray(Image.open(cases[0].masks[0])), 255 - blob())


def test_isic_uses_lesions_where_a_table_names_them(source: Path) -> None:
    MAKERS["isic"](source)
    cases = prepared("isic", source)
    assert cases["ISIC_0000000"].patient == cases["ISIC_0000001"].patient
    assert "for 4 of 6 images" in record(source)["notes"][0]


def test_chest_xray_unites_both_lungs_and_leaves_out_what_has_no_mask(source: Path) -> None:
    MAKERS["chest_xray"](source)
    cases = prepared("chest_xray", source)
    assert len(cases["MCUCXR_0001_0"].masks) == 2
    assert (cases["MCUCXR_0104_1"].domain, cases["MCUCXR_0104_1"].attributes["label"]) == ("montgomery", "tuberculosis")
    assert list(record(source)["left_out"]) == ["CHNCXR_0330_1"]


@pytest.mark.parametrize("values", [{0, 1}, {0, 255}, {0}, {255}])
def test_lossless_masks_of_two_values_become_0_and_255(values: set[int], tmp_path: Path) -> None:
    pixels = np.zeros((4, 5), np.uint8)
    pixels[1:3] = max(values)
    if values == {255}:
        pixels[:] = 255
    picture(tmp_path / "mask.png", pixels)
    assert np.array_equal(binary_mask(tmp_path / "mask.png"), np.where(pixels > 0, 255, 0))


def test_a_gif_mask_goes_by_its_colours_not_by_the_order_of_its_palette(tmp_path: Path) -> None:
    palette = Image.fromarray((blob() == 0).astype(np.uint8), "P")  # index 0 is the foreground
    palette.putpalette([255, 255, 255, 0, 0, 0])
    palette.save(tmp_path / "mask.gif")
    assert np.array_equal(binary_mask(tmp_path / "mask.gif"), blob())


def test_groups_join_through_others_and_are_named_by_their_first() -> None:
    groups = Groups(["a10", "a9", "b", "c"])
    groups.join("a10", "b")
    groups.join("b", "a9")
    assert [groups.of(name) for name in ("a10", "a9", "b", "c")] == ["a9", "a9", "a9", "c"]
    assert groups.joined == 2


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=12))
def test_groups_are_the_connected_parts_of_what_was_joined(pairs: list[tuple[int, int]]) -> None:
    groups = Groups(str(number) for number in range(9))
    reach = np.eye(9, dtype=bool)
    for one, other in pairs:
        groups.join(str(one), str(other))
        reach[one, other] = reach[other, one] = True
    reach = np.linalg.matrix_power(reach.astype(int), 9) > 0
    for number in range(9):
        assert groups.of(str(number)) == str(np.flatnonzero(reach[number])[0])


MINE = [
    "tn3k", "tnscui2020", "tg3k", "stanford_cine", "thyroidxl", "promise12", "brats", "lgg", "isbi2012", "kvasir",
    "isic2018", "chest_xray", "msd_brain_tumour", "msd_heart", "msd_liver", "msd_prostate", "msd_lung", "msd_pancreas",
    "msd_hepatic_vessel", "msd_spleen", "msd_colon",
]  # fmt: skip


@pytest.mark.parametrize("name", MINE)
def test_a_dataset_is_described_completely_and_names_a_preparer_that_takes_its_settings(name: str) -> None:
    config = OmegaConf.to_container(OmegaConf.load(CONF / "data" / f"{name}.yaml"), resolve=False)
    card, about = config["card"], config["about"]
    assert card["name"] == name
    assert config["source"]["root"] == f"${{paths.data}}/{name}"
    assert sorted(set(config["labels"].values())) == list(range(card["num_classes"]))
    assert card["citation"] and card["licence"] and card["modality"]
    assert (card["spatial_dims"] == 3) == ("patch" in card) == (card["unit"] == "mm")
    assert set(about) == {"title", "homepage", "access", "steps", "expected", "official_split", "prepare", "fetch"}
    assert about["access"] in ("public", "registration", "request")
    assert about["homepage"].startswith("http") and f"medseg data prepare {name}" in about["steps"]
    assert set(about["expected"]) == {"cases", "patients"}
    settings = {key: value for key, value in about["prepare"].items() if not key.startswith("_")}
    assert about["prepare"]["_partial_"] is True
    module, _, function = about["prepare"]["_target_"].rpartition(".")
    signature = inspect.signature(getattr(importlib.import_module(module), function))
    signature.bind(Path(), None, **settings)
    for remote in about["fetch"] if isinstance(about["fetch"], list) else [about["fetch"]]:
        assert remote is None or (set(remote) == {"url", "sha256", "bytes"} and remote["url"].startswith("https://"))


@pytest.mark.parametrize("name", ["tn3k", "msd_prostate", "brats", "isbi2012", "lgg"])
def test_a_prepared_set_is_read_as_its_card_says(name: str, source: Path) -> None:
    config = OmegaConf.to_container(OmegaConf.load(CONF / "data" / f"{name}.yaml"), resolve=False)
    maker = config["about"]["prepare"]["_target_"].split(".")[-2]
    settings = {key: value for key, value in config["about"]["prepare"].items() if not key.startswith("_")}
    MAKERS[maker](source)
    labels = {int(value): int(index) for value, index in config["labels"].items()}
    found: set[int] = set()
    for case in prepared(maker, source, **settings).values():
        if config["card"]["spatial_dims"] == 3:
            parts = [read_volume(path).values for path in case.images if path is not None]
            assert sum(map(len, parts)) == config["card"]["in_channels"]
            found |= set(np.unique(read_label_volume(case.masks[0], labels=labels).values).tolist())
        else:
            image, mask = read_case(case, channels=config["card"]["in_channels"], labels=labels)
            assert image.shape[2] == config["card"]["in_channels"]
            found |= set(np.unique(mask).tolist())
    assert found == set(range(config["card"]["num_classes"]))


def test_archives_without_a_folder_inside_are_told_apart_by_their_names(source: Path, tmp_path: Path) -> None:
    MAKERS["promise12"](source)
    for folder in ("training_data", "test_data"):
        shutil.make_archive(str(tmp_path / "packed" / folder), "zip", source / folder)
    cases = from_source("promise12", tmp_path / "packed", tmp_path / "prepared")
    assert {name: case.attributes["split"] for name, case in cases.items()} == {
        "Case00": "train",
        "Case13": "train",
        "test_Case00": "test",
    }
