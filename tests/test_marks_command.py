"""``medseg marks``: the curve of an interactive run over the error of its marks."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fakes import write_dataset
from medseg.cli import main
from medseg.commands.marks import ErringUser, no_marks
from medseg.nets.thyroid.marks import AxisMarks
from medseg.report.marks import draw_marks, marks_summary
from medseg.rng import generator
from medseg.stats.table import read_scores, score_rows
from settings import TINY

COUNTS = {0.0: 5, 4.0: 20, float("nan"): 60}
"""Pixels missed of 80, by deviation."""


def a_mask() -> np.ndarray:
    mask = np.zeros((128, 64), dtype=np.uint8)
    mask[40:80, 20:44] = 1
    return mask


def test_an_erring_user_misses_by_the_deviation_at_256_and_always_in_the_same_direction() -> None:
    mask, exact = a_mask(), AxisMarks(deviation=9.0, dropout=1.0)
    there = exact(mask, generator(0, "x"), jitter=False)
    assert np.array_equal(ErringUser(exact, 0.0)(mask, generator(0, "x"), jitter=False), there)
    missed = {size: ErringUser(exact, size)(mask, generator(0, "x"), jitter=False) - there for size in (2.0, 4.0)}
    assert np.allclose(missed[4.0], 2 * missed[2.0])
    draws = [ErringUser(exact, 4.0)(mask, generator(seed, "x"), jitter=True) - there for seed in range(400)]
    assert np.std(draws) == pytest.approx(4.0 * 128 / 256, rel=0.05)


def test_marks_stay_within_the_image_and_none_is_none() -> None:
    points = ErringUser(AxisMarks(), 1000.0)(a_mask(), generator(0, "x"), jitter=False)
    assert points.min() >= 0
    assert (points <= [127, 63]).all()
    assert no_marks(a_mask(), generator(0, "x"), jitter=False).shape == (0, 2)


def a_frame(patients: int = 30) -> pd.DataFrame:
    parts = []
    for deviation, wrong in COUNTS.items():
        nodule = [(80 - wrong - i % 3, 0, wrong + i % 3, 20) for i in range(patients)]
        counts = np.array([[row[::-1], row] for row in nodule])
        cases = [{"case": f"c{i}", "patient": f"p{i}", "domain": ""} for i in range(patients)]
        part = score_rows(
            counts, None, cases=cases, classes=["background", "nodule"], unit="px",
            diagonals=np.full(patients, 14.0), split_side="test", leaky=False,
        )  # fmt: skip
        part.insert(0, "deviation", deviation)
        part.insert(1, "marked", int(not np.isnan(deviation)))
        parts.append(part)
    return pd.concat(parts[::-1], ignore_index=True)


def test_the_curve_is_the_mean_over_cases_and_the_line_without_marks_comes_last(tmp_path: Path) -> None:
    rows = marks_summary(a_frame())
    assert rows["deviation"].tolist()[:2] == [0.0, 4.0]
    assert rows["marked"].tolist() == [1, 1, 0]
    for row, wrong in zip(rows.itertuples(), COUNTS.values(), strict=True):
        hit = np.array([80 - wrong - i % 3 for i in range(30)])
        assert row.dice == pytest.approx((2 * hit / (hit + 80)).mean())
        assert row.low < row.dice < row.high
    assert draw_marks(rows, tmp_path / "marks.png", title="a run", trained=2.0).stat().st_size > 5000


def test_a_curve_of_one_patient_has_no_band_but_is_drawn(tmp_path: Path) -> None:
    rows = marks_summary(a_frame(patients=1))
    assert rows[["low", "high"]].isna().all(axis=None)
    assert draw_marks(rows, tmp_path / "marks.png", title="a run").stat().st_size > 5000


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Train a system for a moment; returns its folder."""
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path / "outputs"))
    dataset = write_dataset(tmp_path / "set", patients=9, images_per_patient=2, folds=3)

    def train(net: str, *overrides: str) -> Path:
        settings = [text for text in TINY if net != "ellipse_marks" or not text.startswith("net.")]
        given = [f"data.source.root={dataset}", f"net={net}", "trainer.max_epochs=1", *overrides]
        assert main(["train", *settings, *given]) == 0
        return sorted((tmp_path / "outputs" / "runs" / "single").glob(f"{net}-*"))[-1]

    return train


def test_the_ellipse_of_a_run_gets_worse_with_its_marks(
    trained: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained("ellipse_marks", "method=fitted", "augment=none")
    capsys.readouterr()
    assert main(["marks", f"run={folder}", "deviations=0,8,32"]) == 0
    frame = pd.read_csv(folder / "evaluations" / "marks" / "marks.csv")
    assert (folder / "evaluations" / "marks" / "marks.png").stat().st_size > 5000
    dice = frame[frame["marked"] == 1].groupby("deviation")["dice"].mean()
    assert dice.index.tolist() == [0, 8, 32]
    assert dice.is_monotonic_decreasing
    assert dice[0] - dice[32] > 0.2
    # Without a mark there is no ellipse, and exact marks are what the run itself was scored with.
    assert frame.loc[frame["marked"] == 0, "dice"].eq(0).all()
    exact = frame[frame["deviation"] == 0].set_index("case")["dice"]
    assert exact.to_dict() == pytest.approx(read_scores(folder / "scores.csv").set_index("case")["dice"].to_dict())
    printed = capsys.readouterr().out
    assert "no marks" in printed
    assert f"{dice[8]:.4f}" in printed
    path = folder / "run.json"
    selection = {"side": "test", "monitor": "test/dice", "checkpoint": "best", "rule": "the epoch", "labels": []}
    path.write_text(json.dumps({**json.loads(path.read_text()), "selection": selection}))
    assert main(["marks", f"run={folder}", "deviations=0"]) == 2
    assert "side=test chose among the states of this run" in capsys.readouterr().err


def test_a_run_without_marks_and_impossible_deviations_are_refused_in_one_line(
    trained: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained("unet")
    record = json.loads((folder / "run.json").read_text())
    model, cost = record["model"], record["cost"]
    assert (model["kind"], model["interaction"], model["input_size"]) == ("deep", "none", [32, 32])
    assert model["gflops"] > 0
    assert cost["ms_per_image"] > 0
    for override, message in (
        ("deviations=0,4", "unet is not interactive"),
        ("deviations=0,-1", "give different numbers of pixels, none below 0"),
    ):
        capsys.readouterr()
        assert main(["marks", f"run={folder}", override]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len([line for line in lines if message in line and line.startswith("medseg: error: ")]) == 1
