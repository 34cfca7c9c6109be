"""Choose test-time augmentation and post-processing on validation, one step after the other; then judge the chain.

A step is kept with the hyperparameters whose mean score over validation patients is highest, and only if the gain over
the chain so far passes the rule. The interval of the best of several candidates is a little too hopeful, for it was
picked by the same cases: the number of candidates stands beside it, and the gain on the test side, which took part in
no choice, is what counts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from medseg.evaluation.gains import Gain, Judge, patient_mean
from medseg.evaluation.postprocess.chain import written
from medseg.evaluation.postprocess.contract import Probabilities, Step, labels_of
from medseg.evaluation.probabilities import Predicted, ProbabilityStore, Stored
from medseg.evaluation.refined import Refinement
from medseg.evaluation.tta import Tta

Grey = Callable[[int], NDArray[np.float32]]
Item = TypeVar("Item")


class Progress(Protocol):
    """Goes round items and may show how far it is, as ``rich.progress.track`` does."""

    def __call__(self, items: Iterable[Item], *, description: str, total: int) -> Iterable[Item]:
        """Return the items."""
        ...


def silent(items: Iterable[Item], *, description: str, total: int) -> Iterable[Item]:
    """Return the items and show nothing."""
    return items


@dataclass(frozen=True)
class Trial:
    """One candidate and its gain on validation over the chain so far."""

    parameters: Mapping[str, Any]
    gain: Gain


@dataclass(frozen=True)
class Decision:
    """What became of one step.

    Attributes:
        name: of the step, or ``tta``.
        kept: whether it is part of the chain.
        best: place of the best candidate in ``trials``.
        trials: every candidate.
        chosen: the step with the best hyperparameters; None for test-time augmentation.
        mean: mean of the metric over validation patients after the step with them.
    """

    name: str
    kept: bool
    best: int
    trials: tuple[Trial, ...]
    chosen: Step | None
    mean: float

    @property
    def gain(self) -> Gain:
        """The best candidate's."""
        return self.trials[self.best].gain

    def record(self) -> dict[str, Any]:
        """Return the decision as plain values."""
        trials = [{"parameters": dict(trial.parameters), "gain": trial.gain.record()} for trial in self.trials]
        return {"step": self.name, "kept": self.kept, "best": self.best, "mean": self.mean, "candidates": trials}


def choose_views(
    plain: Sequence[float], mean: Sequence[float], patients: Sequence[str], *, tta: Tta, judge: Judge
) -> Decision:
    """Return whether the mean over views is kept.

    Args:
        plain: value of each validation case from the image as it is.
        mean: likewise from the mean over views.
        patients: of each case.
        tta: the views.
        judge: decides.
    """
    gain = judge.gain(plain, mean, patients)
    return Decision("tta", judge.passes(gain), 0, (Trial(tta.parameters, gain),), None, patient_mean(mean, patients))


def choose_steps(
    store: ProbabilityStore, steps: Iterable[Step], *, judge: Judge, grey: Grey, progress: Progress = silent
) -> list[Decision]:
    """Return what becomes of each step, in order; the store then holds the probabilities after the kept ones.

    Args:
        store: the validation side. Nothing else is looked at.
        steps: whose candidates are tried.
        judge: decides.
        grey: place of a case to its image, for steps that look at it.
        progress: goes round the cases of each step.
    """
    before = values_of(store, judge=judge)
    patients = [case.patient for case in store.cases]
    decisions = []
    for step in steps:
        tried = list(step.candidates())
        values: NDArray[np.float64] = np.empty((len(tried), len(store.cases)))
        shown = progress(store.cases, description=f"validation: {step.name}", total=len(store.cases))
        for place, case in enumerate(shown):
            probabilities, truth = store.probabilities(case.number), store.truth(case.number)
            image = grey(case.number) if step.needs_image else None
            for row, candidate in enumerate(tried):
                changed = labels_of(candidate(probabilities, spacing=case.spacing, image=image))
                values[row, place] = judge.value(changed, truth, classes=len(probabilities), annotated=case.annotated)
        decision = decide(step.name, tried, before, values, patients, judge=judge)
        if decision.kept and decision.chosen is not None:
            _advance(store, decision.chosen, grey)
            before = list(values[decision.best])
        decisions.append(decision)
    return decisions


def decide(
    name: str,
    tried: Sequence[Step],
    before: Sequence[float],
    values: NDArray[np.float64],
    patients: Sequence[str],
    *,
    judge: Judge,
) -> Decision:
    """Return the decision on a step, of equal candidates for the first.

    Args:
        name: of the step.
        tried: C candidates.
        before: (N,) value of each case without the step.
        values: (C, N) with each candidate.
        patients: (N,) of each case.
        judge: decides.
    """
    gains = [judge.gain(before, row, patients) for row in values]
    best = int(np.argmax([gain.interval.mean for gain in gains]))
    trials = tuple(Trial(written(step)["parameters"], gain) for step, gain in zip(tried, gains, strict=True))
    mean = patient_mean(list(values[best]), patients)
    return Decision(name, judge.passes(gains[best]), best, trials, tried[best], mean)


def values_of(store: ProbabilityStore, *, judge: Judge) -> list[float]:
    """Return the metric of each case of a store as it is now."""
    values = []
    for case in store.cases:
        labels = labels_of(probabilities := store.probabilities(case.number))
        truth, classes = store.truth(case.number), len(probabilities)
        values.append(judge.value(labels, truth, classes=classes, annotated=case.annotated))
    return values


def keep(items: Iterable[Predicted], plain: ProbabilityStore, mean: ProbabilityStore | None) -> None:
    """Write predictions into stores: those from the image as it is, and where wanted the means over views."""
    for item in items:
        entry = Stored(item.number, item.case.id, item.case.patient, item.spacing, item.annotated)
        plain.put(entry, item.plain, item.truth)
        if mean is not None:
            mean.put(entry, item.mean, item.truth)


def stages(item: Predicted, refinement: Refinement, *, grey: NDArray[np.float32] | None) -> Iterator[Probabilities]:
    """Yield what becomes of a prediction: from the image as it is, after the views if kept, then after each step."""
    probabilities = item.plain
    yield probabilities
    if refinement.tta is not None:
        probabilities = item.mean
        yield probabilities
    for step in refinement.steps:
        probabilities = step(probabilities, spacing=item.spacing, image=grey)
        yield probabilities


def _advance(store: ProbabilityStore, step: Step, grey: Grey) -> None:
    """Replace what the store holds by what the step makes of it."""
    for case in store.cases:
        image = grey(case.number) if step.needs_image else None
        store.put(case, step(store.probabilities(case.number), spacing=case.spacing, image=image))
