"""``medseg evaluate``: score a finished run, on its own data or on another dataset."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg import runs
from medseg.commands.configuration import choices, freeze, run_hydra
from medseg.errors import ConfigError
from medseg.targets import check_targets

TAKEN_FROM_RUN = ("preprocess", "mean", "std", "seed", "view", "missing")


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg evaluate`` with Hydra overrides."""
    run_hydra("evaluate", evaluate, arguments)


def evaluate(composed: DictConfig) -> Path:
    """Write scores, predictions and overlays below the run's folder and print the headline."""
    from hydra.utils import instantiate

    from medseg.commands.show import show_scores
    from medseg.data.splits import SIDES
    from medseg.evaluation.pictures import draw_overlays
    from medseg.evaluation.score import score_side
    from medseg.stats.table import write_scores

    if composed.side not in SIDES:
        raise ConfigError(f"side='{composed.side}' is unknown; choose one of {', '.join(SIDES)}.")
    config = freeze(composed, choices(composed))
    run = runs.load_run(config.run, trusted=tuple(config.trusted_targets))
    other = config.get("data")
    data = run.data() if other is None else _other_data(OmegaConf.to_container(other), run, config)
    side = config.side if other is None else "test"
    if not data.cases(side):
        raise ConfigError(f"side='{side}' of {run.folder} has no case; choose another side.")
    folder = run.folder / "evaluations" / f"{data.card.name}-{side}"
    folder.mkdir(parents=True, exist_ok=True)
    module = instantiate(run.config["method"], net=run.net, _recursive_=True)
    trainer = instantiate(config.trainer, enable_progress_bar=True, default_root_dir=str(folder))
    scores = score_side(trainer, module, data, side, predictions=folder / "predictions")
    write_scores(scores, folder / "scores.csv")
    draw_overlays(folder, data, scores, f"{run.record['name']} on {data.card.name} ({side})")
    show_scores(scores, folder, data.card.unit)
    return folder


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
