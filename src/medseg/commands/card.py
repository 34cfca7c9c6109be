"""``medseg card``: the model card, the dataset card and the checklists of a run, from its folder alone."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from medseg.commands.configuration import choices, freeze, run_hydra
from medseg.commands.show import show_lines
from medseg.commands.systems import system_of
from medseg.report.cards import dataset_card, model_card
from medseg.report.checklists import checklists
from medseg.report.published import Board, board, find_published
from medseg.report.run_facts import RunFacts, load_facts
from medseg.report.run_results import case_dice
from medseg.report.tables import markdown
from medseg.whole import write_whole


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg card`` with Hydra overrides."""
    run_hydra("card", card, arguments)


def card(composed: DictConfig) -> list[Path]:
    """Write ``model_card.md``, ``dataset_card.md`` and ``checklists.md`` and return their paths.

    Raises:
        RunError: the folder is no run, or a file in it is damaged.
        ScoreError: its score table or a file of published numbers breaks a rule.
    """
    config = freeze(composed, choices(composed))
    run = load_facts(config.run)
    folder = Path(config.output or run.folder)
    beside = published_beside(run, Path.cwd())
    paper = system_of(str(run.get("choices.net") or "")).source
    filled = checklists(run)
    texts = {
        "model_card.md": model_card(run, paper=paper, published=beside.table if beside else None),
        "dataset_card.md": dataset_card(run),
        "checklists.md": "# Checklists\n\n" + "\n".join(markdown(one.table) for one in filled),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_whole(folder / name, text)
    files = [folder / name for name in texts]
    show_lines([*files, *(f"{one.title}: {one.answered} of {len(one.items)} items answered" for one in filled)])
    return files


def published_beside(run: RunFacts, start: Path) -> Board | None:
    """Return the published numbers of a run's dataset beside its own, or None without numbers or scores."""
    dice = None if run.scores is None else case_dice(run.scores)
    net = str(run.get("choices.net") or run.get("name"))
    if dice is None:
        return None
    record = {**run.record, "config": run.config or {}}
    label = str(run.get("model.system") or net)
    return board([record], find_published(start), headline={net: (dice.mean, dice.low, dice.high)}, labels={net: label})
