"""The phantom's files: the same every time, complete, patient by patient, and never half a dataset."""

import csv
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.data.cases import Case
from medseg.data.phantom.patient import NODULE_KINDS
from medseg.data.phantom.scanner import LINEAR_B
from medseg.data.phantom.simulate import simulate
from medseg.data.sources import phantom as source
from medseg.data.sources.phantom import phantom
from medseg.errors import ConfigError

SMALL = {"patients": 10, "images_per_patient": 2, "size": (120, 114)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """One small dataset with maps."""
    return phantom(tmp_path_factory.mktemp("cache"), maps=True, **SMALL)


def digests(cases: list[Case]) -> dict[str, str]:
    folder = cases[0].images[0].parents[1]
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_gives_the_same_bytes(made: list[Case], tmp_path: Path) -> None:
    assert digests(phantom(tmp_path, maps=True, **SMALL)) == digests(made)


def test_another_seed_gives_other_images(made: list[Case], tmp_path: Path) -> None:
    other = digests(phantom(tmp_path, maps=True, seed=1, **SMALL))
    mine = digests(made)
    assert other.keys() == mine.keys()
    assert all(other[name] != mine[name] for name in mine if name.startswith("images/"))


def test_an_image_does_not_depend_on_the_others(made: list[Case]) -> None:
    alone = simulate(0, patient=7, image=1, scanner=LINEAR_B, size=(120, 114))
    case = next(case for case in made if case.id == "p0007_1")
    with Image.open(case.images[0]) as picture:
        np.testing.assert_array_equal(np.asarray(picture), alone.image)


def test_the_manifest_is_complete_and_true(made: list[Case]) -> None:
    folder = made[0].images[0].parents[1]
    assert "SYNTHETIC" in (folder / "README.txt").read_text()
    with (folder / "manifest.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(made) == 20
    for row in rows:
        image, mask = folder / row["image"], folder / row["mask"]
        assert hashlib.sha256(image.read_bytes()).hexdigest() == row["sha256_image"]
        assert hashlib.sha256(mask.read_bytes()).hexdigest() == row["sha256_mask"]
        with Image.open(mask) as picture:
            pixels = np.asarray(picture)
        assert pixels.shape == (int(row["height"]), int(row["width"])) == (120, 114)
        assert set(np.unique(pixels)) == {0, 255}
        assert float(row["fg_fraction"]) == pytest.approx((pixels > 0).mean(), abs=1e-4)
        assert set(row["nodule_type"].split("+")) <= set(NODULE_KINDS)
        assert row["scanner"] == row["domain"] == ("linear_a", "linear_b")[int(row["group"][1:]) % 2]
        for kind, within in (("gland", True), ("cyst", False)):
            with Image.open(folder / row[kind]) as picture:
                other = np.asarray(picture)
            assert not ((pixels > 0) & (other == 0)).any() if within else not ((other > 0) & (pixels == 0)).any()


def test_folds_keep_patients_together(made: list[Case]) -> None:
    folds = {case.patient: {other.fold for other in made if other.patient == case.patient} for case in made}
    assert len(folds) == 10
    assert all(len(of_patient) == 1 for of_patient in folds.values())
    assert sorted(fold for of_patient in folds.values() for fold in of_patient) == sorted("01234" * 2)


def test_a_second_call_reads_what_is_there(made: list[Case], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_write", lambda *arguments: pytest.fail("generated again"))
    assert phantom(made[0].images[0].parents[2], maps=True, **SMALL) == made


def test_an_interrupted_generation_leaves_nothing_to_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = source._write_case

    def stops(folder: Path, recipe: object, patient: int, image: int, *, fold: int) -> dict[str, str]:
        if patient == 3:
            raise KeyboardInterrupt
        return whole(folder, recipe, patient, image, fold=fold)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(source, "_write_case", stops)
        phantom(tmp_path, **SMALL)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    assert len(phantom(tmp_path, **SMALL)) == 20


def test_what_a_killed_process_left_is_removed_and_not_used(tmp_path: Path) -> None:
    name = source._Recipe(0, 10, 2, (120, 114), ("linear_a", "linear_b"), 0.0, False).folder
    dead = tmp_path / f".{name}.partial-999999"
    (dead / "images").mkdir(parents=True)
    (dead / "manifest.csv").write_text("id,image,mask,group\n")
    (tmp_path / name / "images").mkdir(parents=True)  # a folder that lost its manifest
    cases = phantom(tmp_path, **SMALL)
    assert len(cases) == 20
    assert not dead.exists()
    assert all(case.images[0].is_file() for case in cases)


def test_two_processes_share_one_generation(tmp_path: Path) -> None:
    code = (
        "import sys; from medseg.data.sources.phantom import phantom\n"
        "print(len(phantom(sys.argv[1], patients=6, images_per_patient=1, size=(120, 114))))"
    )
    commands = [[sys.executable, "-c", code, str(tmp_path)] for _ in range(2)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    assert [process.communicate(timeout=60)[0].strip() for process in running] == ["6", "6"]
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


def test_some_planes_may_miss_the_nodule(tmp_path: Path) -> None:
    cases = phantom(tmp_path, empty_fraction=0.5, **SMALL)
    empty = [case for case in cases if case.attributes["nodule_type"] == "none"]
    assert 3 <= len(empty) <= 17
    with Image.open(empty[0].masks[0]) as picture:
        assert not np.asarray(picture).any()


def test_a_global_threshold_does_not_solve_it(made: list[Case]) -> None:
    images = np.stack([np.asarray(Image.open(case.images[0])) for case in made])
    masks = np.stack([np.asarray(Image.open(case.masks[0])) for case in made]) > 0
    best = 0.0
    for low in range(0, 160, 8):
        for high in range(low + 8, 256, 8):
            found = (images >= low) & (images < high)
            dice = 2 * (found & masks).sum((1, 2)) / (found.sum((1, 2)) + masks.sum((1, 2)))
            best = max(best, float(dice.mean()))
    assert best < 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patients": 3}, "patients=3 is too few; use 5"),
        ({"images_per_patient": 0}, "images_per_patient=0 is too few; use 1"),
        ({"size": (64, 360)}, r"size=\[64, 360\] cannot hold a scan"),
        ({"empty_fraction": 1.0}, r"empty_fraction=1.0 is no share"),
        ({"scanners": ()}, "scanners is empty"),
        ({"scanners": ("convex",)}, "'convex' is no scanner of the phantom; choose from linear_a, linear_b"),
    ],
)
def test_impossible_parameters_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        phantom(tmp_path, **changes)
    assert not list(tmp_path.iterdir())
