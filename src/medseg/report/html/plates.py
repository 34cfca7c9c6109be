"""Every plot that the runs of an arm allow, and a sentence for each that they do not."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medseg.report.html import arrays
from medseg.report.html.material import Arm
from medseg.report.plots.bland_altman import bland_altman
from medseg.report.plots.calibration import calibration
from medseg.report.plots.costs import accuracy_cost
from medseg.report.plots.critical_difference import critical_difference
from medseg.report.plots.forest import forest
from medseg.report.plots.learning import learning_curves
from medseg.report.plots.methods import method_boxes
from medseg.report.plots.seeds import seed_gap
from medseg.report.plots.sheet import Drawing
from medseg.report.plots.size_dice import size_dice

ROWS = 24
"""Methods in a plot with a row each; the best ones where they were compared."""
SMALL = 9
"""Methods in a plot with a small plot each."""


@dataclass
class Plates:
    """What was drawn for an arm.

    Attributes:
        drawings: in the order in which they are shown.
        remarks: why a plot is not there or not whole.
    """

    drawings: list[Drawing] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def draw_arm(arm: Arm, folder: Path) -> Plates:
    """Draw the plots of an arm as ``folder/[ARM-]PLOT.png`` and ``.svg``.

    Args:
        arm: with at least one run.
        folder: of the plots.
    """
    plates = Plates()
    prefix = f"{arm.name}-" if arm.name else ""

    def stem(name: str) -> Path:
        return folder / f"{prefix}{name}".replace("/", "_").replace(" ", "_")

    drawers: list[Callable[[Arm, Plates, Callable[[str], Path], Sequence[str]], None]] = [
        *(_methods, _compared, _seeds, _curves, _costs, _sized, _calibrated),
    ]
    for drawer in drawers:
        drawer(arm, plates, stem, arm.flags)
    if arm.name:
        plates.remarks = [f"{arm.name}: {remark}" for remark in plates.remarks]
    return plates


def _named(title: str, arm: Arm) -> str:
    return f"{title}, {arm.name}" if arm.name else title


def _limited(names: Sequence[str], most: int, plates: Plates, what: str) -> list[str]:
    if len(names) > most:
        plates.remarks.append(f"{what}: the first {most} of {len(names)} methods.")
    return list(names)[:most]


def _methods(arm: Arm, plates: Plates, stem: Callable[[str], Path], flags: Sequence[str]) -> None:
    tables = arrays.patients_by_seed(arm)
    defined = {name: table for name, table in tables.items() if table.notna().any().any()}
    if not defined:
        plates.remarks.append("No patient has a defined score: nothing to draw.")
        return
    names = _limited(list(defined), ROWS, plates, "Patients by method")
    values = arrays.patient_matrix({name: defined[name] for name in names})
    title = _named("Every patient by method", arm)
    metric = arrays.metric_of(arm)
    plates.drawings.append(method_boxes(values, names, stem("methods"), metric=metric, title=title, flags=flags))


def _compared(arm: Arm, plates: Plates, stem: Callable[[str], Path], flags: Sequence[str]) -> None:
    if arm.comparison is None:
        plates.remarks.append("No forest plot and no mean ranks: nothing was compared.")
        return
    metric, rope = arrays.metric_of(arm), arm.comparison.settings.rope
    plates.drawings.append(
        forest(
            arrays.differences(arm),
            stem("differences"),
            metric=metric,
            rope=rope,
            title=_named("Paired differences over patients", arm),
            flags=flags,
        )
    )
    ranking, evidence = arm.comparison.ranking, arm.comparison.evidence
    if math.isnan(ranking.critical_difference):
        plates.remarks.append("No diagram of mean ranks: it takes three methods or more.")
        return
    plates.drawings.append(
        critical_difference(
            ranking.mean_ranks,
            stem("ranks"),
            difference=ranking.critical_difference,
            patients=len(evidence.patients),
            title=_named(f"Mean ranks over patients, {metric} (Nemenyi at {ranking.alpha:g})", arm),
            flags=flags,
        )
    )


def _seeds(arm: Arm, plates: Plates, stem: Callable[[str], Path], flags: Sequence[str]) -> None:
    tables = arrays.patients_by_seed(arm)
    means = {name: table.mean(axis=1).dropna().tolist() for name, table in tables.items()}
    means = {name: values for name, values in means.items() if values}
    if all(len(values) < 2 for values in means.values()):
        plates.remarks.append("One seed a method: what another seed would change is not known, and not drawn.")
        return
    names = _limited(list(means), ROWS, plates, "Seeds against architectures")
    plates.drawings.append(
        seed_gap(
            {name: means[name] for name in names},
            stem("seeds"),
            metric=arrays.metric_of(arm),
            lower_is_better=arm.comparison is not None and not arm.comparison.evidence.higher_is_better,
            title=_named("Seeds against architectures", arm),
            flags=flags,
        )
    )


def _curves(arm: Arm, plates: Plates, stem: Callable[[str], Path], flags: Sequence[str]) -> None:
    curves = {name: [run.curve for run in runs if run.curve] for name, runs in arm.methods.items()}
    curves = {name: found for name, found in curves.items() if found}
    if not curves:
        plates.remarks.append("No learning curves: no run has a journal with a validation score.")
        return
    names = _limited(list(curves), ROWS, plates, "Learning curves")
    chosen = {name: curves[name] for name in names}
    title = _named("Learning curves", arm)
    plates.drawings.append(
        learning_curves(chosen, stem("learning"), metric="validation Dice", title=title, flags=flags)
    )


def _costs(arm: Arm, plates: Plates, stem: Callable[[str], Path], flags: Sequence[str]) -> None:
    points = [point for point in arrays.costs(arm) if not math.isnan(point.score)]
    if len(points) < 2:
        plates.remarks.append("No accuracy against cost: fewer than two methods recorded their time.")
        return
    title, metric = _named("Accuracy against cost", arm), arrays.metric_of(arm)
    plates.drawings.append(
        accuracy_cost(points, stem("cost"), cost="minutes to fit", metric=metric, title=title, flags=flags)
    )


def _sized(arm: Arm, plates: Plates, stem: Callable[[str], Path], flags: Sequence[str]) -> None:
    names = _limited(list(arm.methods), SMALL, plates, "Plots of sizes")
    found = {name: arrays.sizes(arm.methods[name]) for name in names}
    units = {unit for _, _, unit in found.values()}
    if len(units) > 1:
        plates.remarks.append(f"No plots of sizes: methods were measured in {' and '.join(sorted(units))}.")
        return
    (unit,) = units
    sizes = {name: measured for name, (measured, _, _) in found.items()}
    what = "volume" if unit in ("mm3", "voxels") else "area"
    title = _named(f"Agreement of the predicted {what} with the reference", arm)
    plates.drawings.append(bland_altman(sizes, stem("agreement"), unit=unit, title=title, flags=flags))
    scored = {name: values for name, (_, values, _) in found.items() if len(np.asarray(values.size))}
    if not scored:
        plates.remarks.append("No Dice against size: every reference is empty.")
        return
    title = _named("Dice against the size of the structure", arm)
    plates.drawings.append(size_dice(scored, stem("sizes"), unit=unit, title=title, flags=flags))


def _calibrated(arm: Arm, plates: Plates, stem: Callable[[str], Path], flags: Sequence[str]) -> None:
    found = {name: arrays.reliability(runs) for name, runs in arm.methods.items()}
    tables = {name: table for name, table in found.items() if table is not None}
    absent = [name for name in found if name not in tables]
    if absent:
        plates.remarks.append(f"No calibration of {', '.join(absent)}: no reliability.csv (no probabilities).")
    if not tables:
        return
    names = _limited(list(tables), SMALL, plates, "Calibration")
    plates.drawings.append(
        calibration(
            {name: tables[name][0] for name in names},
            stem("calibration"),
            per_case={name: tables[name][1] for name in names},
            title=_named("Calibration of the predicted probabilities", arm),
            flags=flags,
        )
    )
