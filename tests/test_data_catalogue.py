"""``medseg data list``, ``info`` and ``prepare`` as a user types them, and what every dataset's yaml promises."""

import hashlib
import importlib
import inspect
import json
import re
import subprocess
import sys
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fake_archives import write_zip
from medseg import cli
from medseg.commands.datasets.catalogue import describe
from medseg.commands.datasets.fetch import remotes_of
from medseg.commands.datasets.known import files, read
from medseg.commands.datasets.prepare import FORMATS
from medseg.data.sources.folder import read_manifest
from medseg.errors import ConfigError

NAMES = sorted(files())
ACCESS = ("bundled", "public", "registration", "request")


def run(*arguments: str) -> int:
    return cli.main(["data", *arguments])


# What the yaml files promise


@pytest.mark.parametrize("name", NAMES)
def test_every_preparer_is_a_function_of_source_and_layout(name):
    node = read(name, files()).about.get("prepare")
    if node is None:
        pytest.skip("needs no preparation")
    assert node["_partial_"] is True
    module, _, function = node["_target_"].rpartition(".")
    assert module.startswith("medseg.data.prepare.")
    parameters = inspect.signature(getattr(importlib.import_module(module), function)).parameters
    first, second, *options = parameters.values()
    assert (first.name, second.name) == ("source", "layout")
    assert all(option.kind is option.KEYWORD_ONLY for option in options)
    given = {key for key in node if not key.startswith("_")}
    assert given <= {option.name for option in options}
    needed = {option.name for option in options if option.default is option.empty}
    assert needed <= given, "a user should need no setting"


@pytest.mark.parametrize("name", NAMES)
def test_every_public_address_is_https_and_its_hash_is_one(name):
    for remote in remotes_of(read(name, files())):
        assert urllib.parse.urlsplit(remote.url).scheme == "https"
        assert remote.sha256 is None or re.fullmatch("[0-9a-f]{64}", remote.sha256)
        assert remote.size is None or remote.size > 0
        assert len(remote.file_name) > 4


@pytest.mark.parametrize("name", NAMES)
def test_every_yaml_says_how_the_data_are_had(name):
    entry = read(name, files())
    if not entry.about:
        pytest.skip("says nothing about it yet")
    assert entry.about["access"] in ACCESS
    assert entry.about["title"]
    assert entry.about["steps"]
    expected = entry.about["expected"]
    assert expected["cases"] is None or expected["cases"] >= (expected["patients"] or 0)
    if entry.about["access"] == "request":
        assert not entry.about.get("fetch"), "what must be asked for cannot be fetched"


@pytest.mark.parametrize("name", NAMES)
def test_info_shows_every_fact_of_every_set(name):
    entry = read(name, files())
    text = " ".join(" ".join(describe(entry)).split())
    for fact in (name, entry.card["licence"], entry.card["citation"], *entry.card["classes"]):
        assert " ".join(str(fact).split()) in text
    if entry.about.get("prepare"):
        assert f"medseg data prepare {name} --source" in text
    assert (f"medseg data fetch {name}" in text) or not entry.about.get("fetch")


# The commands


def test_list_names_every_set_and_whether_it_is_here(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MEDSEG_DATA", str(tmp_path))
    (tmp_path / "ddti").mkdir()
    (tmp_path / "ddti" / "manifest.csv").write_text("id,image,mask,group\n")
    assert run("list") == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    assert set(NAMES) <= set(rows)
    assert rows["ddti"][-1] == "yes"
    assert rows["busi"][-1] == "no"
    assert rows["phantom"][-1] == "simulated"
    assert "2D" in rows["ddti"]


def test_a_yaml_without_about_lists_and_one_s_own_folder_of_configs_is_seen(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "clinic.yaml").write_text(
        "defaults: [ddti, _self_]\ncard: {name: clinic, classes: [background, cyst], spatial_dims: 3}\n"
        "source: {root: '${oc.env:HOME}/clinic'}\n"
    )
    (tmp_path / "data" / "bare.yaml").write_text("labels: {0: 0}\n")
    assert run("list", "--config-dir", str(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("clinic ")).split()[1:4] == ["ultrasound", "3D", "cyst"]
    assert next(line for line in lines if line.startswith("bare ")).split()[-1] == "no"
    assert run("info", "bare", "--config-dir", str(tmp_path)) == 0
    assert "nobody wrote down how" in capsys.readouterr().out


def test_what_needs_a_request_says_so(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "closed.yaml").write_text(
        "about: {title: T, access: request, steps: 'Write to the owners.', prepare: null, fetch: null}\n"
    )
    assert run("info", "closed", "--config-dir", str(tmp_path)) == 0
    shown = capsys.readouterr().out
    assert "by hand: its owners send it on request" in shown
    assert "Write to the owners." in shown
    assert "no command for this step" in shown


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", "cannot be read"), ("- a", "no mapping"), ("defaults: [broken]", "names itself"),
                          ("about: {x: '${'}", "cannot be read"), ("a: !!python/object:os.system {}", "cannot be read")]
)  # fmt: skip
def test_a_broken_yaml_is_named(text, message, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "broken.yaml").write_text(text)
    assert run("info", "broken", "--config-dir", str(tmp_path)) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "broken.yaml" in shown


@pytest.mark.parametrize(
    "arguments", [("list", "--config-dir", "nowhere"), ("list", "x"), ("info",), ("info", "a", "b")]
)
def test_wrong_command_lines_end_in_one_line(arguments, capsys):
    assert run(*arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_unknown_names_get_near_ones():
    with pytest.raises(ConfigError, match=r"unknown dataset 'ddit': did you mean ddti"):
        read("ddit", files())
    with pytest.raises(ConfigError, match="medseg data list"):
        read("zzzzzz", files())


@pytest.mark.parametrize("arguments", [["list"], ["info", "ddti"]])
def test_the_catalogue_needs_no_torch_and_less_than_a_second(arguments):
    code = (
        "import sys, time\nfrom medseg.cli import main\n"
        f"assert main(['data', *{arguments}]) == 0\n"
        "heavy = {'torch', 'lightning', 'mlflow', 'monai', 'albumentations'} & set(sys.modules)\n"
        "assert not heavy, heavy\nprint(time.process_time(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stderr.split()[-1]) < 1.0


# prepare


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 5), value, np.uint8)).save(path)


@pytest.fixture
def source(tmp_path) -> Path:
    """Two images with masks, as a zip with a Chinese name."""
    for stem in ("p1_a", "p1_b"):
        picture(tmp_path / "in" / "images" / f"{stem}.png", 90)
        picture(tmp_path / "in" / "masks" / f"{stem}.png", 255)
    inside = {f"top/{path.relative_to(tmp_path / 'in').as_posix()}": path.read_bytes()
              for path in (tmp_path / "in").rglob("*.png")}  # fmt: skip
    return write_zip(tmp_path / "甲状腺 data.zip", inside)


@pytest.fixture
def conf(tmp_path) -> Path:
    """A folder of configs with one set that the generic preparer prepares."""
    folder = tmp_path / "conf"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "mine.yaml").write_text(
        "source: {root: '${paths.data}/mine'}\nabout:\n  expected: {cases: 2, patients: 1}\n"
        "  prepare: {_target_: medseg.data.prepare.folder.prepare, _partial_: true, images: top/images,\n"
        "    masks: top/masks, patient: '^(p[0-9]+)_'}\n"
    )
    return folder


def test_a_known_set_is_prepared_from_its_archive_and_compared(source, conf, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MEDSEG_DATA", str(tmp_path / "all"))
    before = hashlib.sha256(source.read_bytes()).hexdigest()
    assert run("prepare", "mine", "--source", str(source), "--config-dir", str(conf)) == 0
    shown = capsys.readouterr().out
    assert "2 cases of 1 patients" in shown
    assert "agrees with what its owners publish: 2 cases, 1 patients" in shown
    assert shown.rstrip().endswith("next: medseg data check data=mine")
    assert [path.name for path in (tmp_path / "all").iterdir()] == ["mine"]
    record = json.loads((tmp_path / "all" / "mine" / "provenance.json").read_text(encoding="utf-8"))
    assert record["sources"] == [{"name": "甲状腺 data.zip", "bytes": source.stat().st_size, "sha256": before}]
    assert record["dataset"] == "mine"
    assert hashlib.sha256(source.read_bytes()).hexdigest() == before
    assert {item.patient for item in read_manifest(tmp_path / "all" / "mine")} == {"p1"}


def test_a_difference_from_the_published_counts_is_a_warning(source, conf, tmp_path, capsys):
    yaml = conf / "data" / "mine.yaml"
    yaml.write_text(yaml.read_text().replace("cases: 2", "cases: 9"))
    target = tmp_path / "elsewhere"
    assert run("prepare", "mine", "--source", str(source), "--config-dir", str(conf), "--target", str(target)) == 0
    shown = capsys.readouterr().out
    assert "WARNING: differs from what its owners publish: 2 cases instead of 9" in shown
    assert f"data=mine data.source.root='{target}'" in shown


def test_settings_follow_in_any_place_with_the_types_that_the_preparer_declares(tmp_path, source, capsys):
    target = tmp_path / "set"
    assert run("prepare", "folder", "images=images", "--source", str(tmp_path / "in"), "one_image_per_patient=true",
               "--target", str(target), "mask={stem}", "domain=01") == 0  # fmt: skip
    assert f"next: MEDSEG_DATA='{target}' medseg data check data=folder" in capsys.readouterr().out
    assert [item.domain for item in read_manifest(target)] == ["01", "01"]
    record = json.loads((target / "provenance.json").read_text())
    assert record["options"]["one_image_per_patient"] is True
    assert record["sources"][0]["files"] == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "unknown dataset 'nothing'"),
        (["lableme", "--source", "x"], "did you mean labelme"),
        (["folder", "--source", "x"], "--target is missing"),
        (["folder", "--target", "t"], "--source is missing"),
        (["phantom", "--source", "x"], "phantom needs no preparation"),
        (["folder", "--source", "x", "--target", "t", "colour=red"], "'colour=red' is no setting.*images, masks"),
        (["folder", "--source", "x", "--target", "t", "red"], "'red' is no setting"),
        (["folder", "--source", "x", "--target", "t", "layout=1"], "'layout=1' is no setting"),
        (["folder", "--source", "x", "--target", "t", "images=a", "images=b"], "images is given twice"),
        (["folder", "--source", "x", "--target", "t", "one_image_per_patient=perhaps"], "write true or false"),
        (["folder", "--source", "nowhere", "--target", "t"], "nowhere: source does not exist"),
        (["folder", "--sourc", "x"], "see medseg data prepare --help"),
    ],
)
def test_mistakes_end_in_one_line_and_leave_nothing(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("prepare", *arguments) == 2
    shown = capsys.readouterr().err
    assert re.search(message, shown), shown
    assert shown.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_folders_that_are_links_are_followed(source, tmp_path):
    (tmp_path / "links").mkdir()
    for name in ("images", "masks"):
        (tmp_path / "links" / name).symlink_to(tmp_path / "in" / name)
    (tmp_path / "links" / "images" / "again").symlink_to(tmp_path / "in")
    target = tmp_path / "set"
    assert run("prepare", "folder", "patient=(p1)", "--source", str(tmp_path / "links"), "--target", str(target)) == 0
    assert json.loads((target / "provenance.json").read_text())["sources"][0]["files"] == 4
    assert not any(path.is_symlink() for path in target.rglob("*"))


def test_a_source_that_does_not_fit_leaves_nothing(source, conf, tmp_path, capsys):
    empty = write_zip(tmp_path / "other.zip", {"readme.txt": b"x"})
    target = tmp_path / "set"
    arguments = ["--config-dir", str(conf), "--target", str(target)]
    assert run("prepare", "mine", "--source", str(empty), *arguments) == 2
    assert not target.exists()
    assert not target.with_name("set.part").exists()
    assert run("prepare", "mine", "--source", str(source), *arguments) == 0
    assert run("prepare", "mine", "--source", str(source), *arguments) == 2
    assert "set exists; remove or rename it" in capsys.readouterr().err


def test_a_preparer_that_a_config_may_not_call_is_refused(conf, source, tmp_path, capsys):
    yaml = conf / "data" / "mine.yaml"
    yaml.write_text(yaml.read_text().replace("medseg.data.prepare.folder.prepare", "os.system"))
    assert (
        run("prepare", "mine", "--source", str(source), "--config-dir", str(conf), "--target", str(tmp_path / "t")) == 2
    )
    assert "'os.system' is not on the list" in capsys.readouterr().err


@pytest.mark.parametrize("name", FORMATS)
def test_settings_of_every_format_are_listed(name, capsys):
    assert run("prepare", name, "--options") == 0
    assert "one_image_per_patient=False" in capsys.readouterr().out
