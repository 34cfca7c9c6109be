"""``medseg data audit``: look for what the sides of a split, or several datasets, share; write the certificate.

    medseg data audit data=ddti split=manifest_fold
    medseg data audit data=ddti against=[busi,/folder/of/pictures]

Below ``outputs/audit/<name>-<split hash>``: ``audit.json`` (the certificate), ``pairs.csv`` (every finding),
``pairs.png`` (the strongest side by side; shows images of the dataset, so keep it where they may be) and
``groups.csv`` (patients that belong together, where some do).
"""

import csv
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from medseg.commands.configuration import choices, compose, freeze, run_hydra
from medseg.data.cases import Case
from medseg.errors import ConfigError
from medseg.targets import check_targets

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.data.audit.audit import Audit
    from medseg.data.audit.certificate import Certificate

COLUMNS = ("kind", "severity", "cases", "patients", "sides", "score", "distance", "detail")
SHOWN = 24
"""Findings on the picture."""


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg data audit`` with Hydra overrides."""
    run_hydra("data", examine, arguments)


def examine(composed: DictConfig) -> Path:
    """Audit the dataset's split, print what was found and return the folder of what was written."""
    from hydra.utils import instantiate

    from medseg.commands.gate import thresholds_of
    from medseg.data.audit.audit import audit
    from medseg.data.audit.certificate import certify
    from medseg.data.splits import SIDES

    config = freeze(composed, choices(composed))
    plain: dict[str, Any] = OmegaConf.to_container(config)  # type: ignore[assignment]
    check_targets(plain, list(config.trusted_targets))
    data = instantiate(config.data)
    data.prepare_data()
    thresholds = thresholds_of(plain.get("audit") or {})
    sides = {side: data.cases(side) for side in SIDES}
    against = [str(name) for name in plain.get("against") or []]
    for name in against:
        found = other_cases(name, list(config.trusted_targets))
        sides[found[0]] = found[1]
    started = time.perf_counter()
    images = sum(1 for cases in sides.values() for case in cases for path in case.images if path and case.twin is None)
    with _progress(images) as progress:
        result = audit(sides, thresholds=thresholds, cache=Path(config.paths.cache) / "audits", progress=progress)
    seconds = time.perf_counter() - started
    certificate = certify(
        result, name=data.card.name, digest=data.digest, split=data.split, thresholds=thresholds, against=against
    )
    folder = Path(config.paths.outputs) / "audit" / f"{data.card.name}-{data.split.hash[:8]}"
    _write(folder, result, certificate, sides)
    _show(certificate, result, folder, seconds)
    return folder


def other_cases(name: str, trusted: Sequence[str] = ()) -> tuple[str, list[Case]]:
    """Return a short name and the cases of another dataset: a name that ``data=`` takes, or a folder.

    Ids and patients get the name in front, so that they are unique beside the dataset's own.

    Raises:
        ConfigError: there is no such dataset or folder.
    """
    from hydra.utils import instantiate

    from medseg.commands.configuration import CONF
    from medseg.data.sources.folder import read_folder

    if (CONF / "data" / f"{name}.yaml").is_file():
        config = compose("data", [f"data={name}"])
        frozen = freeze(config, choices(config))
        check_targets(OmegaConf.to_container(frozen), list(trusted))
        cases, short = instantiate(frozen.data.source)(), name
    elif Path(name).expanduser().is_dir():
        folder = Path(name).expanduser()
        plain = not (folder / "manifest.csv").is_file()
        cases, short = read_folder(folder, one_image_per_patient=plain), folder.resolve().name
    else:
        raise ConfigError(f"against={name}: no dataset of conf/data/ and no folder; give one of them.")
    return short, [replace(case, id=f"{short}:{case.id}", patient=f"{short}:{case.patient}") for case in cases]


@contextmanager
def _progress(total: int) -> "Iterator[Callable[[int], None]]":
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=total)
        yield lambda count: bar.advance(task, count)


def _write(folder: Path, result: "Audit", certificate: "Certificate", sides: dict[str, list[Case]]) -> None:
    from medseg.data.audit.findings import shared_groups

    folder.mkdir(parents=True, exist_ok=True)
    certificate.write(folder / "audit.json")
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for finding in result.findings:
            writer.writerow([_cell(getattr(finding, name)) for name in COLUMNS])
    groups = shared_groups(result.findings)
    for name in ("groups.csv", "pairs.png"):
        (folder / name).unlink(missing_ok=True)  # of an earlier audit
    if groups:
        with (folder / "groups.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("group", "belongs_to"), *groups.items()])
    draw_pairs(folder / "pairs.png", result, sides)


def _cell(value: Any) -> str:
    return ";".join(value) if isinstance(value, tuple) else "" if value is None else str(value)


def draw_pairs(path: Path, result: "Audit", sides: dict[str, list[Case]]) -> Path | None:
    """Draw the strongest findings of two pictures side by side; None if there is none."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    from medseg.data.audit.findings import KINDS

    cases = {case.id: case for listed in sides.values() for case in listed}
    looked = [kind for kind in KINDS if kind not in ("patient", "twin", "same_name")]
    chosen = [finding for finding in result.findings if finding.kind in looked and len(finding.cases) > 1][:SHOWN]
    if not chosen:
        return None
    figure = Figure(figsize=(9, 2.6 * len(chosen)))
    axes = figure.subplots(len(chosen), 2, squeeze=False)
    for row, finding in zip(axes, chosen, strict=True):
        for ax, name, side in zip(row, finding.cases, finding.sides, strict=False):
            ax.imshow(_picture(cases[name]), cmap="gray", vmin=0, vmax=255)
            ax.set_title(f"{name} ({side})", fontsize=8)
            ax.axis("off")
        score = "" if finding.score is None else f" {finding.score:.2f}"
        row[0].text(0, -0.04, f"{finding.severity}: {finding.kind}{score} {finding.detail}", fontsize=8, va="top",
                    transform=row[0].transAxes)  # fmt: skip
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    return path


def _picture(case: Case) -> Any:
    from medseg.data.audit.prints import is_volume_file, volume_print
    from medseg.data.files import read_image

    path = next(path for path in case.images if path is not None)
    return volume_print(path)["slices"][0] if is_volume_file(path) else read_image(path, channels=1)[..., 0]


def _show(certificate: "Certificate", result: "Audit", folder: Path, seconds: float) -> None:
    from medseg.commands.show import show_table
    from medseg.data.audit.findings import DUPLICATE, KINDS, LEAK, NOTE

    content = certificate.content
    rows = [
        [KINDS[kind], *(str(result.counts[kind].get(severity, 0)) for severity in (LEAK, DUPLICATE, NOTE))]
        for kind in KINDS
        if kind in result.counts
    ]
    title = f"{content['dataset']['name']}, split {content['split']['name']}: {certificate.verdict}"
    show_table(title, ["what", "leaks", "within a side", "notes"], rows or [["nothing found", "0", "0", "0"]])
    for finding in result.findings[:10]:
        score = "" if finding.score is None else f" {finding.score:.2f}"
        print(f"  {finding.severity}{score}: {finding.words}")
    compared = content["compared"]
    show_table("audit", ["what", "value"], [
        ["pictures, volumes", f"{compared['pictures']}, {compared['volumes']}"],
        ["pairs left out", str(compared["unchecked_pairs"])],
        ["seconds", f"{seconds:.1f}"],
        ["certificate", f"{certificate.sha256[:16]} ({'signed' if certificate.signed else 'unsigned'})"],
        ["written to", str(folder)],
    ])  # fmt: skip
