"""DICOM series and segmentations: geometry exact, and every broken series refused before a pixel counts."""

import locale
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless, generate_uid
from scipy.spatial.transform import Rotation

from fake_volumes import write_series
from medseg.data.volumes import series as series_room
from medseg.data.volumes.dicom import read_dicom_seg, read_series, write_dicom_seg
from medseg.data.volumes.files import read_label_volume, read_volume, same_grid, volume_header
from medseg.data.volumes.grid import as_stored
from medseg.data.volumes.itk import kept_locale
from medseg.errors import DataError

OBLIQUE = Rotation.from_euler("xyz", [10, 20, -30], degrees=True).as_matrix()
NAMES = ("background", "left", "right")


def stored_voxels(shape: tuple[int, int, int] = (6, 7, 8)) -> np.ndarray:
    return np.random.default_rng(0).integers(-100, 1000, shape).astype(np.int16)


def oblique_series(folder: Path, **options: object) -> list[Path]:
    return write_series(folder, stored_voxels(), row=OBLIQUE[:, 0], column=OBLIQUE[:, 1], **options)


def change(path: Path, **tags: object) -> None:
    dataset = pydicom.dcmread(path)
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(path)


def some_labels(shape: tuple[int, int, int]) -> np.ndarray:
    """Return labels whose outer slices are empty."""
    labels = np.zeros(shape, np.uint8)
    middle = tuple(slice(side // 3, side - side // 3) for side in shape)
    labels[middle] = 1
    labels[shape[0] // 2, shape[1] // 2, shape[2] // 2] = 2
    return labels


def test_series_gives_modality_values_in_the_right_places(tmp_path: Path) -> None:
    oblique_series(tmp_path / "s", slope=2.0, intercept=-1024.0)
    found = read_volume(tmp_path / "s")
    assert found.values.shape[1:] == found.grid.shape
    # Back along the file's own axes (column, row, slice): what was written, in spite of the file names' order.
    assert np.array_equal(as_stored(found.values[0], found.grid).T, stored_voxels() * 2.0 - 1024)
    expected = np.eye(4)
    expected[:3, 0], expected[:3, 1], expected[:3, 2] = OBLIQUE[:, 0] * 1.25, OBLIQUE[:, 1] * 1.5, OBLIQUE[:, 2] * 3
    expected[:3, 3] = (-20, 10, 5)
    assert np.abs(found.grid.stored_affine - np.diag([-1, -1, 1, 1]) @ expected).max() < 1e-6
    assert volume_header(tmp_path / "s") == found.grid


def test_simpleitk_reads_the_series_alike(tmp_path: Path) -> None:
    oblique_series(tmp_path / "s")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "s")))
    theirs = reader.Execute()
    found = read_volume(tmp_path / "s")
    inverse = np.linalg.inv(np.asarray(found.grid.affine))
    for index in [(0, 0, 0), (7, 6, 5), (1, 2, 3), (7, 0, 2)]:
        x, y, z = theirs.TransformIndexToPhysicalPoint(index)
        place = inverse @ (-x, -y, z, 1)
        column, row, slice_ = np.rint(place)[:3].astype(int)
        assert np.abs(place[:3] - (column, row, slice_)).max() < 1e-5
        assert theirs[index] == found.values[0, slice_, row, column]


def test_slices_with_their_own_slope(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "pet", stored_voxels((3, 4, 5)))
    change(paths[1], RescaleSlope=3.0)
    values = as_stored(read_volume(tmp_path / "pet").values[0], volume_header(tmp_path / "pet")).T
    assert np.array_equal(values, stored_voxels((3, 4, 5)) * np.array([1, 3, 1])[:, None, None])


@pytest.mark.parametrize("codec", ["RLE", "JPEG2000"])
def test_compressed_slices_are_decoded(tmp_path: Path, codec: str) -> None:
    voxels = stored_voxels((3, 32, 40))
    for path in write_series(tmp_path / "s", voxels):
        if codec == "RLE":
            dataset = pydicom.dcmread(path)
            dataset.compress(RLELossless)
            dataset.save_as(path)
        else:
            writer = SimpleITK.ImageFileWriter()
            writer.SetFileName(str(path))
            writer.KeepOriginalImageUIDOn()
            writer.UseCompressionOn()
            writer.SetCompressor("JPEG2000")
            with kept_locale():
                writer.Execute(SimpleITK.ReadImage(str(path)))
        change(path, RescaleSlope=2.0, RescaleIntercept=-5.0)
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID.is_encapsulated
    encoding = locale.getencoding()
    found = read_volume(tmp_path / "s")
    assert np.array_equal(as_stored(found.values[0], found.grid).T, voxels * 2.0 - 5)
    assert locale.getencoding() == encoding, "ITK's codec changed what Python takes for the system's encoding"


def test_a_missing_slice_is_told_with_its_place(tmp_path: Path) -> None:
    paths = oblique_series(tmp_path / "s")
    paths[3].unlink()
    with pytest.raises(
        DataError, match=r"1 slice\(s\) missing between 014\.dcm and 028\.dcm \(6 mm apart, usually 3\)"
    ):
        read_volume(tmp_path / "s")
    with pytest.raises(DataError, match="missing"):
        volume_header(tmp_path / "s")


def test_a_slice_twice_and_unequal_gaps_are_refused(tmp_path: Path) -> None:
    paths = oblique_series(tmp_path / "s")
    shutil.copy(paths[2], tmp_path / "s" / "copy.dcm")
    with pytest.raises(DataError, match=r"014\.dcm and copy\.dcm lie at one place|copy\.dcm and 014\.dcm lie"):
        read_series(tmp_path / "s")
    (tmp_path / "s" / "copy.dcm").unlink()
    position = np.asarray(pydicom.dcmread(paths[5]).ImagePositionPatient, float)
    change(paths[5], ImagePositionPatient=[float(f"{value:.6f}") for value in position + OBLIQUE[:, 2] * 0.5])
    with pytest.raises(DataError, match=r"not equally spaced between 028\.dcm and 035\.dcm \(3\.5 mm"):
        read_series(tmp_path / "s")


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"SeriesInstanceUID": "1.2.3"}, "folder holds 2 series"),
        ({"PixelSpacing": [1.5, 2.0]}, "PixelSpacing is .* a series has one grid"),
        ({"Rows": 8}, "Rows is 8"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, "ImageOrientationPatient is"),
        ({"ImagePositionPatient": None}, "lacks ImagePositionPatient"),
        ({"NumberOfFrames": 4}, "holds 4 frames"),
        ({"SamplesPerPixel": 3}, "colour picture"),
    ],
)
def test_slices_that_do_not_belong_together_are_refused(tmp_path: Path, tags: dict, message: str) -> None:
    paths = oblique_series(tmp_path / "s")
    change(paths[3], **tags)
    with pytest.raises(DataError, match=message) as caught:
        read_series(tmp_path / "s")
    assert "\n" not in str(caught.value)


def test_files_that_are_no_dicom_are_refused_and_companions_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    oblique_series(tmp_path / "s")
    for name in ("DICOMDIR", "LICENSE"):
        (tmp_path / "s" / name).write_bytes(b"anything")
    assert read_series(tmp_path / "s").grid.shape == (6, 7, 8)
    assert "2 file(s) beside the series" in caplog.text
    (tmp_path / "s" / "notes.txt").write_text("no slice")
    with pytest.raises(DataError, match=r"notes\.txt: file is no DICOM"):
        read_series(tmp_path / "s")
    with pytest.raises(DataError, match="a folder with one DICOM series is expected"):
        read_series(tmp_path / "s" / "notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds 0 files"):
        read_volume(tmp_path / "empty")


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.8, 0.98])
def test_cut_slices_are_refused(tmp_path: Path, kept: float) -> None:
    paths = write_series(tmp_path / "s", stored_voxels((3, 40, 50)))
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match=r"007\.dcm: (file is unreadable|DICOM file lacks)") as caught:
        read_volume(tmp_path / "s")
    assert "\n" not in str(caught.value)


def test_large_and_deflated_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = oblique_series(tmp_path / "s")
    with pytest.raises(DataError, match=r"exceeds the limit of 100"):
        series_room.read_header(paths[0], limit=100)
    dataset = pydicom.dcmread(paths[0])
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(paths[0])
    with pytest.raises(DataError, match="deflated DICOM files are refused"):
        read_series(tmp_path / "s")


def test_one_slice_takes_its_thickness(tmp_path: Path) -> None:
    write_series(tmp_path / "s", stored_voxels((1, 7, 8)), spacing=(4.0, 1.0, 1.0))
    assert volume_header(tmp_path / "s").spacing == pytest.approx((4, 1, 1))


def test_segmentation_comes_back_bit_for_bit_with_its_geometry(tmp_path: Path) -> None:
    oblique_series(tmp_path / "s")
    grid = volume_header(tmp_path / "s")
    labels = some_labels(grid.shape)
    write_dicom_seg(tmp_path / "new" / "seg.dcm", labels, grid, reference=tmp_path / "s", names=NAMES)
    found = read_dicom_seg(tmp_path / "new" / "seg.dcm")
    assert np.array_equal(found.labels, labels)
    assert np.abs(np.asarray(found.grid.affine) - np.asarray(grid.affine)).max() <= 1e-6
    assert found.names == NAMES
    same_grid(grid, volume_header(tmp_path / "new" / "seg.dcm"), names=("series", "seg"))
    volume = read_label_volume(tmp_path / "new" / "seg.dcm", labels={0: 0, 1: 2, 2: 1})
    assert np.array_equal(volume.values, np.array([0, 2, 1])[labels])
    with pytest.raises(DataError, match=r"value\(s\) 2 outside the declared \[0, 1\]"):
        read_label_volume(tmp_path / "new" / "seg.dcm", labels={0: 0, 1: 1})
    dataset = pydicom.dcmread(tmp_path / "new" / "seg.dcm")
    assert dataset.NumberOfFrames == 2 * 6, "one frame a slice and segment, empty ones too"
    assert dataset.PatientID == "fake"
    assert dataset.FrameOfReferenceUID == read_series(tmp_path / "s").headers[0].FrameOfReferenceUID


def test_segmentation_without_foreground(tmp_path: Path) -> None:
    oblique_series(tmp_path / "s")
    grid = volume_header(tmp_path / "s")
    write_dicom_seg(tmp_path / "seg.dcm", np.zeros(grid.shape, np.uint8), grid, reference=tmp_path / "s", names=NAMES)
    found = read_dicom_seg(tmp_path / "seg.dcm")
    assert found.labels.shape == grid.shape
    assert not found.labels.any()


def test_labels_that_do_not_fit_are_not_written(tmp_path: Path) -> None:
    oblique_series(tmp_path / "s")
    write_series(tmp_path / "other", stored_voxels((5, 7, 8)))
    grid = volume_header(tmp_path / "s")
    with pytest.raises(DataError, match="labels reach 3, names are given for 0 to 2"):
        write_dicom_seg(tmp_path / "x.dcm", np.full(grid.shape, 3), grid, reference=tmp_path / "s", names=NAMES)
    with pytest.raises(DataError, match="shape is 6x7x8"):
        write_dicom_seg(tmp_path / "x.dcm", np.zeros(grid.shape, int), grid, reference=tmp_path / "other", names=NAMES)
    assert not (tmp_path / "x.dcm").exists()


def foreign_segmentation(folder: Path, path: Path, frames: np.ndarray, **options: object) -> None:
    """Write a segmentation as other software does, with highdicom alone."""
    import highdicom
    from pydicom.sr.codedict import codes

    numbers = range(1, (frames.shape[3] if frames.ndim == 4 else int(frames.max())) + 1)
    described = [
        highdicom.seg.SegmentDescription(number, f"s{number}", codes.SCT.Tissue, codes.SCT.Tissue, "MANUAL")
        for number in numbers
    ]
    settings = {"segmentation_type": "BINARY", **options}
    highdicom.seg.Segmentation(
        list(read_series(folder).headers),
        frames,
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="other",
        manufacturer_model_name="other",
        software_versions="1",
        device_serial_number="1",
        **settings,
    ).save_as(path)


def test_segmentation_that_leaves_out_empty_slices_is_placed_on_its_image(tmp_path: Path) -> None:
    oblique_series(tmp_path / "s")
    grid = volume_header(tmp_path / "s")
    labels = some_labels(grid.shape)
    foreign_segmentation(tmp_path / "s", tmp_path / "seg.dcm", np.ascontiguousarray(as_stored(labels, grid).T))
    alone = read_dicom_seg(tmp_path / "seg.dcm")
    assert alone.labels.shape != grid.shape, "this file must lack slices for the test to mean anything"
    placed = read_label_volume(tmp_path / "seg.dcm", labels={0: 0, 1: 1, 2: 2}, grid=grid)
    assert np.array_equal(placed.values, labels)
    assert placed.grid == grid
    write_series(tmp_path / "coarse", stored_voxels(), row=OBLIQUE[:, 0], column=OBLIQUE[:, 1], spacing=(3.0, 2.0, 2.0))
    with pytest.raises(DataError, match="affine differs"):
        read_dicom_seg(tmp_path / "seg.dcm", grid=volume_header(tmp_path / "coarse"))
    write_series(tmp_path / "short", stored_voxels((3, 7, 8)), row=OBLIQUE[:, 0], column=OBLIQUE[:, 1])
    with pytest.raises(DataError, match="reaches beyond its image"):
        read_dicom_seg(tmp_path / "seg.dcm", grid=volume_header(tmp_path / "short"))


def test_overlapping_fractional_and_foreign_objects_are_refused(tmp_path: Path) -> None:
    paths = oblique_series(tmp_path / "s")
    overlapping = np.zeros((6, 7, 8, 2), np.uint8)
    overlapping[2:4, 2:5, 2:5] = 1
    foreign_segmentation(tmp_path / "s", tmp_path / "o.dcm", overlapping)
    with pytest.raises(DataError, match="segments overlap"):
        read_dicom_seg(tmp_path / "o.dcm")
    fraction = (overlapping[..., :1] * 0.5).astype(np.float32)
    foreign_segmentation(tmp_path / "s", tmp_path / "f.dcm", fraction, segmentation_type="FRACTIONAL")
    with pytest.raises(DataError, match="segmentation is fractional"):
        read_dicom_seg(tmp_path / "f.dcm")
    with pytest.raises(DataError, match="no DICOM segmentation"):
        read_label_volume(paths[0], labels={0: 0})


def test_labelmap_segmentations_are_read(tmp_path: Path) -> None:
    oblique_series(tmp_path / "s")
    grid = volume_header(tmp_path / "s")
    labels = some_labels(grid.shape)
    frames = np.ascontiguousarray(as_stored(labels, grid).T)
    foreign_segmentation(tmp_path / "s", tmp_path / "l.dcm", frames, segmentation_type="LABELMAP")
    assert np.array_equal(read_dicom_seg(tmp_path / "l.dcm", grid=grid).labels, labels)


@pytest.mark.parametrize("kept", [0.0, 0.2, 0.9, 0.99])
def test_cut_segmentations_are_refused(tmp_path: Path, kept: float) -> None:
    write_series(tmp_path / "s", stored_voxels((3, 40, 48)))
    grid = volume_header(tmp_path / "s")
    write_dicom_seg(tmp_path / "seg.dcm", some_labels(grid.shape), grid, reference=tmp_path / "s", names=NAMES)
    content = (tmp_path / "seg.dcm").read_bytes()
    (tmp_path / "seg.dcm").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match=r"seg\.dcm: file is unreadable") as caught:
        read_dicom_seg(tmp_path / "seg.dcm")
    assert "\n" not in str(caught.value)
