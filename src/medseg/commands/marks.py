"""``medseg marks``: what an interactive run makes of marks that are set less and less precisely, and of none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from medseg import ledger, runs
from medseg.commands.configuration import choices, freeze, run_hydra
from medseg.errors import ConfigError
from medseg.selection import check_side

if TYPE_CHECKING:
    import pandas as pd

REFERENCE_SIDE = 256
"""Longer side of a grid on which one pixel of error is one pixel; on others it grows with the side."""

Prompt = Callable[..., np.ndarray]


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg marks`` with Hydra overrides; ``deviations=0,2,4`` is a list here, not a sweep."""
    run_hydra("marks", marks, [_listed(text) for text in arguments])


def _listed(text: str) -> str:
    key, _, value = text.partition("=")
    return f"deviations=[{value}]" if key == "deviations" and not value.startswith("[") else text


@dataclass(frozen=True)
class ErringUser:
    """A simulated user who sets exact marks and misses each by a Gaussian error.

    Attributes:
        exact: the network's own simulated user, asked without jitter.
        deviation: standard deviation of the error in rows and in columns, in pixels at a longer side of 256.
    """

    exact: Prompt
    deviation: float

    def __call__(self, mask: np.ndarray, rng: np.random.Generator, *, jitter: bool) -> np.ndarray:
        """Return points (N, 2) within the image for a label map (H, W).

        Evaluation gives each image the same ``rng`` every time: its errors point the same way for every deviation, and
        the curve shows their size and not their luck.
        """
        points = self.exact(mask, rng, jitter=False)
        scale = self.deviation * max(mask.shape) / REFERENCE_SIDE
        return (points + scale * rng.normal(size=points.shape)).clip(0, np.array(mask.shape) - 1)


def no_marks(mask: np.ndarray, rng: np.random.Generator, *, jitter: bool) -> np.ndarray:
    """Return no point: the user does nothing."""
    return np.zeros((0, 2))


def marks(composed: DictConfig) -> Path:
    """Score the test side for every deviation, write ``marks.csv`` and ``marks.png`` below the run, print the curve."""
    from hydra.utils import instantiate

    from medseg.evaluation.pictures import flags
    from medseg.report.marks import draw_marks, marks_summary
    from medseg.stats.csv_file import write_csv

    config = freeze(composed, choices(composed))
    deviations = [float(value) for value in config.deviations]
    if not deviations or min(deviations) < 0 or len(set(deviations)) < len(deviations):
        raise ConfigError(f"deviations={list(config.deviations)}: give different numbers of pixels, none below 0.")
    run = runs.load_run(config.run, trusted=tuple(config.trusted_targets))
    if not hasattr(run.net, "prompt"):
        raise ConfigError(
            f"{run.folder}: {run.record['choices']['net']} is not interactive, no user marks anything for it; give a "
            "run of a network with marks, for instance net=mgunet."
        )
    data = run.data()
    labels = check_side(run.record, data.split, "test", allow=False, patients=data.patients())
    ledger.append(ledger.path_in(config.paths.outputs), ledger.access("marks", [run.record]))
    folder = run.folder / "evaluations" / "marks"
    folder.mkdir(parents=True, exist_ok=True)
    trainer = instantiate(config.trainer, enable_progress_bar=False, default_root_dir=str(folder))
    frame = _scores(trainer, run.module(), data, sorted(deviations))
    write_csv(frame, folder / "marks.csv")
    rows = marks_summary(frame)
    trained = getattr(run.net.prompt, "deviation", None) if list(run.net.parameters()) else None
    said = (*flags(data), *labels)
    draw_marks(rows, folder / "marks.png", title=str(run.record["name"]), trained=trained, flags=said)
    _show(rows, folder, str(run.record["name"]))
    return folder


def _scores(trainer: Any, module: Any, data: Any, deviations: Sequence[float]) -> "pd.DataFrame":
    """Return the score tables of all deviations below each other, then that of no marks at all (deviation nan)."""
    import pandas as pd

    from medseg.evaluation.score import score_side

    exact = module.net.prompt
    users: list[tuple[float, Prompt]] = [(value, ErringUser(exact, value)) for value in deviations]
    frames = []
    for deviation, user in [*users, (float("nan"), no_marks)]:
        module.net.prompt = user
        scores = score_side(trainer, module, data, "test", predictions=None)
        scores.insert(0, "deviation", deviation)
        scores.insert(1, "marked", int(not np.isnan(deviation)))
        frames.append(scores)
    module.net.prompt = exact
    return pd.concat(frames, ignore_index=True)


def _show(rows: "pd.DataFrame", folder: Path, name: str) -> None:
    """Print the curve and where it lies."""
    from medseg.commands.show import show_lines, show_table

    shown = [
        [
            f"{row.deviation:g}" if row.marked else "no marks",
            f"{row.dice:.4f}",
            f"[{row.low:.4f}, {row.high:.4f}]",
            str(row.cases),
        ]
        for row in rows.itertuples()
    ]
    columns = ["error of the marks, px at 256", "Dice per case", "95 % CI over patients", "cases"]
    show_table(name, columns, shown)
    show_lines(folder / file for file in ("marks.csv", "marks.png"))
