"""Score one side of a dataset with a trained module: one row per case and foreground class."""

from collections.abc import Sequence
from pathlib import Path

from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from pandas import DataFrame

from medseg.data.cases import Case
from medseg.data.datamodule import SegmentationData
from medseg.metrics.epoch import CaseRows
from medseg.stats.case_table import case_table, write_case_table
from medseg.stats.reliability import reliability_rows, write_reliability
from medseg.stats.table import score_rows, write_scores
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
        module.nsd_tolerance = data.card.nsd_tolerance
        trainer.test(module, dataloaders=data.evaluation_dataloader(side), verbose=False)
    finally:
        for callback in writer:
            callbacks.remove(callback)
    return table_of(module.test_rows, data, side)


def table_of(rows: CaseRows, data: SegmentationData, side: str) -> DataFrame:
    """Return the score table of what was recorded of a side's cases.

    Args:
        rows: indices are places in ``data.cases(side)``.
        data: whose card and split say the rest.
        side: that was scored.
    """
    cases = [data.cases(side)[number] for number in rows.index]
    return score_rows(
        rows.counts,
        rows.columns(),
        cases=[{"case": case.id, "patient": case.patient, "domain": case.domain} for case in cases],
        diagonals=rows.diagonals,
        classes=list(data.card.classes),
        unit=data.card.unit,
        split_side=side,
        leaky=data.split.leaky,
        tolerances=rows.tolerances,
    )


def reliability_side(module: SegmentationModule, data: SegmentationData, side: str) -> DataFrame | None:
    """Return the reliability table of what :func:`score_side` scored last; None without probabilities.

    Args:
        module: the one that was scored.
        data: with the same cases.
        side: the side that was scored.
    """
    rows = module.test_rows
    if rows.reliability is None:
        return None
    cases = data.cases(side)
    return reliability_rows(rows.reliability, [cases[number].id for number in rows.index])


def write_tables(folder: Path, scores: DataFrame, reliability: DataFrame | None, cases: Sequence[Case]) -> None:
    """Write ``scores.csv``, ``cases.csv`` and ``reliability.csv`` of an evaluation.

    A reliability table of an earlier evaluation that no longer holds is removed.

    Args:
        folder: of the run or of the evaluation.
        scores: the score table.
        reliability: None without probabilities.
        cases: that were scored.
    """
    write_scores(scores, folder / "scores.csv")
    write_case_table(case_table(cases), folder / "cases.csv")
    if reliability is None:
        (folder / "reliability.csv").unlink(missing_ok=True)
    else:
        write_reliability(reliability, folder / "reliability.csv")
