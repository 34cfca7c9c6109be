"""``medseg data check | plan | preview`` as a user starts them."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image

from fake_faults import CASE, cut, image_of, mask_of, pixels
from fake_volumes import write_volume_dataset
from fakes import write_dataset
from medseg.cli import main
from medseg.data.sources.folder import read_manifest


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path / "outputs"))
    return write_dataset(tmp_path / "set", patients=6, images_per_patient=2, size=(44, 52))


@pytest.fixture
def folder(root, tmp_path) -> Path:
    return tmp_path / "outputs" / "data" / "folder"


def data(action: str, root: Path, *overrides: str) -> int:
    return main(
        ["data", action, "data=folder", f"data.source.root={root}", "preprocess.size=[32,32]", "workers=1", *overrides]
    )


def test_check_of_a_clean_dataset_writes_everything_and_succeeds(root, folder, capsys):
    assert data("check", root) == 0
    written = {path.name for path in folder.iterdir()}
    assert written >= {
        "findings.csv", "cases.csv", "fingerprint.json", "contact_sheet.png", "split.json", "summary.json"
    }  # fmt: skip
    figures = json.loads((folder / "fingerprint.json").read_text(encoding="utf-8"))
    assert figures["cases"] == 12 and len(figures["digest"]) == 64
    assert figures["digest"] == json.loads((folder / "summary.json").read_text(encoding="utf-8"))["digest"]
    with Image.open(folder / "contact_sheet.png") as sheet:
        assert min(sheet.size) > 300
    assert "12 / 6 / 0" in capsys.readouterr().out


def test_check_with_errors_writes_everything_it_can_and_exits_with_2(root, folder, capsys):
    cut(image_of(root), 0.5)
    (root / "masks" / "p03_0.png").unlink()
    assert data("check", root) == 2
    summary = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert "in 2 of 12 cases" in summary[-1] and "findings.csv" in summary[-1] and "quarantine=true" in summary[-1]
    listed = pd.read_csv(folder / "findings.csv")
    assert set(listed[listed["severity"] == "error"]["case"]) == {CASE, "p03_0"}
    assert len(pd.read_csv(folder / "cases.csv")) == 12
    figures = json.loads((folder / "fingerprint.json").read_text(encoding="utf-8"))
    assert (figures["cases"], figures["left_out"], figures["digest"]) == (10, 2, None)
    assert (folder / "contact_sheet.png").is_file()
    assert not (folder / "split.json").exists() and not (folder / "manifest.csv").exists()


def test_quarantine_lists_the_cases_and_training_reads_the_rest(root, folder, capsys):
    cut(image_of(root), 0.5)
    Image.fromarray(pixels(mask_of(root, ".png"))[:-1]).save(root / "masks" / "p03_0.png")
    assert data("check", root, "quarantine=true") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "QUARANTINE: 2 of 12 cases set aside: p00_0, p03_0" in printed
    assert list(pd.read_csv(folder / "quarantine.csv")["id"]) == [CASE, "p03_0"]
    left = read_manifest(root, manifest=str(folder / "manifest.csv"))
    assert len(left) == 10 and {case.id for case in left}.isdisjoint({CASE, "p03_0"})
    sides = json.loads((folder / "split.json").read_text(encoding="utf-8"))["sides"]
    assert sorted(case for ids in sides.values() for case in ids) == sorted(case.id for case in left)
    arguments = printed.partition("train without them: ")[2].split()[:3]
    assert arguments == ["--config-dir", str(folder), "data=quarantined"]
    assert main(["data", "check", *arguments, "preprocess.size=[32,32]", "workers=1"]) == 0


def test_a_dataset_with_a_manifest_is_told_the_shorter_way(root, folder, capsys):
    cut(image_of(root), 0.5)
    overrides = ["data=ddti", f"data.source.root={root}", "workers=1", "preprocess.size=[32,32]"]
    assert main(["data", "check", *overrides, "quarantine=true"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    argument = re.search(r"train without them: '(\+?data.source.manifest=\S+)'", printed)
    assert argument and main(["data", "check", *overrides, argument.group(1)]) == 0


def test_quarantine_cannot_heal_what_belongs_to_no_case(tmp_path, root, folder):
    for path in (root / "images").iterdir():
        path.write_bytes(b"")
    assert data("check", root, "quarantine=true") == 2
    assert not (folder / "manifest.csv").exists()


def test_a_plan_names_its_reasons_and_composes_with_training(root, folder, capsys, compose):
    assert data("plan", root, "probe=false", "memory_gb=1", "base_width=8") == 0
    printed = capsys.readouterr().out
    text = (folder / "experiment" / "plan.yaml").read_text(encoding="utf-8")
    assert text.startswith("# @package _global_") and "median picture 46x52" in text and "probe=false" in text
    made = yaml.safe_load(text)
    cfg = compose("train", "data=folder", f"hydra.searchpath=[file://{folder}]", "experiment=plan")
    assert list(cfg.data.preprocess.size) == made["preprocess"]["size"]
    assert cfg.data.batch_size == made["data"]["batch_size"] and list(cfg.net.widths) == made["net"]["widths"]
    assert f"'preprocess.size={str(made['preprocess']['size']).replace(' ', '')}'" in printed


def test_a_plan_takes_the_fingerprint_of_check_until_a_file_changes(root, folder, monkeypatch):
    assert data("check", root) == 0
    calls = []
    monkeypatch.setattr("medseg.commands.datasets.plan.inspected", lambda *args: calls.append(1) or 1 / 0)
    assert data("plan", root, "probe=false", "base_width=8") == 0 and not calls
    image_of(root).touch()
    with pytest.raises(ZeroDivisionError):
        data("plan", root, "probe=false", "base_width=8")


def test_a_net_without_widths_keeps_its_depth(root, folder, capsys):
    assert data("plan", root, "probe=false", "net=threshold", "base_width=8") == 0
    assert "its depth is not planned" in capsys.readouterr().out
    assert "net" not in yaml.safe_load((folder / "experiment" / "plan.yaml").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_probe_measures_the_planned_network_in_a_process_of_its_own(root, folder, capsys):
    assert data("plan", root, "base_width=4", "largest_batch=2") == 0
    assert "s a step" in capsys.readouterr().out
    assert "Measured: 0." in (folder / "experiment" / "plan.yaml").read_text(encoding="utf-8")


def test_a_probe_that_fails_says_why_and_the_plan_stands(root, folder, monkeypatch, capsys):
    monkeypatch.setattr("medseg.commands.datasets.plan._CHILD", "raise SystemExit('out of luck')")
    assert data("plan", root, "base_width=4") == 0
    assert "not measured: out of luck" in capsys.readouterr().out
    assert (folder / "experiment" / "plan.yaml").is_file()


def test_preview_shows_samples_with_and_without_augmentation(root, folder):
    assert data("preview", root, "samples=2", "augment=light") == 0
    with Image.open(folder / "preview.png") as sheet:
        assert sheet.width > 1.5 * sheet.height  # two rows of four


def volume_overrides(root: Path, classes: str) -> list[str]:
    return [
        "data=msd_hippocampus", f"data.source.root={root}", "data.card.name=made", "workers=1", "split=ratio",
        "data.card.num_classes=3", f"data.card.classes=[{classes}]", "data.card.patch=[8,16,16]", "view=patches",
    ]  # fmt: skip


def test_volumes_are_checked_planned_and_previewed(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path / "outputs"))
    root = write_volume_dataset(tmp_path / "set", patients=5, classes=3)
    folder = tmp_path / "outputs" / "data" / "made"
    overrides = volume_overrides(root, "background,a,b")
    assert main(["data", "check", *overrides]) == 0
    figures = json.loads((folder / "fingerprint.json").read_text(encoding="utf-8"))
    assert figures["dims"] == 3 and figures["spacing"]["p50"] == [2.0, 1.0, 1.0]
    assert main(["data", "plan", *overrides, "probe=false", "base_width=8"]) == 0
    made = yaml.safe_load((folder / "experiment" / "plan.yaml").read_text(encoding="utf-8"))
    assert made["data"]["preprocess"]["spacing"] == [2.0, 1.0, 1.0] and len(made["data"]["card"]["patch"]) == 3
    assert main(["data", "preview", *overrides, "samples=1", "augment=none"]) == 0
    assert (folder / "preview.png").is_file()
