"""The tables of a comparison: methods, pairs, their tests, where the spread comes from."""

import math
from collections.abc import Sequence
from dataclasses import replace

from medseg.report.comparison_cells import (
    bounds_cell,
    count_cell,
    digits,
    flag_facts,
    form_of,
    heading,
    mean_cell,
    number_cell,
    p_text,
    percent,
)
from medseg.report.comparison_pairs import pair_tests_table, pairs_table
from medseg.report.tables import Cell, Table
from medseg.stats.comparison import Comparison

MANY = 12
"""With more methods than this only the pairs of the best one are printed."""
OUTPERFORMED = "The best method outperforms this one: every condition of the claim gate holds."
LEFT_OPEN = "No method is outperformed by the best one under the claim gate: the order is no claim."
UNRELIABLE = "Interval unreliable: fewer than 25 patients, or no bootstrap interval exists."
DEFINITIONS = {
    "dice": "2 TP / (2 TP + FP + FN), 1 with both masks empty",
    "iou": "TP / (TP + FP + FN), 1 with both masks empty",
    "sensitivity": "TP / (TP + FN)",
    "specificity": "TN / (TN + FP)",
    "precision": "TP / (TP + FP), 0 where only the prediction is empty",
    "balanced_accuracy": "mean of sensitivity and specificity",
    "volumetric_similarity": "1 - |prediction - reference| / (prediction + reference), sizes only",
    "hd_voxel": "largest distance between the two borders, between pixel centres",
    "hd95_directed_voxel": "larger of the two directed 95th percentiles of border distances, between pixel centres",
    "hd95_pooled_voxel": "95th percentile of the border distances of both directions together, between pixel centres",
    "assd_pooled_voxel": "mean of the border distances of both directions together, between pixel centres",
    "masd_voxel": "mean of the two directed mean border distances, between pixel centres",
    "nsd_voxel": "share of both borders within the tolerance of the other one",
    "boundary_iou": "IoU of the two masks' inner borders",
    "cldice": "centreline Dice",
    "ece": "expected calibration error of the class's probability, 15 bins",
    "brier": "mean squared error of the class's probability",
}
"""What the metric's name stands for, per case and class."""


def comparison_tables(comparison: Comparison, *, every_pair: bool | None = None) -> list[Table]:
    """Return the tables of a comparison: methods, pairs, their tests and, where estimable, variance shares.

    Args:
        comparison: the comparison.
        every_pair: all pairs, or only those of the best method; None means all of them up to ``MANY`` methods.
    """
    everything = len(comparison.means) <= MANY if every_pair is None else every_pair
    tables = [
        methods_table(comparison),
        pairs_table(comparison, every_pair=everything),
        pair_tests_table(comparison, every_pair=everything),
    ]
    return [*tables, variance_table(comparison)] if comparison.variance else tables


def methods_table(comparison: Comparison) -> Table:
    """Return one row per method, best first; methods that the best one outperforms carry a mark."""
    ranking, confidence = comparison.ranking, percent(comparison.settings.confidence)
    columns = (
        *("Method", "Rank", f"{comparison.evidence.metric} [{confidence} CI]", f"t interval {confidence}"),
        *("SD over seeds", "P(rank 1)", "Rank set", "Mean rank", "Patients", "Seeds"),
    )
    facts = [
        f"Ranking: Kendall's tau of bootstrap orders to this one {ranking.kendall_tau:.2f} on average; rank sets from "
        f"Wilcoxon tests with Holm's correction at {ranking.alpha:g}.",
        *_friedman(comparison),
    ]
    rows = tuple(_method_row(comparison, method, place) for place, method in enumerate(ranking.order, start=1))
    marked = any(cell.footnotes and OUTPERFORMED in cell.footnotes for row in rows for cell in row)
    facts += [] if marked else [LEFT_OPEN]
    return Table(
        name="methods",
        title=heading(comparison, "Methods"),
        columns=tuple(Cell(text) for text in columns),
        rows=rows,
        caption=(*_metric_facts(comparison), *comparison.evidence.notes, *facts, *comparison.notes),
    )


def _method_row(comparison: Comparison, method: str, place: int) -> tuple[Cell, ...]:
    evidence, ranking, interval = comparison.evidence, comparison.ranking, comparison.means[method]
    by_seed = evidence.values[evidence.methods.index(method)].mean(axis=1)
    sd = float(by_seed.std(ddof=1)) if len(by_seed) > 1 else math.nan
    best = place == 1
    low, high = ranking.rank_low[method], ranking.rank_high[method]
    beaten = not best and comparison.pair(comparison.best, method).winner == comparison.best
    notes = (*((OUTPERFORMED,) if beaten else ()), *(() if interval.reliable else (UNRELIABLE,)))
    form = form_of(comparison)
    source = f"patients and seeds resampled, {interval.method}"
    return (
        Cell(method, bold=best),
        count_cell(place, "rank by the mean"),
        replace(mean_cell(interval, form, source=source), bold=best, footnotes=notes),
        bounds_cell(interval, form, source="Student's interval over patients, seeds fixed"),
        number_cell(sd, digits(comparison) + 1, "standard deviation of the seeds' means"),
        number_cell(ranking.p_first[method], 3, "share of bootstrap samples"),
        Cell(f"{low}" if low == high else f"{low}–{high}", low, low, high, source="rank set"),
        number_cell(ranking.mean_ranks[method], 2, "mean over patients of the rank within the patient"),
        count_cell(interval.n_patients, "patients"),
        count_cell(interval.n_seeds, "seeds"),
    )


def variance_table(comparison: Comparison) -> Table:
    """Return one row per variance component.

    Args:
        comparison: one whose variance shares are estimable.
    """
    shares = comparison.variance
    assert shares is not None
    rows = {
        "Method (fixed)": ("method", shares.method),
        "Patient": ("patient", shares.patient),
        "Training (method and seed)": ("training", shares.training),
        "Fold": ("fold", shares.fold),
        "Residual": ("residual", shares.residual),
    }
    return Table(
        name="variance",
        title=heading(comparison, "Where the spread comes from"),
        columns=(Cell("Component"), Cell("Share of the variance %"), Cell("Standard deviation")),
        rows=tuple(
            (
                Cell(name),
                Cell(f"{100 * share:.2f}", 100 * share, unit="%", source=f"mixed model, {shares.estimator}"),
                number_cell(math.sqrt(shares.variances[key]), digits(comparison) + 1, "square root of the component"),
            )
            for name, (key, share) in rows.items()
            if share is not None
        ),
        caption=(
            f"Mixed model {comparison.evidence.metric} ~ method + (1 | patient) + (1 | training)"
            f"{'' if shares.fold is None else ' + (1 | fold)'}, {shares.estimator}.",
            *shares.notes,
            *flag_facts(comparison),
        ),
    )


def _metric_facts(comparison: Comparison) -> list[str]:
    metric = comparison.evidence.metric
    better = "higher" if comparison.evidence.higher_is_better else "lower"
    return [
        f"{metric}: {DEFINITIONS[metric]}; {better} is better.",
        "Unit: the patient (mean over cases of the mean over classes); mean over patients of the mean over seeds.",
    ]


def _friedman(comparison: Comparison) -> Sequence[str]:
    ranking = comparison.ranking
    if math.isnan(ranking.p_friedman):
        return []
    return [
        f"All methods alike (Friedman, Iman and Davenport): p {p_text(ranking.p_friedman)}; critical difference of "
        f"mean ranks (Nemenyi, {ranking.alpha:g}): {ranking.critical_difference:.2f}."
    ]
