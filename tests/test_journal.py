"""The journal gives back what was written, whatever moment the process was killed at."""

import json
import math
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import RunError
from medseg.journal import Journal, read_journal


def written(path: Path, epochs: int = 3) -> Path:
    with Journal(path) as journal:
        for epoch in range(epochs):
            journal.log({"train/loss": 1 / (epoch + 1), "val/dice": epoch / 10}, epoch=epoch, step=4 * epoch + 3)
    return path


def test_rows_come_back_as_logged(tmp_path: Path) -> None:
    before = time.time()
    rows = read_journal(written(tmp_path / "deep" / "metrics.jsonl"))
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert [row["step"] for row in rows] == [3, 7, 11]
    assert rows[2]["metrics"] == {"train/loss": 1 / 3, "val/dice": 0.2}
    assert before - 1 <= rows[0]["time"] <= time.time() + 1


@settings(max_examples=60, deadline=None)
@given(value=st.floats(width=64))
def test_any_float_survives_as_valid_json(value: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("journal") / "metrics.jsonl"
    with Journal(path) as journal:
        journal.log({"val/hd": value}, epoch=0, step=0)
    json.loads(path.read_text(), parse_constant=lambda token: pytest.fail(f"{token} is not JSON"))
    read = read_journal(path)[0]["metrics"]["val/hd"]
    assert read == value or (math.isnan(read) and math.isnan(value))


def test_cut_at_any_byte_keeps_every_whole_row(tmp_path: Path) -> None:
    content = written(tmp_path / "metrics.jsonl").read_bytes()
    for size in range(len(content) + 1):
        cut = tmp_path / "cut.jsonl"
        cut.write_bytes(content[:size])
        whole = len([end for end in range(len(content)) if content[end : end + 1] == b"\n" and end <= size])
        assert len(read_journal(cut)) == whole, f"cut at byte {size}"
        with Journal(cut) as journal:
            journal.log({"train/loss": 9.0}, epoch=9, step=9)
        rows = read_journal(cut)
        assert len(rows) == whole + 1, f"appended after a cut at byte {size}"
        assert rows[-1]["metrics"] == {"train/loss": 9.0}


def test_damage_before_the_last_line_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path / "metrics.jsonl")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:20], lines[2]]) + "\n")
    with pytest.raises(RunError, match="line 2 is not a metrics row"):
        read_journal(path)


def test_log_returns_the_row_that_is_read_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    row = journal.log({"val/hd": math.inf, "val/dice": np.float32(0.5)}, epoch=1, step=2)
    assert read_journal(journal.path) == [row]


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no metrics journal here"):
        read_journal(tmp_path / "metrics.jsonl")


def test_truncate_after_removes_later_epochs_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with Journal(path) as journal:
        journal.truncate_after(0)
        for epoch in range(4):
            journal.log({"val/hd95": math.inf}, epoch=epoch, step=epoch)
        journal.truncate_after(1)
        journal.log({"val/hd95": 3.0}, epoch=2, step=2)
    rows = read_journal(path)
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert [row["metrics"]["val/hd95"] for row in rows] == [math.inf, math.inf, 3.0]
    assert not list(tmp_path.glob("*.new"))


def _write_forever(path: str) -> None:
    journal = Journal(path)
    for step in range(10**9):
        journal.log({"train/loss": step}, epoch=step, step=step)


def test_killed_writer_leaves_a_readable_journal(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = multiprocessing.get_context("fork").Process(target=_write_forever, args=(str(path),))
    writer.start()
    deadline = time.time() + 10
    while time.time() < deadline and not (path.is_file() and path.stat().st_size > 5000):
        time.sleep(0.01)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    steps = [row["step"] for row in read_journal(path)]
    assert len(steps) > 20
    assert steps == list(range(len(steps)))


def test_thousands_of_rows_per_second(tmp_path: Path) -> None:
    metrics = {f"train/term{index}": 0.5 for index in range(5)}
    with Journal(tmp_path / "metrics.jsonl") as journal:
        journal.log(metrics, epoch=0, step=0)
        start = time.process_time()
        for step in range(2000):
            journal.log(metrics, epoch=0, step=step)
        spent = time.process_time() - start
    assert spent < 1.0, f"{spent / 2000 * 1e6:.0f} us a row"
