"""Score one side of a dataset with a trained module: one row per case and foreground class."""

from pathlib import Path

from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from pandas import DataFrame

from medseg.data.datamodule import SegmentationData
from medseg.stats.table import score_rows
from medseg.training.callbacks import SavePredictions
from medseg.training.module import SegmentationModule


def score_side(
    trainer: Trainer, module: SegmentationModule, data: SegmentationData, side: str, *, predictions: Path | None
) -> DataFrame:
    """Return the score table of one side on the native grid; every process of the trainer must call this.

    Args:
        trainer: one that runs the test loop; its callbacks are kept.
        module: with the weights to be judged.
        data: prepared and set up.
        side: ``train``, ``val`` or ``test``.
        predictions: where the native label maps go as files; None writes none.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning does not declare it
    writer = [] if predictions is None else [SavePredictions(predictions, data.save_prediction)]
    callbacks.extend(writer)
    try:
        module.test_scores.reset()
        trainer.test(module, dataloaders=data.evaluation_dataloader(side), verbose=False)
    finally:
        for callback in writer:
            callbacks.remove(callback)
    rows = module.test_rows
    cases = [data.cases(side)[number] for number in rows.index]
    return score_rows(
        rows.counts,
        rows.surfaces,
        cases=[{"case": case.id, "patient": case.patient, "domain": case.domain} for case in cases],
        diagonals=rows.diagonals,
        classes=list(data.card.classes),
        unit=data.card.unit,
        split_side=side,
        leaky=data.split.leaky,
    )
