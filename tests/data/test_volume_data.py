"""Volumes behind the datamodule: the cache, sparse labels, native scores' ingredients, predictions, the size limit."""

import csv
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from fake_volumes import write_volume_dataset
from medseg.data import entries
from medseg.data.preprocess import OUTSIDE_LOGIT, Preprocess, native_logits
from medseg.data.splits import twins_leaky
from medseg.data.views import Patches, Slices
from medseg.data.volumes.cache import sampled_points
from medseg.data.volumes.files import read_label_volume, read_volume
from medseg.data.volumes.preprocess import VolumePreprocess
from medseg.data.workers import choose_workers
from medseg.errors import ConfigError, DataError
from medseg.types import IGNORE, DataCard, Geometry
from tiny import make_data
from tiny_volumes import PATCH, make_volumes


def rewrite_manifest(root: Path, column: str, values: dict[str, str]) -> None:
    """Fill a column of manifest.csv by case id."""
    path = root / "manifest.csv"
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row[column] = values.get(row["id"], "")
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


# ---- what the batches hold


def test_evaluation_serves_whole_volumes_with_truth_and_millimetres(tmp_path: Path) -> None:
    data = make_volumes(tmp_path)
    batches = list(data.test_dataloader())
    assert [len(batch["case"]) for batch in batches] == [1] * len(data.cases("test"))
    for batch, case in zip(batches, data.cases("test"), strict=True):
        truth = read_label_volume(case.masks[0], labels={0: 0, 1: 1}).values
        assert np.array_equal(batch["truth"][0], truth)
        assert batch["geometry"][0].spacing == (2.0, 1.0, 1.0)
        image = read_volume(case.images[0]).values
        wanted = VolumePreprocess().do(image, None, spacing=(2.0, 1.0, 1.0))[0]
        assert torch.equal(batch["image"][0], torch.from_numpy(wanted.astype(np.float16).astype(np.float32)))
    assert batches[0]["image"].dtype == torch.float32 and batches[0]["mask"].dtype == torch.int64


def test_without_a_physical_unit_the_spacing_is_one(tmp_path: Path) -> None:
    card = DataCard("fake", 1, 2, ["background", "organ"], 3, "px")
    data = make_volumes(tmp_path, card=card)
    assert data.dataset("test")[0]["geometry"].spacing == (1.0, 1.0, 1.0)


def test_the_summary_counts_voxels(tmp_path: Path) -> None:
    data = make_volumes(tmp_path)
    summary = data.summary()
    truths = [data.read(case)[1] for case in data.cases("test")]
    wanted = sum(int(truth.sum()) for truth in truths) / sum(truth.size for truth in truths)
    assert summary["prevalence"]["test"] == pytest.approx(wanted)
    assert summary["sizes"] == {"12x20x24": 3, "14x24x26": 3}
    json.dumps(summary)
    assert data.input_size() == PATCH


# ---- the cache


def test_a_worker_receives_the_cache_without_its_voxels(tmp_path: Path) -> None:
    dataset = make_volumes(tmp_path).dataset("train", evaluation=False)
    first = dataset[0, 0]
    content = pickle.dumps(dataset)
    assert len(content) < 10_000
    assert torch.equal(pickle.loads(content)[0, 0]["image"], first["image"])


def test_a_cut_entry_is_one_line(tmp_path: Path) -> None:
    make_volumes(tmp_path)
    (folder,) = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    images = folder / "images.f16"
    images.write_bytes(images.read_bytes()[:-2])
    with pytest.raises(DataError, match=r"cache entry is damaged; delete this folder"):
        make_volumes(tmp_path)


def test_changed_labels_recipe_or_slices_make_another_entry(tmp_path: Path) -> None:
    def entry_count() -> int:
        return sum(path.is_dir() for path in (tmp_path / "cache").iterdir())

    make_volumes(tmp_path)
    make_volumes(tmp_path)
    assert entry_count() == 1
    make_volumes(tmp_path, preprocess=VolumePreprocess(spacing=(2.0, 2.0, 2.0)))
    make_volumes(tmp_path, labels={0: 0, 1: IGNORE})
    rewrite_manifest(tmp_path / "volumes", "labelled_slices", {"p00_0": "3;4"})
    make_volumes(tmp_path)
    assert entry_count() == 4


def test_all_unfit_volumes_are_counted_in_one_line(tmp_path: Path) -> None:
    root = write_volume_dataset(tmp_path / "volumes", patients=6, folds=3)
    (root / "images" / "p01_0.nii.gz").write_bytes((root / "images" / "p01_0.nii.gz").read_bytes()[:200])
    mask = nib.load(root / "masks" / "p03_0.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(mask.dataobj)[1:], mask.affine), root / "masks" / "p03_0.nii.gz")
    rewrite_manifest(root, "fg_fraction", dict.fromkeys([f"p0{n}_0" for n in range(6)], "0.1"))
    with pytest.raises(DataError, match=r"p01_0.nii.gz: .*\(1 more problem\(s\) in dataset 'fake'\)") as caught:
        make_volumes(tmp_path)
    assert "\n" not in str(caught.value)


FILL = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from medseg.data.volumes import cache
write = cache._write
def slow(*args):
    time.sleep(0.3)
    return write(*args)
cache._write = slow
from tiny_volumes import make_volumes
make_volumes(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_writer_killed_half_way_leaves_no_entry(tmp_path: Path) -> None:
    write_volume_dataset(tmp_path / "volumes", patients=6, folds=3)
    writer = subprocess.Popen([sys.executable, "-c", FILL, str(tmp_path), str(Path(__file__).resolve().parents[1])])
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("cache/*.part-*/images.f16")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    left = [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert len(left) == 1 and ".part-" in left[0]
    make_volumes(tmp_path)
    assert [p.name for p in (tmp_path / "cache").iterdir() if p.is_dir()] == [left[0].split(".part-")[0]]


def entry_folders(root: Path) -> set[str]:
    return {path.name.rsplit("-", 1)[0] for path in root.iterdir() if path.is_dir()}


def test_the_least_recently_used_entry_gives_way_and_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    card = [DataCard(f"set{n}", 1, 2, ["background", "organ"], 3, "mm") for n in range(3)]
    size = None
    for number in (0, 1):
        data = make_volumes(tmp_path, card=card[number])
        size = entries.entry_size(data.prepared.store.folder)
        del data  # its use of the entry ends here
    first = next((tmp_path / "cache").glob("set0-*/entry.json"))
    os.utime(first.with_name("entry.json"), (1, 1))
    limit = 2.5 * size / 1e9
    with caplog.at_level(logging.INFO):
        make_volumes(tmp_path, card=card[2], cache_limit_gb=limit)
    assert entry_folders(tmp_path / "cache") == {"set1", "set2"}
    assert "set0" in caplog.text and "removed" in caplog.text


def test_an_entry_in_use_is_kept_and_a_folder_that_is_no_entry_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    card = [DataCard(f"set{n}", 1, 2, ["background", "organ"], 3, "mm") for n in range(2)]
    (tmp_path / "cache" / "phantom-0123456789abcdef0123").mkdir(parents=True)
    used = make_volumes(tmp_path, card=card[0])
    size = entries.entry_size(used.prepared.store.folder)
    with caplog.at_level(logging.WARNING):
        make_volumes(tmp_path, card=card[1], cache_limit_gb=1.5 * size / 1e9)
    assert entry_folders(tmp_path / "cache") == {"set0", "set1", "phantom"}
    assert "in use and therefore kept" in caplog.text
    assert used.dataset("test")[0]["image"].any()


def test_an_entry_larger_than_the_limit_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"this cache entry alone exceeds data.cache_limit_gb=1e-06"):
        make_volumes(tmp_path, cache_limit_gb=1e-6)
    with pytest.raises(DataError, match=r"this cache entry alone exceeds"):
        make_data(tmp_path, cache_limit_gb=1e-6)
    assert entry_folders(tmp_path / "cache") == set()


def test_sampled_points_lie_in_their_class_and_repeat() -> None:
    mask = np.zeros((20, 30, 40), np.uint8)
    mask[3:15, 5:25, 8:30] = 1
    mask[4, 6, 9] = 2
    points = sampled_points(mask, seed_name="a", most=100)
    assert {label: len(places) for label, places in points.items()} == {1: 100, 2: 1}
    assert all((mask[tuple(places.T)] == label).all() for label, places in points.items())
    assert np.array_equal(points[1], sampled_points(mask, seed_name="a", most=100)[1])
    mask[0] = IGNORE
    assert set(sampled_points(mask, seed_name="a")) == {0, 1, 2}


# ---- sparse labels


def test_only_labelled_slices_are_drawn_and_scored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_volume_dataset(tmp_path / "volumes", patients=6, folds=3)
    rewrite_manifest(root, "labelled_slices", {f"p0{n}_0": "3;7" for n in range(6)})
    data = make_volumes(tmp_path, view=Slices(size=(16, 16), epoch_samples=40, foreground=0.3))
    whole = data.dataset("train")[0]
    labelled = [number for number, part in enumerate(whole["mask"]) if (part != IGNORE).any()]
    assert labelled == [3, 7]
    assert (whole["truth"][4] == IGNORE).all()
    dataset = data.dataset("train", evaluation=False)
    assert all((dataset[0, index]["mask"] != IGNORE).any() for index in range(40))
    patches = make_volumes(tmp_path, view=Patches(size=(2, 8, 8), epoch_samples=40, foreground=0))
    drawn = [patches.dataset("train", evaluation=False)[0, index]["mask"] for index in range(40)]
    assert all((mask != IGNORE).any() for mask in drawn)
    assert any((mask == IGNORE).any() for mask in drawn)


def test_a_case_without_any_label_is_never_drawn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_volume_dataset(tmp_path / "volumes", patients=6, folds=3)
    for path in sorted((root / "masks").iterdir()):
        mask = nib.load(path)
        values = np.asarray(mask.dataobj).copy()
        values[:] = 9 if path.name.startswith("p01") else values
        nib.save(nib.Nifti1Image(values, mask.affine), path)
    given = {"labels": {0: 0, 1: 1, 9: IGNORE}}
    data = make_volumes(tmp_path, **given)
    dataset = data.dataset("train", evaluation=False)
    names = {dataset[epoch, index]["case"] for epoch in range(3) for index in range(8)}
    assert "p01_0" in {case.id for case in data.cases("train")} and "p01_0" not in names
    assert "1 training case(s) have no labelled pixel and are never drawn: ['p01_0']" in caplog.text
    with pytest.raises(DataError, match="no training case has a labelled pixel"):
        make_volumes(tmp_path, labels={0: IGNORE, 1: IGNORE, 9: IGNORE}).dataset("train", evaluation=False)


def test_wrong_labelled_slices_are_named(tmp_path: Path) -> None:
    root = write_volume_dataset(tmp_path / "volumes", patients=6, folds=3)
    rewrite_manifest(root, "labelled_slices", {"p00_0": "3;12"})
    with pytest.raises(DataError, match=r"case 'p00_0': labelled_slices '3;12': '12' is none of the slices 0 to 11 of"):
        make_volumes(tmp_path)


# ---- the way back


def test_volume_logits_go_back_to_their_box() -> None:
    geometry = Geometry((6, 8, 10), (1, 2, 3, 4, 4, 6), (2, 4, 3), (1.0, 1.0, 1.0))
    logits = torch.randn(3, 2, 4, 3)
    native = native_logits(logits, geometry)
    wanted = torch.nn.functional.interpolate(logits[None], (4, 4, 6), mode="trilinear", align_corners=False)[0]
    torch.testing.assert_close(native[:, 1:5, 2:6, 3:9], wanted)
    outside = torch.ones(6, 8, 10, dtype=torch.bool)
    outside[1:5, 2:6, 3:9] = False
    assert (native[0][outside] == OUTSIDE_LOGIT).all() and (native[1:, outside] == -OUTSIDE_LOGIT).all()


def test_predictions_have_the_geometry_of_their_source(tmp_path: Path) -> None:
    data = make_volumes(tmp_path, labels={0: 0, 1: 1})
    case = data.cases("test")[0]
    truth = data.read(case)[1]
    path = data.save_prediction(tmp_path / "out", case.id, truth)
    source, written = nib.load(case.masks[0]), nib.load(path)
    assert path.name == f"{case.id}.nii.gz"
    assert np.allclose(source.affine, written.affine, atol=1e-5) and source.shape == written.shape
    assert np.array_equal(np.asarray(source.dataobj), np.asarray(written.dataobj))
    assert np.array_equal(data.load_prediction(tmp_path / "out", case.id), truth)


# ---- what is refused


def test_settings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.preprocess of 'fake' is Preprocess, .*needs medseg.data.volumes"):
        make_volumes(tmp_path, preprocess=Preprocess(size=8), prepare=False)
    with pytest.raises(ConfigError, match=r"data.labels of 'fake' names class 2"):
        make_volumes(tmp_path, labels={0: 0, 1: 2}, prepare=False)
    with pytest.raises(DataError, match=r"twins are made of pictures"):
        make_volumes(tmp_path, split=lambda cases: twins_leaky(cases, seed=0))
    with pytest.raises(ConfigError, match=r"data.num_workers=many"):
        make_volumes(tmp_path, num_workers="many", prepare=False)


@pytest.mark.parametrize(
    ("batch", "step", "cores", "expected"),
    [(0.05, 1.0, 8, 0), (0.2, 1.0, 8, 1), (3.5, 1.0, 8, 4), (30.0, 1.0, 8, 7), (5.0, 1.0, 1, 0), (1.0, 0.0, 4, 3)],
)
def test_workers_follow_from_the_two_times(batch: float, step: float, cores: int, expected: int) -> None:
    assert choose_workers(batch, step, cores) == expected
