"""Choosing steps on validation: what is kept, what is not, and that nothing else is looked at."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from scipy import stats

from medseg.errors import ConfigError, RunError, ScoreError
from medseg.evaluation.gains import Judge, patient_mean
from medseg.evaluation.postprocess.components import LargestComponent, RemoveSmall
from medseg.evaluation.postprocess.contract import labels_of
from medseg.evaluation.postprocess.crf import DenseCrf
from medseg.evaluation.postprocess.holes import FillHoles
from medseg.evaluation.postprocess.threshold import Threshold
from medseg.evaluation.probabilities import ProbabilityStore, Stored, as_grey, quantised
from medseg.evaluation.refine import choose_steps, choose_views, values_of
from medseg.evaluation.refined import Refinement, read_refinement, refined_predictor
from medseg.evaluation.tta import Tta
from tiny import make_data, make_module

QUICK = Judge(resamples=500)
SIZE = 24


def no_image(number: int) -> np.ndarray:
    raise AssertionError("no step asked for the image")


def case(number: int, *, specks: int, hole: bool = False, low: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (2, S, S) and truth of a square nodule, predicted with faults."""
    rng = np.random.default_rng(number)
    truth = np.zeros((SIZE, SIZE), np.uint8)
    truth[6:14, 6 : 14 + number % 3] = 1
    nodule = np.where(truth, 0.35 if low else 0.9, 0.05)
    if hole:
        nodule[9, 9] = 0.2
    for row, column in rng.integers(17, SIZE, (specks, 2)):
        nodule[row, column] = 0.8
    return np.stack([1 - nodule, nodule]).astype(np.float32), truth


def a_store(folder: Path, cases: Sequence[tuple[np.ndarray, np.ndarray]], *, images: int = 1) -> ProbabilityStore:
    store = ProbabilityStore(folder)
    for number, (probabilities, truth) in enumerate(cases):
        store.put(Stored(number, f"c{number}", f"p{number // images}", (1.0, 1.0)), probabilities, truth)
    return store


@dataclass(frozen=True)
class Spoil:
    """A step whose every candidate does harm."""

    name: ClassVar[str] = "spoil"
    needs_image: ClassVar[bool] = False
    amount: int = 0

    def __call__(self, probabilities, *, spacing, image=None):
        return np.roll(probabilities, 2 + self.amount, axis=1)

    def candidates(self):
        return [replace(self, amount=amount) for amount in (1, 2)]


def test_what_helps_is_kept_with_its_best_setting_and_the_rest_is_not(tmp_path: Path) -> None:
    store = a_store(tmp_path, [case(n, specks=3, hole=n % 2 == 0) for n in range(12)])
    steps = [Spoil(), FillHoles(), RemoveSmall(sizes=(1, 4, 500)), LargestComponent()]
    spoil, holes, small, largest = choose_steps(store, steps, judge=QUICK, grey=no_image)
    assert (spoil.kept, holes.kept, small.kept) == (False, True, True)
    assert small.chosen == RemoveSmall(4.0, sizes=(1, 4, 500))
    assert [trial.gain.interval.mean > 0 for trial in small.trials] == [False, True, False]
    assert small.trials[0].gain.interval.mean == 0
    assert not largest.kept  # nothing is left for it to do: its gain over the chain so far is 0
    assert largest.gain.interval.mean == 0
    assert small.mean == pytest.approx(1.0)
    # The store holds what the chain makes of the cases.
    assert values_of(store, judge=QUICK) == [1.0] * 12


def test_a_gain_whose_interval_reaches_zero_is_kept_by_the_mean_only(tmp_path: Path) -> None:
    cases = [case(n, specks=5 if n == 0 else 0) for n in range(8)]
    for rule, kept in (("interval", False), ("mean", True)):
        store = a_store(tmp_path / rule, cases)
        (decision,) = choose_steps(store, [LargestComponent()], judge=replace(QUICK, rule=rule), grey=no_image)
        assert decision.kept == kept
        assert decision.gain.interval.mean > 0
        assert not decision.gain.interval.reliable
        assert values_of(store, judge=QUICK)[0] == pytest.approx(1.0 if kept else 1 / (1 + 5 / (2 * 64)), abs=0.01)


def test_a_threshold_finds_what_the_network_was_too_shy_to_say(tmp_path: Path) -> None:
    store = a_store(tmp_path, [case(n, specks=0, low=True) for n in range(9)])
    (decision,) = choose_steps(store, [Threshold()], judge=QUICK, grey=no_image)
    assert decision.kept
    assert decision.chosen == Threshold(0.1)  # 0.1, 0.2 and 0.3 are all perfect; the first of equals
    assert decision.gain.interval.mean == pytest.approx(1.0)
    assert decision.gain.interval.method == "degenerate"


def test_the_image_is_asked_for_only_by_steps_that_look_at_it(tmp_path: Path) -> None:
    store = a_store(tmp_path, [case(n, specks=1) for n in range(3)])
    asked = []

    def grey(number: int) -> np.ndarray:
        asked.append(number)
        return store.truth(number).astype(np.float32)

    decisions = choose_steps(store, [FillHoles(), DenseCrf(fars=(6,), weights=(1, 3))], judge=QUICK, grey=grey)
    assert len(decisions) == 2
    assert set(asked) == {0, 1, 2}


def test_views_are_kept_by_the_same_rule() -> None:
    patients = [f"p{n}" for n in range(10)]
    better = choose_views([0.5] * 10, [0.6 + n / 100 for n in range(10)], patients, tta=Tta(["w"]), judge=QUICK)
    assert better.kept
    assert better.mean == pytest.approx(0.645)
    assert better.record()["candidates"][0]["parameters"]["flips"] == ["w"]
    assert not choose_views([0.5] * 10, [0.4] * 10, patients, tta=Tta(["w"]), judge=QUICK).kept


def test_a_gain_is_over_patients_and_undefined_cases_are_counted() -> None:
    before, after = [0.5, 0.5, 0.5, np.nan, 0.5], [0.6, 0.8, 0.4, 0.9, 0.5]
    gain = Judge(resamples=2000).gain(before, after, ["a", "a", "b", "b", "c"])
    means = np.array([0.2, -0.1, 0.0])
    assert gain.interval.mean == pytest.approx(means.mean())
    half = stats.t.ppf(0.975, 2) * means.std(ddof=1) / np.sqrt(3)
    assert gain.interval.t_high == pytest.approx(means.mean() + half)
    assert (gain.cases, gain.undefined, gain.record()["patients"]) == (4, 1, 3)
    assert patient_mean(after, ["a", "a", "b", "b", "c"]) == pytest.approx((0.7 + 0.65 + 0.5) / 3)
    with pytest.raises(ScoreError, match="undefined for every one of 2 cases"):
        Judge().gain([np.nan] * 2, [1.0] * 2, ["a", "b"])


def test_one_patient_has_no_interval_and_its_gain_is_no_proof() -> None:
    gain = QUICK.gain([0.1, 0.1], [0.9, 0.8], ["a", "a"])
    assert not QUICK.passes(gain)
    assert replace(QUICK, rule="mean").passes(gain)
    assert gain.record()["low"] is None
    json.dumps(gain.record(), allow_nan=False)


@pytest.mark.parametrize(("given", "message"), [({"metric": "hd"}, "metric=hd"), ({"rule": "best"}, "rule=best")])
def test_unknown_metrics_and_rules_are_refused(given: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Judge(**given)


def test_what_is_stored_keeps_its_labels_even_where_classes_tie(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(1, 4, (3, 40, 40)).astype(np.float32)
    base += rng.normal(scale=1e-6, size=base.shape).astype(np.float32)  # nearly tied
    probabilities = (base / base.sum(0)).astype(np.float32)
    assert (labels_of(np.rint(probabilities * 65534).astype(np.uint16)) != labels_of(probabilities)).any()
    assert (quantised(probabilities).argmax(0) == labels_of(probabilities)).all()
    store = a_store(tmp_path, [(probabilities, np.zeros((40, 40), np.uint8))])
    assert (labels_of(store.probabilities(0)) == labels_of(probabilities)).all()
    assert np.abs(store.probabilities(0) - probabilities).max() < 1e-4
    certain = np.stack([np.ones(4), np.zeros(4)]).astype(np.float32)
    assert quantised(certain).tolist() == [[65534] * 4, [0] * 4]


def test_a_full_disk_is_named_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000})())
    with pytest.raises(RunError, match=r"case 'c0'; set TMPDIR"):
        a_store(tmp_path, [case(0, specks=0)])


def test_grey_values_of_pictures_and_volumes_lie_between_0_and_1() -> None:
    picture = np.array([[[0, 255], [255, 255]]], np.uint8)
    assert as_grey(picture, volume=False).tolist() == [[0.5, 1.0]]
    volume = np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)
    grey = as_grey(volume, volume=True)
    assert grey.shape == (4, 5, 6)
    assert (grey.min(), grey.max()) == (0, 1)


def test_a_refinement_is_read_back_and_its_predictor_does_what_it_says(tmp_path: Path) -> None:
    data, module = make_data(tmp_path), make_module()
    net = module.net.eval()
    image, _ = data.read(data.cases("test")[0])
    refinement = Refinement(Tta(["w"]), (Threshold(0.3), LargestComponent(), DenseCrf(fars=(1,))))
    (tmp_path / "refinement.json").write_text(json.dumps({"kept": refinement.record()}))
    back = read_refinement(tmp_path / "refinement.json")
    assert back.record() == refinement.record()
    labels = refined_predictor(net, data, back)(image)
    assert labels.shape == image.shape[:2]
    assert labels.dtype == np.uint8
    # Without views and steps it is the plain prediction.
    from medseg.evaluation.predict import predict_image

    assert (refined_predictor(net, data, Refinement())(image) == predict_image(net, image, data)).all()
    everything = refined_predictor(net, data, Refinement(None, (Threshold(0.0001),)))(image)
    assert everything.mean() > 0.9


@pytest.mark.parametrize("content", [None, "{", '{"kept": 1}', '{"steps": []}'])
def test_a_file_that_is_no_refinement_is_refused_in_one_line(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "refinement.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RunError, match=r"refinement\.json: no refinement there"):
        read_refinement(path)
