"""Paired gains over patients: what one score is worth more than another on the same cases, with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg import scores
from medseg.errors import ConfigError, ScoreError
from medseg.evaluation.postprocess.contract import Labels
from medseg.metrics.case import only_annotated
from medseg.metrics.overlap import confusion_counts
from medseg.stats.bootstrap import Interval, mean_interval

METRICS = scores.OVERLAPS
"""What can be maximised: everything that confusion counts give at once."""

RULES = ("interval", "mean")
"""``interval``: the lower bound of the gain's interval is above 0; ``mean``: the mean gain is."""

Values = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True)
class Judge:
    """How gains are measured and when one is enough.

    Attributes:
        metric: one of ``METRICS``.
        rule: one of ``RULES``.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        ConfigError: an unknown metric or rule.
    """

    metric: str = "dice"
    rule: str = "interval"
    seed: int = 0
    resamples: int = 10_000

    def __post_init__(self) -> None:
        for name, value, known in (("metric", self.metric, METRICS), ("rule", self.rule, RULES)):
            if value not in known:
                raise ConfigError(f"{name}={value}: choose one of {', '.join(known)}.")

    def value(self, labels: Labels, truth: Labels, *, classes: int, annotated: Sequence[bool] | None = None) -> float:
        """Return the mean over foreground classes of the metric of one case; NaN where it is undefined for all.

        Classes that the case does not annotate, by ``annotated`` (K,), are left out.
        """
        counts = confusion_counts(labels, truth, classes)
        if annotated is not None:
            counts = only_annotated(counts, np.asarray(annotated, bool))
        overlap = scores.overlap(counts[1:])
        return scores.mean_of_defined(getattr(overlap, self.metric))

    def gain(self, before: Values, after: Values, patients: Sequence[str]) -> "Gain":
        """Return the mean over patients of the paired differences of case values, with its interval.

        Args:
            before: value of each case; a case that is undefined before or after is left out and counted.
            after: likewise.
            patients: of each case.

        Raises:
            ScoreError: no case is defined.
        """
        differences = np.asarray(after, np.float64) - np.asarray(before, np.float64)
        defined = np.isfinite(differences)
        if not defined.any():
            raise ScoreError(f"{self.metric}: undefined for every one of {len(differences)} cases; use another metric.")
        names, member = np.unique(np.asarray(patients)[defined], return_inverse=True)
        means = np.bincount(member, weights=differences[defined]) / np.bincount(member)
        found = mean_interval(means, names, seed=self.seed, resamples=self.resamples)
        return Gain(found, cases=int(defined.sum()), undefined=int((~defined).sum()))

    def passes(self, gain: "Gain") -> bool:
        """Return whether a gain is enough; one without an interval is not, unless the mean decides."""
        bound = gain.interval.low if self.rule == "interval" else gain.interval.mean
        return bool(bound > 0)


@dataclass(frozen=True)
class Gain:
    """A mean paired gain over patients.

    Attributes:
        interval: mean and bounds; its ``n_cases`` counts patients, for a patient is one value here.
        cases: that were averaged into the patients.
        undefined: cases left out.
    """

    interval: Interval
    cases: int
    undefined: int

    def record(self) -> dict[str, Any]:
        """Return the numbers as plain values; None for a bound that there is not."""
        found = self.interval
        bounds = {name: getattr(found, name) for name in ("mean", "low", "high", "t_low", "t_high")}
        return {
            **{name: value if np.isfinite(value) else None for name, value in bounds.items()},
            "method": found.method,
            "reliable": found.reliable,
            "patients": found.n_patients,
            "cases": self.cases,
            "undefined": self.undefined,
        }


def patient_mean(values: Values, patients: Sequence[str]) -> float:
    """Return the mean over patients of the mean over each one's defined cases."""
    by_patient: dict[str, list[float]] = {}
    for value, patient in zip(values, patients, strict=True):
        by_patient.setdefault(patient, []).append(value)
    return scores.mean_of_defined([scores.mean_of_defined(found) for found in by_patient.values()])
