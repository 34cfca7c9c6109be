"""Every notebook is kept without outputs, keeps its logic in the package, and runs on a run of the command line."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LONGEST_FUNCTION = 5
TINY_RUNS = (
    *(
        "train",
        "-m",
        "net=unet,attention_unet",
        "data=phantom",
        "data.source.patients=12",
        "data.source.images_per_patient=2",
    ),
    *("trainer=smoke", "preprocess.size=[64,64]", "net.widths=[4,8,16,32,64]"),
)
PICTURES = {"inspect_checkpoint": 4, "compare_runs": 5}
"""Pictures that a notebook shows at least."""


def cells(path: Path, kind: str = "code") -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["compare_runs", "inspect_checkpoint"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_stripped(path: Path) -> None:
    for cell in cells(path):
        assert cell.outputs == []
        assert cell.execution_count is None
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_keeps_its_logic_in_the_package(path: Path) -> None:
    for cell in cells(path):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.FunctionDef):
                assert len(node.body) <= LONGEST_FUNCTION, node.name
            assert not isinstance(node, ast.ClassDef)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_has_one_cell_of_parameters(path: Path) -> None:
    (cell,) = [cell for cell in cells(path) if "parameters" in cell.metadata.get("tags", ())]
    assert all(isinstance(node, ast.Assign) for node in ast.parse(cell.source).body)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of two tiny runs, tracked in a store of their own."""
    folder = tmp_path_factory.mktemp("notebooks") / "outputs"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_TRACKING")}
    done = subprocess.run(
        [sys.executable, "-m", "medseg", *TINY_RUNS, f"paths.outputs={folder}"],
        env=environment, capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def executed(name: str, given: dict[str, object]) -> list[Any]:
    """Run a notebook with other parameters and return everything it shows."""
    from nbclient import NotebookClient

    path = ROOT / "notebooks" / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    place = next(number for number, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ()))
    overrides = "\n".join(f"{key} = {value!r}" for key, value in given.items())
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(overrides))
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in shown if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in shown) >= PICTURES[name]
    return shown


def said(shown: list[Any]) -> str:
    """Return the texts among what a notebook shows."""
    kinds = ("text/plain", "text/markdown")
    return "\n".join(
        str(output.get("text", "")) + "".join(str(output.get("data", {}).get(kind, "")) for kind in kinds)
        for output in shown
    )


@pytest.mark.slow
@pytest.mark.notebook
@pytest.mark.parametrize("by_folder", [False, True], ids=["by_metric", "by_folder"])
def test_a_checkpoint_is_inspected(by_folder: bool, outputs: Path) -> None:
    folders = {marker.parent for marker in (outputs / "runs").glob("*/*/DONE")}
    best = max(folders, key=lambda folder: json.loads((folder / "run.json").read_text())["summary"]["test/dice"])
    given = {"outputs": str(outputs), "uri": None, "folder": str(best) if by_folder else None, "cases": 1}
    shown = executed("inspect_checkpoint", given)
    text = said(shown)
    assert best.name.rsplit("-", 1)[0] in text
    again = re.findall(r"Dice (\d\.\d{3}) +(\d\.\d+)", text)
    assert again, text
    assert [float(now) for _, now in again] == pytest.approx([float(then) for then, _ in again], abs=2e-3)
    assert "What went wrong" in text
    assert "By size" in text
    assert any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in shown)


@pytest.mark.slow
@pytest.mark.notebook
@pytest.mark.parametrize("by_folder", [False, True], ids=["by_query", "by_folder"])
def test_runs_are_compared(by_folder: bool, outputs: Path) -> None:
    folders = sorted(str(marker.parent) for marker in (outputs / "runs").glob("*/*/DONE"))
    given = {"outputs": str(outputs), "uri": None, "folders": folders if by_folder else None}
    text = said(executed("compare_runs", given))
    assert "2 methods, 1 seeds" in text
    assert "ONE SEED" in text
    assert "no evidence of a difference" in text or "practically equal" in text
    assert "outperforms" not in text.replace('the gate says "outperforms"', "")
    assert "1 seed; the gate asks for 5" in text
