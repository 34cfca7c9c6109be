"""Tables of what went wrong: how often, and in which cases worst."""

import math
from collections.abc import Sequence

import pandas as pd

from medseg.report.tables import Cell, Table
from medseg.stats.taxonomy import Rules

FIXED = ("case", "patient", "class_index", "class_name", "dice", "hd95_directed_voxel", "label", "labels")
"""Columns of the worst cases that are not strata."""


def failure_table(
    counts: pd.DataFrame,
    rules: Rules,
    *,
    run: str = "",
    source: str = "medseg",
    remarks: Sequence[str] = (),
) -> Table:
    """Return the table of failures, from the most severe label on; labels that never hold are left out.

    Args:
        counts: of ``medseg.stats.taxonomy.failure_counts``.
        rules: with which it was told.
        run: the run's folder, for the long list.
        source: where the numbers come from, for the long list.
        remarks: what nobody may overlook; first in the caption.
    """
    several = counts["class_index"].nunique() > 1
    rows = []
    for row in counts[counts["n_any"] > 0].to_dict("records"):
        name = f"{row['class_name']}: {row['label']}" if several else str(row["label"])
        numbers = [
            Cell(text, value=float(value), unit=unit, run=run, source=source)
            for text, value, unit in (
                (str(row["n"]), row["n"], "cases"),
                (f"{100 * row['share']:.1f} %", 100 * row["share"], "%"),
                (str(row["patients"]), row["patients"], "patients"),
                (str(row["n_any"]), row["n_any"], "cases"),
                (f"{100 * row['share_any']:.1f} %", 100 * row["share_any"], "%"),
            )
        ]
        rows.append((Cell(name), *numbers))
    columns = ("failure", "cases", "share", "patients", "cases with it at all", "share with it at all")
    return Table(
        name="failures",
        title="What went wrong",
        columns=tuple(Cell(text) for text in columns),
        rows=tuple(rows),
        caption=(*(f"{remark}." for remark in remarks), *_rules_text(rules)),
    )


def worst_table(worst: pd.DataFrame, *, unit: str, undefined: int = 0, remarks: Sequence[str] = ()) -> Table:
    """Return the table of the worst cases.

    Args:
        worst: of ``medseg.stats.taxonomy.worst_cases``.
        unit: of distances.
        undefined: rows of the score table that could not be listed since their Dice is undefined.
        remarks: what nobody may overlook; first in the caption.
    """
    several = worst["class_index"].nunique() > 1
    strata = [name for name in worst.columns if name not in FIXED]
    named = ("case", "patient", *(("class",) if several else ()), "Dice", f"HD95 ({unit})", "what went wrong")
    rows = []
    for row in worst.to_dict("records"):
        distance = float(row["hd95_directed_voxel"])
        others = [text for text in str(row["labels"]).split("; ") if text != row["label"]]
        failure = f"{row['label']} (also {', '.join(others)})" if others else str(row["label"])
        rows.append(
            (
                Cell(str(row["case"])),
                Cell(str(row["patient"])),
                *((Cell(str(row["class_name"])),) if several else ()),
                Cell(f"{row['dice']:.3f}", value=float(row["dice"]), unit="1"),
                Cell(_distance(distance), value=distance, unit=unit),
                Cell(failure),
                *(Cell(str(row[name])) for name in strata),
            )
        )
    left_out = (f"{undefined} without a labelled pixel are not listed.",) if undefined else ()
    return Table(
        name="worst",
        title="Worst cases",
        columns=tuple(Cell(text) for text in (*named, *(name.removeprefix("by_") for name in strata))),
        rows=tuple(rows),
        caption=(*(f"{remark}." for remark in remarks), "Lowest Dice first, then largest HD95.", *left_out),
    )


def _distance(value: float) -> str:
    if math.isnan(value):
        return "not measured"
    return "one mask empty" if math.isinf(value) else f"{value:.1f}"


def _rules_text(rules: Rules) -> tuple[str, ...]:
    return (
        "Each case and class is counted once, under the first label that holds, and in the last two columns under "
        "every one.",
        f"Wrong place: sensitivity and precision below {rules.overlap:g}; under- and over-segmentation: the prediction "
        f"has less than {rules.smaller:g} or more than {rules.larger:g} times the size of the reference; boundary: "
        f"Dice below {rules.dice:g}, or HD95 above {100 * rules.hd95:g} % of the image diagonal.",
    )
