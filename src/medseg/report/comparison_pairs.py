"""Two methods at a time: what the claim gate looks at and says, and the tests beside it."""

from dataclasses import replace

from medseg.report.comparison_cells import flag_facts, form_of, heading, mean_cell, number_cell, p_cell, percent
from medseg.report.tables import Cell, Table
from medseg.stats.comparison import Comparison
from medseg.stats.gate import OUTPERFORMS, Pair, Settings


def pairs_table(comparison: Comparison, *, every_pair: bool = True) -> Table:
    """Return one row per pair: what the gate looks at and its verdict; below, why nothing is claimed and what it takes.

    Args:
        comparison: the comparison.
        every_pair: all pairs, or only those of the best method.
    """
    settings, pairs = comparison.settings, _shown(comparison, every_pair)
    columns = ("Pair", f"Difference [{percent(settings.confidence)} CI]", "p Holm", "p(better)", "Seeds", "Verdict")
    # The method with the better mean stands first, so only the first can win.
    claims = [f"{pair.first} {OUTPERFORMS} {pair.second}" for pair in pairs if pair.winner == pair.first]
    facts = [
        f"Claims: {'; '.join(claims) or 'none'}.",
        "A positive difference means that the first method is better. p Holm: Wilcoxon's signed-rank test, corrected "
        f"for {len(comparison.pairs)} pairs. p(better): posterior probability that the first is better by more than "
        f"{settings.rope:g}. Seeds: how many favour the first.",
        f"Seed {settings.seed}, {settings.resamples} bootstrap samples of patients and trainings.",
    ]
    if len(pairs) < len(comparison.pairs):
        facts.append(f"Pairs of the best method only; the CSV file has all {len(comparison.pairs)}.")
    return Table(
        name="pairs",
        title=heading(comparison, "Pairs"),
        columns=tuple(Cell(text) for text in columns),
        rows=tuple(_pair_row(comparison, pair) for pair in pairs),
        caption=(*facts, *flag_facts(comparison)),
    )


def _pair_row(comparison: Comparison, pair: Pair) -> tuple[Cell, ...]:
    claimed = pair.verdict == OUTPERFORMS
    source = f"patients and seeds resampled, {pair.difference.method}"
    return (
        _pair_name(pair),
        replace(mean_cell(pair.difference, form_of(comparison, sign="+"), source=source), bold=claimed),
        p_cell(pair.p_holm, f"Holm over {len(comparison.pairs)} pairs"),
        number_cell(pair.posterior.better, 3, "posterior probability"),
        Cell(f"{pair.seeds_in_favour} of {pair.n_seeds}", pair.seeds_in_favour, source="seeds that favour the first"),
        Cell(pair.verdict, bold=claimed, source=f"verdict: {pair.verdict}", footnotes=_why(comparison, pair)),
    )


def pair_tests_table(comparison: Comparison, *, every_pair: bool = True) -> Table:
    """Return one row per pair with the tests beside those of the gate; arguments as in :func:`pairs_table`."""
    settings = comparison.settings
    columns = (
        *("Pair", "p Wilcoxon", "p permutation", "p t test", "Rank-biserial"),
        *("p(equal)", "p(worse)", "P(false claim)", "p TOST"),
    )
    return Table(
        name="tests",
        title=heading(comparison, "Tests of the pairs"),
        columns=tuple(Cell(text) for text in columns),
        rows=tuple(_tests_row(pair) for pair in _shown(comparison, every_pair)),
        caption=(
            "p Wilcoxon, permutation (sign flips) and t: uncorrected, two-sided. p(equal), p(worse): Bayesian "
            f"signed-rank test, equal within {settings.rope:g}. P(false claim): probability that the order is the "
            f"other way round, as far as patients go. p TOST: of two one-sided tests for equivalence within "
            f"{settings.margin:g}.",
            *flag_facts(comparison),
        ),
    )


def _tests_row(pair: Pair) -> tuple[Cell, ...]:
    return (
        _pair_name(pair),
        p_cell(pair.p_wilcoxon, "Wilcoxon, zeros after Pratt"),
        p_cell(pair.p_permutation, "sign-flip permutation"),
        p_cell(pair.p_t, "paired t test"),
        number_cell(pair.rank_biserial, 2, "matched-pairs rank-biserial correlation"),
        number_cell(pair.posterior.equal, 3, "posterior probability"),
        number_cell(pair.posterior.worse, 3, "posterior probability"),
        p_cell(pair.false_claim, "Student's distribution of the paired means"),
        p_cell(pair.p_equivalence, "two one-sided tests"),
    )


def _shown(comparison: Comparison, every_pair: bool) -> list[Pair]:
    return [pair for pair in comparison.pairs if every_pair or comparison.best in (pair.first, pair.second)]


def _pair_name(pair: Pair) -> Cell:
    return Cell(f"{pair.first} against {pair.second}")


def _why(comparison: Comparison, pair: Pair) -> tuple[str, ...]:
    """Return why nothing is claimed for a pair and what would be needed, as one remark."""
    if pair.verdict == OUTPERFORMS:
        return ()
    return (
        " ".join(
            [f"{pair.first} against {pair.second}: {'; '.join(pair.reasons)}.", *needs(comparison.settings, pair)]
        ),
    )


def needs(settings: Settings, pair: Pair) -> list[str]:
    """Return how much data would show the observed difference, where it is more than there is; at most a sentence."""
    if abs(pair.difference.mean) <= settings.rope:
        return [
            f"The observed difference is no larger than {settings.rope:g}, which counts as none: more data alone would "
            "not make it a claim."
        ]
    asked = max(pair.n_seeds, settings.enough_seeds)
    wanted = [
        f"{count} {words}"
        for count, there, words in (
            (pair.needed_patients, pair.n_patients, f"patients with {asked} seeds"),
            (pair.needed_seeds, pair.n_seeds, f"seeds with {pair.n_patients} patients"),
        )
        if count is not None and count > there
    ]
    return [f"To show the observed difference, about {' or '.join(wanted)} would be needed."] if wanted else []
