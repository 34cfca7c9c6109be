"""Volume files: voxels and places exact through every orientation, and one clear line for everything that is wrong."""

import gzip
import itertools
import logging
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_volumes import draw_volume, make_affine, save_nifti, write_volume_dataset
from medseg.data.sources.folder import read_manifest
from medseg.data.volumes import faults
from medseg.data.volumes.files import (
    is_volume,
    read_label_volume,
    read_volume,
    same_grid,
    volume_header,
    write_label_volume,
    write_volume,
)
from medseg.errors import DataError

LABELS = {value: value for value in range(5)}
ORIENTATIONS = [
    "".join(codes)
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*axes)
]  # fmt: skip


def label_voxels(seed: int, shape: tuple[int, int, int] = (5, 6, 7)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 5, shape).astype(np.uint8)


def one_line(caught: pytest.ExceptionInfo[BaseException]) -> bool:
    return "\n" not in str(caught.value)


def points(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Place of every voxel, (X, Y, Z, 3)."""
    indices = np.stack(np.meshgrid(*[np.arange(side) for side in shape], indexing="ij"), axis=-1)
    return indices @ affine[:3, :3].T + affine[:3, 3]


def by_place(values: np.ndarray, affine: np.ndarray) -> dict[tuple[float, ...], float]:
    places = points(affine, values.shape).reshape(-1, 3).round(3) + 0.0
    return {tuple(place): float(value) for place, value in zip(places.tolist(), values.ravel(), strict=True)}


def test_there_are_48_orientations() -> None:
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_labels_go_through_every_oblique_orientation_unchanged(tmp_path: Path, codes: str) -> None:
    voxels = label_voxels(1)
    affine = make_affine((0.7, 1.3, 4.1), codes=codes, angles=(11, -7, 5), origin=(-31.3, 22.1, 7.77))
    source = save_nifti(tmp_path / "source.nii.gz", voxels, affine)
    found = read_label_volume(source, labels=LABELS)
    assert found.grid.stored == codes
    assert volume_header(source) == found.grid
    # The same values stand in the same places, and the axes now point right, anterior, superior.
    assert by_place(found.values.T, np.asarray(found.grid.affine)) == by_place(voxels, nib.load(source).affine)
    assert nib.aff2axcodes(np.asarray(found.grid.affine)) == ("R", "A", "S")
    write_label_volume(tmp_path / "back.nii.gz", found.values.astype(np.int64), found.grid)
    back = nib.load(tmp_path / "back.nii.gz")
    assert back.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(back.dataobj), voxels)
    assert np.abs(back.affine - nib.load(source).affine).max() <= 1e-6
    assert np.abs(back.get_qform() - back.affine).max() <= 1e-4


@settings(max_examples=25, deadline=None)
@given(
    codes=st.sampled_from(ORIENTATIONS),
    sizes=st.tuples(*[st.floats(0.1, 9)] * 3),
    angles=st.tuples(*[st.floats(-30, 30)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    seed=st.integers(0, 99),
)
def test_any_geometry_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    codes: str,
    sizes: tuple[float, float, float],
    angles: tuple[float, float, float],
    origin: tuple[float, float, float],
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("geometry")
    voxels = label_voxels(seed, (3, 4, 5))
    affine = make_affine(sizes, codes=codes, angles=angles, origin=origin)
    source = save_nifti(folder / "source.nii", voxels, affine)
    found = read_label_volume(source, labels=LABELS)
    write_label_volume(folder / "back.nii", found.values, found.grid)
    back = nib.load(folder / "back.nii")
    assert np.array_equal(np.asarray(back.dataobj), voxels)
    # float32 in the header: 300 mm hold 3e-5 mm, so equal means equal to the source file, not to the wish.
    assert np.abs(back.affine - nib.load(source).affine).max() <= 1e-6


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd"])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "SRP", "IAL"])
def test_nrrd_and_metaimage_hold_the_same_grid(tmp_path: Path, suffix: str, codes: str) -> None:
    affine = make_affine((0.7, 1.3, 4.1), codes=codes, angles=(11, -7, 5), origin=(-31.3, 22.1, 7.77))
    found = read_label_volume(save_nifti(tmp_path / "s.nii.gz", label_voxels(2), affine), labels=LABELS)
    write_label_volume(tmp_path / f"s{suffix}", found.values, found.grid)
    again = read_label_volume(tmp_path / f"s{suffix}", labels=LABELS)
    assert again.grid.stored == codes
    assert np.array_equal(again.values, found.values)
    assert np.abs(np.asarray(again.grid.affine) - np.asarray(found.grid.affine)).max() < 1e-5
    assert volume_header(tmp_path / f"s{suffix}") == again.grid


def test_nibabel_and_simpleitk_see_the_same_voxels_in_the_same_places(tmp_path: Path) -> None:
    voxels = np.random.default_rng(3).normal(size=(5, 6, 7)).astype(np.float32)
    affine = make_affine((0.7, 1.3, 4.1), codes="PIR", angles=(11, -7, 5), origin=(-31.3, 22.1, 7.77))
    path = save_nifti(tmp_path / "v.nii.gz", voxels, affine)
    ours = read_volume(path)
    theirs = SimpleITK.ReadImage(str(path))
    inverse = np.linalg.inv(np.asarray(ours.grid.affine))
    for index in [(0, 0, 0), (4, 5, 6), (1, 2, 3), (3, 0, 5)]:
        x, y, z = theirs.TransformIndexToPhysicalPoint(index)
        column, row, slice_ = np.rint(inverse @ (-x, -y, z, 1))[:3].astype(int)  # LPS to RAS
        assert theirs[index] == ours.values[0, slice_, row, column]
    SimpleITK.WriteImage(theirs, str(tmp_path / "v.mha"))
    same_grid(ours.grid, volume_header(tmp_path / "v.mha"), names=("a", "b"), tolerance=1e-4)
    assert np.array_equal(read_volume(tmp_path / "v.mha").values, ours.values)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_channels_come_last_in_files_and_first_in_arrays(tmp_path: Path, suffix: str) -> None:
    voxels = np.random.default_rng(4).normal(size=(3, 4, 5, 2)).astype(np.float32)
    source = save_nifti(tmp_path / "s.nii", voxels, make_affine((1, 2, 3), codes="LPS"))
    found = read_volume(source)
    assert found.values.shape == (2, 5, 4, 3)
    assert found.values.flags.c_contiguous
    assert np.array_equal(found.values[1], voxels[::-1, ::-1, :, 1].T)
    write_volume(tmp_path / f"b{suffix}", found.values, found.grid)
    assert np.array_equal(read_volume(tmp_path / f"b{suffix}").values, found.values)
    with pytest.raises(DataError, match="label volume has 2 channels"):
        read_label_volume(source, labels=LABELS)


def test_vector_axis_of_five_dimensional_nifti_is_the_channels(tmp_path: Path) -> None:
    voxels = np.arange(2 * 3 * 4 * 2, dtype=np.float32).reshape(2, 3, 4, 1, 2)
    found = read_volume(save_nifti(tmp_path / "v.nii", voxels, np.eye(4)))
    assert np.array_equal(found.values[1], voxels[..., 0, 1].T)


def test_spacing_is_in_the_order_of_the_array(tmp_path: Path) -> None:
    grid = volume_header(save_nifti(tmp_path / "v.nii", np.zeros((4, 5, 6)), make_affine((0.5, 0.75, 3), codes="LPS")))
    assert grid.shape == (6, 5, 4)
    assert grid.spacing == pytest.approx((3, 0.75, 0.5))


def test_header_scaling_is_applied(tmp_path: Path) -> None:
    stored = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    path = save_nifti(tmp_path / "ct.nii", stored, np.eye(4))
    content = bytearray(path.read_bytes())
    struct.pack_into("<ff", content, 112, 2.0, -1024.0)
    path.write_bytes(bytes(content))
    assert np.array_equal(read_volume(path).values[0], stored.T * 2.0 - 1024)


def test_equal_labels_give_equal_files(tmp_path: Path) -> None:
    grid = volume_header(save_nifti(tmp_path / "s.nii", label_voxels(5), np.eye(4)))
    labels = np.zeros(grid.shape, np.uint8)
    for name in ("a.nii.gz", "b.nii.gz"):
        write_label_volume(tmp_path / name, labels, grid)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_sheared_affine_goes_through_nifti_and_is_refused_elsewhere(tmp_path: Path) -> None:
    affine = make_affine((1, 1, 2))
    affine[0, 2] = 0.4
    found = read_label_volume(save_nifti(tmp_path / "s.nii", label_voxels(6), affine), labels=LABELS)
    write_label_volume(tmp_path / "b.nii", found.values, found.grid)
    back = nib.load(tmp_path / "b.nii")
    assert np.abs(back.affine - affine).max() < 1e-6
    assert back.header["qform_code"] == 0
    with pytest.raises(DataError, match=r"sheared.*NIfTI"):
        write_label_volume(tmp_path / "b.mha", found.values, found.grid)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
@pytest.mark.parametrize("kept", [0.0, 0.05, 0.5, 0.97, 0.9999])
def test_cut_volumes_are_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"cut{suffix}"
    image = SimpleITK.GetImageFromArray(np.random.default_rng(7).normal(size=(9, 10, 11)).astype(np.float32))
    SimpleITK.WriteImage(image, str(path), useCompression=True)
    held = path.with_suffix(".zraw") if suffix == ".mhd" else path
    content = held.read_bytes()
    held.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match=r"cut\.\w+.*: file is unreadable or cut short .*copy it again") as caught:
        read_volume(path)
    assert one_line(caught)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_flipped_bits_in_packed_voxels_are_never_read_silently(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"flip{suffix}"
    rng = np.random.default_rng(8)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(rng.normal(size=(9, 10, 11))), str(path), useCompression=True)
    held = path.with_suffix(".zraw") if suffix == ".mhd" else path
    content = held.read_bytes()
    for place in rng.integers(len(content) // 2, len(content) - 20, 25):
        broken = bytearray(content)
        broken[place] ^= 1 << int(rng.integers(8))
        held.write_bytes(bytes(broken))
        with pytest.raises(DataError, match="unreadable"):
            read_volume(path)


def test_the_last_bytes_of_a_gzip_count(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "v.nii.gz", label_voxels(9), np.eye(4))
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # in the checksum, after the last voxel
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="CRC"):
        read_volume(path)


def test_content_decides_whether_a_nifti_is_packed(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "v.nii", label_voxels(9), np.eye(4))
    renamed = path.rename(tmp_path / "plain.nii.gz")
    assert read_volume(renamed).grid.shape == (7, 6, 5)


def test_missing_garbage_and_unknown_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.nii: file is missing"):
        read_volume(tmp_path / "absent.nii")
    for name in ("garbage.nii.gz", "garbage.nrrd", "garbage.mha"):
        (tmp_path / name).write_bytes(b"no volume at all" * 40)
        with pytest.raises(DataError, match=rf"{name}: file is unreadable") as caught:
            read_volume(tmp_path / name)
        assert one_line(caught)
    (tmp_path / "scan.png").write_bytes(b"x")
    with pytest.raises(DataError, match="no volume format"):
        volume_header(tmp_path / "scan.png")
    with pytest.raises(DataError, match=r"\.mha.*choose one"):
        write_label_volume(tmp_path / "x.png", np.zeros((7, 6, 5), np.uint8), volume_header(
            save_nifti(tmp_path / "v.nii", label_voxels(1), np.eye(4))))  # fmt: skip


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_counted(tmp_path: Path, bad: float, caplog: pytest.LogCaptureFixture) -> None:
    voxels = np.zeros((4, 5, 6), np.float32)
    voxels[0, 0, :3] = bad
    path = save_nifti(tmp_path / "n.nii.gz", voxels, np.eye(4))
    with pytest.raises(DataError, match=r"n\.nii\.gz: 3 of 120 voxels are not finite.*nan='zero'") as caught:
        read_volume(path)
    assert one_line(caught)
    assert (read_volume(path, nan="zero").values == 0).all()
    assert "3 of 120 voxels" in caplog.text
    with pytest.raises(DataError, match="3 mask voxels are not finite"):
        read_label_volume(path, labels={0: 0})


def test_two_dimensional_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 axes.*a volume has three"):
        read_volume(save_nifti(tmp_path / "flat.nii", np.zeros((4, 5), np.float32), np.eye(4)))
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((4, 5), np.float32)), str(tmp_path / "flat.mha"))
    with pytest.raises(DataError, match=r"2 axes.*a volume has three"):
        read_volume(tmp_path / "flat.mha")


def test_colour_and_complex_voxels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no grey values"):
        read_volume(save_nifti(tmp_path / "c.nii", np.zeros((2, 3, 4), np.complex64), np.eye(4)))


def test_impossible_affines_are_refused(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "v.nii", label_voxels(1), np.eye(4))
    content = path.read_bytes()

    def with_sform(row: int, values: tuple[float, float, float, float]) -> Path:
        changed = bytearray(content)
        struct.pack_into("<4f", changed, 280 + 16 * row, *values)
        path.write_bytes(bytes(changed))
        return path

    with pytest.raises(DataError, match=r"determinant 0 \(voxel sizes 1, 1, 0 mm\)"):
        volume_header(with_sform(2, (0, 0, 0, 0)))
    with pytest.raises(DataError, match="determinant 0"):
        volume_header(with_sform(2, (1, 0, 0, 0)))
    with pytest.raises(DataError, match="not finite"):
        volume_header(with_sform(1, (0, float("nan"), 0, 0)))
    # A mirrored affine is an orientation like any other.
    assert volume_header(with_sform(0, (-1, 0, 0, 4))).stored == "LAS"


def test_disagreeing_forms_and_absent_forms_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = nib.Nifti1Image(label_voxels(1), np.eye(4))
    image.set_sform(make_affine((1, 1, 2)), code=1)
    image.set_qform(make_affine((1, 1, 2), origin=(5, 0, 0)), code=1)
    nib.save(image, tmp_path / "two.nii")
    assert volume_header(tmp_path / "two.nii").affine[0][3] == 0
    assert "sform and qform differ by up to 5" in caplog.text
    caplog.clear()
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nib.save(image, tmp_path / "none.nii")
    volume_header(tmp_path / "none.nii")
    assert "neither sform nor qform" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        volume_header(save_nifti(tmp_path / "good.nii", label_voxels(1), make_affine((1, 1, 2), angles=(5, 5, 5))))
    assert not caplog.records


def test_metres_become_millimetres(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = nib.Nifti1Image(label_voxels(1), make_affine((0.001, 0.001, 0.003)))
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "m.nii")
    assert volume_header(tmp_path / "m.nii").spacing == pytest.approx((3, 1, 1))
    assert "units of 1000 mm" in caplog.text


def test_undeclared_label_values_are_named(tmp_path: Path) -> None:
    voxels = np.zeros((3, 4, 5), np.int16)
    voxels[0, 0, 0], voxels[1, 1, 1] = 7, -2
    path = save_nifti(tmp_path / "m.nii.gz", voxels, np.eye(4))
    with pytest.raises(
        DataError, match=r"m\.nii\.gz: mask holds value\(s\) -2, 7 outside the declared \[0, 1\].*data\."
    ):
        read_label_volume(path, labels={0: 0, 1: 1})
    with pytest.raises(DataError, match=r"value\(s\) 7 outside"):
        read_label_volume(save_nifti(path, np.maximum(voxels, 0), np.eye(4)), labels={0: 0})


def test_labels_are_mapped_and_ignore_survives(tmp_path: Path) -> None:
    voxels = np.array([0, 4, 2, 255, 300, 4], np.int32).reshape(1, 2, 3)
    found = read_label_volume(
        save_nifti(tmp_path / "m.nii", voxels, np.eye(4)), labels={0: 0, 4: 3, 2: 1, 255: 255, 300: 2}
    )
    assert found.values.dtype == np.uint8
    assert found.values.T.tolist() == [[[0, 3, 1], [255, 2, 3]]]


def test_interpolated_labels_are_refused_and_whole_floats_read(tmp_path: Path) -> None:
    whole = save_nifti(tmp_path / "w.nii", label_voxels(3).astype(np.float64), np.eye(4))
    assert np.array_equal(read_label_volume(whole, labels=LABELS).values, label_voxels(3).T)
    smeared = label_voxels(3).astype(np.float32)
    smeared[:2, 0, 0] = 0.5
    with pytest.raises(DataError, match="2 mask voxels are no whole numbers.*nearest"):
        read_label_volume(save_nifti(tmp_path / "s.nii", smeared, np.eye(4)), labels=LABELS)


def test_int64_labels_are_read(tmp_path: Path) -> None:
    image = nib.Nifti1Image(label_voxels(3).astype(np.int64), np.eye(4), dtype=np.int64)
    nib.save(image, tmp_path / "long.nii")
    assert np.array_equal(read_label_volume(tmp_path / "long.nii", labels=LABELS).values, label_voxels(3).T)


def test_big_endian_files_and_nifti_2_are_read(tmp_path: Path) -> None:
    voxels = label_voxels(3).astype(">i2")
    image = nib.Nifti1Image(voxels, np.eye(4), header=nib.Nifti1Header(endianness=">"))
    nib.save(image, tmp_path / "big.nii")
    assert (tmp_path / "big.nii").read_bytes()[:4] == (348).to_bytes(4, "big")
    nib.save(nib.Nifti2Image(label_voxels(3), make_affine((1, 1, 2))), tmp_path / "two.nii.gz")
    for name in ("big.nii", "two.nii.gz"):
        assert np.array_equal(read_label_volume(tmp_path / name, labels=LABELS).values, label_voxels(3).T)
        assert (read_volume(tmp_path / name).values[0] == label_voxels(3).T).all()


def test_what_is_no_label_map_is_not_written(tmp_path: Path) -> None:
    grid = volume_header(save_nifti(tmp_path / "v.nii", label_voxels(1), np.eye(4)))
    for wrong in (np.full(grid.shape, 256), np.full(grid.shape, -1), np.zeros(grid.shape, np.float32)):
        with pytest.raises(DataError, match="whole numbers 0 to 255"):
            write_label_volume(tmp_path / "x.nii", wrong, grid)
    with pytest.raises(DataError, match="do not fit the grid"):
        write_label_volume(tmp_path / "x.nii", np.zeros((1, 2, 3), np.uint8), grid)
    assert not (tmp_path / "x.nii").exists()


def test_grids_that_differ_are_told_apart(tmp_path: Path) -> None:
    def grid(shape: tuple[int, int, int], affine: np.ndarray, name: str):
        return volume_header(save_nifti(tmp_path / name, np.zeros(shape, np.uint8), affine))

    base = grid((4, 5, 6), make_affine((1, 1, 3)), "a.nii")
    # Another orientation of the file is no other grid.
    turned = make_affine((1, 1, 3), codes="LPS", origin=(3, 4, 0))
    same_grid(base, grid((4, 5, 6), turned, "b.nii"), names=("a", "b"))
    with pytest.raises(DataError, match=r"mask: shape is 7x5x4, of image 6x5x4 \(D x H x W\)") as caught:
        same_grid(base, grid((4, 5, 7), make_affine((1, 1, 3)), "c.nii"), names=("image", "mask"))
    assert one_line(caught)
    with pytest.raises(DataError, match=r"mask: affine differs from that of image, voxels lie up to 2 mm apart"):
        same_grid(base, grid((4, 5, 6), make_affine((1, 1, 3), origin=(0, 2, 0)), "d.nii"), names=("image", "mask"))
    with pytest.raises(DataError, match=r"spacing 2x1x1 and 3x1x1 mm"):
        same_grid(base, grid((4, 5, 6), make_affine((1, 1, 2)), "e.nii"), names=("image", "mask"))
    same_grid(base, grid((4, 5, 6), make_affine((1, 1, 3), origin=(0, 0.01, 0)), "f.nii"), names=("image", "mask"))


def test_one_slice_with_another_thickness_is_another_grid(tmp_path: Path) -> None:
    paths = [
        save_nifti(tmp_path / f"{size}.nii", np.zeros((4, 5, 1), np.uint8), make_affine((1, 1, size)))
        for size in (1, 3)
    ]
    with pytest.raises(DataError, match="affine differs"):
        same_grid(volume_header(paths[0]), volume_header(paths[1]), names=("a", "b"))


def test_headers_that_announce_too_much_are_refused_before_reading(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "bomb.nii", label_voxels(1), np.eye(4))
    content = bytearray(path.read_bytes())
    struct.pack_into("<4h", content, 40, 3, 32000, 32000, 32000)
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(DataError, match="announces 32768000000000 voxels"):
        read_volume(tmp_path / "bomb.nii.gz")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((2, 3, 4), np.uint8)), str(tmp_path / "bomb.mha"))
    text = (tmp_path / "bomb.mha").read_bytes().replace(b"DimSize = 4 3 2", b"DimSize = 9999 9999 9999")
    (tmp_path / "bomb.mha").write_bytes(text)
    with pytest.raises(DataError, match="announces 999700029999 voxels"):
        read_volume(tmp_path / "bomb.mha")


def test_more_data_than_the_header_announces_is_refused(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "v.nii", label_voxels(1), np.eye(4))
    (tmp_path / "long.nii.gz").write_bytes(gzip.compress(path.read_bytes() + bytes(2**21)))
    with pytest.raises(DataError, match="more data than the header announces"):
        read_volume(tmp_path / "long.nii.gz")


def test_files_over_the_limit_are_refused(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "v.nii", label_voxels(1), np.eye(4))
    with pytest.raises(DataError, match=r"file of 562 bytes exceeds the limit of 100"):
        faults.check_file(path, limit=100)


@pytest.mark.parametrize("target", ["../secret.raw", "/etc/hostname", "LIST", "%03d.raw 1 9 1"])
def test_headers_that_point_outside_their_folder_are_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "secret.raw").write_bytes(bytes(24))
    folder = tmp_path / "data"
    folder.mkdir()
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((2, 3, 4), np.uint8)), str(folder / "v.mhd"))
    header = (folder / "v.mhd").read_text().replace("v.raw", target)
    (folder / "v.mhd").write_text(header)
    with pytest.raises(DataError, match="points to voxels in"):
        read_volume(folder / "v.mhd")
    nrrd = f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 3 2\nencoding: raw\ndata file: {target}\n\n"
    (folder / "v.nrrd").write_text(nrrd)
    with pytest.raises(DataError, match="points to voxels in"):
        volume_header(folder / "v.nrrd")


def test_volumes_are_known_by_name(tmp_path: Path) -> None:
    for name in ("a.nii", "a.NII.GZ", "a.nrrd", "a.mha", "a.mhd", "seg.dcm"):
        assert is_volume(Path(name))
    assert is_volume(tmp_path)
    for name in ("a.png", "a.gz", "nii"):
        assert not is_volume(Path(name))


def test_names_with_spaces_and_other_scripts(tmp_path: Path) -> None:
    folder = tmp_path / "甲状腺 é"
    for suffix in (".nii.gz", ".nrrd", ".mha"):
        grid = volume_header(save_nifti(folder / "s.nii", label_voxels(1), np.eye(4)))
        write_label_volume(folder / f"体 积{suffix}", label_voxels(1).T, grid)
        assert np.array_equal(read_label_volume(folder / f"体 积{suffix}", labels=LABELS).values, label_voxels(1).T)


def test_fake_datasets_read_back(tmp_path: Path) -> None:
    root = write_volume_dataset(tmp_path / "d", patients=2, channels=2, classes=3, missing={"p01_0": [1]})
    first, second = read_manifest(root)
    assert second.images[1] is None
    image, labels = draw_volume(0, channels=2, classes=3)
    for channel, path in enumerate(first.images):
        assert np.array_equal(read_volume(path).values[0], image[channel])
    found = read_label_volume(first.masks[0], labels=LABELS)
    assert np.array_equal(found.values, labels)
    assert found.grid.spacing == pytest.approx((2, 1, 1))
    assert found.grid.stored == "LPS"


def test_real_volumes_keep_their_geometry(tmp_path: Path, real_data: Path) -> None:
    for path in ("msd_hippocampus/masks/hippocampus_003.nii.gz", "acdc/masks/acdc_001_ED.nii.gz"):
        source = real_data / path
        found = read_label_volume(source, labels=LABELS)
        write_label_volume(tmp_path / "back.nii.gz", found.values, found.grid)
        ours, theirs = nib.load(tmp_path / "back.nii.gz"), nib.load(source)
        assert np.array_equal(np.asarray(ours.dataobj), np.asarray(theirs.dataobj))
        assert np.abs(ours.affine - theirs.affine).max() <= 1e-6
        seen = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(source)))
        assert np.array_equal(seen, found.values), "these files are stored RAS, so SimpleITK's array is ours"
