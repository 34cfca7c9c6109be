"""Chosen cases against numbers counted by hand; pictures by what can be read off their pixels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medseg.errors import RunError, ScoreError
from medseg.report.canvas import DPI, FLAG
from medseg.report.figures import curves
from medseg.report.overlays import Panel, contact_sheet, overlay_grid
from medseg.report.selection import select_cases


def table(dice: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"case": [f"c{index:02}" for index in range(len(dice))], "dice": dice})


def disk(shift: int = 0) -> np.ndarray:
    rows, columns = np.mgrid[:48, :64]
    return ((rows - 24) ** 2 + (columns - 30 - shift) ** 2 < 120).astype(np.uint8)


def panel(title: str = "worst: c01, Dice 0.100", shift: int = 3) -> Panel:
    image = np.random.default_rng(0).integers(0, 255, (48, 64), dtype=np.uint8)
    return Panel(title, image, disk(), disk(shift))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert path.stat().st_size < 1_000_000
        return np.asarray(picture.convert("RGB"))


def share(picture: np.ndarray, color: str) -> float:
    wanted = [int(color[first : first + 2], 16) for first in (1, 3, 5)]
    return float((np.abs(picture.astype(int) - wanted).max(-1) < 12).mean())


def test_selects_worst_median_and_best() -> None:
    frame = table([0.5, 0.1, 0.9, 0.3, 0.7])
    assert select_cases(frame) == {"worst": ["c01"], "median": ["c00"], "best": ["c02"]}


def test_selects_by_the_mean_over_classes_and_skips_undefined() -> None:
    frame = pd.concat([table([0.2, 0.9, 0.6, np.nan]), table([0.8, 0.9, 0.2, np.nan])])
    assert select_cases(frame) == {"worst": ["c02"], "median": ["c00"], "best": ["c01"]}


def test_equal_dice_is_ordered_by_case() -> None:
    assert select_cases(table([0.5] * 5)) == {"worst": ["c00"], "median": ["c02"], "best": ["c04"]}


@given(count=st.integers(1, 4), number=st.integers(0, 15), seed=st.integers(0, 99))
def test_no_case_is_selected_twice(count: int, number: int, seed: int) -> None:
    frame = table(np.random.default_rng(seed).random(number).round(1).tolist())
    chosen = select_cases(frame, count)
    everything = [case for cases in chosen.values() for case in cases]
    assert len(everything) == len(set(everything)) == min(number, 3 * count)
    dice = frame.set_index("case")["dice"]
    for lower, higher in (("worst", "median"), ("median", "best"), ("worst", "best")):
        if chosen[lower] and chosen[higher]:
            assert dice[chosen[lower]].max() <= dice[chosen[higher]].min()


def test_overlay_grid_shows_masks_and_flags(tmp_path: Path) -> None:
    path = overlay_grid([panel(), panel("best: c02, Dice 0.9")], tmp_path / "deep" / "overlays.png", caption="plain")
    plain = pixels(path)
    assert share(plain, FLAG) == 0
    assert plain.shape[1] == pytest.approx(8.25 * DPI, abs=2)
    flagged = pixels(overlay_grid([panel()], path, caption="x", flags=("SYNTHETIC", "LEAKY SPLIT")))
    one = pixels(overlay_grid([panel()], path, caption="x", flags=("SYNTHETIC",)))
    assert share(flagged, FLAG) > share(one, FLAG) > 0
    assert [file.name for file in path.parent.iterdir()] == ["overlays.png"]


def test_truth_and_prediction_are_in_their_columns(tmp_path: Path) -> None:
    black = np.zeros((48, 64), np.uint8)
    picture = pixels(overlay_grid([Panel("", black, disk(), black)], tmp_path / "o.png", caption=""))
    middle = picture[picture.shape[0] // 2 - 10, int(1.25 * DPI) :]
    white = np.flatnonzero((middle > 250).all(-1)) / (1.75 * DPI)
    inside = white[np.abs(white % 1 - 0.47) < 0.15]
    assert set(inside.astype(int)) == {1}


def test_overlay_grid_takes_classes_colours_and_empty_masks(tmp_path: Path) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    many = disk() * 3
    many[:4] = 255
    overlay_grid([Panel("a", image, many, 0 * many)], tmp_path / "o.png", caption="")


def test_overlay_grid_refuses_other_grids_and_nothing(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="differ in size"):
        overlay_grid([Panel("a", np.zeros((4, 4), np.uint8), disk(), disk())], tmp_path / "o.png", caption="")
    with pytest.raises(ScoreError, match="no case to draw"):
        overlay_grid([], tmp_path / "o.png", caption="")


def test_curves_mark_the_best_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(
        "medseg.report.figures.save_figure", lambda figure, path, *, caption, flags: said.append(caption) or path
    )
    values = [0.2, 0.8, float("nan"), 0.8, 0.5]
    rows = [{"epoch": e, "metrics": {"train/loss": 1.0, "val/dice": value}} for e, value in enumerate(values)]
    curves(rows, tmp_path / "c.png", "unet")
    assert said == ["best epoch 1 (val/dice 0.8000), dotted"]


def test_curves_draw_without_validation_and_refuse_nothing(tmp_path: Path) -> None:
    path = curves([{"epoch": 0, "metrics": {"train/loss": 1.0}}], tmp_path / "c.png", "unet", flags=["SYNTHETIC"])
    assert share(pixels(path), FLAG) > 0
    with pytest.raises(RunError, match="no metrics to draw"):
        curves([], path, "unet")


def test_contact_sheet_shows_every_case_and_its_flag(tmp_path: Path) -> None:
    image = np.full((48, 64), 90, np.uint8)
    truth = np.zeros((48, 64), np.uint8)
    truth[10:30, 20:40] = 1
    panels = [Panel(f"case {number}", image, truth, truth) for number in range(5)]
    few = contact_sheet(panels[:1], tmp_path / "one.png", caption="set")
    many = contact_sheet(panels, tmp_path / "many.png", caption="set", flags=["SYNTHETIC"])
    assert share(pixels(many), FLAG) > 0
    assert pixels(many).shape[0] > pixels(few).shape[0]
    with pytest.raises(ScoreError, match="no case to draw"):
        contact_sheet([], tmp_path / "none.png", caption="")
