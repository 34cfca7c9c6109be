"""Cases measured beside the network: in order, bounded, and a failure has its case's name."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from medseg.errors import ConfigError, ScoreError
from medseg.metrics.epoch import CaseScores
from medseg.nets.classical.otsu import Otsu
from medseg.nets.unet import UNet
from medseg.training import measuring
from medseg.training.measuring import Measuring, NativeScoring, gives_probabilities
from medseg.types import DataCard
from tiny import make_data, make_module, make_trainer


def test_results_come_in_order_whichever_is_ready_first() -> None:
    pool: Measuring[int] = Measuring(4)
    for number in range(12):
        pool.submit(str(number), lambda number=number: (time.sleep(0.01 * (number % 3 == 0)), number)[1])
    first = list(pool.ready())
    assert first + list(pool.results()) == list(range(12))
    pool.close()


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_cases_are_held_than_threads_and_one(workers: int) -> None:
    pool: Measuring[None] = Measuring(workers)
    held, most, lock = 0, 0, threading.Lock()

    def finish() -> None:
        nonlocal held
        time.sleep(0.005)
        with lock:
            held -= 1

    for number in range(20):
        pool.submit(str(number), finish)
        with lock:
            held += 1
            most = max(most, held)
    assert len(list(pool.results())) == 20
    pool.close()
    assert most <= workers + 2  # one more may stand between its work and its release


def test_a_failure_has_its_cases_name_and_ends_the_pool() -> None:
    pool: Measuring[int] = Measuring(2)
    for number in range(3):
        pool.submit(f"p{number}", (lambda: 1 // 0) if number == 1 else (lambda: 1))
    with pytest.raises(ZeroDivisionError) as raised:
        list(pool.results())
    assert raised.value.__notes__ == ["while case 'p1' was measured"]
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit("p3", lambda: 1)


def scoring(**changes: object) -> NativeScoring:
    return NativeScoring(CaseScores(2, measure=True), **{"probabilities": True, "tolerance": 1.0} | changes)


def test_a_score_error_names_the_case() -> None:
    native = scoring()
    native.case(torch.zeros(2, 6, 6), np.full((6, 6), 7, np.uint8), case="p7", index=0, spacing=(1.0, 1.0))
    with pytest.raises(ScoreError, match=r"case 'p7': truth has 36 pixel\(s\) with a label above 1"):
        native.finish()


def test_a_prediction_that_is_not_a_number_is_no_prediction() -> None:
    logits = torch.zeros(2, 6, 6)
    logits[0, 2, 2] = float("nan")
    with pytest.raises(ScoreError, match=r"case 'p1': the network's output is not a number"):
        scoring().case(logits, np.zeros((6, 6), np.uint8), case="p1", index=0, spacing=(1.0, 1.0))


def test_hard_answers_have_no_calibration() -> None:
    truth = np.zeros((6, 6), np.uint8)
    truth[2:4, 2:4] = 1
    logits = torch.from_numpy(np.stack([truth == 0, truth == 1])) * 20.0 - 10
    found = {}
    for known in (True, False):
        native = scoring(probabilities=known)
        native.case(logits, truth, case="a", index=0, spacing=(1.0, 1.0))
        native.close()
        found[known] = native.scores.gathered()
    assert found[True].columns()["ece"][0, 0] == pytest.approx(0, abs=1e-7)
    assert found[True].reliability[0, 0, :, 0].sum() == 36
    assert np.isnan(found[False].columns()["ece"]).all()
    assert found[False].reliability is None


def test_who_gives_probabilities() -> None:
    class Says(nn.Module):
        probabilistic = True

    assert gives_probabilities(UNet(in_channels=1, num_classes=2, widths=[4, 8]))
    assert not gives_probabilities(Otsu(in_channels=1, num_classes=2))
    assert gives_probabilities(Says())


def test_the_last_batch_waits_until_all_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the progress bar shows after the last batch is true: no case is left."""
    slow = measuring.measure_case
    monkeypatch.setattr(measuring, "measure_case", lambda *a, **k: (time.sleep(0.02), slow(*a, **k))[1])
    data, module = make_data(tmp_path, batch_size=1), make_module()
    module.nsd_tolerance = 3.0
    left = []

    from lightning.pytorch.callbacks import Callback

    class Watch(Callback):
        def on_test_batch_end(self, *_: object) -> None:
            left.append(len(module._native._measuring._handed_in))

    trainer = make_trainer(tmp_path, 1, callbacks=[Watch()])
    trainer.test(module, dataloaders=data.evaluation_dataloader("train"), verbose=False)
    assert left[-1] == 0
    assert max(left) > 0
    rows = module.test_rows
    assert rows.index.tolist() == list(range(len(data.cases("train"))))
    assert set(rows.tolerances) == {3.0}
    assert rows.reliability[:, 0, :, 0].sum(axis=1).tolist() == rows.counts[:, 0].sum(axis=1).tolist()


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("inf"), float("nan")])
def test_a_tolerance_is_a_positive_distance(tolerance: float) -> None:
    with pytest.raises(ConfigError, match=r"data\.card of 'fake': nsd_tolerance=.* give a positive distance in mm"):
        DataCard("fake", 1, 2, ["background", "nodule"], unit="mm", nsd_tolerance=tolerance)
