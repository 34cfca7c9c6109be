"""The two-stage crop: boxes of a coarse run, read case by case, keyed by their content."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg.data.steps.region import CropToBox, largest_box, read_boxes, write_boxes
from medseg.errors import ConfigError, DataError

COARSE = {"run": "coarse", "key": "0123456789"}


def box_file(path: Path, *boxes: tuple[str, int, int, int, int], size: tuple[int, int] = (100, 200)) -> Path:
    rows: list[dict[str, Any]] = [
        {
            "case": case, "rows": size[0], "columns": size[1], "top": top, "left": left, "height": height,
            "width": width, "area": 1, "share": 1.0, "components": 1, "side": "test", "flag": "",
        }
        for case, top, left, height, width in boxes
    ]  # fmt: skip
    write_boxes(path, rows, coarse=COARSE)
    return path


def test_a_box_is_widened_cut_to_the_image_and_never_below_the_minimum(tmp_path: Path) -> None:
    path = box_file(
        tmp_path / "boxes.csv", ("middle", 40, 80, 20, 40), ("corner", 0, 190, 20, 10), ("dot", 50, 9, 1, 1)
    )
    image = np.zeros((100, 200, 1), np.uint8)
    step = CropToBox(boxes=str(path), margin=0.25, minimum=0.1)
    # 20 rows and 40 columns with a quarter on both sides: 30 and 60 around (50, 100).
    assert step.box(image, "middle") == (35, 70, 30, 60)
    # 30 x 15 becomes 30 x 20 (a tenth of 200), pushed back inside.
    assert step.box(image, "corner") == (0, 180, 30, 20)
    assert step.box(image, "dot") == (46, 0, 10, 20)
    assert CropToBox(boxes=str(path), margin=9).box(image, "middle") == (0, 0, 100, 200)


def test_the_repr_names_the_coarse_run_and_the_content_but_not_the_place(tmp_path: Path) -> None:
    first = CropToBox(boxes=str(box_file(tmp_path / "a.csv", ("x", 1, 2, 3, 4))))
    copied = CropToBox(boxes=str(box_file(tmp_path / "b.csv", ("x", 1, 2, 3, 4))))
    other = CropToBox(boxes=str(box_file(tmp_path / "c.csv", ("x", 1, 2, 3, 5))))
    assert repr(first) == repr(copied) != repr(other)
    assert "run='coarse-0123456789'" in repr(first)
    assert "a.csv" not in repr(first)
    assert CropToBox.needs_case
    assert read_boxes(tmp_path / "a.csv")[0] == COARSE


def test_missing_cases_other_sizes_and_damaged_files_are_named(tmp_path: Path) -> None:
    path = box_file(tmp_path / "boxes.csv", ("x", 1, 2, 3, 4))
    step = CropToBox(boxes=str(path))
    with pytest.raises(DataError, match="case 'y': no box in .*boxes.csv"):
        step.box(np.zeros((100, 200, 1), np.uint8), "y")
    with pytest.raises(DataError, match="image of 100x200, this one is 50x50; put CropToBox first"):
        step.box(np.zeros((50, 50, 1), np.uint8), "x")
    with pytest.raises(DataError, match="write them with medseg data boxes"):
        CropToBox(boxes=str(tmp_path / "none.csv")).box(np.zeros((9, 9, 1), np.uint8), "x")
    (tmp_path / "bad.csv").write_text("case,top\nx,1\n")
    with pytest.raises(DataError, match="no box file"):
        CropToBox(boxes=str(tmp_path / "bad.csv"))
    with pytest.raises(ConfigError, match="margin=-1"):
        CropToBox(boxes=str(path), margin=-1)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0.0, 0.4))
def test_the_largest_component_is_the_one_scipy_finds(seed: int, share: float) -> None:
    labels = (np.random.default_rng(seed).random((17, 23)) < share).astype(np.uint8)
    labels[0, 0] = 255  # left out, no foreground
    found = largest_box(labels)
    parts, count = ndimage.label((labels > 0) & (labels < 255), structure=np.ones((3, 3)))
    assert found["components"] == count
    if count == 0:
        assert (found["top"], found["left"], found["height"], found["width"]) == (0, 0, 17, 23)
        assert found["flag"] == "whole"
        return
    sizes = ndimage.sum(parts > 0, parts, range(1, count + 1))
    assert found["area"] == sizes.max()
    assert found["share"] == pytest.approx(sizes.max() / (parts > 0).sum(), abs=1e-4)
    boxes = [ndimage.find_objects(parts)[place] for place in np.flatnonzero(sizes == sizes.max())]
    found_box = (
        slice(found["top"], found["top"] + found["height"]),
        slice(found["left"], found["left"] + found["width"]),
    )
    assert found_box in boxes
