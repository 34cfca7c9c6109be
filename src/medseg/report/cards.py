"""A model card and a dataset card of one run, in Markdown, from the files in its folder alone.

The form follows Mitchell et al., "Model cards for model reporting", FAT* 2019, arXiv:1810.03993, and, for data, Gebru
et al., "Datasheets for datasets", CACM 64(12), 2021, with the fields of MLCommons Croissant as facts. A part that the
folder does not hold is said to be missing. The same folder gives the same bytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medseg.report.facts_data import SIDES, call_text, verdict
from medseg.report.facts_model import limits
from medseg.report.facts_use import FACTS, LOADING
from medseg.report.protocol import TAGS, WORDS, protocol_of
from medseg.report.run_facts import RunFacts
from medseg.report.run_results import attributes, interval_text, results, strata
from medseg.report.tables import Cell, Table, markdown

MISSING = "missing: the run's folder does not say"
USE = (
    "Research only: comparisons of segmentation methods on data of the kind it was trained on. It is no medical "
    "device, was not evaluated for any clinical purpose, and must not guide diagnosis or treatment."
)
ETHICS = (
    "Consent, approval and de-identification are matters of the dataset; this folder holds no proof of them.",
    "Weights can hold traces of training images: share them under the terms of the data.",
    "Groups that are rare in the data may be served worse; only the strata above, where there are any, show this.",
)
MOST_SIZES = 5
"""Image sizes that a dataset card lists."""
MOST_FINDINGS = 5


def model_card(run: RunFacts, *, paper: str = "", published: Table | None = None) -> str:
    """Return the model card of a run.

    Args:
        run: its facts.
        paper: where the system comes from, as the header of its option says; empty if unknown.
        published: table of published numbers, see ``medseg.report.published.board``.
    """
    parts = [
        _title("Model card", run),
        _bullets("Model", _named(run, {"System": "model", "Kind": "kind", "Interaction": "interaction"}, paper=paper)),
        f"## Intended use\n\n{USE}\n",
        _bullets("Training data", _named(run, TRAINING_DATA)),
        _bullets("Training", _named(run, {"How": "training", "Start": "initialisation", "Weights kept": "selection"})),
        _protocol(run),
        _results(run),
        _strata(run),
        markdown(published) if published is not None else "",
        "## Limits\n\n" + "\n".join(f"- {text}" for text in limits(run)) + "\n",
        "## Ethical notes\n\n" + "\n".join(f"- {text}" for text in ETHICS) + "\n",
        _bullets("Cost", _named(run, {"Time": "runtime", "Memory": "memory"})),
        _bullets("Versions", _named(run, {"Code": "commit", "Machine": "machine"})),
        _loading(run),
    ]
    return "\n".join(part for part in parts if part)


TRAINING_DATA = {
    "Dataset": "data_source",
    "Cited as": "citation",
    "Access and licence": "data_access",
    "Split": "partitions",
    "Disjoint by": "disjoint",
    "Preprocessing": "preprocessing",
    "Foreground": "prevalence",
}
"""Headings of the card and the facts behind them."""


def dataset_card(run: RunFacts) -> str:
    """Return the dataset card of a run, or of a dataset alone (``run_facts.facts_of_data``)."""
    data, card = run.record.get("data") or {}, run.set_to("data.card") or {}
    about = run.set_to("data.about") or {}
    facts = {
        "name": data.get("name") or card.get("name"),
        "description": about.get("title"),
        "url": about.get("homepage"),
        "license": card.get("licence"),
        "citeAs": card.get("citation"),
        "access": about.get("access"),
        "how to get it": about.get("steps"),
        "synthetic": data.get("synthetic"),
        "digest": data.get("digest"),
        "modality": card.get("modality"),
        "axes": card.get("spatial_dims"),
        "channels": card.get("channels") or card.get("in_channels"),
        "classes": data.get("classes") or card.get("classes"),
        "label values": run.set_to("data.labels"),
        "unit of distances": data.get("unit") or card.get("unit"),
        "published sizes": about.get("expected"),
    }
    parts = [
        f"# Dataset card: {facts['name'] or run.folder.name}\n",
        _flags(run),
        _bullets("Facts", [(name, call_text(value) if value is not None else "") for name, value in facts.items()]),
        _sides(run),
        _bullets("Division", _named(run, {"Split": "partitions", "Disjoint by": "disjoint"})),
        _audit(run),
        _sizes(run),
        _bullets("Attributes", _attributes(run)),
    ]
    return "\n".join(part for part in parts if part)


def _title(kind: str, run: RunFacts) -> str:
    flags = _flags(run)
    heading = f"# {kind}: {run.get('name') or run.folder.name}\n"
    return f"{heading}\n{flags}" if flags else heading


def _flags(run: RunFacts) -> str:
    """Return what nobody may overlook, in bold; empty if there is nothing."""
    found = ["SYNTHETIC images"] * bool(run.get("data.synthetic")) + ["LEAKY split"] * bool(run.get("split.leaky"))
    return f"**{', '.join(found)}**\n" if found else ""


def _bullets(heading: str, facts: Iterable[tuple[str, str]]) -> str:
    lines = [f"- {name}: {' '.join(text.split()) or MISSING}" for name, text in facts]
    return f"## {heading}\n\n" + "\n".join(lines) + "\n"


def _named(run: RunFacts, names: Mapping[str, str], *, paper: str = "") -> list[tuple[str, str]]:
    found = [(heading, FACTS[name](run)) for heading, name in names.items()]
    lines = [(heading, fact.text if fact else "") for heading, fact in found]
    return [*lines, ("Source", paper)] if paper else lines


def _protocol(run: RunFacts) -> str:
    tags = protocol_of([{**run.record, "config": run.config or {}}])
    return _bullets("Protocol", [(WORDS[tag], str(getattr(tags, tag))) for tag in TAGS])


def _results(run: RunFacts) -> str:
    if run.scores is None:
        return _bullets("Results", [("Scores", "missing: the folder has no scores.csv")])
    rows = tuple(
        (
            Cell(found.name),
            Cell(interval_text(found.over_patients), found.over_patients.mean),
            Cell(f"{found.over_cases:.3f}", found.over_cases),
            Cell(str(found.undefined), found.undefined),
            Cell(str(found.penalised), found.penalised),
        )
        for found in results(run.scores)
    )
    counted = run.scores
    empty = [f"{int(counted[f'empty_{name}'].sum())} empty {name}s" for name in ("reference", "prediction")]
    sides = ", ".join(sorted(counted["split_side"].unique()))
    table = Table(
        name="results",
        title="Results",
        columns=_cells("Metric", "Mean over patients [95 % interval]", "Mean over cases", "Undefined", "Penalised"),
        rows=rows,
        caption=(
            f"Side {sides}: {counted['case'].nunique()} cases of {counted['patient'].nunique()} patients, "
            f"{', '.join(empty)}, distances in {', '.join(sorted(counted['unit'].unique()))}.",
            "Intervals: BCa bootstrap over patients; a distance with exactly one empty mask counts as the diagonal "
            "(penalised); undefined values are left out.",
        ),
    )
    return markdown(table)


def _cells(*names: str) -> tuple[Cell, ...]:
    return tuple(Cell(name) for name in names)


def _strata(run: RunFacts) -> str:
    found = strata(run)
    if not found:
        return _bullets("Strata", [("Dice by group", "missing: no attribute divides the scored cases")])
    rows = tuple(
        (
            Cell(one.attribute),
            Cell(one.value),
            Cell(str(one.cases), one.cases),
            Cell(str(one.dice.n_patients), one.dice.n_patients),
            Cell(interval_text(one.dice), one.dice.mean),
        )
        for one in found
    )
    columns = _cells("Attribute", "Value", "Cases", "Patients", "Dice over patients [95 % interval]")
    many = attributes(run)[1]
    left_out = (f"Left out for too many values: {', '.join(many)}.",) if many else ()
    described = ("Groups were not tested against each other.", *left_out)
    return markdown(Table(name="strata", title="Strata", columns=columns, rows=rows, caption=described))


def _loading(run: RunFacts) -> str:
    if FACTS["loading"](run) is None:
        return _bullets("How to load", [("Weights", "missing: the folder lacks weights.pt or config.yaml")])
    code = "\n".join(line.format(folder=run.folder.name) for line in LOADING)
    note = f"The path is the run's folder; SHA-256 of weights.pt: {run.weights}"
    return f"## How to load\n\n```python\n{code}\n```\n\n{note}\n"


def _sides(run: RunFacts) -> str:
    data = run.record.get("data") or {}
    cases = data.get("cases")
    if not cases:
        return _bullets("Sides", [("Cases and patients", "")])
    rows = tuple(_side(data, side) for side in SIDES if side in cases)
    columns = _cells("Side", "Cases", "Patients", "Foreground %")
    said = ("Foreground: share of labelled native pixels or voxels.",)
    return markdown(Table(name="sides", title="Sides", columns=columns, rows=rows, caption=said))


def _side(data: Mapping[str, Any], side: str) -> tuple[Cell, ...]:
    patients, share = (data.get(name, {}).get(side) for name in ("patients", "prevalence"))
    cases = data["cases"][side]
    return (
        Cell(side),
        Cell(str(cases), cases),
        Cell("unknown" if patients is None else str(patients), patients),
        Cell("unknown" if share is None else f"{100 * share:.2f}", None if share is None else 100 * share),
    )


def _audit(run: RunFacts) -> str:
    if run.audit is None:
        return _bullets("Leak audit", [("Certificate", "missing: the folder has no audit.json")])
    worst: Sequence[Mapping[str, Any]] = (run.audit.get("findings") or {}).get("worst") or ()
    sealed = (run.audit.get("seal") or {}).get("sha256")
    facts = [("Verdict", verdict(run)), ("Certificate", f"SHA-256 {sealed}" if sealed else "")]
    facts += [("Finding", str(found.get("words", found))) for found in worst[:MOST_FINDINGS]]
    return _bullets("Leak audit", facts)


def _sizes(run: RunFacts) -> str:
    sizes = run.get("data.sizes") or {}
    common = sorted(sizes.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_SIZES]
    listed = ", ".join(f"{size} ({count})" for size, count in common)
    more = f", {len(sizes) - len(common)} more" if len(sizes) > len(common) else ""
    return _bullets("Image sizes", [("Most common (cases)", f"{listed}{more}" if listed else "")])


def _attributes(run: RunFacts) -> list[tuple[str, str]]:
    found = FACTS["characteristics"](run)
    return [("Of the scored side", found.text if found else "")]
