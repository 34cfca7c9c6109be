"""The layout writer: all or nothing, files as they were, nothing that the dataset's own checks would refuse."""

import csv
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medseg.data.checks import check_cases
from medseg.data.files import read_case, read_mask
from medseg.data.prepare.layout import Layout
from medseg.data.prepare.manifest import LONGEST_STEM, file_stem
from medseg.data.prepare.masks import map_values, read_label_picture
from medseg.data.sources.folder import read_manifest
from medseg.errors import DataError
from medseg.rng import generator

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)
MASK = np.zeros((6, 8), np.uint8)
MASK[2:4, 3:6] = 255
AFFINE = np.array([[-0.5, 0, 0, 10], [0, 0.5, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]])


def saved(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def prepared(target: Path, *cases: dict, provenance: dict | None = None) -> Path:
    with Layout(target, "set") as layout:
        for case in cases:
            layout.add(**case)
        return layout.finish(provenance or {})


def case(**changes: object) -> dict:
    return {"id": "a", "images": [GREY], "masks": [MASK], "group": "p1", **changes}


def test_the_dataset_is_complete_and_passes_its_own_checks(tmp_path):
    folder = prepared(tmp_path / "set", case(), case(id="b", group="p2", fold=3, domain="Toshiba", tirads="4a"))
    cases = read_manifest(folder)
    check_cases(cases, labels={0: 0, 255: 1}, channels=1)
    assert [(item.id, item.patient, item.fold, item.domain) for item in cases] == [
        ("a", "p1", "", ""), ("b", "p2", "3", "Toshiba"),
    ]  # fmt: skip
    assert [item.attributes["tirads"] for item in cases] == ["", "4a"]
    image, mask = read_case(cases[0], channels=1, labels={0: 0, 255: 1})
    assert (image[..., 0] == GREY).all()
    assert (mask == MASK // 255).all()
    assert not (tmp_path / "set.part").exists()
    assert sorted(path.name for path in folder.iterdir()) == [
        "SHA256SUMS", "images", "manifest.csv", "masks", "provenance.json",
    ]  # fmt: skip


def test_every_file_is_in_the_checksums_and_they_are_those_of_the_files(tmp_path):
    folder = prepared(tmp_path / "set", case(), case(id="b b"))
    lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    stated = {name: value for value, name in (line.split("  ", 1) for line in lines)}
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert set(stated) == set(files) - {"SHA256SUMS"}
    for name, value in stated.items():
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == value
    rows = list(csv.DictReader((folder / "manifest.csv").open(encoding="utf-8")))
    assert all(
        stated[row["image"]] == row["sha256_image"] and stated[row["mask"]] == row["sha256_mask"] for row in rows
    )


def test_provenance_tells_what_was_made_from_what(tmp_path):
    with Layout(tmp_path / "set", "tn3k") as layout:
        layout.add(**case())
        layout.note("said once")
        layout.note("said once")
        layout.leave_out("b.png", "no mask")
        folder = layout.finish({"sources": [{"name": "数据.zip"}], "options": {"fold": 1}})
    record = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert record["dataset"] == "tn3k"
    assert record["counts"] == {"cases": 1, "patients": 1, "left_out": 1}
    assert record["notes"] == ["said once"]
    assert record["left_out"] == {"b.png": "no mask"}
    assert record["sources"] == [{"name": "数据.zip"}]
    assert {"medseg", "date", "options"} <= set(record)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.jpeg", "a.bmp", "a.tif", "A.PNG"])
def test_images_are_copied_byte_for_byte(name, tmp_path):
    source = saved(tmp_path / "in" / name, GREY)
    folder = prepared(tmp_path / "set", case(images=[source]))
    (stored,) = (folder / "images").iterdir()
    assert stored.name == "a" + Path(name).suffix.lower()
    assert stored.read_bytes() == source.read_bytes()


def test_a_gif_becomes_a_png_with_the_same_pixels(tmp_path):
    source = saved(tmp_path / "in.gif", GREY * 5)
    folder = prepared(tmp_path / "set", case(images=[source], masks=[saved(tmp_path / "m.gif", MASK)]))
    assert (np.asarray(Image.open(folder / "images" / "a.png").convert("L")) == GREY * 5).all()


@pytest.mark.parametrize(
    ("pixels", "mode"),
    [(GREY, "L"), (np.stack([GREY, GREY + 1, GREY + 2], 2), "RGB"), (GREY.astype(np.uint16) * 300, "I;16")],
)
def test_arrays_are_stored_without_loss(pixels, mode, tmp_path):
    folder = prepared(tmp_path / "set", case(images=[pixels]))
    with Image.open(folder / "images" / "a.png") as picture:
        assert picture.mode == mode
        assert (np.asarray(picture) == pixels).all()


def test_a_jpeg_mask_is_thresholded_and_noted(tmp_path):
    mask = np.kron(MASK, np.ones((5, 5), np.uint8))
    source = saved(tmp_path / "m.jpg", mask, quality=40)
    assert len(np.unique(np.asarray(Image.open(source)))) > 2, "the test needs smeared edges"
    folder = prepared(tmp_path / "set", case(images=[mask], masks=[source]))
    stored = np.asarray(Image.open(folder / "masks" / "a.png"))
    assert (stored == mask).all()
    assert "127" in json.loads((folder / "provenance.json").read_text())["notes"][0]


def test_a_palette_mask_keeps_its_indices_not_its_colours(tmp_path):
    indices = MASK // 255 * 2
    picture = Image.frombytes("P", (8, 6), indices.tobytes())
    picture.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    picture.save(tmp_path / "m.png")
    folder = prepared(tmp_path / "set", case(masks=[tmp_path / "m.png"]))
    stored = Image.open(folder / "masks" / "a.png")
    assert stored.mode == "L"
    assert (np.asarray(stored) == indices).all()
    assert (read_mask(folder / "masks" / "a.png", labels={0: 0, 2: 1}) == MASK // 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA", "I;16"])
def test_masks_of_every_pixel_type_become_grey_png_with_their_values(mode, tmp_path):
    picture = Image.fromarray(MASK.astype(np.uint16)) if mode == "I;16" else Image.fromarray(MASK).convert(mode)
    picture.save(tmp_path / "m.png")
    folder = prepared(tmp_path / "set", case(masks=[tmp_path / "m.png"]))
    with Image.open(folder / "masks" / "a.png") as stored:
        assert (stored.format, stored.mode) == ("PNG", "L")
        assert (np.asarray(stored) == MASK).all()


def test_a_grey_png_mask_is_copied_byte_for_byte(tmp_path):
    source = saved(tmp_path / "m.png", MASK, compress_level=1, optimize=False)
    folder = prepared(tmp_path / "set", case(masks=[source]))
    assert (folder / "masks" / "a.png").read_bytes() == source.read_bytes()


def test_truth_values_become_0_and_255(tmp_path):
    folder = prepared(tmp_path / "set", case(masks=[MASK > 0]))
    assert (np.asarray(Image.open(folder / "masks" / "a.png")) == MASK).all()


def test_several_masks_stay_several_files_and_are_united_on_reading(tmp_path):
    other = np.zeros_like(MASK)
    other[0, 0] = 255
    folder = prepared(tmp_path / "set", case(masks=[MASK, other]))
    (item,) = read_manifest(folder)
    assert [path.name for path in item.masks] == ["a_0.png", "a_1.png"]
    assert (read_case(item, channels=1, labels={0: 0, 255: 1})[1] == (MASK | other) // 255).all()


def test_modalities_are_numbered_and_a_missing_one_stays_empty(tmp_path):
    folder = prepared(tmp_path / "set", case(images=[GREY, None, GREY + 1]))
    (row,) = csv.DictReader((folder / "manifest.csv").open(encoding="utf-8"))
    assert row["image"] == "images/a_0000.png;;images/a_0002.png"
    first, second, third = row["sha256_image"].split(";")
    assert second == ""
    assert first != third
    assert read_manifest(folder)[0].images[1] is None


def test_volumes_are_stored_with_their_geometry_and_the_same_bytes_each_time(tmp_path):
    import nibabel

    values = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    item = case(images=[values], masks=[values > 10], affine=AFFINE)
    folder = prepared(tmp_path / "set", item)
    image, mask = (nibabel.load(folder / name / "a.nii.gz") for name in ("images", "masks"))
    assert image.shape == (4, 3, 2)
    assert np.allclose(image.affine, AFFINE)
    assert np.allclose(image.header.get_zooms(), (0.5, 0.5, 3))
    assert image.get_fdata()[3, 1, 0] == values[0, 1, 3]
    assert (np.asarray(mask.dataobj) == (values > 10).transpose(2, 1, 0)).all()
    assert mask.get_data_dtype() == np.uint8
    again = prepared(tmp_path / "again", item)
    assert (again / "SHA256SUMS").read_text().splitlines()[:1] == (folder / "SHA256SUMS").read_text().splitlines()[:1]


def test_volume_files_are_copied_byte_for_byte_and_a_cut_one_is_refused(tmp_path):
    (tmp_path / "v.nii.gz").write_bytes(gzip.compress(os.urandom(5000)))
    source = tmp_path / "v.nii.gz"
    folder = prepared(tmp_path / "set", case(images=[source], masks=[source]))
    assert (folder / "masks" / "a.nii.gz").read_bytes() == source.read_bytes()
    source.write_bytes(source.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"v\.nii\.gz: file is unreadable or cut short"):
        prepared(tmp_path / "cut", case(images=[source], masks=[source]))


def test_a_detached_header_and_its_pixels_become_one_file(tmp_path):
    import SimpleITK

    volume = SimpleITK.GetImageFromArray(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    volume.SetSpacing((0.6, 0.7, 3.6))
    volume.SetOrigin((1, 2, 3))
    SimpleITK.WriteImage(volume, str(tmp_path / "Case00.mhd"))
    folder = prepared(tmp_path / "set", case(images=[tmp_path / "Case00.mhd"], masks=[tmp_path / "Case00.mhd"]))
    stored = SimpleITK.ReadImage(str(folder / "images" / "a.mha"))
    assert (SimpleITK.GetArrayFromImage(stored) == SimpleITK.GetArrayFromImage(volume)).all()
    assert (stored.GetSpacing(), stored.GetOrigin()) == (volume.GetSpacing(), volume.GetOrigin())
    (tmp_path / "Case00.raw").unlink()
    with pytest.raises(DataError, match="must lie beside it"):
        prepared(tmp_path / "b", case(images=[tmp_path / "Case00.mhd"], masks=[tmp_path / "Case00.mhd"]))


def test_a_dicom_series_is_copied_as_a_folder_and_hashed(tmp_path):
    series = tmp_path / "series"
    series.mkdir()
    for number in range(3):
        (series / f"{number}.dcm").write_bytes(bytes([number]))
    volume = np.zeros((3, 2, 2), np.uint8)
    folder = prepared(tmp_path / "set", case(images=[series], masks=[volume], affine=AFFINE))
    assert sorted(path.name for path in (folder / "images" / "a").iterdir()) == ["0.dcm", "1.dcm", "2.dcm"]
    assert "images/a/2.dcm" in (folder / "SHA256SUMS").read_text()


IDS = ["a b", "é", "e\u0301", "甲状腺 图像", "x" * 200, "图" * 200, "q;r", "what?", "C:x", "tab\tid", "a.b.c"]


def test_any_id_that_can_be_read_back_is_stored(tmp_path):
    cases = [case(id=name, group=f"p {name}") for name in IDS if name != "e\u0301"]
    folder = prepared(tmp_path / ("长 é " + "t" * 190), *cases)
    listed = read_manifest(folder)
    check_cases(listed, labels={0: 0, 255: 1}, channels=1)
    assert [item.id for item in listed] == [item["id"] for item in cases]


@given(st.text(min_size=1, max_size=300))
@settings(max_examples=100, deadline=None)
def test_file_stems_are_short_safe_and_differ_where_ids_differ(text):
    stem = file_stem(text)
    assert len(stem.encode("utf-8", "replace")) <= LONGEST_STEM
    assert not set(stem) & set(';<>:"|?*\n\0')
    assert stem != file_stem(text + "x")


@pytest.mark.parametrize("identifier", ["", " a", "a ", ".a", "a/b", "a\\b", "a\0b", "a\nb", "a\rb"])
def test_ids_that_cannot_name_a_file_are_refused(identifier, tmp_path):
    with pytest.raises(DataError, match="case id"):
        prepared(tmp_path / "set", case(id=identifier))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group": " "}, "'a' has no group"),
        ({"masks": []}, "'a' has no mask"),
        ({"images": [None]}, "'a' has no image"),
        ({"images": []}, "'a' has no image"),
        ({"sha256_image": "x"}, "layout's own"),
        ({"masks": [MASK[:-1]]}, "differ in size.*images 6x8, masks 5x8"),
        ({"images": [GREY, GREY[1:]]}, "differ in size"),
        ({"masks": [MASK.astype(float)]}, "whole numbers 0 to 255"),
        ({"masks": [MASK.astype(int) * 2]}, "whole numbers 0 to 255"),
        ({"masks": [np.zeros((2, 6, 8), np.uint8)]}, "a mask is a label map"),
        ({"images": [GREY.astype(float)]}, "an image is uint8"),
        ({"images": [GREY[:0]]}, "an image is uint8"),
        ({"images": [Path("none.png")]}, "none.png: file is missing"),
        ({"images": [Path("none.xyz")]}, "none.xyz: file is missing"),
        ({"affine": np.eye(3)}, "4 x 4 affine"),
    ],
)
def test_what_cannot_be_stored_is_named_and_nothing_is_left(changes, message, tmp_path):
    with pytest.raises(DataError, match=message):
        prepared(tmp_path / "set", case(id="first"), case(**changes))
    assert list(tmp_path.iterdir()) == []


def test_files_of_an_unknown_kind_are_refused(tmp_path):
    (tmp_path / "a.svg").write_text("<svg/>")
    with pytest.raises(DataError, match=r"a\.svg: files of the kind '\.svg' are not read"):
        prepared(tmp_path / "set", case(images=[tmp_path / "a.svg"]))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_cut_pictures_are_refused_as_image_and_as_mask(name, share, tmp_path):
    path = saved(tmp_path / "in" / name, generator(0, "noise").integers(0, 255, (40, 40)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    for changes in ({"images": [path]}, {"masks": [path]}):
        with pytest.raises(DataError, match=f"{name}: file is unreadable or cut short"):
            prepared(tmp_path / "set", case(**changes))


def test_a_coloured_mask_is_refused(tmp_path):
    path = saved(tmp_path / "m.png", np.stack([MASK, MASK, MASK * 0], 2))
    with pytest.raises(DataError, match="colour picture"):
        prepared(tmp_path / "set", case(masks=[path]))


def test_an_id_twice_and_names_that_only_some_file_systems_tell_apart_are_refused(tmp_path):
    with pytest.raises(DataError, match="'a' occurs more than once"):
        prepared(tmp_path / "set", case(), case())
    with pytest.raises(DataError, match="would share the file"):
        prepared(tmp_path / "set", case(), case(id="A"))
    with pytest.raises(DataError, match="would share the file"):
        prepared(tmp_path / "set", case(id="é"), case(id="e\u0301"))
    with pytest.raises(DataError, match="would share the file"):
        prepared(tmp_path / "set", case(masks=[MASK, MASK]), case(id="a_0"))


def test_an_existing_target_is_refused_and_left_alone(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match=r"set exists; remove or rename it.*--target"):
        Layout(tmp_path / "set", "set")
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["mine.txt"]
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match="link exists"):
        Layout(tmp_path / "link", "set")


def test_nothing_found_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no case was found"):
        prepared(tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_two_cannot_write_one_dataset_at_a_time(tmp_path):
    with Layout(tmp_path / "set", "set") as layout:
        layout.add(**case())
        with pytest.raises(DataError, match="another process is preparing"):
            Layout(tmp_path / "set", "set")
        assert layout.finish({}).is_dir()


def test_a_full_disk_and_a_place_that_is_none_are_one_line_and_leave_nothing(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    source = saved(tmp_path / "in.png", GREY)
    with pytest.raises(DataError, match=r"in\.png.*cannot be written"):
        Layout(source / "set", "set")
    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(DataError, match=r"case 'a': .*set\.part cannot be written .*No space left"):
        prepared(tmp_path / "set", case(images=[source]))
    monkeypatch.undo()
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match=r"set\.part cannot be written .*No space left"):
        prepared(tmp_path / "set", case())
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


def test_a_target_that_came_into_being_meanwhile_is_not_overwritten(tmp_path):
    with Layout(tmp_path / "set", "set") as layout:
        layout.add(**case())
        (tmp_path / "set").mkdir()
        with pytest.raises(DataError, match="came into being meanwhile"):
            layout.finish({})
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_kill_leaves_only_the_part_and_the_next_run_clears_it(tmp_path):
    code = f"""
import numpy as np, sys, time
from pathlib import Path
from medseg.data.prepare.layout import Layout
layout = Layout(Path({str(tmp_path / "set")!r}), "set")
layout.scratch.mkdir()
(layout.scratch / "unpacked.bin").write_bytes(b"x")
layout.add(id="old", images=[np.zeros((4, 4), np.uint8)], masks=[np.zeros((4, 4), np.uint8)], group="p")
print("ready", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        with pytest.raises(DataError, match="another process"):
            Layout(tmp_path / "set", "set")
        child.send_signal(signal.SIGKILL)
    assert [path.name for path in tmp_path.iterdir()] == ["set.part"]
    folder = prepared(tmp_path / "set", case(id="new"))
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert [path.name for path in (folder / "images").iterdir()] == ["new.png"]


def test_mask_values_are_exchanged_or_refused(tmp_path):
    path = saved(tmp_path / "m.png", MASK)
    labels, thresholded = read_label_picture(path, values={0: 0, 255: 3})
    assert not thresholded
    assert (labels == MASK // 255 * 3).all()
    with pytest.raises(DataError, match=r"m\.png: mask holds value\(s\) 255 outside \[0, 1\]"):
        read_label_picture(path, values={0: 0, 1: 1})
    assert (map_values(MASK > 0, {0: 7, 1: 8}, where="x") == np.where(MASK > 0, 8, 7)).all()
