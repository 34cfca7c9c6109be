"""The sections of a study's page, each from the material alone; a section without data says why."""

from collections.abc import Mapping, Sequence

from medseg.report.gallery import Picture
from medseg.report.html.arrays import metric_of, sentence
from medseg.report.html.blocks import (
    Block,
    Bullets,
    Details,
    Figure,
    Links,
    Page,
    Paragraph,
    Section,
    TableBlock,
)
from medseg.report.html.differences import config_differences
from medseg.report.html.energy import Spent, cost_table
from medseg.report.html.material import Arm, Material, Trained
from medseg.report.html.provenance import provenance
from medseg.report.plots.sheet import Drawing
from medseg.stats.flags import LEAKY, SYNTHETIC
from medseg.stats.gate import OUTPERFORMS

MANY_PAIRS = 15
"""Sentences that stand open; the rest is folded away."""
FLAG_WORDS = {
    SYNTHETIC: "SYNTHETIC: the images are simulated, nothing here was measured on patients",
    LEAKY: "LEAKY SPLIT: near copies of test images were trained on",
}
SVG_LIMIT = 110_000
"""Bytes above which a plot with many points is shown as PNG, which is the smaller then."""


def build_page(
    material: Material,
    drawings: Sequence[Drawing],
    pictures: Mapping[str, Picture],
    remarks: Mapping[str, Sequence[str]],
) -> Page:
    """Return the page.

    Args:
        material: what is shown.
        drawings: plots on disk.
        pictures: overlays by run.
        remarks: what is missing in ``plots`` and ``overlays``, a sentence each.
    """
    sections = (
        Section("headline", "What may be claimed", _headline(material)),
        Section("tables", "Tables", _tables(material)),
        Section("plots", "Plots", (*map(_figure, drawings), *_remarks(remarks.get("plots", ())))),
        Section("overlays", "Cases", _overlays(pictures, remarks.get("overlays", ()))),
        Section("strata", "Strata and failures", _strata(material)),
        Section("published", "Published numbers", _boards(material)),
        Section("settings", "What differs between the runs", _settings(material)),
        Section("provenance", "Provenance", provenance(material.runs)),
        Section("cost", "Time, energy, carbon", (TableBlock(cost_table(_spent(material), material.power)),)),
        Section("ledger", "Ledger of test results", _ledger(material)),
        Section("documents", "Checklists and cards", _documents(material)),
    )
    return Page(material.title, material.flags, sections)


def _remarks(lines: Sequence[str]) -> tuple[Block, ...]:
    return (Bullets(tuple(lines)),) if lines else ()


def _headline(material: Material) -> tuple[Block, ...]:
    blocks: list[Block] = []
    if material.flags:
        flagged = "; ".join(FLAG_WORDS.get(flag, flag) for flag in material.flags)
        blocks.append(Paragraph(f"{flagged}.", strong=True))
    for arm in material.arms:
        blocks += _claims(arm)
    if material.unfinished:
        blocks.append(Paragraph(f"Without a finished run: {len(material.unfinished)} of the study's cells."))
        blocks.append(Bullets(material.unfinished))
    return tuple(blocks)


def _claims(arm: Arm) -> list[Block]:
    opening = f"{arm.name}: " if arm.name else ""
    if arm.comparison is None:
        return [Paragraph(f"{opening}no claim. {arm.refusal}", strong=True)]
    metric = metric_of(arm)
    said_of = [(pair, sentence(pair, metric, arm.comparison.settings)) for pair in arm.comparison.pairs]
    claims = [text for pair, text in said_of if pair.verdict == OUTPERFORMS]
    others = [text for pair, text in said_of if pair.verdict != OUTPERFORMS]
    count = len(arm.comparison.pairs)
    said = f"the claim gate holds for {len(claims)} of {count} pair(s)." if claims else f"no claim in {count} pair(s)."
    blocks: list[Block] = [Paragraph(f"{opening}{said}", strong=True)]
    blocks += _remarks(claims)
    if len(others) > MANY_PAIRS:
        blocks.append(Details(f"{len(others)} pairs without a claim, and why", (Bullets(tuple(others)),)))
    else:
        blocks += _remarks(others)
    return [*blocks, *_remarks([*arm.comparison.evidence.notes, *arm.comparison.notes])]


def _tables(material: Material) -> tuple[Block, ...]:
    return tuple(TableBlock(table) for table in material.tables) or (Paragraph("No table: no run has finished."),)


def _figure(drawing: Drawing) -> Figure:
    svg = drawing.svg.read_bytes()
    if len(svg) <= SVG_LIMIT:
        return Figure(svg, "image/svg+xml", drawing.alt, drawing.title)
    return Figure(drawing.png.read_bytes(), "image/png", drawing.alt, drawing.title)


def _overlays(pictures: Mapping[str, Picture], absent: Sequence[str]) -> tuple[Block, ...]:
    shown = tuple(
        Figure(
            picture.content,
            picture.media,
            f"{name}: worst, median and best cases, each as image, truth, prediction and both contours.",
            f"{name}: worst, median and best cases.",
            picture.width,
        )
        for name, picture in pictures.items()
    )
    return (*shown, *_remarks(absent)) or (Paragraph("No pictures: no run left any."),)


def _strata(material: Material) -> tuple[Block, ...]:
    blocks: list[Block] = list(_remarks(material.remarks.get("strata", ())))
    for number, (run, tables) in enumerate(material.strata.items()):
        inside = tuple(TableBlock(table) for table in tables)
        blocks += [Paragraph(f"{run}:"), *inside] if number == 0 else [Details(run, inside)]
    return tuple(blocks) or (Paragraph("No strata: no run has finished."),)


def _boards(material: Material) -> tuple[Block, ...]:
    shown = tuple(TableBlock(board.table, board.muted, board.marked) for board in material.boards)
    blocks = (*shown, *_remarks(material.remarks.get("published", ())))
    return blocks or (Paragraph("No published numbers of this dataset are on file."),)


def _settings(material: Material) -> tuple[Block, ...]:
    known = {run.name: run.settings for run in material.runs if run.settings}
    unknown = [run.name for run in material.runs if not run.settings]
    said = [f"No config.yaml: {', '.join(unknown)}."] if unknown else []
    table = config_differences(known) if len(known) > 1 else None
    if table is None:
        said.append("Fewer than two runs with a config: nothing to hold against each other." if len(known) < 2 else "")
        said = [line or "All runs have the same settings." for line in said]
        return tuple(Paragraph(line) for line in said)
    return (TableBlock(table), *_remarks(said))


def _spent(material: Material) -> list[Spent]:
    return [_cost(run) for run in material.runs if run.record.get("cost", {}).get("fit_seconds") is not None]


def _cost(run: Trained) -> Spent:
    cost = run.record["cost"]
    memory = cost.get("peak_memory_mb")
    return Spent(
        run.name,
        float(cost["fit_seconds"]),
        str(cost.get("device") or "cpu"),
        int(cost.get("threads") or 1),
        int(cost.get("processes") or 1),
        float("nan") if memory is None else float(memory),
        run.address,
    )


def _ledger(material: Material) -> tuple[Block, ...]:
    return _remarks(material.ledger) or (Paragraph("No access to test results is on record."),)


def _documents(material: Material) -> tuple[Block, ...]:
    if material.documents:
        return (Links(material.documents),)
    said = material.remarks.get("documents", ())
    return _remarks(said) or (Paragraph("No checklist and no card was written for these runs."),)
