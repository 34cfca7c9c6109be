"""``medseg data check``: read every file once, report what is wrong, write fingerprint, split and contact sheet."""

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg.commands.configuration import choices, freeze, run_hydra
from medseg.data.datamodule import SegmentationData
from medseg.data.inspection.examine import Expected
from medseg.data.inspection.findings import SEVERITIES, counted, summary_rows, write_findings
from medseg.data.inspection.fingerprint import Fingerprint, fingerprint, stamp, write_cases, write_fingerprint
from medseg.data.inspection.quarantine import write_manifest, write_quarantine
from medseg.data.inspection.survey import Survey, survey
from medseg.data.inspection.thumbnails import thumbnail
from medseg.errors import DataError
from medseg.stats.flags import flags_of
from medseg.targets import check_targets

READER = "medseg.data.sources.folder.read_manifest"


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg data check`` with Hydra overrides."""
    run_hydra("data", check, arguments)


def check(composed: DictConfig) -> Path:
    """Inspect a dataset and return the folder of what was written.

    Everything is written before anything is raised: ``findings.csv``, ``cases.csv``, ``fingerprint.json``,
    ``contact_sheet.png``; without errors, or without the cases that have one, also ``split.json`` and ``summary.json``.

    Raises:
        DataError: there are errors, and ``quarantine=true`` did not set all of them aside.
    """
    config, data, folder = opened(composed)
    found = inspected(config, data)
    write_findings(folder / "findings.csv", found.findings)
    write_cases(folder / "cases.csv", found, classes=data.card.classes)
    mark = stamp(found.cases, expected(data))
    figures = fingerprint(found, card=data.card, digest=None, stamp=mark)
    write_fingerprint(folder / "fingerprint.json", figures)
    _contact_sheet(folder / "contact_sheet.png", found, data, config.samples)
    _show(figures, found, data, folder)
    aside = _quarantine(folder, found, data, composed) if config.quarantine else False
    if aside or not figures["findings"]["error"]:
        _show_split(folder, data)
        figures = fingerprint(found, card=data.card, digest=data.digest, stamp=mark)
        write_fingerprint(folder / "fingerprint.json", figures)
        return folder
    raise DataError(
        f"dataset '{data.card.name}': {_counts(found)} in {len(found.faulty)} of {len(found.cases)} cases, all listed "
        f"in {folder / 'findings.csv'}; repair them, or leave these cases out by quarantine=true."
    )


def opened(composed: DictConfig) -> tuple[DictConfig, SegmentationData, Path]:
    """Return the frozen config, the dataset (no file touched yet) and the folder for what is written about it."""
    from hydra.utils import instantiate

    config = freeze(composed, choices(composed))
    check_targets(OmegaConf.to_container(config), list(config.trusted_targets))
    data = instantiate(config.data)
    folder = Path(config.paths.outputs) / "data" / data.card.name
    folder.mkdir(parents=True, exist_ok=True)
    return config, data, folder


def expected(data: SegmentationData) -> Expected:
    """Return what the config says about the files."""
    return Expected(
        data.card.in_channels, data.labels, threshold=data.threshold, dims=data.card.spatial_dims, unit=data.card.unit
    )


def inspected(config: DictConfig, data: SegmentationData) -> Survey:
    """Read every file of the dataset once."""
    root = config.data.source.get("root")
    return survey(
        data.source(),
        expected(data),
        names=data.card.classes,
        root=None if root is None else Path(root),
        workers=config.workers,
        shown=sys.stderr.isatty(),
    )


def _contact_sheet(path: Path, found: Survey, data: SegmentationData, count: int) -> None:
    from medseg.report.overlays import Panel, contact_sheet

    step = max(1, len(found.sound) // max(1, count))
    seen = [(case, thumbnail(case, expected(data))) for case in found.sound[::step][:count]]
    panels = [Panel(f"{case.id}, {case.patient}", *shown, shown[1]) for case, shown in seen if shown is not None]
    if panels:
        contact_sheet(panels, path, caption=data.card.name, flags=flags_of(synthetic=data.card.synthetic, leaky=False))


def _quarantine(folder: Path, found: Survey, data: SegmentationData, composed: DictConfig) -> bool:
    """Set aside the cases with an error and return whether what is left can be used; the datamodule gets the rest."""
    if not found.faulty or not found.sound or any(one.severity == "error" and not one.case for one in found.findings):
        return False
    number = write_quarantine(folder / "quarantine.csv", found)
    root = Path(composed.data.source.get("root") or ".").absolute()
    write_manifest(folder / "manifest.csv", found.sound, root=root)
    data.source = partial(list, found.sound)
    print(f"QUARANTINE: {number} of {len(found.cases)} cases set aside: {', '.join(found.faulty[:10])}"
          f"{', ...' if number > 10 else ''}; all with their reasons in {folder / 'quarantine.csv'}")  # fmt: skip
    print(f"train without them: {_without_them(folder, composed, root)}")
    return True


def _without_them(folder: Path, composed: DictConfig, root: Path) -> str:
    """Return the arguments that make any verb leave the cases out.

    A dataset that is not read from a manifest gets a config of its own, ``data=quarantined``: keys of another reader
    cannot be taken out on the command line.
    """
    source = composed.data.source
    if source.get("_target_") == READER:
        return f"'{'' if 'manifest' in source else '+'}data.source.manifest={folder / 'manifest.csv'}'"
    node: dict[str, Any] = OmegaConf.to_container(composed.data, resolve=False)  # type: ignore[assignment]
    node["source"] = {
        "_target_": READER, "_partial_": True, "root": str(root), "manifest": str(folder / "manifest.csv")
    }  # fmt: skip
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "quarantined.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(node)), encoding="utf-8")
    return f"--config-dir {folder} data=quarantined"


def _show(figures: Fingerprint, found: Survey, data: SegmentationData, folder: Path) -> None:
    from medseg.commands.show import show_table

    title = f"{data.card.name}{' (SYNTHETIC)' if data.card.synthetic else ''}"
    show_table(f"{title}: findings", ["severity", "kind", "number", "first", "remedy"], summary_rows(found.findings))
    classes = [
        [one["name"], str(one["cases"]), _percent(one["prevalence"]), _range(one["pixels"]), _range(one["pieces"])]
        for one in figures["classes"]
    ]
    show_table("classes", ["class", "cases", "of all pixels", "pixels a case", "pieces a case"], classes)
    show_table("fingerprint", ["what", "value"], [
        ["cases / patients / left out", f"{figures['cases']} / {figures['patients']} / {figures['left_out']}"],
        ["sizes", ", ".join(f"{size}: {count}" for size, count in list(figures["sizes"].items())[:4]) or "-"],
        ["spacing, median", "unknown" if figures["spacing"] is None else str(figures["spacing"]["p50"])],
        *([f"{one['name']}, mean and std", f"{_number(one['mean'])}, {_number(one['std'])}"]
          for one in figures["channels"]),
        ["licence", data.card.licence or "not stated"],
        ["written to", str(folder)],
    ])  # fmt: skip


def _show_split(folder: Path, data: SegmentationData) -> None:
    """Prepare the data as training does; write and show the split."""
    from medseg.commands.show import show_table

    data.prepare_data()
    summary: dict[str, Any] = data.summary()
    data.split.write(folder / "split.json")
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    rows = [
        [side, str(summary["cases"][side]), str(summary["patients"][side]), _percent(summary["prevalence"][side])]
        for side in summary["cases"]
    ]
    title = f"split {data.split.name}, hash {data.split.hash[:16]}, dataset digest {data.digest[:16]}"
    show_table(title, ["side", "cases", "patients", "foreground"], rows)


def _counts(found: Survey) -> str:
    return ", ".join(f"{counted(found.findings)[severity]} {severity}(s)" for severity in SEVERITIES)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _range(spread: dict[str, float] | None) -> str:
    return "-" if spread is None else f"{spread['min']:.6g} - {spread['p50']:.6g} - {spread['max']:.6g}"
