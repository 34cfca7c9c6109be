"""``medseg data boxes``: the box that a coarse run finds in every case, for a second network to look closer."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg import runs
from medseg.commands.configuration import choices, freeze, run_hydra
from medseg.errors import ConfigError


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg data boxes run=RUN [data=NAME]`` with Hydra overrides."""
    run_hydra("evaluate", boxes, arguments)


def boxes(composed: DictConfig) -> Path:
    """Write ``<run>/boxes/<dataset>.csv`` for ``preprocess=cascade`` and return it.

    Without ``data`` the cases are those of the run's own dataset, each with the side it had there: boxes of ``train``
    are optimistic, because the coarse network has seen these cases.
    """
    from medseg.commands.show import show_table
    from medseg.data.cache import content_hashes, dataset_digest
    from medseg.data.steps.region import write_boxes

    config = freeze(composed, choices(composed))
    run = runs.load_run(config.run, trusted=tuple(config.trusted_targets))
    if run.config["data"]["card"].get("spatial_dims", 2) != 2:
        raise ConfigError(f"{run.folder}: the run is of volumes; boxes are made from pictures.")
    own = config.get("data") is None
    data = _dataset(config, run)
    cases = sorted(data.source(), key=lambda case: case.id)
    sides = _sides(run) if own else {}
    rows = _found(run, data, cases, sides)
    path = run.folder / "boxes" / f"{data.card.name}.csv"
    path.parent.mkdir(exist_ok=True)
    coarse = {
        "run": str(run.record.get("name", run.folder.name)),
        "key": str(run.record.get("key") or runs.run_key(run.config)),
        "weights": hashlib.sha256((run.folder / "weights.pt").read_bytes()).hexdigest()[:20],
        "dataset": data.card.name,
        "digest": dataset_digest(cases, content_hashes(cases)),
        "split": str(run.record["split"]["hash"]) if own else "",
    }
    write_boxes(path, rows, coarse=coarse)
    whole = sum(row["flag"] == "whole" for row in rows)
    counts = {side: sum(row["side"] == side for row in rows) for side in sorted({row["side"] for row in rows})}
    show_table(f"boxes of {coarse['run']} on {data.card.name}", ["cases", "count"], [
        *[[f"{side or 'not in the run'}", str(count)] for side, count in counts.items()],
        ["nothing found, whole image", str(whole)],
    ])  # fmt: skip
    print(f"{path}\nuse it: medseg train preprocess=cascade preprocess.steps.0.boxes={path}")
    return path


def _dataset(config: DictConfig, run: runs.Run) -> Any:
    """Return the run's dataset, or the chosen one read with the run's preprocessing."""
    from hydra.utils import instantiate

    from medseg.targets import check_targets

    theirs = run.config["data"]
    if config.get("data") is None:
        return instantiate(theirs)
    chosen: Any = OmegaConf.to_container(config.data)
    check_targets(chosen, list(config.trusted_targets))
    if chosen["card"]["in_channels"] != theirs["card"]["in_channels"]:
        raise ConfigError(
            f"data={config.choices['data']} has {chosen['card']['in_channels']} channels, the run was trained on "
            f"{theirs['card']['in_channels']}; choose a dataset with as many."
        )
    return instantiate({**chosen, **{name: theirs[name] for name in ("preprocess", "mean", "std", "seed")}})


def _sides(run: runs.Run) -> dict[str, str]:
    """Return the side of each case in the run's own split."""
    split = run.data().split
    return {case: side for side, cases in split.sides.items() for case in cases}


def _found(run: runs.Run, data: Any, cases: Sequence[Any], sides: dict[str, str]) -> list[dict[str, Any]]:
    """Return a row for each case, in order."""
    from rich.progress import track

    from medseg.data.steps.region import largest_box
    from medseg.evaluation.predict import predict_image

    rows = []
    for case in track(cases, description="looking for boxes", transient=True):
        image, _ = data.read(case)
        labels = predict_image(run.net, image, data, case_id=case.id)
        rows.append({"case": case.id, "side": sides.get(case.id, ""), **largest_box(labels)})
    return rows
