"""Two processes give the table that one gives; a killed study goes on where it stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from medseg.stats.table import read_scores
from settings import TINY, TINY_PHANTOM

ROOT = Path(__file__).parents[2]
INSTANCE = "net.norm=instance"
"""Batch statistics are those of a process's own share; instance statistics do not depend on the share."""


def command(*overrides: str, dataset: Path, outputs: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "medseg", "train", *TINY, f"data.source.root={dataset}", f"paths.outputs={outputs}"),
        *("data.batch_size=4", "loss=cross_entropy", INSTANCE, *overrides),
    ]


def test_two_gloo_processes_give_the_table_of_one(dataset: Path, tmp_path: Path) -> None:
    tables = []
    for name, settings in (
        ("one", ()),
        ("two", ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_epochs=2")),
    ):
        done = subprocess.run(
            command(*settings, dataset=dataset, outputs=tmp_path / name), capture_output=True, text=True, check=False,
            timeout=300, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        (folder,) = (path.parent for path in (tmp_path / name / "runs").glob("*/*/DONE"))
        record = json.loads((folder / "run.json").read_text())
        assert record["cost"]["processes"] == {"one": 1, "two": 2}[name]
        tables.append(read_scores(folder / "scores.csv"))
    loose = ["ece", "brier"]  # their probabilities are float32; labels and all else are the same
    pd.testing.assert_frame_equal(tables[0].drop(columns=loose), tables[1].drop(columns=loose), rtol=0, atol=1e-9)
    pd.testing.assert_frame_equal(tables[0][loose], tables[1][loose], rtol=0, atol=1e-6)


def study(*overrides: str, outputs: Path) -> subprocess.Popen[bytes]:
    """Start a part of Table 1 on tiny images, in a process group of its own."""
    cells = ("study=table1", "preset=quick", "data=phantom", "panel=A", "net=unet,mgunet")
    return subprocess.Popen(
        [sys.executable, "-m", "medseg", "study", *cells, *TINY_PHANTOM, f"paths.outputs={outputs}", *overrides],
        cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.slow
def test_a_killed_study_goes_on_and_repeats_no_finished_cell(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    first = study(outputs=outputs)
    deadline = time.monotonic() + 240
    while not list(outputs.glob("runs/table1/*/DONE")) and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = {path.parent: (path.parent / "weights.pt").stat().st_mtime_ns for path in outputs.glob("runs/table1/*/DONE")}
    assert done
    assert not (outputs / "table1" / "table1.md").exists()

    assert study(outputs=outputs).wait(240) == 0
    assert len(list(outputs.glob("runs/table1/*/DONE"))) == 2
    assert {folder: (folder / "weights.pt").stat().st_mtime_ns for folder in done} == done
    tables = {name: (outputs / "table1" / f"table1.{name}").read_bytes() for name in ("md", "tex", "csv", "png")}
    assert "SYNTHETIC" in tables["md"].decode()

    started = time.monotonic()
    assert study(outputs=outputs).wait(240) == 0
    assert time.monotonic() - started < 60
    assert {name: (outputs / "table1" / f"table1.{name}").read_bytes() for name in tables} == tables
