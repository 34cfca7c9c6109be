"""From the tables of runs to what the plots draw; nothing is read from disk."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medseg.report.comparison_cells import p_text
from medseg.report.comparison_pairs import needs
from medseg.report.html.material import Arm, Trained
from medseg.report.plots.bland_altman import Sizes
from medseg.report.plots.costs import Costly
from medseg.report.plots.forest import Difference
from medseg.report.plots.size_dice import SizedScores
from medseg.stats.aggregate import INTERVAL_SEED, patient_means
from medseg.stats.bootstrap import mean_interval
from medseg.stats.gate import EQUAL, OUTPERFORMS, Pair, Settings


def patients_by_seed(arm: Arm) -> dict[str, pd.DataFrame]:
    """Return by method the patients' values, a row a seed, a column a patient; nan where a patient was not tested.

    Of compared runs these are the values that were compared; else each patient's Dice.
    """
    evidence = None if arm.comparison is None else arm.comparison.evidence
    found = {}
    for name, runs in arm.methods.items():
        if evidence is not None and name in evidence.methods:
            values = evidence.values[evidence.methods.index(name)]
            found[name] = pd.DataFrame(values, evidence.seeds, list(evidence.patients))
            continue
        seeds = sorted({run.seed for run in runs})
        tables = [pd.concat([run.scores for run in runs if run.seed == seed]) for seed in seeds]
        found[name] = pd.DataFrame([patient_means(table, "dice") for table in tables], index=seeds)
    return found


def patient_matrix(tables: dict[str, pd.DataFrame]) -> NDArray[np.float64]:
    """Return (M, P) patients' values averaged over seeds, of all patients that any method was tested on."""
    means = [table.mean(axis=0) for table in tables.values()]
    patients = sorted(set().union(*(mean.index for mean in means)))
    return np.array([mean.reindex(patients).to_numpy(dtype=np.float64) for mean in means])


def metric_of(arm: Arm) -> str:
    """Return the name of what was compared, for axes."""
    name = "dice" if arm.comparison is None else arm.comparison.evidence.metric
    return "Dice" if name == "dice" else name


def differences(arm: Arm) -> list[Difference]:
    """Return the compared pairs with what may be said about them."""
    if arm.comparison is None:
        return []
    return [
        Difference(
            pair.first,
            pair.second,
            pair.difference.mean,
            pair.difference.low,
            pair.difference.high,
            verdict=f"{pair.winner} {OUTPERFORMS}" if pair.winner else pair.verdict,
            claim=pair.verdict == OUTPERFORMS,
            equal=pair.verdict == EQUAL,
        )
        for pair in arm.comparison.pairs
    ]


def sentence(pair: Pair, metric: str, settings: Settings) -> str:
    """Return what may be said about a pair, with the numbers behind it, and what a claim would need."""
    found = pair.difference
    numbers = (
        f"{metric} {found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}], p {p_text(pair.p_holm)} after Holm, "
        f"{pair.n_patients} patients, {pair.seeds_in_favour} of {pair.n_seeds} seeds in favour of {pair.first}"
    )
    if pair.winner:
        loser = pair.second if pair.winner == pair.first else pair.first
        return f"{pair.winner} {OUTPERFORMS} {loser} ({numbers})."
    reasons = "; ".join(pair.reasons)
    why = [f"{reasons[:1].upper()}{reasons[1:]}."] if reasons else []
    return " ".join([f"{pair.first} and {pair.second}: {pair.verdict} ({numbers}).", *why, *needs(settings, pair)])


def costs(arm: Arm) -> list[Costly]:
    """Return minutes to fit against the mean score of the methods that recorded their time."""
    found = []
    for name, runs in arm.methods.items():
        seconds = [float(run.record["cost"]["fit_seconds"]) for run in runs if "fit_seconds" in run.record["cost"]]
        if not seconds or not min(seconds) > 0:
            continue
        mean, low, high = mean_score(arm, name)
        found.append(Costly(name, float(np.mean(seconds)) / 60, mean, low, high))
    return found


def mean_score(arm: Arm, name: str) -> tuple[float, float, float]:
    """Return a method's mean over patients with its interval: crossed with seeds where it was compared; nan without."""
    if arm.comparison is not None and name in arm.comparison.means:
        known = arm.comparison.means[name]
        return known.mean, known.low, known.high
    values = patients_by_seed(arm)[name].mean(axis=0).dropna()
    if values.empty:
        return math.nan, math.nan, math.nan
    single = mean_interval(values.to_numpy(), values.index.to_numpy(), seed=INTERVAL_SEED)
    return single.mean, single.low, single.high


def sizes(runs: Sequence[Trained]) -> tuple[Sizes, SizedScores, str]:
    """Return the sizes of each case by reference and prediction, its size and Dice, and the unit of the sizes.

    A case is the sum over its classes, averaged over the runs that tested it; Dice is the mean over classes and runs.
    In mm2 or mm3 where the case table states the spacing of every case, else in pixels or voxels.
    """
    rows = pd.concat([run.scores for run in runs])
    columns = ["reference_size", "prediction_size", "dice"]
    tested = pd.concat(
        [
            run.scores.groupby(["case", "patient"], as_index=False).agg(
                {"reference_size": "sum", "prediction_size": "sum", "dice": "mean"}
            )
            for run in runs
        ]
    )
    table = tested.groupby(["case", "patient"], as_index=False)[columns].mean()
    area, unit = _area(runs, table["case"].astype(str).tolist(), str(rows["unit"].iloc[0]))
    reference, prediction = table["reference_size"].to_numpy() * area, table["prediction_size"].to_numpy() * area
    usable = ((reference > 0) & table["dice"].notna()).to_numpy()
    scored = SizedScores(reference[usable], table["dice"].to_numpy()[usable], int((~usable).sum()))
    return Sizes(table["patient"].astype(str).tolist(), reference, prediction), scored, unit


def _area(runs: Sequence[Trained], cases: Sequence[str], unit: str) -> tuple[NDArray[np.float64], str]:
    """Return the area or volume of a pixel of each case and its unit; ones where spacings are not all known."""
    volume = len(runs[0].record["model"].get("input_size") or ()) == 3
    ones = np.ones(len(cases)), "voxels" if volume else "pixels"
    tables = [run.cases for run in runs if run.cases is not None and "spacing" in run.cases]
    if unit != "mm" or not tables:
        return ones
    stated = pd.concat(tables).drop_duplicates("case").set_index("case")["spacing"].to_dict()
    found = [_product(str(stated.get(case, "")), 3 if volume else 2) for case in cases]
    if any(math.isnan(area) for area in found):
        return ones
    return np.array(found), "mm3" if volume else "mm2"


def _product(spacing: str, axes: int) -> float:
    """Return the product of a spacing written as ``0.1x0.08``; nan if it is not that."""
    try:
        parts = [float(part) for part in spacing.split("x")]
    except ValueError:
        return math.nan
    return math.prod(parts) if len(parts) == axes and min(parts) > 0 else math.nan


def reliability(runs: Sequence[Trained]) -> tuple[NDArray[np.float64], float] | None:
    """Return the bins of all cases, classes and runs of a method together, and the mean ECE per case; None without."""
    tables = [run.reliability for run in runs if run.reliability is not None]
    if not tables:
        return None
    totals = pd.concat(tables).groupby("bin")[["n", "probability_sum", "positives"]].sum()
    if not totals["n"].sum():
        return None
    per_case = pd.concat([run.scores["ece"] for run in runs if "ece" in run.scores])
    return totals.to_numpy(dtype=np.float64), float(per_case.mean()) if len(per_case) else math.nan
