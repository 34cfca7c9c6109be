"""Bad input ends in one clear line and an exit code that is not 0."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

Command = Callable[..., int]


def line_of(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("medseg: error: ")]
    assert len(lines) == 1, lines
    return lines[0]


def break_missing_mask(root: Path) -> None:
    (root / "masks" / "p03_0.png").unlink()


def break_size(root: Path) -> None:
    cv2.imwrite(str(root / "masks" / "p03_0.png"), np.zeros((7, 9), np.uint8))


def break_value(root: Path) -> None:
    path = root / "masks" / "p03_0.png"
    mask = cv2.imread(str(path), 0)
    mask[0, 0] = 7
    cv2.imwrite(str(path), mask)


def break_png(root: Path) -> None:
    path = root / "images" / "p03_0.png"
    path.write_bytes(path.read_bytes()[:200])


def break_group(root: Path) -> None:
    manifest = root / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",p03,", ",,"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (break_missing_mask, ("p03_0.png", "mask")),
        (break_size, ("p03_0", "size")),
        (break_value, ("p03_0.png", "7", "data.labels")),
        (break_png, ("p03_0.png",)),
        (break_group, ("p03_0", "group")),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_damaged_data(
    damage: Callable[[Path], None],
    words: tuple[str, ...],
    medseg: Command,
    dataset: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(dataset)
    assert medseg("train") == 2
    line = line_of(capsys)
    assert all(word in line for word in words), line


def test_absent_root(medseg: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert medseg("train", "data=ddti", f"paths.data={tmp_path / 'nowhere'}", tiny=False) == 2
    line = line_of(capsys)
    assert "nowhere" in line
    assert "MEDSEG_DATA" in line


def test_empty_folder(medseg: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert medseg("train", f"data.source.root={tmp_path / 'empty'}") == 2
    assert str(tmp_path / "empty") in line_of(capsys)


def test_unknown_network(medseg: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert medseg("train", "net=nettt") == 2
    line = line_of(capsys)
    assert "nettt" in line
    assert "reagunet" in line


def test_unknown_key(medseg: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert medseg("train", "net.widht=3") == 2
    assert "widht" in line_of(capsys)


def test_a_target_outside_the_allow_list(medseg: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    victim = tmp_path / "victim"
    victim.write_text("here")
    assert medseg("train", "+net._args_=[x]", "net._target_=pathlib.Path.unlink") == 2
    assert "pathlib.Path.unlink" in line_of(capsys)
    assert victim.exists()


def test_evaluate_of_something_that_is_no_run(
    medseg: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medseg("evaluate", f"run={tmp_path}") == 2
    assert "run.json" in line_of(capsys)


def test_a_batch_larger_than_the_training_side(medseg: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert medseg("train", "data.batch_size=64") == 2
    assert "data.batch_size=64" in line_of(capsys)


def test_a_gpu_where_there_is_none(medseg: Command, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert medseg("train", "trainer=gpu") == 2
    assert "gpu" in line_of(capsys)


def test_selection_without_a_validation_case(medseg: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert medseg("train", "split.val_fraction=0") == 2
    line = line_of(capsys)
    assert "no validation case" in line
    assert "callbacks=last" in line
    assert medseg("train", "split.val_fraction=0", "callbacks=last", "trainer.max_epochs=1") == 0
