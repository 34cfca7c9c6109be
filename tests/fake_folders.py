"""A run folder with everything that cards and checklists read, made by code."""

import csv
import json
from pathlib import Path
from typing import Any

import yaml

from fake_runs import fake_cell, fake_run
from medseg.stats.table import read_scores

CONFIG: dict[str, Any] = {
    "data": {
        "card": {
            "name": "phantom",
            "in_channels": 1,
            "num_classes": 2,
            "classes": ["background", "nodule"],
            "spatial_dims": 2,
            "unit": "px",
            "licence": "Apache-2.0",
            "citation": "simulated by medseg",
            "modality": "ultrasound",
        },
        "preprocess": {"size": [64, 64]},
        "labels": {0: 0, 255: 1},
        "mean": 0.25,
        "std": 0.2,
        "batch_size": 8,
        "about": {
            "title": "Synthetic thyroid ultrasound",
            "homepage": None,
            "access": "bundled",
            "steps": "Nothing to get.",
            "expected": {"cases": 360, "patients": 120},
        },
    },
    "net": {"_target_": "medseg.nets.unet.UNet", "widths": [8, 16], "encoder_weights": "/somewhere/resnet34.pt"},
    "loss": {"_target_": "medseg.losses.overlap.Dice"},
    "optimizer": {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 0.001},
    "scheduler": {"_target_": "medseg.training.schedules.one_cycle", "warmup": 0.15},
    "transfer": {"weights": None},
    "trainer": {"max_epochs": 40, "precision": "32-true"},
    "missing": {"policy": "error"},
    "view": {"_target_": "medseg.data.views.default", "dims": 2},
    "callbacks": {"best": {"monitor": "val/dice", "mode": "max", "filename": "best"}},
}


def full_folder(outputs: Path, *, patients: int = 30, attributes: bool = True, **settings: Any) -> Path:
    """Return a finished run's folder with config, audit, weights and, if wanted, attributes of the cases."""
    folder = fake_run(outputs, fake_cell("unet"), patients=patients, **settings)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record["preprocess"] = "resize(size=(64, 64))"
    record["data"]["prevalence"] = {"train": 0.07, "val": 0.06, "test": 0.071}
    record["data"]["sizes"] = {"64x64": 100, "64x48": 40}
    record["model"] |= {"system": "U-Net", "kind": "deep", "interaction": "none", "gflops": 0.5}
    record["selection"] = {"side": "val", "monitor": "val/dice", "checkpoint": "best", "rule": "the best epoch"}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    (folder / "weights.pt").write_bytes(b"weights")
    audit = {
        "verdict": "clean",
        "split": {"hash": record["split"]["hash"]},
        "findings": {"counts": {"same_file": {"note": 2}}, "worst": [{"words": "two equal files in train"}]},
        "seal": {"sha256": "a" * 64},
    }
    (folder / "audit.json").write_text(json.dumps(audit), encoding="utf-8")
    versions = {
        "packages": {"torch": "2.15.0", "numpy": "2.4.6"},
        "python": "3.11.7",
        "git": {"commit": "0123456789abcdef", "dirty": False},
        "torch": {"threads": 1, "cpu_capability": "AVX2", "cuda": None, "device": "x86_64"},
        "system": "Linux",
    }
    (folder / "versions.json").write_text(json.dumps(versions), encoding="utf-8")
    if attributes:
        _cases(folder)
    return folder


def _cases(folder: Path) -> None:
    """Write ``cases.csv``: every third patient malignant, an empty TI-RADS now and then, an id for each case."""
    scored = read_scores(folder / "scores.csv")
    with (folder / "cases.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "patient", "domain", "label", "tirads", "machine_number"])
        for number, (case, patient) in enumerate(zip(scored["case"], scored["patient"], strict=True)):
            label = "malignant" if int(patient[1:]) % 3 == 0 else "benign"
            writer.writerow([case, patient, "", label, "" if number % 7 == 0 else str(number % 3 + 3), str(number)])


def tn3k_record(**changes: Any) -> dict[str, Any]:
    """A record with its config, as a run of TN3K would leave them."""
    made: dict[str, Any] = {
        "choices": {"net": "unet", "data": "tn3k", "split": "official"},
        "data": {
            "name": "tn3k",
            "synthetic": False,
            "classes": ["background", "nodule"],
            "cases": {"train": 2447, "val": 432, "test": 614},
            "patients": {"train": 2000, "val": 300, "test": 500},
        },
        "split": {"name": "official", "leaky": False},
        "model": {"interactive": False, "interaction": "none"},
        "selection": {"side": "val", "monitor": "val/dice", "checkpoint": "best", "rule": "the epoch"},
        "config": {
            "data": {"card": {"spatial_dims": 2}, "preprocess": {"size": [256, 256]}},
            "net": {"_target_": "medseg.nets.unet.UNet"},
            "transfer": {"weights": None},
        },
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = made
        for key in parents:
            node = node[key]
        node[last] = value
    return made
