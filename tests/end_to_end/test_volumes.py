"""Volumes through the command line: patches, slices, missing modalities, sparse labels, predictions, refusals."""

import csv
import json
import logging
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from fake_volumes import write_series, write_volume_dataset
from medseg.cli import main
from medseg.data.volumes.files import read_volume

CONFIG = """
_target_: medseg.data.datamodule.SegmentationData
_convert_: all
card:
  _target_: medseg.types.DataCard
  name: fake
  in_channels: 1
  num_classes: 2
  classes: [background, organ]
  spatial_dims: 3
  unit: mm
  patch: [8, 16, 16]
source: {_target_: medseg.data.sources.folder.read_manifest, _partial_: true, root: "${paths.data}/fake"}
split: ${split}
preprocess:
  _target_: medseg.data.volumes.preprocess.VolumePreprocess
  _convert_: all
augment: ${augment.${view.samples}}
labels: {0: 0, 1: 1}
batch_size: 2
seed: ${seed}
cache_root: ${paths.cache}
view: ${view}
missing: ${missing}
"""

SETTINGS = (
    "data=fake",
    "split=manifest_fold",
    "split.val_fraction=0.3",
    "augment=none",
    "net.widths=[4,8]",
    "trainer.max_epochs=1",
    "callbacks.progress=null",
    "trainer.enable_progress_bar=false",
    "tracking=csv",
    "threads=1",
)

Command = Callable[..., int]


@pytest.fixture
def medseg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return the command line; ``medseg("train", ...)`` has tiny settings and the dataset ``fake`` below data/."""
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "fake.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    for name in ("outputs", "data"):
        monkeypatch.setenv(f"MEDSEG_{name.upper()}", str(tmp_path / name))
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    def run(verb: str, *overrides: str) -> int:
        given = ("--config-dir", str(tmp_path / "conf"), *SETTINGS) if verb == "train" else ()
        return main([verb, *given, *overrides])

    return run


def only_run(folder: Path) -> Path:
    (run,) = [path.parent for path in (folder / "outputs" / "runs").glob("*/*/DONE")]
    return run


def check_run(folder: Path, root: Path) -> pd.DataFrame:
    """Check what every run on volumes leaves, and return its scores."""
    for name in ("weights.pt", "scores.csv", "overlays.png", "curves.png", "DONE"):
        assert (folder / name).is_file(), name
    scores = pd.read_csv(folder / "scores.csv")
    with (root / "manifest.csv").open(newline="") as stream:
        masks = {row["id"]: root / row["mask"] for row in csv.DictReader(stream)}
    for case in scores["case"]:
        written, source = nib.load(folder / "predictions" / f"{case}.nii.gz"), nib.load(masks[case])
        assert np.allclose(written.affine, source.affine, atol=1e-5)
        assert written.shape == source.shape
        row = scores[scores["case"] == case].iloc[0]
        assert row["unit"] == "mm"
        shape = np.array(source.shape) * source.header.get_zooms()[:3]
        assert row["diagonal"] == pytest.approx(np.sqrt((shape**2).sum()), rel=1e-5)
    return scores


def test_patches_train_evaluate_and_predict_in_the_geometry_of_the_source(medseg: Command, tmp_path: Path) -> None:
    root = write_volume_dataset(tmp_path / "data" / "fake", patients=6, folds=3)
    assert medseg("train", "view=patches", "view.epoch_samples=4") == 0
    run = only_run(tmp_path)
    scores = check_run(run, root)
    voxels = {12 * 20 * 24, 14 * 24 * 26}
    assert set(scores[["tp", "fp", "fn", "tn"]].sum(axis=1)) <= voxels
    record = json.loads((run / "run.json").read_text())
    assert record["model"]["gflops"] > 0
    assert medseg("evaluate", f"run={run}", "trainer.enable_progress_bar=false") == 0
    assert (run / "evaluations" / "fake-test" / "scores.csv").read_bytes() == (run / "scores.csv").read_bytes()
    assert medseg("predict", f"run={run}", f"input={root / 'images'}", "output=masks") == 0
    assert len(list((tmp_path / "masks").iterdir())) == 6
    for path in (run / "predictions").iterdir():
        again = nib.load(tmp_path / "masks" / path.name)
        assert np.array_equal(np.asarray(nib.load(path).dataobj), np.asarray(again.dataobj))


def test_a_two_dimensional_network_sees_slices_and_is_refused_volumes(
    medseg: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_volume_dataset(tmp_path / "data" / "fake", patients=6, folds=3)
    tiny = ("net=reagunet", "net.widths=[4,8,8,8,8]")
    assert medseg("train", *tiny, "view=slices", "view.epoch_samples=4", "augment=light") == 0
    check_run(only_run(tmp_path), root)
    assert medseg("train", *tiny) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "net=reagunet sees pictures and data=fake is shown to it as volumes; use view=slices" in error
    assert medseg("train", "preprocess=seed004") == 2
    assert "preprocess=seed004 is for pictures and data=fake holds volumes" in capsys.readouterr().err
    assert medseg("train", "view=slices", "net.spatial_dims=3") == 2
    assert "net=unet sees volumes and data=fake is shown to it as pictures" in capsys.readouterr().err
    assert medseg("train", "net=mgunet", "net.widths=[4,8,8,8,8]", "view=slices") == 2
    assert "net=mgunet is interactive and marks pictures" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["mask", "dropout"])
def test_a_missing_modality_goes_through_training_and_prediction(
    medseg: Command, tmp_path: Path, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_volume_dataset(
        tmp_path / "data" / "fake", patients=6, channels=2, folds=3, missing={"p01_0": [1], "p03_0": [0]}
    )
    given = ("data.card.in_channels=2", "view=patches", "view.epoch_samples=4")
    if missing == "mask":
        assert medseg("train", *given) == 2
        assert "case 'p01_0' lacks modality 2" in capsys.readouterr().err
    assert medseg("train", *given, f"missing={missing}") == 0
    run = only_run(tmp_path)
    assert "p03_0" in set(check_run(run, root)["case"])
    assert medseg("predict", f"run={run}", f"input={root / 'images'}", "output=masks") == 0
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == [f"p0{n}_0.nii.gz" for n in range(6)]
    for path in (run / "predictions").iterdir():
        again = nib.load(tmp_path / "masks" / path.name)
        assert np.array_equal(np.asarray(nib.load(path).dataobj), np.asarray(again.dataobj))


def test_unlabelled_slices_count_in_no_score(medseg: Command, tmp_path: Path) -> None:
    root = write_volume_dataset(tmp_path / "data" / "fake", patients=6, folds=3, sizes_differ=False)
    path = root / "manifest.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([f"{lines[0]},labelled_slices", *(f"{line},2;5;9" for line in lines[1:])]) + "\n")
    assert medseg("train", "view=slices", "view.epoch_samples=4", "+data.num_workers=auto") == 0
    scores = check_run(only_run(tmp_path), root)
    assert set(scores[["tp", "fp", "fn", "tn"]].sum(axis=1)) == {3 * 20 * 24}


def test_a_dicom_series_gets_a_dicom_segmentation(medseg: Command, tmp_path: Path) -> None:
    from medseg.data.volumes.dicom import read_dicom_seg

    write_volume_dataset(tmp_path / "data" / "fake", patients=6, folds=3)
    assert medseg("train", "view=patches", "view.epoch_samples=4") == 0
    run = only_run(tmp_path)
    voxels = np.random.default_rng(0).integers(0, 200, (10, 20, 24))
    write_series(tmp_path / "scans" / "first", voxels)
    assert medseg("predict", f"run={run}", "input=scans", "output=nifti") == 0
    assert medseg("predict", f"run={run}", "input=scans", "output=seg", "format=dicom_seg") == 0
    grid = read_volume(tmp_path / "scans" / "first").grid
    segmentation = read_dicom_seg(tmp_path / "seg" / "first.dcm", grid=grid)
    assert np.array_equal(segmentation.labels, read_volume(tmp_path / "nifti" / "first.nii.gz").values[0])
    assert np.allclose(segmentation.grid.affine, grid.affine, atol=1e-4)
    assert medseg("predict", f"run={run}", "input=data/fake/images", "output=x", "format=dicom_seg") == 2
    assert not (tmp_path / "x").exists()


REAL = [
    ("msd_hippocampus", ()),
    ("acdc", ("view=slices", "view.epoch_samples=4")),
    ("brats2013_mini", ("data.card.patch=[32,32,32]",)),
    ("ms_lesion_4mod", ("data.card.patch=[32,32,32]",)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "overrides"), REAL)
def test_real_volumes_train_for_an_epoch(
    name: str, overrides: tuple[str, ...], real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (real_data / name / "manifest.csv").is_file():
        pytest.skip(f"{name} is not there")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("MEDSEG_DATA", str(real_data))
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    limits = ("+trainer.limit_train_batches=2", "+trainer.limit_val_batches=1", "+trainer.limit_test_batches=1")
    assert main(["train", *SETTINGS, f"data={name}", *limits, *overrides]) == 0
    assert (only_run(tmp_path) / "overlays.png").is_file()
