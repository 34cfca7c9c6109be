"""Table 1 of two papers beside our own runs, as two panels.

Panel A: Teng, "Brief Review of Medical Image Segmentation Based on Deep Learning", Table 1, which quotes four U-Net
variants. Panel B: Zhou, Chen, Liu, "Deep Learning for Image Segmentation", EasyChair preprint, 2022, Table 1. What the
published numbers can and cannot say stands as remarks in ``published.csv`` and as numbered footnotes in the table.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from medseg.errors import RunError, ScoreError
from medseg.report.caption import comparison_facts, facts
from medseg.report.cells import Plan, Result, options_of, unit_of
from medseg.report.summary import Printer
from medseg.report.tables import Cell, Table

PUBLISHED_COLUMNS = ("panel", "row", "metric", "value", "unit", "source", "data", "protocol", "caveat")
LEAKY, GROUPED = "twins_leaky", "twins_grouped"
POOLED = {
    "b_iou": "b_IoU",
    "n_iou": "n_IoU",
    "miou": "mIoU",
    "pa": "PA",
    "f1": "F1 (mean of both classes)",
    "pooled_precision": "Precision (nodule)",
    "pooled_recall": "Recall (nodule)",
}
OF_THE_SPLIT = {"prevalence": "Foreground prevalence", "pa_all_background": "PA of predicting all background"}
DICE_ROW = "Nodule Dice per case, 0 to 1 [95 % CI over patients]"
DASH = "–"
NONE = Cell(DASH)
"""Entry that neither a paper nor our runs have."""
INTERACTIVE = (
    "Interactive: its input carries four marks, simulated from the true mask; compare it only with other interactive "
    "rows."
)
PIXEL_ACCURACY = "Share of all test pixels, background included; high wherever nodules are small."
HD95 = (
    "hd95_directed_voxel: mean over cases of the larger of the two directed 95th percentiles of border distances; a "
    "case with exactly one empty mask counts with the image diagonal."
)
LEAKY_SPLIT = (
    "LEAKY: images and their rotated, shifted and noised twins are shuffled apart, so most test images have their twin "
    "in training. Shown to measure the leak, not as a result."
)


def read_published(path: Path) -> pd.DataFrame:
    """Return the published numbers as text, so that they are printed with the digits that were printed.

    Raises:
        ScoreError: a column is missing, a number has no source, or a value is no number.
    """
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    if tuple(frame.columns) != PUBLISHED_COLUMNS:
        raise ScoreError(f"{path}: its columns must be {', '.join(PUBLISHED_COLUMNS)}.")
    for line, row in enumerate(frame.to_dict("records"), start=2):
        if not row["source"] or not row["data"]:
            raise ScoreError(f"{path}, line {line}: source and data must not be empty; cite where the number stands.")
        if row["value"] and not row["value"].replace(".", "", 1).isdigit():
            raise ScoreError(f"{path}, line {line}: value '{row['value']}' is no number; leave it empty if unreported.")
    return frame


def panels(
    plan: Plan,
    results: Sequence[Result],
    published: pd.DataFrame,
    *,
    labels: Mapping[str, str],
    folder: Path,
) -> list[Table]:
    """Return the panels that the plan has cells for.

    Args:
        plan: what was to be run.
        results: its cells with what their runs left, in the plan's order.
        published: from :func:`read_published`.
        labels: how a network option is printed.
        folder: where the table will lie; relative links start there.
    """
    tables = []
    of_a = [result for result in results if result.cell.panel == "A"]
    if of_a:
        tables.append(panel_a(plan, of_a, published, labels=labels, folder=folder))
    of_b = [result for result in results if result.cell.panel == "B"]
    for net in options_of(of_b, "net"):
        rows = [result for result in of_b if result.cell.choices["net"] == net]
        tables.append(panel_b(plan, rows, published, label=labels.get(net, net), folder=folder))
    return tables


def panel_a(
    plan: Plan, results: Sequence[Result], published: pd.DataFrame, *, labels: Mapping[str, str], folder: Path
) -> Table:
    """Return the networks one per row: the published accuracy and DSC, then ours. Arguments as in :func:`panels`."""
    several = len(plan.seeds) > 1
    printers = {
        net: Printer.of([result for result in results if result.cell.choices["net"] == net], folder)
        for net in options_of(results, "net")
    }
    rows = []
    for net, printer in printers.items():
        row = [
            _model(labels.get(net, net), printer),
            _published(published, "A", net, "accuracy"),
            _published(published, "A", net, "dsc"),
            printer.percent("pa"),
            printer.dice(),
            printer.number(lambda summary: summary.seed_sd) if several else None,
            printer.number(lambda summary: summary.headline["hd95_directed_voxel"], "{:.1f}", unit=unit_of(results)),
            printer.parameters(),
            printer.number(lambda summary: summary.minutes, "{:.1f}", unit="min"),
            Cell(_note(printer)),
            printer.runs(),
        ]
        rows.append(tuple(cell for cell in row if cell is not None))
    return Table(
        name="A",
        title="Panel A: U-Net and its variants",
        columns=_columns_a(unit_of(results), several=several),
        rows=tuple(rows),
        caption=(*facts(plan, results), *comparison_facts("A", list(printers.values()))),
    )


def _columns_a(unit: str, *, several: bool) -> tuple[Cell, ...]:
    columns = (
        Cell("Model"),
        Cell("Published accuracy %"),
        Cell("Published DSC"),
        Cell("Pixel accuracy %", footnotes=(PIXEL_ACCURACY,)),
        Cell("Dice per case [95 % CI over patients]"),
        Cell("Dice SD over seeds") if several else None,
        Cell(f"HD95 ({unit})", footnotes=(HD95,)),
        Cell("Parameters"),
        Cell("Minutes to fit"),
        Cell("Note"),
        Cell("Runs"),
    )
    return tuple(cell for cell in columns if cell is not None)


def panel_b(plan: Plan, results: Sequence[Result], published: pd.DataFrame, *, label: str, folder: Path) -> Table:
    """Return one network's pooled metrics one per row: published, on the leaky split, on the grouped split.

    Args:
        plan: what was to be run.
        results: the panel's cells of one network.
        published: from :func:`read_published`.
        label: the network's name as printed.
        folder: where the table will lie.

    Raises:
        RunError: a run's split is leaky where it must not be, or the other way round.
    """
    net = results[0].cell.choices["net"]
    ours = {split: _of_split(results, split, folder) for split in (LEAKY, GROUPED)}
    rows = []
    for key, name in POOLED.items():
        ours_b = [ours[LEAKY].percent(key), ours[GROUPED].percent(key)]
        printed = _published(published, "B", net, key)
        rows.append((Cell(name), printed, *ours_b, _minus(*ours_b), _minus(ours_b[1], printed)))
    dice = [ours[LEAKY].dice(), ours[GROUPED].dice()]
    rows.append((Cell(DICE_ROW), NONE, *dice, _minus(*dice), NONE))
    for key, name in OF_THE_SPLIT.items():
        rows.append((Cell(name), NONE, ours[LEAKY].percent(key), ours[GROUPED].percent(key), NONE, NONE))
    rows.append((Cell("Runs"), NONE, ours[LEAKY].runs(), ours[GROUPED].runs(), NONE, NONE))
    columns = (
        Cell("Metric, % unless said"),
        Cell("Published"),
        Cell("Ours, LEAKY", bold=True, footnotes=(LEAKY_SPLIT,)),
        Cell("Ours, grouped"),
        Cell("LEAKY − grouped"),
        Cell("Grouped − published"),
    )
    caption = (*facts(plan, results), *comparison_facts("B", list(ours.values())))
    return Table("B", f"Panel B: {label}, leaky and grouped split", columns, tuple(rows), caption)


def _of_split(results: Sequence[Result], split: str, folder: Path) -> Printer:
    printer = Printer.of([result for result in results if result.cell.choices["split"] == split], folder)
    for result in printer.summary.results if printer.summary else ():
        if result.leaky != (split == LEAKY):
            raise RunError(
                f"{result.folder}: split={split} but run.json says leaky={result.leaky}; delete it and run again."
            )
    return printer


def _published(published: pd.DataFrame, panel: str, row: str, metric: str) -> Cell:
    """Return a published number with its remarks, or a dash where the paper has no such entry."""
    chosen = (published["panel"] == panel) & (published["row"] == row) & (published["metric"] == metric)
    found = published[chosen]
    if found.empty:
        return NONE
    entry = found.iloc[0]
    remarks = (entry["caveat"], f"Published on: {entry['data']}. {entry['protocol']}".strip())
    if not entry["value"]:
        return Cell(DASH, unit=entry["unit"], source=f"not reported; {entry['source']}", footnotes=remarks)
    return Cell(entry["value"], float(entry["value"]), unit=entry["unit"], source=entry["source"], footnotes=remarks)


def _minus(first: Cell, second: Cell) -> Cell:
    """Return the difference of two numbers of the same unit, or a dash where one of them is missing."""
    if first.value is None or second.value is None:
        return NONE
    difference = first.value - second.value
    percent = first.unit == "%"
    text = f"{difference:+.2f}" if percent else f"{difference:+.3f}"
    unit = "percentage points" if percent else first.unit
    runs = ";".join(run for run in (first.run, second.run) if run)
    return Cell(text.replace("-", "−"), difference, unit=unit, run=runs, source="difference of two columns")


def _model(label: str, printer: Printer) -> Cell:
    """Return a network's name with what must be known about it."""
    if printer.summary is None:
        return Cell(label)
    result = printer.summary.results[0]
    model = result.record["model"]
    remarks = [INTERACTIVE] if model["interactive"] else []
    remarks += [LEAKY_SPLIT] if result.leaky else []
    remarks += [str(model["reading"])] if model["reading"] else []
    return Cell(label, footnotes=tuple(remarks))


def _note(printer: Printer) -> str:
    """Return in a few words what kind of row this is; the footnotes say the rest."""
    words = [printer.results[0].cell.note] if printer.results[0].cell.note else []
    if printer.summary is not None:
        result = printer.summary.results[0]
        words += ["interactive"] if result.record["model"]["interactive"] else []
        words += ["our reading"] if result.record["model"]["reading"] else []
        words += ["LEAKY"] if result.leaky else []
    return ", ".join(words)
