"""Finished run folders made by code: as ``medseg train`` leaves them, without weights and pictures.

Counts come from a small formula, not from a network, so that tables made from them are known in advance.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medseg.report.cells import Plan, PlannedCell, load
from medseg.report.table1 import panels, read_published
from medseg.report.tables import Cell, Table
from medseg.stats.table import score_rows, write_scores

STUDY = Path(__file__).parents[1] / "experiments" / "table1" / "study.yaml"
PUBLISHED = STUDY.with_name("published.csv")
LABELS = {"unet": "U-Net", "mgunet": "MGU-Net", "jpu_unet": "JPU-U-Net", "dmunet": "DMU-Net", "threshold": "Threshold"}
PIXELS = 64 * 64
PARAMETERS = {"unet": 1_944_322, "mgunet": 1_944_322, "jpu_unet": 2_200_130, "dmunet": 987_654, "threshold": 3}


def fake_cell(net: str, *, panel: str = "A", split: str = "ratio", seed: int = 0, note: str = "") -> PlannedCell:
    """Return a planned cell whose folder :func:`fake_run` fills."""
    choices = {"net": net, "split": split, "seed": str(seed), "data": "phantom", "study": "table1", "preset": "quick"}
    name = f"{panel} net={net} seed={seed}" if panel == "A" else f"{panel} net={net} split={split} seed={seed}"
    folder = f"runs/table1/{panel}-{net}-{split}-s{seed}"
    return PlannedCell(name, panel, note, choices, folder)


def fake_plan(cells: Sequence[PlannedCell], *, seeds: Sequence[int] = (0,)) -> Plan:
    """Return a plan of these cells on the phantom."""
    return Plan("table1", "quick", "phantom", tuple(seeds), (), tuple(cells))


def fake_run(
    outputs: Path,
    cell: PlannedCell,
    *,
    missed: float = 0.2,
    patients: int = 30,
    images: int = 2,
    synthetic: bool = True,
    leaky: bool | None = None,
    interactive: bool = False,
    reading: str = "",
    status: str = "finished",
    tracked: bool = True,
) -> Path:
    """Write the run folder of a cell and return it.

    Args:
        outputs: folder of outputs; the run lies below ``runs/``.
        cell: which cell it fills.
        missed: share of each nodule that is not found; as much is found wrongly, so Dice is about ``1 - missed``.
        patients: test patients.
        images: test images per patient.
        synthetic: whether the data are said to be simulated.
        leaky: whether the split is leaky; None means that ``twins_leaky`` is.
        interactive: whether the network takes marks.
        reading: what the network's record says about our reading.
        status: ``finished``, ``failed`` or ``running``; only a finished run has DONE.
        tracked: whether the run was sent to MLflow.
    """
    folder = outputs / cell.folder
    folder.mkdir(parents=True, exist_ok=True)
    split, seed, net = cell.choices["split"], int(cell.choices["seed"]), cell.choices["net"]
    leaks = split == "twins_leaky" if leaky is None else leaky
    page = {"uri": "sqlite:///mlflow.db", "experiment_id": "1", "run_id": f"id-{folder.name}"}
    started = f"2026-03-0{seed + 1}T10:00:00"
    record = {
        "name": folder.name,
        "key": "0123456789",
        "status": status,
        "started": started,
        "seed": seed,
        "study": "table1",
        "panel": cell.panel,
        "preset": "quick",
        "sweep": None,
        "choices": dict(cell.choices),
        "data": _data(synthetic, patients, images),
        "split": {"name": split, "hash": f"{split:0<8}"[:8] + "0" * 56, "leaky": leaks, "seed": 0},
        "model": {"parameters": PARAMETERS.get(net, 1000), "interactive": interactive, "reading": reading},
        "cost": {"fit_seconds": 90.0 + 6 * seed, "total_seconds": 120.0, "peak_memory_mb": 800.0, "device": "cpu"},
        "epochs": 8,
        "summary": {},
        "mlflow": page if tracked else None,
    }
    _write(folder / "run.json", record)
    if status != "finished":
        return folder
    _write(folder / "versions.json", {"git": {"commit": "0123456789abcdef", "dirty": False}, "packages": {}})
    _scores(folder / "scores.csv", missed=missed, seed=seed, patients=patients, images=images, leaky=leaks)
    (folder / "DONE").touch()
    return folder


def _data(synthetic: bool, patients: int, images: int) -> dict[str, Any]:
    return {
        "name": "phantom",
        "digest": "d" * 64,
        "synthetic": synthetic,
        "unit": "px",
        "classes": ["background", "nodule"],
        "cases": {"train": 70, "val": 10, "test": patients * images},
        "patients": {"train": 35, "val": 5, "test": patients},
    }


def _scores(path: Path, *, missed: float, seed: int, patients: int, images: int, leaky: bool) -> None:
    """Write counts of nodules of 200 to 400 pixels; patients differ, images of a patient differ little."""
    counts, cases = [], []
    for patient in range(patients):
        for image in range(images):
            size = 200 + 10 * (patient % 20) + image
            wrong = round(size * missed * (0.5 + (patient % 5) / 4) + seed)
            nodule = (size - wrong, wrong, wrong, PIXELS - size - wrong)
            counts.append((nodule[::-1], nodule))
            cases.append({"case": f"p{patient:02d}_{image}", "patient": f"p{patient:02d}", "domain": ""})
    number = len(cases)
    frame = score_rows(
        np.array(counts),
        fake_measures(number, missed=missed, seed=seed),
        cases=cases,
        classes=["background", "nodule"],
        unit="px",
        diagonals=np.full(number, 90.5),
        split_side="test",
        leaky=leaky,
    )
    write_scores(frame, path)


def fake_measures(number: int, *, missed: float = 0.2, seed: int = 0) -> dict[str, np.ndarray]:
    """Return what was measured beside the counts, the same for every case of one class: (number, 1) a column."""
    values = {
        "hd_voxel": 9.0,
        "hd95_directed_voxel": 4.0 + seed,
        "hd95_pooled_voxel": 3.5,
        "assd_pooled_voxel": 1.5,
        "masd_voxel": 1.6,
        "nsd_voxel": 1 - missed,
        "boundary_iou": 0.6,
        "cldice": 0.9,
        "reference_lesions": 1,
        "prediction_lesions": 2,
        "detected_lesions": 1,
        "false_lesions": 1,
        "split_lesions": 0,
        "merged_lesions": 0,
        "ece": 0.02,
        "brier": 0.03,
    }
    return {name: np.full((number, 1), float(value)) for name, value in values.items()}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def golden_plan(outputs: Path) -> Plan:
    """Two networks and a baseline, one of them failed, and both twin splits."""
    cells = [
        fake_cell("unet"),
        fake_cell("mgunet"),
        fake_cell("dmunet"),
        fake_cell("threshold", note="baseline"),
        fake_cell("unet", panel="B", split="twins_leaky"),
        fake_cell("unet", panel="B", split="twins_grouped"),
    ]
    fake_run(outputs, cells[0], missed=0.1)
    fake_run(
        outputs,
        cells[1],
        missed=0.05,
        interactive=True,
        reading="Radius & white_value, 100 % ours.",
    )
    fake_run(outputs, cells[2], status="failed")
    fake_run(outputs, cells[3], missed=0.5, patients=30, tracked=False)
    fake_run(outputs, cells[4], missed=0.08, patients=12)
    fake_run(outputs, cells[5], missed=0.12)
    return fake_plan(cells)


def built(plan: Plan, outputs: Path) -> list[Table]:
    """Return the panels of a plan."""
    published = read_published(PUBLISHED)
    return panels(plan, load(plan, outputs), published, labels=LABELS, folder=outputs / "table1")


def row(table: Table, name: str) -> dict[str, Cell]:
    """Return a row of a table by column."""
    (found,) = [cells for cells in table.rows if cells[0].text == name]
    return {column.text: cell for column, cell in zip(table.columns, found, strict=True)}
