"""The MLflow mirror: complete, written in few requests, sent twice without harm, and never in the way of a training."""

import json
import logging
import math
import multiprocessing
import random
import shutil
import socket
import sqlite3
import time
import urllib.request
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from medseg import store
from medseg.commands import track, ui
from medseg.errors import ConfigError, RunError
from medseg.journal import Journal, read_journal
from medseg.mirror import FILES, mirror_run, run_folders, run_parameters, run_tags, start_run, summary_run
from medseg.tracking import CsvTracker, MLflowTracker, find_runs

STARTED = "2026-03-01T10:00:00+00:00"


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables and no experiment of ours; making one takes MLflow ten seconds."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    MLflowTracker(file.parent / "mlartifacts")._client().search_experiments()
    return file


@pytest.fixture
def outputs(empty_store: Path, tmp_path: Path) -> Path:
    """An outputs folder, with a space in its name, that has a store."""
    folder = tmp_path / "my outputs"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder


@pytest.fixture
def tracker(outputs: Path) -> MLflowTracker:
    return MLflowTracker(outputs / "mlartifacts")


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the metric requests made."""
    from mlflow import MlflowClient

    sizes: list[int] = []
    log_batch = MlflowClient.log_batch

    def counted(self: Any, run_id: str, metrics: Any = (), **rest: Any) -> Any:
        sizes.extend([len(metrics)] if metrics else [])
        return log_batch(self, run_id, metrics=metrics, **rest)

    def forbidden(*_: Any, **__: Any) -> None:
        pytest.fail("one request per metric")

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    monkeypatch.setattr(MlflowClient, "log_metric", forbidden)
    return sizes


def row(epoch: int, **metrics: float) -> dict[str, Any]:
    named = {name.replace("_", "/", 1): value for name, value in metrics.items()}
    return {"epoch": epoch, "step": 10 * epoch, "time": 1.7e9 + epoch, "metrics": named}


def made_run(outputs: Path, name: str = "unet-phantom-s0", **changes: Any) -> Path:
    """Write a run folder as training leaves it."""
    folder = outputs / "runs" / str(changes.get("study") or "single") / f"{name}-0123456789"
    folder.mkdir(parents=True)
    record = {
        "name": name,
        "key": "0123456789",
        "status": "finished",
        "started": STARTED,
        "seed": 0,
        "study": None,
        "panel": "A",
        "preset": "quick",
        "sweep": None,
        "mlflow": None,
        "choices": {"net": "unet", "data": "phantom", "paths": "default"},
        "data": {"name": "phantom", "digest": "d" * 64, "synthetic": True, "cases": {"test": 4}},
        "split": {"name": "ratio", "hash": "a" * 64, "leaky": False, "seed": 0},
        "model": {"parameters": 1234, "gflops": 0.5, "interactive": False, "reading": ""},
        "cost": {"fit_seconds": 12.5, "total_seconds": 14.0, "peak_memory_mb": 300.0, "device": "cpu"},
        "summary": {"test/dice": 0.75, "test/hd": math.inf},
        **changes,
    }
    config = {
        "seed": 0,
        "paths": {"data": "/somewhere"},
        "net": {"_target_": "medseg.nets.unet.UNet", "widths": list(range(200)), "odd key!": True},
        "optimizer": {"lr": 0.001},
    }
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "versions.json").write_text(json.dumps({"git": {"commit": "c" * 40, "dirty": True}}))
    (folder / "audit.json").write_text(json.dumps({"verdict": "clean"}))
    tables = ("scores.csv", "reliability.csv", "cases.csv")
    for file in ("split.json", *tables, "overlays.png", "curves.png", "weights.pt"):
        (folder / file).write_text(file)
    with Journal(folder / "metrics.jsonl") as journal:
        for epoch in range(3):
            journal.log({"train/loss": 1 / (epoch + 1), "val/dice": epoch / 4}, epoch=epoch, step=epoch)
    return folder


def only_run(tracker: MLflowTracker) -> Any:
    runs = tracker._client().search_runs([tracker.experiment_id()])
    assert len(runs) == 1
    return runs[0]


def artifacts(tracker: MLflowTracker, run_id: str, folder: str | None = None) -> set[str]:
    return {file.path for file in tracker._client().list_artifacts(run_id, folder)}


def test_names_are_ours_although_everything_is_seeded(tracker: MLflowTracker) -> None:
    for name in ("unet-s0", "unet-s1"):
        random.seed(0)  # MLflow's own names come from here
        tracker.start(name, {}, {})
        tracker.finish()
    assert set(find_runs(tracker.uri)["name"]) == {"unet-s0", "unet-s1"}


def test_infinity_is_left_out_and_counted(tracker: MLflowTracker) -> None:
    run_id = tracker.start("run", {}, {})
    tracker.metrics([row(0, val_hd=math.inf), row(1, val_hd=4.0), row(2, val_hd=math.nan)])
    client = tracker._client()
    assert [(point.step, point.value) for point in client.get_metric_history(run_id, "val/hd")] == [(1, 4.0)]
    missing = client.get_metric_history(run_id, "val/hd_undefined")
    assert [(point.step, point.value) for point in missing] == [(0, 1.0), (2, 1.0)]
    with sqlite3.connect(store.sqlite_file(tracker.uri)) as database:  # 1.8e308 is what MLflow makes of infinity
        assert database.execute("select count(*) from metrics where value > 1e300 or is_nan").fetchone() == (0,)


def test_an_epoch_is_one_request_and_a_run_few(tracker: MLflowTracker, requests: list[int]) -> None:
    tracker.start("run", {}, {})
    tracker.metrics([row(0, train_loss=1.0, val_dice=0.5, val_iou=0.4)])
    assert requests == [3]
    tracker.metrics([row(epoch, **{f"val_m{index}": 0.5 for index in range(25)}) for epoch in range(1, 101)])
    assert requests == [3, 1000, 1000, 500]
    tracker.metrics([])
    assert len(requests) == 4


def test_points_carry_epoch_and_time(tracker: MLflowTracker) -> None:
    run_id = tracker.start("run", {}, {})
    tracker.metrics([row(7, val_dice=0.5)])
    (point,) = tracker._client().get_metric_history(run_id, "val/dice")
    assert (point.step, point.timestamp, point.value) == (7, 1_700_000_007_000, 0.5)


def test_long_parameters_are_cut_and_many_are_taken(tracker: MLflowTracker) -> None:
    params = {f"group.name{index}": index for index in range(250)} | {"long": "x" * 400, "odd key!": 1}
    tracker.start("run", params, {f"tag{index}": index for index in range(120)})
    run = only_run(tracker)
    assert tracker.healthy
    assert len(run.data.params) == 252
    assert run.data.params["long"] == "x" * 247 + "..."
    assert run.data.params["odd key_"] == "1"
    assert run.data.tags["tag119"] == "119"


def test_a_continued_run_runs_again_and_keeps_what_changed(tracker: MLflowTracker, outputs: Path) -> None:
    run_id = tracker.start("run", {"lr": 0.1, "epochs": 10}, {"device": "cpu"})
    tracker.finish("FAILED")
    again = MLflowTracker(outputs / "mlartifacts")
    assert again.start("run", {"lr": 0.1, "epochs": 20, "new": 1}, {"device": "cuda"}, run_id) == run_id
    run = only_run(again)
    assert run.info.status == "RUNNING"
    assert run.data.params == {"lr": "0.1", "epochs": "10", "new": "1"}
    assert run.data.tags["now.epochs"] == "20"
    assert "now.lr" not in run.data.tags
    assert run.data.tags["device"] == "cuda"


def test_an_unknown_or_deleted_run_is_not_continued(tracker: MLflowTracker) -> None:
    first = tracker.start("run", {}, {}, "0" * 32)
    assert first is not None
    tracker._client().delete_run(first)
    second = tracker.start("run", {}, {}, first)
    assert second not in (None, first)


def test_a_deleted_experiment_is_restored(tracker: MLflowTracker, outputs: Path) -> None:
    tracker._client().delete_experiment(tracker.experiment_id())
    again = MLflowTracker(outputs / "mlartifacts")
    assert again.start("run", {}, {}) is not None


def test_everything_lies_in_the_outputs_folder(
    tracker: MLflowTracker, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    run_id = tracker.start("run", {}, {})
    (tmp_path / "scores.csv").write_text("dice")
    tracker.artifact(tmp_path / "scores.csv", "tables")
    assert tracker.healthy
    assert (outputs / "mlartifacts" / "medseg" / run_id / "artifacts" / "tables" / "scores.csv").read_text() == "dice"
    assert list(elsewhere.iterdir()) == []


def test_relative_addresses_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert MLflowTracker("a/b").uri == f"sqlite:///{tmp_path}/a/mlflow.db"
    assert MLflowTracker("a/b", "sqlite:///x.db").uri == f"sqlite:///{tmp_path}/x.db"
    assert MLflowTracker("a/b", "http://host:5000").uri == "http://host:5000"
    assert store.sqlite_file(MLflowTracker("a/b", "http://host").uri) is None


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "mlruns"])
def test_folders_are_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.uri='.*' ?: MLflow keeps runs in a database; give sqlite"):
        MLflowTracker(tmp_path, uri)


def test_unreachable_server_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracker = MLflowTracker(tmp_path / "mlartifacts", "http://127.0.0.1:9")
    folder = made_run(tmp_path)
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING):
        assert start_run(folder, tracker) is None
        for epoch in range(50):
            tracker.metrics([row(epoch, val_dice=0.5)])
        tracker.artifact(folder / "scores.csv")
        tracker.dataset("phantom", "d" * 64, "training")
        assert tracker.link() is None
        tracker.finish()
        assert [record.name for record in caplog.records] == ["medseg.tracking"]
        assert "send it later with `medseg track run=FOLDER`" in caplog.text
        assert mirror_run(folder, tracker) is None
    assert time.monotonic() - begun < 15
    assert [record.name for record in caplog.records] == ["medseg.tracking", "medseg.mirror"]
    assert f"medseg track run={folder}" in caplog.text


def test_a_failure_half_way_is_made_up_for_at_the_end(
    tracker: MLflowTracker, outputs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mlflow import MlflowClient

    folder = made_run(outputs)
    start_run(folder, tracker)
    calls: list[int] = []

    def broken(*_: Any, **__: Any) -> None:
        calls.append(1)
        raise OSError("disk\nfull")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", broken)
        for line in read_journal(folder / "metrics.jsonl"):
            tracker.metrics([line])
    assert len(calls) == 1, "after a failure training must not wait for MLflow again"
    assert caplog.text.count("cannot be written (OSError: disk full)") == 1
    assert mirror_run(folder, tracker) == tracker.run_id
    history = tracker._client().get_metric_history(only_run(tracker).info.run_id, "val/dice")
    assert [(point.step, point.value) for point in history] == [(0, 0.0), (1, 0.25), (2, 0.5)]


def test_a_run_is_mirrored_whole(tracker: MLflowTracker, outputs: Path) -> None:
    folder = made_run(outputs, sweep="2026-03-01", study="table1")
    run_id = mirror_run(folder, tracker)
    run = only_run(tracker)
    assert run.info.run_id == run_id
    assert (run.info.run_name, run.info.status) == ("unet-phantom-s0", "FINISHED")
    assert artifacts(tracker, run_id) == set(FILES)
    metrics = run.data.metrics
    assert metrics["test/dice"] == 0.75
    assert metrics["test/hd_undefined"] == 1
    assert (metrics["model/parameters"], metrics["model/gflops"], metrics["cost/fit_seconds"]) == (1234, 0.5, 12.5)
    params = run.data.params
    assert (params["net"], params["optimizer.lr"], params["seed"]) == ("unet", "0.001", "0")
    assert len(params["net.widths"]) == 250
    assert not any(key.startswith("paths") for key in params)
    expected = {
        "study": "table1",
        "panel": "A",
        "preset": "quick",
        "sweep_id": "2026-03-01",
        "git_commit": "c" * 40,
        "git_dirty": "True",
        "split_hash": "a" * 64,
        "leaky": "False",
        "synthetic": "True",
        "interactive": "False",
        "device": "cpu",
        "medseg.key": "0123456789",
        "medseg.folder": str(folder),
        "data_digest": "d" * 64,
    }
    assert {key: run.data.tags.get(key) for key in expected} == expected
    assert "SYNTHETIC" in run.data.tags["mlflow.note.content"]
    assert run.info.start_time == datetime.fromisoformat(STARTED).timestamp() * 1000
    assert run.info.end_time == int(1000 * read_journal(folder / "metrics.jsonl")[-1]["time"])
    (seen,) = run.inputs.dataset_inputs
    assert (seen.dataset.name, seen.dataset.digest) == ("phantom", "d" * 36)
    noted = json.loads((folder / "run.json").read_text())["mlflow"]
    assert noted == {"uri": tracker.uri, "experiment_id": tracker.experiment_id(), "run_id": run_id}


def points(tracker: MLflowTracker) -> int:
    with sqlite3.connect(store.sqlite_file(tracker.uri)) as database:
        return int(database.execute("select count(*) from metrics").fetchone()[0])


def test_live_and_twice_afterwards_is_one_run_without_doubled_points(tracker: MLflowTracker, outputs: Path) -> None:
    folder = made_run(outputs)
    run_id = start_run(folder, tracker)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "mlflow": tracker.link()}))
    for line in read_journal(folder / "metrics.jsonl"):
        tracker.metrics([line])
    assert mirror_run(folder, tracker) == run_id
    count = points(tracker)
    assert mirror_run(folder, MLflowTracker(outputs / "mlartifacts")) == run_id
    assert only_run(tracker).data.metrics["val/dice"] == 0.5
    assert points(tracker) == count
    assert [point.step for point in tracker._client().get_metric_history(run_id, "val/dice")] == [0, 1, 2]


def test_a_run_whose_note_was_lost_is_found_by_its_tags(tracker: MLflowTracker, outputs: Path) -> None:
    folder = made_run(outputs)
    run_id = mirror_run(folder, tracker)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "mlflow": None}))
    assert mirror_run(folder, MLflowTracker(outputs / "mlartifacts")) == run_id
    (folder / "run.json").write_text(json.dumps({**record, "mlflow": None, "started": "2026-04-01T10:00:00+00:00"}))
    assert mirror_run(folder, tracker) != run_id, "a new training in a folder used before is a new run"


@pytest.mark.parametrize(("status", "shown"), [("failed", "FAILED"), ("running", "KILLED"), ("finished", "FINISHED")])
def test_status_is_mirrored(status: str, shown: str, tracker: MLflowTracker, outputs: Path) -> None:
    mirror_run(made_run(outputs, status=status), tracker)
    assert only_run(tracker).info.status == shown


def test_a_broken_run_is_mirrored_as_far_as_it_came(tracker: MLflowTracker, outputs: Path) -> None:
    folder = made_run(outputs, status="running", cost={}, summary={})
    for name in ("metrics.jsonl", "weights.pt", "scores.csv", "versions.json"):
        (folder / name).unlink()
    assert mirror_run(folder, tracker) is not None
    assert only_run(tracker).data.metrics == {"model/parameters": 1234.0, "model/gflops": 0.5}


def test_sweep_lies_flat_under_its_tag(tracker: MLflowTracker, outputs: Path) -> None:
    for name in ("unet-s1", "unet-s2", "reagunet-s1"):
        mirror_run(made_run(outputs, name, sweep="sweep-7"), tracker)
    mirror_run(made_run(outputs, "other"), tracker)
    found = find_runs(tracker.uri, query="tags.sweep_id = 'sweep-7'")
    assert set(found["name"]) == {"unet-s1", "unet-s2", "reagunet-s1"}
    assert all("mlflow.parentRunId" not in run.data.tags for run in tracker._client().search_runs(["1"]))


def test_summary_run_holds_the_tables_once(tracker: MLflowTracker, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("table1.md", "table1.csv", "table1.png")}
    for number in range(2):
        for path in files.values():
            path.write_text(f"version {number}")
        run_id = summary_run("table1", files, tracker, tags={"data": "phantom", "preset": "quick"}, note="# Table 1")
    run = only_run(tracker)
    assert (run.info.run_id, run.info.run_name, run.info.status) == (run_id, "table1-summary-phantom-quick", "FINISHED")
    assert artifacts(tracker, run_id, "tables") == {f"tables/{name}" for name in files}
    place = tracker.artifact_root / "medseg" / run_id / "artifacts" / "tables"
    assert (place / "table1.md").read_text() == "version 1"
    assert run.data.tags["medseg.role"] == "summary"
    other = summary_run("table1", files, tracker, tags={"data": "ddti", "preset": "quick"})
    assert other != run_id
    with pytest.raises(RunError, match=r"summary of study 'table1': gone .* does not exist"):
        summary_run("table1", {"gone": tmp_path / "gone.md"}, tracker)


def test_finding_runs(tracker: MLflowTracker, outputs: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no experiment 'medseg'"):
        find_runs(tracker.uri)
    with pytest.raises(RunError, match=r"mlflow\.db: no MLflow store here"):
        find_runs(f"sqlite:///{tmp_path}/none/mlflow.db")
    assert not (tmp_path / "none").exists()
    for name, dice in (("low", 0.3), ("high", 0.9)):
        mirror_run(made_run(outputs, name, summary={"test/dice": dice}), tracker)
    runs = find_runs(tracker.uri).sort_values("test/dice", ascending=False)
    assert runs["name"].tolist() == ["high", "low"]
    assert Path(runs["folder"].iloc[0]).name == "high-0123456789"
    assert set(runs["params.net"]) == {"unet"}
    assert find_runs(tracker.uri, query="metrics.`test/dice` > 0.5")["name"].tolist() == ["high"]
    assert find_runs(tracker.uri, query="metrics.`test/dice` > 0.95").empty


def test_null_tracker_has_the_whole_face(outputs: Path) -> None:
    face = {name for name in vars(MLflowTracker) if not name.startswith("_")} - {"experiment_id"}
    assert face <= set(dir(CsvTracker))
    folder = made_run(outputs)
    tracker = CsvTracker()
    assert start_run(folder, tracker) is None
    tracker.metrics([row(0, val_dice=0.5)])
    assert mirror_run(folder, tracker) is None
    assert summary_run("table1", {}, tracker) is None
    assert json.loads((folder / "run.json").read_text())["mlflow"] is None


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run\.json there"):
        run_tags(tmp_path)
    with pytest.raises(RunError, match="no runs of study table1 there"):
        run_folders(tmp_path, "table1")
    folder = made_run(tmp_path)
    (folder / "config.yaml").unlink()
    with pytest.raises(RunError, match=r"no config\.yaml there"):
        run_parameters(folder)


def test_options_build_trackers_in_the_outputs_folder(compose: Callable[..., Any], tmp_path: Path, monkeypatch) -> None:
    from hydra.utils import instantiate

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    made = instantiate(compose("track").tracking)
    assert made.uri == f"sqlite:///{tmp_path}/outputs/mlflow.db"
    assert made.artifact_root == tmp_path / "outputs" / "mlartifacts"
    assert isinstance(instantiate(compose("track", "tracking=csv").tracking), CsvTracker)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert instantiate(compose("track").tracking).uri == "http://server:5000"


def test_track_command(outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(outputs))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = made_run(outputs, study="table1")
    made_run(outputs, "unet-phantom-s1", study="table1")
    made_run(outputs, "alone")
    track.main([f"run='{folder}'"])
    assert str(folder) in capsys.readouterr().out
    track.main(["study=table1"])
    assert len(find_runs(f"sqlite:///{outputs}/mlflow.db")) == 2
    track.main(["all=true"])
    assert len(find_runs(f"sqlite:///{outputs}/mlflow.db")) == 3
    for overrides in ([], ["all=true", "study=table1"]):
        with pytest.raises(ConfigError, match="needs one of run=FOLDER, study=NAME or all=true"):
            track.main(overrides)
    with pytest.raises(ConfigError, match="tracking=csv sends nothing"):
        track.main(["all=true", "tracking=csv"])
    with pytest.raises(RunError, match=r"not sent \(1 of 1 runs\)"):
        track.main([f"run='{folder}'", "tracking.uri=http://127.0.0.1:9", "tracking.retries=0"])


def test_ui_keeps_to_this_machine(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(outputs))
    for host in ("0.0.0.0", "192.168.1.7", "example.org"):
        with pytest.raises(ConfigError, match="lets other machines in without a password; allow_remote=true"):
            ui.main([f"host={host}"])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=r"port=\d+ cannot be used .* give another"):
            ui.main([f"port={taken.getsockname()[1]}"])
    with pytest.raises(ConfigError, match="tracking=csv has no pages"):
        ui.main(["tracking=csv"])


def test_ui_names_what_the_server_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/ls")
    with (
        pytest.raises(RunError, match=r"MLflow's server does not start \(ended with code 2\): .*ls"),
        ui.serving("sqlite:///x.db", tmp_path, "127.0.0.1", 5000, patience=20),
    ):
        pass


@pytest.mark.slow
def test_ui_serves_and_leaves_nothing_behind(tracker: MLflowTracker, outputs: Path) -> None:
    import psutil

    mirror_run(made_run(outputs), tracker)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ui.serving(tracker.uri, tracker.artifact_root, "127.0.0.1", port, patience=180) as server:
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        assert len(family) <= 3, [process.cmdline() for process in family]
        seen = find_runs(f"http://127.0.0.1:{port}")
        assert seen["name"].tolist() == ["unet-phantom-s0"]
        page = urllib.request.urlopen(
            f"http://127.0.0.1:{port}/get-artifact?path=curves.png&run_uuid={seen['run_id'][0]}"
        )
        assert page.read() == b"curves.png"
    assert not psutil.wait_procs(family, timeout=10)[1]


def _start(root: str, number: int, results: Any) -> None:
    tracker = MLflowTracker(root)
    run_id = tracker.start(f"run-{number}", {"number": number}, {})
    tracker.metrics([row(epoch, val_dice=0.1 * epoch) for epoch in range(20)])
    tracker.finish()
    results.put((run_id, tracker.healthy))


@pytest.mark.slow
def test_four_processes_on_a_fresh_store(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    root = tmp_path / "outputs" / "mlartifacts"
    workers = [context.Process(target=_start, args=(str(root), number, results)) for number in range(4)]
    for worker in workers:
        worker.start()
    answers = [results.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join()
    assert all(run_id is not None and healthy for run_id, healthy in answers)
    runs = find_runs(f"sqlite:///{root.parent}/mlflow.db")
    assert sorted(runs["name"]) == [f"run-{number}" for number in range(4)]
    with sqlite3.connect(root.parent / "mlflow.db") as database:
        names = [name for (name,) in database.execute("select name from sqlite_master")]
        assert not [name for name in names if name.startswith("_alembic_tmp")]
        assert database.execute("select count(*) from metrics").fetchone() == (80,)
