"""Every notebook is kept without outputs, keeps its logic in the package, and runs on a run of the command line."""

import ast
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
TINY_RUN = (
    *("train", "data=phantom", "data.source.patients=12", "data.source.images_per_patient=2"),
    *("trainer=smoke", "preprocess.size=[64,64]", "net.widths=[4,8,16,32,64]"),
)


def cells(path: Path, kind: str = "code") -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["inspect_checkpoint"]


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
    """Outputs of one tiny run, tracked in a store of its own."""
    folder = tmp_path_factory.mktemp("notebooks") / "outputs"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_TRACKING")}
    done = subprocess.run(
        [sys.executable, "-m", "medseg", *TINY_RUN, f"paths.outputs={folder}"],
        env=environment, capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.notebook
@pytest.mark.parametrize("by_folder", [False, True], ids=["by_metric", "by_folder"])
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path: Path, by_folder: bool, outputs: Path) -> None:
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    (folder,) = [marker.parent for marker in (outputs / "runs").glob("*/*/DONE")]
    given = {"outputs": str(outputs), "uri": None, "folder": str(folder) if by_folder else None, "cases": 1}
    place = next(number for number, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ()))
    overrides = "\n".join(f"{name} = {value!r}" for name, value in given.items())
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(overrides))
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in shown if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 3
    texts = "\n".join(str(output.get("data", {}).get("text/plain", "")) for output in shown)
    assert folder.name.rsplit("-", 1)[0] in texts
    again = re.findall(r"Dice (\d\.\d{3}) +(\d\.\d+)", texts)
    assert again, texts
    assert [float(now) for _, now in again] == pytest.approx([float(then) for then, _ in again], abs=2e-3)
