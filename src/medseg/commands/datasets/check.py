"""``medseg data check``: check a dataset, show its figures, write its split and a contact sheet."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg.commands.configuration import choices, freeze, run_hydra
from medseg.targets import check_targets


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg data check`` with Hydra overrides."""
    run_hydra("data", describe, arguments)


def describe(composed: DictConfig) -> Path:
    """Check every file, print cases, patients and prevalence by side, and return the folder of what was written."""
    from hydra.utils import instantiate

    from medseg.commands.show import show_table
    from medseg.evaluation.pictures import draw_contact_sheet

    config = freeze(composed, choices(composed))
    check_targets(OmegaConf.to_container(config), list(config.trusted_targets))
    data = instantiate(config.data)
    data.prepare_data()
    summary: dict[str, Any] = data.summary()
    folder = Path(config.paths.outputs) / "data" / data.card.name
    folder.mkdir(parents=True, exist_ok=True)
    data.split.write(folder / "split.json")
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    draw_contact_sheet(folder / "contact_sheet.png", data, config.samples)
    rows = [
        [side, str(summary["cases"][side]), str(summary["patients"][side]), _percent(summary["prevalence"][side])]
        for side in summary["cases"]
    ]
    title = f"{data.card.name}{' (SYNTHETIC)' if data.card.synthetic else ''}, split {data.split.name}"
    show_table(title, ["side", "cases", "patients", "foreground"], rows)
    show_table("files", ["what", "value"], [
        ["sizes (rows x columns)", ", ".join(f"{size}: {count}" for size, count in list(summary["sizes"].items())[:4])],
        ["dataset digest", data.digest[:16]],
        ["split hash", data.split.hash[:16]],
        ["licence", data.card.licence or "not stated"],
        ["written to", str(folder)],
    ])  # fmt: skip
    return folder


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"
