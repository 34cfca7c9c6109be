"""``medseg evaluate``: score a finished run, on its own data or on another dataset."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from medseg import ledger, runs
from medseg.commands.configuration import choices, freeze, run_hydra
from medseg.errors import ConfigError
from medseg.targets import check_targets
from medseg.types import offers

if TYPE_CHECKING:
    from pandas import DataFrame

    from medseg.data.cases import Case

log = logging.getLogger(__name__)
TAKEN_FROM_RUN = ("preprocess", "mean", "std", "seed", "view", "missing")


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg evaluate`` with Hydra overrides."""
    run_hydra("evaluate", evaluate, arguments)


def evaluate(composed: DictConfig) -> Path:
    """Write scores, predictions and overlays below the run's folder and print the headline.

    With a published protocol only its numbers are printed and written, from the predictions that lie there; without
    any, the run is scored first.
    """
    from medseg.data.splits import SIDES
    from medseg.evaluation.legacy import CONTRACT, check_protocol

    if composed.side not in SIDES:
        raise ConfigError(f"side='{composed.side}' is unknown; choose one of {', '.join(SIDES)}.")
    check_protocol(composed.protocol)
    config = freeze(composed, choices(composed))
    run = _pruned(runs.load_run(config.run, trusted=tuple(config.trusted_targets)), config.prune)
    other = config.get("data")
    data = run.data() if other is None else _other_data(OmegaConf.to_container(other), run, config)
    side = config.side if other is None else "test"
    if not data.cases(side):
        raise ConfigError(f"side='{side}' of {run.folder} has no case; choose another side.")
    labels = _noted(config, run, data, side, own=other is None)
    own = other is None and side == "test" and config.prune is None
    level = "" if config.prune is None else f"-L{config.prune}"
    folder = run.folder / "evaluations" / f"{data.card.name}-{side}{level}"
    folder.mkdir(parents=True, exist_ok=True)
    stored = _predictions([run.folder] * (own and runs.is_finished(run.folder)) + [folder])
    if config.protocol == CONTRACT or stored is None:
        _score(config, run, data, side, folder=folder, renew=own, labels=labels)
        stored = folder / "predictions"
    if config.protocol != CONTRACT:
        _legacy(data, side, stored, folder, protocol=config.protocol)
    for label in labels:
        log.warning("%s: these scores are of the side %s", label, side)
    return folder


def _pruned(run: runs.Run, level: int | None) -> runs.Run:
    """Return the run with its network cut down to one of its heads; as it is without a level."""
    if level is None:
        return run
    if not offers(run.net, "pruned"):
        raise ConfigError(f"prune={level}: {type(run.net).__name__} of {run.folder} has one head; prune a net=unetpp.")
    smaller = run.net.pruned(level)  # type: ignore[operator]
    counts = [sum(parameter.numel() for parameter in net.parameters()) for net in (smaller, run.net)]
    log.info("pruned to L%d: %s of %s parameters", level, *(f"{count:,}" for count in counts))
    return replace(run, net=smaller.eval())


def _noted(config: DictConfig, run: runs.Run, data: Any, side: str, *, own: bool) -> tuple[str, ...]:
    """Note the access in the ledger and return the labels that the scores must carry; refuse a side that chose."""
    from medseg.selection import check_side

    labels: tuple[str, ...] = ()
    if own:
        allow = bool(config.allow_selection_side)
        labels = check_side(run.record, data.split, side, allow=allow, patients=data.patients())
    entry = ledger.access("evaluate", [run.record], side=side, dataset=data.card.name, split=data.split.hash)
    ledger.append(ledger.path_in(config.paths.outputs), entry)
    return labels


def _score(
    config: DictConfig, run: runs.Run, data: Any, side: str, *, folder: Path, renew: bool, labels: Sequence[str]
) -> None:
    """Score one side by the project's own definitions."""
    from hydra.utils import instantiate

    from medseg.commands.show import show_scores
    from medseg.evaluation.pictures import draw_overlays
    from medseg.evaluation.score import reliability_side, score_side, write_tables

    module = run.module()
    trainer = instantiate(config.trainer, enable_progress_bar=True, default_root_dir=str(folder))
    scores = score_side(trainer, module, data, side, predictions=folder / "predictions")
    reliability = reliability_side(module, data, side)
    write_tables(folder, scores, reliability, data.cases(side))
    title = " ".join([*labels, f"{run.record['name']} on {data.card.name} ({side})"])
    draw_overlays(folder, data, scores, title)
    show_scores(scores, folder, data.card.unit)
    if renew and _outdated(run.folder / "scores.csv"):
        _renew(run, scores, reliability, data.cases(side))


def _outdated(table: Path) -> bool:
    """Return whether a score table has the columns of version 1."""
    from medseg.stats.check import is_first_version

    if not table.is_file():
        return False
    with table.open(encoding="utf-8", errors="replace") as file:
        return is_first_version(file.readline().rstrip("\n").split(","))


def _renew(run: runs.Run, scores: "DataFrame", reliability: "DataFrame | None", cases: "Sequence[Case]") -> None:
    """Replace the tables of a finished run that an older version wrote, and the numbers made of them."""
    from medseg.commands.show import show_lines
    from medseg.evaluation.score import write_tables
    from medseg.stats.aggregate import headline

    write_tables(run.folder, scores, reliability, cases)
    summary = {f"test/{name}": value for name, value in headline(scores).items()}
    runs.write_json(run.folder / "run.json", {**run.record, "summary": summary})
    table = run.folder / "scores.csv"
    show_lines(
        [f"{table}: was written by an older medseg and is renewed; `medseg track run=...` sends it to the tracker."]
    )


def _predictions(folders: Sequence[Path]) -> Path | None:
    """Return the first folder of label maps whose scoring was finished."""
    done = (folder / "predictions" for folder in folders if (folder / "scores.csv").is_file())
    return next((path for path in done if path.is_dir()), None)


def _legacy(data: Any, side: str, predictions: Path, folder: Path, *, protocol: str) -> None:
    """Write and print what a published script would make of the stored label maps."""
    from medseg.commands.show import show_lines, show_table
    from medseg.evaluation.legacy import REMARK, legacy_numbers, write_legacy

    values = legacy_numbers(data, data.cases(side), predictions, protocol=protocol)
    path = folder / f"legacy_{protocol}.csv"
    write_legacy(values, path, protocol=protocol)
    rows = [[name, str(value) if isinstance(value, int) else f"{value:.4f}"] for name, value in values.items()]
    show_table(f"protocol={protocol}: {REMARK}", ["score", "value"], rows)
    show_lines([f"{path}  {REMARK}; medseg's own numbers stand in scores.csv"])


def _other_data(chosen: Any, run: runs.Run, config: DictConfig) -> Any:
    """Return another dataset, preprocessed and normalised as the run was, every case on the test side."""
    from hydra.utils import instantiate

    check_targets(chosen, list(config.trusted_targets))
    theirs = run.config["data"]
    if chosen["card"]["in_channels"] != theirs["card"]["in_channels"]:
        raise ConfigError(
            f"data={config.choices['data']} has {chosen['card']['in_channels']} channels, the run was trained on "
            f"{theirs['card']['in_channels']}; choose a dataset with as many."
        )
    data = instantiate({**chosen, **{name: theirs[name] for name in TAKEN_FROM_RUN if name in theirs}})
    data.prepare_data()
    data.setup("test")
    return data
