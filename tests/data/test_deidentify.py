"""No identity survives in a DICOM file: not in a tag, a private block, a UID, the header, or the pixels."""

import csv
import re
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from fake_phi import KINDS, UID_ROOT, planted_file
from fake_screens import bare_screen, draw_screen
from medseg.commands.datasets.deidentify import deidentify, main
from medseg.data.deidentify import Pseudonyms, deidentify_dicom, deidentify_picture
from medseg.data.deidentify_tags import ACTIONS
from medseg.errors import ConfigError, DataError

NAMES = Pseudonyms(b"a secret of the tests")


@pytest.fixture(scope="module")
def screen() -> np.ndarray:
    return draw_screen(1, inside=True).image[..., 0]


@pytest.fixture(scope="module")
def tissue() -> np.ndarray:
    return bare_screen(1).image[..., 0]


def traces(data: bytes) -> list[str]:
    """Every planted value, or a part of one, that stands in the bytes."""
    parts = {part for value in KINDS.values() for part in (value, *re.split(r"[ @]", value)) if len(part) > 4}
    parts |= {UID_ROOT, "ZOLTANOVA", "^ZOE"}
    return sorted(part for part in parts if part.encode() in data)


def test_the_table_names_all_18_kinds_and_the_makers_plant_them(tmp_path: Path, tissue: np.ndarray) -> None:
    assert len(KINDS) == 18
    assert {kind for _, kind in ACTIONS.values()} == set(KINDS)
    data = planted_file(tmp_path / "in.dcm", tissue).read_bytes()
    assert [value for value in KINDS.values() if value.encode() not in data] == []


def test_no_planted_value_is_left_in_the_bytes_of_the_output(tmp_path: Path, tissue: np.ndarray) -> None:
    source = planted_file(tmp_path / "ZOLTANOVA.dcm", tissue)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the reader's own warnings quote values
        outcome = deidentify_dicom(source, tmp_path / "out", names=NAMES)
    assert outcome.flags == ()
    assert traces(repr(outcome).encode()) == []
    written = tmp_path / "out" / outcome.name
    assert traces(written.read_bytes()) == []
    made = pydicom.dcmread(written)
    assert made.preamble == b"\0" * 128
    assert (made.PatientIdentityRemoved, made.BurnedInAnnotation) == ("YES", "NO")
    assert [item.CodeValue for item in made.DeidentificationMethodCodeSequence] == ["113100", "113101"]
    assert not [element for element in made.iterall() if element.tag.is_private or 0x5000 <= element.tag.group < 0x6100]
    assert list(made.ImageType) == ["ORIGINAL", "PRIMARY"], "a coded string may only have known values"
    assert (made.StudyDate, made.PatientBirthDate, made.AccessionNumber) == ("", "", "")


def test_relations_between_uids_are_kept_and_another_salt_gives_others(tmp_path: Path, tissue: np.ndarray) -> None:
    made = []
    for number, names in ((1, NAMES), (2, NAMES), (1, Pseudonyms(b"another"))):
        source = planted_file(tmp_path / f"{number}.dcm", tissue, number=number)
        folder = tmp_path / f"out{len(made)}"
        made.append(pydicom.dcmread(folder / deidentify_dicom(source, folder, names=names).name))
    first, second, other = made
    assert first.StudyInstanceUID == second.StudyInstanceUID != other.StudyInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID != first.StudyInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert second.ReferencedImageSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID
    assert first.SOPClassUID == pydicom.uid.UltrasoundImageStorage, "UIDs of the standard stay"
    assert all(pydicom.uid.UID(uid).is_valid for uid in (first.StudyInstanceUID, other.SOPInstanceUID))
    assert first.PatientID == second.PatientID != other.PatientID


def test_dates_are_shifted_by_the_patients_own_days(tmp_path: Path, tissue: np.ndarray) -> None:
    source = planted_file(tmp_path / "in.dcm", tissue)
    outcome = deidentify_dicom(source, tmp_path / "out", names=NAMES, dates="shift")
    made = pydicom.dcmread(tmp_path / "out" / outcome.name)
    assert re.fullmatch(r"\d{8}", made.StudyDate)
    assert KINDS["dates"] != made.StudyDate == made.ContentDate
    assert made.LongitudinalTemporalInformationModified == "MODIFIED"
    assert traces((tmp_path / "out" / outcome.name).read_bytes()) == []
    with pytest.raises(ConfigError, match="dates='keep'"):
        deidentify_dicom(source, tmp_path / "out", names=NAMES, dates="keep")


# ---- pixels


def test_burnt_in_text_goes_and_the_scan_stays(tmp_path: Path, screen: np.ndarray) -> None:
    outcome = deidentify_dicom(planted_file(tmp_path / "in.dcm", screen), tmp_path / "out", names=NAMES)
    assert outcome.flags == ()
    pixels = pydicom.dcmread(tmp_path / "out" / outcome.name).pixel_array
    assert pixels.shape == screen.shape
    assert pixels[:40].max() == 0, "the lines with the name"
    assert (pixels[50:100, 130:300] == screen[50:100, 130:300]).mean() > 0.99


def test_every_frame_of_a_clip_and_colour_are_cleaned(tmp_path: Path, screen: np.ndarray) -> None:
    clip = np.stack([screen, np.roll(screen, 1, axis=1)])
    for number, pixels in enumerate((clip, np.repeat(screen[..., None], 3, axis=2))):
        source = planted_file(tmp_path / f"{number}.dcm", pixels)
        outcome = deidentify_dicom(source, tmp_path / "out", names=NAMES)
        assert outcome.flags == ()
        made = pydicom.dcmread(tmp_path / "out" / outcome.name).pixel_array
        assert made.shape == pixels.shape
        assert (made[..., :40, :] if number == 0 else made[:40]).max() == 0


def test_a_declared_region_bounds_what_is_kept(tmp_path: Path, tissue: np.ndarray) -> None:
    source = planted_file(tmp_path / "in.dcm", tissue)
    ds = pydicom.dcmread(source)
    region = pydicom.Dataset()
    region.RegionSpatialFormat = 1
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 200, 60
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 449, 359
    ds.SequenceOfUltrasoundRegions = pydicom.Sequence([region])
    ds.save_as(source)
    outcome = deidentify_dicom(source, tmp_path / "out", names=NAMES)
    made = pydicom.dcmread(tmp_path / "out" / outcome.name)
    kept = np.argwhere(made.pixel_array > 0)
    assert kept.min(axis=0).tolist() == [60, 200]
    assert kept.max(axis=0).tolist() == [359, 449]
    assert made.SequenceOfUltrasoundRegions[0].RegionLocationMinX0 == 200


def refusal(tmp_path: Path, source: Path) -> str:
    """The reasons, after checking that nothing was written."""
    outcome = deidentify_dicom(source, tmp_path / "out", names=NAMES)
    assert not list((tmp_path / "out").rglob("*.dcm"))
    return "; ".join(outcome.flags)


def test_what_cannot_be_judged_is_refused(tmp_path: Path, tissue: np.ndarray) -> None:
    blank = planted_file(tmp_path / "blank.dcm", np.zeros((200, 200), np.uint8))
    assert refusal(tmp_path, blank) == "no clear scan"
    other = planted_file(tmp_path / "ct.dcm", tissue, modality="CT")
    assert "burnt-in text in a picture that is no ultrasound" in refusal(tmp_path, other)
    capture = pydicom.dcmread(planted_file(tmp_path / "sc.dcm", tissue, modality="OT", burnt=""))
    capture.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    capture.save_as(tmp_path / "sc.dcm")
    assert "captured screen" in refusal(tmp_path, tmp_path / "sc.dcm")
    unknown = pydicom.dcmread(planted_file(tmp_path / "ts.dcm", tissue))
    data = (tmp_path / "ts.dcm").read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.1.2.1\0")
    assert unknown.PixelData
    (tmp_path / "ts.dcm").write_bytes(data)
    assert refusal(tmp_path, tmp_path / "ts.dcm") == "unknown transfer syntax"
    (tmp_path / "cut.dcm").write_bytes(planted_file(tmp_path / "whole.dcm", tissue).read_bytes()[:-5000])
    assert "unreadable" in refusal(tmp_path, tmp_path / "cut.dcm")


@pytest.mark.parametrize(("keyword", "reason"), [("EncapsulatedDocument", "encapsulated"), ("", "no image")])
def test_documents_and_reports_are_refused(tmp_path: Path, tissue: np.ndarray, keyword: str, reason: str) -> None:
    ds = pydicom.dcmread(planted_file(tmp_path / "in.dcm", tissue))
    del ds.PixelData
    if keyword:
        ds.EncapsulatedDocument = b"%PDF-1.4 ZOLTANOVA"
    ds.save_as(tmp_path / "in.dcm")
    assert reason in refusal(tmp_path, tmp_path / "in.dcm")


def test_overlays_hidden_in_unused_bits_of_other_pictures_are_cleared(tmp_path: Path) -> None:
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) | 0xF000
    ds = pydicom.dcmread(planted_file(tmp_path / "mr.dcm", np.zeros((8, 8), np.uint8), modality="MR", burnt="NO"))
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.PixelData = values.tobytes()
    ds["PixelData"].VR = "OW"
    ds.save_as(tmp_path / "mr.dcm")
    outcome = deidentify_dicom(tmp_path / "mr.dcm", tmp_path / "out", names=NAMES)
    data = pydicom.dcmread(tmp_path / "out" / outcome.name)
    assert np.frombuffer(data.PixelData, np.uint16).tolist() == list(range(64))
    assert [item.CodeValue for item in data.DeidentificationMethodCodeSequence] == ["113100"]


# ---- pictures and the command


def test_pictures_lose_metadata_text_and_name(tmp_path: Path, screen: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x010E] = KINDS["names"]
    Image.fromarray(screen).save(tmp_path / "ZOLTANOVA.png", exif=exif)
    outcome = deidentify_picture(tmp_path / "ZOLTANOVA.png", tmp_path / "out", names=NAMES)
    written = tmp_path / "out" / outcome.name
    assert traces(written.read_bytes() + outcome.name.encode()) == []
    assert np.asarray(Image.open(written))[:40].max() == 0
    scan = bare_screen(1).scan
    height, width = int(scan.any(axis=1).sum()), int(scan.any(axis=0).sum())
    cropped = deidentify_picture(tmp_path / "ZOLTANOVA.png", tmp_path / "crop", names=NAMES, crop=True)
    assert Image.open(tmp_path / "crop" / cropped.name).size == (width, height)


def test_the_command_writes_what_is_safe_reports_without_identity_and_fails_closed(
    tmp_path: Path, screen: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in" / "ZOLTANOVA"
    planted_file(source / "ZOLTANOVA 078-05-1120.dcm", screen)
    Image.fromarray(screen).save(source / "MRN-8841207.png")
    Image.fromarray(np.zeros((90, 90), np.uint8)).save(source / "ZOLTANOVA black.png")
    (source / "letter ZOLTANOVA.txt").write_text("Dear Zoe")
    arguments = ["--source", str(tmp_path / "in"), "--target", str(tmp_path / "out")]
    with pytest.raises(DataError, match="2 of 4 files were refused"):
        main(arguments)
    with (tmp_path / "out" / "report.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert sorted(row["written"] for row in rows) == ["no", "no", "yes", "yes"]
    assert {row["flags"] for row in rows} == {"", "no clear scan", "neither a picture nor a DICOM file"}
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert traces(everything + capsys.readouterr().out.encode()) == []
    with pytest.raises(ConfigError, match="not empty"):
        main(arguments)
    main([*arguments[:3], str(tmp_path / "again"), "--quarantine", str(tmp_path / "look"),
          "--mapping", str(tmp_path / "map.csv")])  # fmt: skip
    assert len(list((tmp_path / "look").iterdir())) == 2
    assert "MRN-8841207.png" in (tmp_path / "map.csv").read_text(encoding="utf-8")


def test_folders_that_would_mix_identity_into_the_result_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="no files there"):
        deidentify(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "a.png").write_bytes(b"")
    with pytest.raises(ConfigError, match="within the source"):
        deidentify(tmp_path / "in", tmp_path / "in" / "out")
    with pytest.raises(ConfigError, match="into the target"):
        deidentify(tmp_path / "in", tmp_path / "out", quarantine=tmp_path / "out" / "look")


def test_the_secret_is_not_shown_and_names_repeat_only_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "secret" not in repr(NAMES)
    assert NAMES.name("patient", "x") == Pseudonyms(b"a secret of the tests").name("patient", "x")
    assert NAMES.name("patient", "x") != Pseudonyms(b"other").name("patient", "x")
    assert NAMES.uid("1.2.840.10008.1.2.1") == "1.2.840.10008.1.2.1"
    assert NAMES.uid("1.2.840.10008.5.8841207") != "1.2.840.10008.5.8841207", "only UIDs that the standard lists stay"
