"""The tables of a nested cross-validation: chosen inside, judged outside."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fake_runs import fake_cell, fake_plan, fake_run, row
from medseg.errors import RunError
from medseg.journal import Journal
from medseg.report.cells import Plan, PlannedCell, load
from medseg.report.nested import nested_tables
from medseg.report.tables import Table

LABELS = {"unet": "U-Net", "dmunet": "DMU-Net"}
MISSED = {"unet": 0.1, "dmunet": 0.3}
VALIDATED = {("unet", 0): 0.8, ("dmunet", 0): 0.7, ("unet", 1): 0.5, ("dmunet", 1): 0.6}
"""In outer fold 1 the inner folds prefer what is worse outside."""


def nested_cell(net: str, outer: int, inner: int) -> PlannedCell:
    cell = fake_cell(net, split="nested_kfold")
    choices = {**cell.choices, "split.fold": str(outer), "split.inner_fold": str(inner)}
    return replace(
        cell, name=f"{net} fold {outer}.{inner}", folder=f"runs/nested/{net}-{outer}-{inner}", choices=choices
    )


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    cells = [nested_cell(net, outer, inner) for net in LABELS for outer in range(2) for inner in range(2)]
    for cell in cells:
        net, outer, inner = (cell.choices[key] for key in ("net", "split.fold", "split.inner_fold"))
        folder = fake_run(tmp_path, cell, missed=MISSED[net])
        journal = Journal(folder / "metrics.jsonl")
        best = VALIDATED[net, int(outer)] + (0.02 if inner == "1" else -0.02)
        for epoch, value in enumerate([best - 0.3, best, best - 0.1]):
            journal.log({"val/dice": value}, epoch=epoch, step=epoch)
        journal.close()
    return fake_plan(cells)


def tables(plan: Plan, outputs: Path) -> tuple[Table, Table]:
    choice, estimate = nested_tables(plan, load(plan, outputs), labels=LABELS, folder=outputs / "nested")
    return choice, estimate


def test_each_outer_fold_takes_what_its_inner_folds_prefer(plan: Plan, tmp_path: Path) -> None:
    choice, _ = tables(plan, tmp_path)
    assert [cells[-2].text for cells in choice.rows] == ["U-Net", "DMU-Net"]
    assert row(choice, "0")["U-Net"].value == pytest.approx(0.8)
    assert row(choice, "0")["U-Net"].bold
    assert not row(choice, "0")["DMU-Net"].bold
    assert row(choice, "1")["Margin"].value == pytest.approx(0.1)


def test_the_estimate_is_the_chosen_ones_test_score_and_not_the_best_one(plan: Plan, tmp_path: Path) -> None:
    _, estimate = tables(plan, tmp_path)
    name = "Dice per case [95 % CI over patients]"
    chosen, best, worst = (row(estimate, text)[name].value for text in ("chosen", "always U-Net", "always DMU-Net"))
    assert worst < chosen < best
    assert chosen == pytest.approx((best + worst) / 2)
    assert row(estimate, "always DMU-Net")["Chosen in"].text == "1 of 2"
    assert "(SYNTHETIC)" in row(estimate, "chosen")[name].source


def test_an_outer_fold_with_an_unfinished_training_is_left_out_and_named(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / plan.cells[-1].folder / "DONE").unlink()
    choice, estimate = tables(plan, tmp_path)
    assert [cells[0].text for cells in choice.rows] == ["0"]
    assert any("not all of their trainings are finished: fold 1 seed 0" in fact for fact in estimate.caption)


def test_cells_without_inner_folds_are_refused(tmp_path: Path) -> None:
    cell = fake_cell("unet")
    fake_run(tmp_path, cell)
    plan = fake_plan([cell])
    with pytest.raises(RunError, match=r"no setting split\.fold"):
        tables(plan, tmp_path)


DICE, LOSS = "val/dice", "val/loss"
EPOCHS = [{DICE: 0.2, LOSS: 0.5}, {DICE: 0.9, LOSS: 0.9}, {DICE: 0.6, LOSS: 0.3}, {DICE: 0.4, LOSS: 0.3}]
"""The best Dice, the lowest loss and the last epoch are three; two epochs share the lowest loss."""


def journal_of(folder: Path, epochs: Sequence[Mapping[str, float]], **selection: str) -> None:
    (folder / "metrics.jsonl").unlink()
    with Journal(folder / "metrics.jsonl") as journal:
        for epoch, metrics in enumerate(epochs):
            for name, value in metrics.items():  # train and validation have rows of their own
                journal.log({name: value}, epoch=epoch, step=epoch)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "selection": selection}))


@pytest.mark.parametrize(
    ("monitor", "checkpoint", "score"),
    [
        (DICE, "best", 0.9),
        (LOSS, "best", 0.6),
        ("", "last", 0.4),
        (LOSS, "last", 0.4),  # the learning rate follows it, the last weights are kept
    ],
)
def test_candidates_are_compared_by_the_epoch_that_each_run_kept(
    plan: Plan, tmp_path: Path, monitor: str, checkpoint: str, score: float
) -> None:
    for cell in plan.cells[:2]:
        journal_of(tmp_path / cell.folder, EPOCHS, monitor=monitor, checkpoint=checkpoint)
    choice, _ = tables(plan, tmp_path)
    assert row(choice, "0")["U-Net"].value == pytest.approx(score)
    assert row(choice, "0")["DMU-Net"].value == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("epochs", "monitor", "message"),
    [
        ([{LOSS: 0.5}], LOSS, "no val/dice; a nested study needs runs that validate"),
        ([{DICE: 0.5}], "val/hd95", "no value of val/hd95, which chose the epoch"),
        ([{DICE: 0.5, LOSS: math.nan}], LOSS, "no value of val/loss"),
        ([{DICE: 0.5, LOSS: 0.5}, {LOSS: 0.4}], LOSS, "epoch 1, which was kept, has no val/dice"),
    ],
)
def test_a_run_without_the_score_of_its_epoch_is_refused(
    plan: Plan, tmp_path: Path, epochs: list[dict[str, float]], monitor: str, message: str
) -> None:
    journal_of(tmp_path / plan.cells[0].folder, epochs, monitor=monitor, checkpoint="best")
    with pytest.raises(RunError, match=message):
        tables(plan, tmp_path)


def test_a_run_that_was_not_validated_is_refused(plan: Plan, tmp_path: Path) -> None:
    journal = tmp_path / plan.cells[0].folder / "metrics.jsonl"
    journal.write_text("", encoding="utf-8")
    with pytest.raises(RunError, match="no val/dice"):
        tables(plan, tmp_path)
