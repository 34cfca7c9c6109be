"""Registration: a known displacement is found and undone, and the dataset that comes out says how well."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from fake_volumes import make_affine, save_nifti, write_volume_dataset
from medseg.commands.data import main as data_main
from medseg.commands.datasets.register import register_dataset
from medseg.data.sources.folder import read_manifest
from medseg.data.volumes.files import Volume, read_volume, same_grid, volume_header
from medseg.data.volumes.grid import Grid
from medseg.data.volumes.registration import register
from medseg.errors import ConfigError, DataError

SHAPE = (19, 33, 41)
AFFINE = make_affine((1.5, 1.5, 2.0), origin=(-30, -24, -18))
GRID = Grid(SHAPE, tuple(tuple(row) for row in AFFINE.tolist()))
CORNERS = np.array([[x, y, z, 1.0] for x in (-20, 20) for y in (-15, 15) for z in (-10, 10)]).T


def body(places: np.ndarray) -> np.ndarray:
    """Return grey values of a body with two organs at places (3, ...) in mm."""
    x, y, z = places
    whole = (x / 22) ** 2 + (y / 17) ** 2 + (z / 13) ** 2 < 1
    left = ((x - 7) / 6) ** 2 + ((y + 3) / 5) ** 2 + ((z - 2) / 4) ** 2 < 1
    right = ((x + 8) / 4) ** 2 + ((y - 5) / 6) ** 2 + ((z + 3) / 5) ** 2 < 1
    return whole + 1.0 * left + 2.0 * right


def scan(moved: np.ndarray | None = None, *, affine: np.ndarray = AFFINE, other_modality: bool = False) -> np.ndarray:
    """Return float32 (D, H, W): the value at place p is that of the body at ``moved @ p``."""
    indices = np.stack([*np.meshgrid(*[np.arange(side) for side in SHAPE], indexing="ij")][::-1])
    places = np.concatenate([indices.reshape(3, -1), np.ones((1, indices[0].size))])
    places = (np.eye(4) if moved is None else moved) @ affine @ places
    grey = gaussian_filter(body(places[:3].reshape(3, *SHAPE)), 0.6)
    grey = 5 - grey if other_modality else grey
    return (grey + np.random.default_rng(1 + other_modality).normal(0, 0.03, SHAPE)).astype(np.float32)


def displacement(
    angles: tuple[float, float, float] = (4, -6, 8), shift: tuple[float, ...] = (3, -2, 1.5)
) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def error_mm(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(((found - truth) @ CORNERS)[:3], axis=0).max())


@pytest.mark.parametrize(("kind", "allowed"), [("rigid", 0.75), ("affine", 1.5)])
def test_a_known_displacement_of_another_modality_is_found(kind: str, allowed: float) -> None:
    moved = displacement()
    moving = Volume(scan(moved, other_modality=True)[None], GRID)
    found = register(moving, Volume(scan()[None], GRID), kind=kind)
    truth = np.linalg.inv(moved)
    assert error_mm(np.eye(4), truth) > 7
    assert error_mm(found.transform, truth) < allowed
    assert found.similarity_after > found.similarity_before + 0.2
    assert found.volume.grid == GRID
    # The moved volume now shows what that modality would have seen in place.
    inside = (slice(4, -4), slice(6, -6), slice(8, -8))
    expected, before = scan(other_modality=True), moving.values[0]
    assert np.abs(found.volume.values[0] - expected)[inside].mean() < 0.35 * np.abs(before - expected)[inside].mean()


def test_stretching_is_found_by_affine_only() -> None:
    stretched = np.diag([1.12, 0.92, 1.0, 1.0])
    moving, reference = Volume(scan(stretched)[None], GRID), Volume(scan()[None], GRID)
    affine, rigid = (register(moving, reference, kind=kind) for kind in ("affine", "rigid"))
    truth = np.linalg.inv(stretched)
    assert error_mm(affine.transform, truth) < 1.0 < error_mm(rigid.transform, truth)
    assert affine.similarity_after > rigid.similarity_after


def test_other_grids_and_orientations_are_brought_to_the_reference() -> None:
    affine = make_affine((1.2, 1.6, 2.2), angles=(0, 0, 12), origin=(-22, -30, -20))
    grid = Grid(SHAPE, tuple(tuple(row) for row in affine.tolist()), "LPS")
    found = register(Volume(scan(affine=affine)[None], grid), Volume(scan()[None], GRID))
    assert found.volume.values.shape == (1, *SHAPE)
    assert error_mm(found.transform, np.eye(4)) < 0.75, "the headers were right already"


def test_all_channels_move_alike_and_the_same_again() -> None:
    moved = scan(displacement())
    both = Volume(np.stack([moved, 2 * moved + 1]), GRID)
    found = register(both, Volume(scan()[None], GRID), iterations=20)
    inside = found.volume.values[0] != 0
    assert np.allclose(found.volume.values[1][inside], 2 * found.volume.values[0][inside] + 1, atol=1e-4)
    again = register(both, Volume(scan()[None], GRID), iterations=20)
    assert np.array_equal(found.transform, again.transform)
    assert np.array_equal(found.volume.values, again.volume.values)


def test_nothing_is_made_worse() -> None:
    image = scan()
    found = register(Volume(image[None], GRID), Volume(image[None], GRID), iterations=5)
    assert found.similarity_after >= found.similarity_before
    assert error_mm(found.transform, np.eye(4)) < 0.1


def test_volumes_far_apart_need_their_centres() -> None:
    affine = make_affine((1.5, 1.5, 2.0), origin=(970, -24, -18))
    far = Grid(SHAPE, tuple(tuple(row) for row in affine.tolist()))
    moving, reference = Volume(scan()[None], far), Volume(scan()[None], GRID)
    with pytest.raises(DataError, match=r"registration failed .*start=centre") as caught:
        register(moving, reference)
    assert "\n" not in str(caught.value)
    found = register(moving, reference, start="centre")
    assert found.transform[0, 3] == pytest.approx(1000, abs=0.5)


def test_wrong_use_is_refused() -> None:
    image = Volume(scan()[None], GRID)
    with pytest.raises(ConfigError, match="kind='elastic' is unknown; use rigid or affine"):
        register(image, image, kind="elastic")
    with pytest.raises(ConfigError, match="start='nowhere' is unknown"):
        register(image, image, start="nowhere")
    with pytest.raises(DataError, match="the moving volume has the same value everywhere"):
        register(Volume(np.ones((1, *SHAPE), np.float32), GRID), image)


def moved_dataset(root: Path) -> Path:
    """Write two cases of two channels; channel 1 of the first is displaced, of the second missing."""
    write_volume_dataset(root, patients=2, channels=2, missing={"p01_0": [1]})
    save_nifti(root / "images/p00_0_0000.nii.gz", scan().T, AFFINE)
    save_nifti(root / "images/p00_0_0001.nii.gz", scan(displacement(), other_modality=True).T, AFFINE)
    save_nifti(root / "masks/p00_0.nii.gz", (scan() > 1.5).astype(np.uint8).T, AFFINE)
    return root


def test_a_dataset_is_registered_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = moved_dataset(tmp_path / "source"), tmp_path / "target"
    data_main(["register", "--source", str(source), "--target", str(target)])
    assert "written to" in capsys.readouterr().out
    first, second = read_manifest(target)
    assert [path is None for path in second.images] == [False, True]
    for name in ("images/p00_0_0000.nii.gz", "masks/p00_0.nii.gz", "images/p01_0_0000.nii.gz"):
        assert (target / name).read_bytes() == (source / name).read_bytes()
    moved = read_volume(first.images[1])
    same_grid(volume_header(first.images[0]), moved.grid, names=("a", "b"))
    expected = scan(other_modality=True)
    inside = (slice(4, -4), slice(6, -6), slice(8, -8))
    before = read_volume(source / "images/p00_0_0001.nii.gz").values[0]
    assert np.abs(moved.values[0] - expected)[inside].mean() < 0.4 * np.abs(before - expected)[inside].mean()
    none, before_text = first.attributes["similarity_before"].split(";")
    assert none == ""
    assert float(first.attributes["similarity_after"].split(";")[1]) > float(before_text)
    assert second.attributes["similarity_after"] == ";"
    assert (first.patient, first.fold, first.attributes["split"]) == ("p00", "0", "train")
    record = json.loads((target / "provenance.json").read_text())
    assert record["options"]["kind"] == "rigid"
    [channel] = record["registration"]["p00_0"]
    assert error_mm(np.asarray(channel["transform"]), np.linalg.inv(displacement())) < 1.0
    assert channel["after"] == pytest.approx(float(first.attributes["similarity_after"].split(";")[1]), abs=1e-5)


def test_a_registered_file_keeps_the_orientation_of_its_reference(tmp_path: Path) -> None:
    source = write_volume_dataset(tmp_path / "s", patients=1, channels=2, codes="LPI", shape=(10, 16, 16))
    register_dataset(source, tmp_path / "t")
    codes = [nib.aff2axcodes(nib.load(path).affine) for path in sorted((tmp_path / "t" / "images").iterdir())]
    assert codes == [("L", "P", "I")] * 2


def test_cases_that_cannot_be_registered_are_named_and_nothing_is_left(tmp_path: Path) -> None:
    source = moved_dataset(tmp_path / "source")
    with pytest.raises(DataError, match=r"case 'p01_0' has no file for the reference channel 1.*--reference-channel"):
        register_dataset(source, tmp_path / "target", reference_channel=1)
    with pytest.raises(ConfigError, match="channels count from 0"):
        register_dataset(source, tmp_path / "target", reference_channel=-1)
    save_nifti(source / "masks/p00_0.nii.gz", (scan() > 1.5).astype(np.uint8).T, make_affine((1, 1, 1)))
    with pytest.raises(DataError, match=r"p00_0\.nii\.gz: affine differs"):
        register_dataset(source, tmp_path / "target")
    rows = (source / "manifest.csv").read_text().replace("masks/p00_0.nii.gz", "masks/p00_0.png")
    (source / "manifest.csv").write_text(rows)
    (source / "masks/p00_0.png").write_bytes(b"x")
    with pytest.raises(DataError, match="is no volume"):
        register_dataset(source, tmp_path / "target")
    assert not list(tmp_path.glob("target*"))


def test_columns_with_the_names_of_the_layout_survive(tmp_path: Path) -> None:
    source = write_volume_dataset(tmp_path / "s", patients=1, channels=1, shape=(10, 16, 16))
    with (source / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    with (source / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [*rows[0], "affine", "sha256_image"])
        writer.writeheader()
        writer.writerows([row | {"affine": "scanner", "sha256_image": "old"} for row in rows])
    [case] = read_manifest(register_dataset(source, tmp_path / "t"))
    assert case.attributes["source_affine"] == "scanner"
    assert case.attributes["sha256_image"] != "old"
