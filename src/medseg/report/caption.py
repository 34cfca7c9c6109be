"""Captions: what a reader must know to judge the numbers of a table."""

from collections.abc import Iterable, Sequence

from medseg.report.cells import FAILED, FINISHED, MISSING, Plan, Result, names
from medseg.report.summary import Printer

PANEL_A = (
    "The four published rows come from four private data sets with four splits, quoted from a review: they rank "
    "nothing and are no target for our columns."
)
PANEL_B = (
    "All percentages are pooled over the pixels of every test image. The two splits have different test images, so "
    "their difference estimates the leak without a paired test."
)


def facts(plan: Plan, results: Sequence[Result]) -> list[str]:
    """Return data, preset, seeds, splits, test sizes, commit, date and whatever is not finished, a sentence each."""
    finished = [result for result in results if result.state == FINISHED]
    records = [result.record for result in finished]
    synthetic = " (SYNTHETIC images)" if any(record["data"]["synthetic"] for record in records) else ""
    said = [
        f"Data: {plan.data}{synthetic}.",
        f"Preset: {plan.preset}.",
        f"Seeds: {', '.join(str(seed) for seed in plan.seeds)}.",
    ]
    if plan.overrides:
        said.append(f"Command line: {' '.join(plan.overrides)}.")
    said += _each(_split_fact(result) for result in finished)
    if finished:
        said.append(f"Code: {', '.join(_each(_commit(result) for result in finished))}.")
        said.append(f"Newest run: {max(str(record['started']) for record in records)}.")
    for state in (FAILED, MISSING):
        absent = names(results, state)
        if absent:
            said.append(f"{state.capitalize()}: {'; '.join(absent)}.")
    return said


def comparison_facts(panel: str, printers: Sequence[Printer]) -> list[str]:
    """Return how the intervals were made and what the published columns can be compared with."""
    summaries = [printer.summary for printer in printers if printer.summary is not None]
    said = [
        f"Intervals: 95 %, {method}, patients resampled, cases averaged over seeds first."
        for method in _each(summary.dice.method for summary in summaries)
    ]
    if panel == "A" and summaries:
        first = summaries[0].headline
        said.append(
            f"Nodules cover {100 * first['prevalence']:.2f} % of the test pixels; predicting background everywhere has "
            f"a pixel accuracy of {100 * first['pa_all_background']:.2f} %."
        )
    return [*said, PANEL_A if panel == "A" else PANEL_B]


def _split_fact(result: Result) -> str:
    record = result.record
    leaky = "LEAKY split" if result.leaky else "Split"
    count, patients = record["data"]["cases"]["test"], record["data"]["patients"]["test"]
    split = record["split"]
    return f"{leaky} {split['name']} {str(split['hash'])[:8]}: {count} test cases of {patients} patients."


def _commit(result: Result) -> str:
    git = result.versions.get("git") or {}
    commit = str(git.get("commit") or "")[:10]
    if not commit:
        return "not under version control"
    return f"commit {commit} with uncommitted changes" if git.get("dirty") else f"commit {commit}"


def _each(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
