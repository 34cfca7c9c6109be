"""The tables of a comparison: what stands in them, what stands below them, and that nothing is claimed too much."""

import numpy as np
import pytest

from medseg.report.comparison import DEFINITIONS, LEFT_OPEN, MANY, OUTPERFORMED, comparison_tables
from medseg.report.tables import Cell, Table, latex, long_list, markdown
from medseg.stats.comparison import Comparison, compare
from medseg.stats.evidence import Evidence, known_metrics
from medseg.stats.gate import NO_EVIDENCE, Settings

NOTES = ("SYNTHETIC images: nothing here was measured on patients.", "Data: phantom (dddddddd), 40 patients, 80 cases.")


def made(
    *gaps: float, seeds: int = 5, patients: int = 40, metric: str = "dice", notes: tuple[str, ...] = NOTES
) -> Comparison:
    """A comparison of ``Net 0`` with methods that are this much better."""
    rng = np.random.default_rng(2)
    methods = len(gaps) + 1
    values = 0.8 + rng.normal(0, 0.05, patients) + rng.normal(0, 0.02, (methods, seeds, patients))
    return compare(
        Evidence(
            metric=metric,
            higher_is_better=metric == "dice",
            methods=tuple(f"Net {number}" for number in range(methods)),
            seeds=tuple(range(seeds)),
            patients=tuple(f"p{number:02d}" for number in range(patients)),
            folds=np.zeros(patients, dtype=np.int64),
            values=values + np.array([0, *gaps])[:, None, None],
            strata=np.zeros(patients, dtype=np.int64),
            notes=notes,
        ),
        Settings(resamples=200),
    )


def rows(table: Table) -> dict[str, dict[str, Cell]]:
    """The cells of a table by row and column."""
    names = [column.text for column in table.columns]
    return {cells[0].text: dict(zip(names, cells, strict=True)) for cells in table.rows}


@pytest.fixture(scope="module")
def clear() -> Comparison:
    return made(0.05, 0.001)


def test_methods_are_listed_best_first_with_their_numbers(clear: Comparison) -> None:
    table = comparison_tables(clear)[0]
    found = rows(table)
    assert next(iter(found)) == "Net 1"
    best = found["Net 1"]
    mean = best["dice [95 % CI]"]
    assert mean.value == pytest.approx(clear.evidence.values[1].mean())
    assert mean.text == f"{mean.value:.4f} [{mean.low:.4f}, {mean.high:.4f}]"
    assert best["SD over seeds"].value == pytest.approx(clear.evidence.values[1].mean(axis=1).std(ddof=1))
    assert (best["Rank"].text, best["Rank set"].text) == ("1", "1")
    assert (best["Patients"].text, best["Seeds"].text) == ("40", "5")
    assert best["t interval 95 %"].low < mean.value < best["t interval 95 %"].high


def test_the_best_is_bold_and_those_it_outperforms_are_marked(clear: Comparison) -> None:
    found = rows(comparison_tables(clear)[0])
    assert [name for name, row in found.items() if row["Method"].bold] == ["Net 1"]
    marked = [name for name, row in found.items() if OUTPERFORMED in row["dice [95 % CI]"].footnotes]
    assert sorted(marked) == ["Net 0", "Net 2"]
    assert LEFT_OPEN not in comparison_tables(clear)[0].caption


def test_a_claim_stands_in_words_and_everything_else_says_why_not_and_what_is_needed(clear: Comparison) -> None:
    table = comparison_tables(clear)[1]
    found = rows(table)
    assert found["Net 1 against Net 0"]["Verdict"].text == "outperforms"
    assert table.caption[0] in (
        "Claims: Net 1 outperforms Net 2; Net 1 outperforms Net 0.",
        "Claims: Net 1 outperforms Net 0; Net 1 outperforms Net 2.",
    )
    assert found["Net 1 against Net 0"]["Verdict"].bold
    assert found["Net 1 against Net 0"]["Verdict"].footnotes == ()
    (open_pair,) = [row for name, row in found.items() if "Net 1" not in name]
    assert "outperforms" not in open_pair["Verdict"].text
    (why,) = open_pair["Verdict"].footnotes
    assert "does not exclude 0" in why
    assert "no larger than 0.01, which counts as none" in why


def test_what_would_be_needed_is_said_where_it_is_more_than_there_is() -> None:
    comparison = made(0.012, patients=12)
    (pair,) = comparison.pairs
    assert pair.difference.mean > comparison.settings.rope
    assert pair.needed_patients is not None and pair.needed_patients > 12
    (why,) = rows(comparison_tables(comparison)[1])["Net 1 against Net 0"]["Verdict"].footnotes
    assert f"about {pair.needed_patients} patients with 5 seeds" in why
    few = made(0.05, seeds=3)
    (why,) = rows(comparison_tables(few)[1])["Net 1 against Net 0"]["Verdict"].footnotes
    assert "3 seeds; the gate asks for 5" in why
    assert "5 seeds with 40 patients would be needed" in why
    assert "patients with" not in why  # there are patients enough


def test_without_a_claim_no_table_says_outperforms() -> None:
    comparison = made(0.05, seeds=1, notes=(*NOTES, "ONE SEED: unknown scatter."))
    tables = comparison_tables(comparison)
    assert [table.name for table in tables] == ["methods", "pairs", "tests"]  # no variance shares from one seed
    text = "".join(map(markdown, tables)).replace(LEFT_OPEN, "")
    assert "outperform" not in text
    assert "Claims: none." in text
    assert LEFT_OPEN in tables[0].caption
    assert rows(tables[1])["Net 1 against Net 0"]["Verdict"].text == NO_EVIDENCE
    assert rows(tables[0])["Net 1"]["SD over seeds"].text == "–"
    assert "one seed" in " ".join(tables[0].caption)
    assert all("ONE SEED" in table.title for table in tables)


def test_every_table_says_that_images_are_simulated(clear: Comparison) -> None:
    for table in comparison_tables(clear):
        assert "SYNTHETIC" in table.title
        assert NOTES[0] in table.caption
    assert NOTES[1] in comparison_tables(clear)[0].caption


def test_few_patients_make_an_interval_unreliable_and_it_says_so() -> None:
    cell = rows(comparison_tables(made(0.01, patients=10))[0])["Net 1"]["dice [95 % CI]"]
    assert any("unreliable" in note for note in cell.footnotes)


def test_the_other_tests_of_a_pair_have_a_table(clear: Comparison) -> None:
    found = rows(comparison_tables(clear)[2])["Net 1 against Net 0"]
    pair = clear.pair("Net 1", "Net 0")
    assert found["p Wilcoxon"].value == pair.p_wilcoxon
    assert found["p Wilcoxon"].text == "<0.0001"
    assert found["p(worse)"].value == pair.posterior.worse
    assert found["p TOST"].value == pair.p_equivalence


def test_variance_shares_sum_to_a_hundred(clear: Comparison) -> None:
    found = rows(comparison_tables(clear)[3])
    assert list(found) == ["Method (fixed)", "Patient", "Training (method and seed)", "Residual"]
    assert sum(row["Share of the variance %"].value for row in found.values()) == pytest.approx(100)


def test_of_many_methods_only_the_pairs_of_the_best_are_printed_and_the_long_list_has_all() -> None:
    comparison = made(*np.linspace(0.001, 0.02, MANY), seeds=2, patients=30)
    pairs = MANY * (MANY + 1) // 2
    printed, listed = (comparison_tables(comparison, every_pair=choice)[1] for choice in (None, True))
    assert len(printed.rows) == MANY
    assert all(comparison.best in row[0].text for row in printed.rows)
    assert f"has all {pairs}" in " ".join(printed.caption)
    frame = long_list([listed])
    assert frame["row"].nunique() == pairs


def test_the_long_list_has_each_number_and_its_origin(clear: Comparison) -> None:
    frame = long_list(comparison_tables(clear)).set_index(["panel", "row", "column"])
    row = frame.loc[("methods", "Net 1", "dice [95 % CI]")]
    assert row["value"] == pytest.approx(clear.means["Net 1"].mean)
    assert (row["low"], row["high"]) == pytest.approx((clear.means["Net 1"].low, clear.means["Net 1"].high))
    verdict = frame.loc[("pairs", "Net 1 against Net 0", "Verdict")]
    assert verdict["source"] == "verdict: outperforms"


def test_distances_are_printed_with_two_digits_and_the_lowest_is_best() -> None:
    table = comparison_tables(made(0.5, metric="hd95_directed_voxel"))[0]
    assert table.rows[0][0].text == "Net 0"
    assert len(table.rows[0][2].text.split()[0].split(".")[1]) == 2
    assert "lower is better" in table.caption[0]


def test_markdown_and_latex_can_be_written(clear: Comparison) -> None:
    for table in comparison_tables(clear):
        assert markdown(table).startswith(f"## {table.title}")
        assert r"\toprule" in latex(table, label="tab:x")


def test_every_metric_that_can_be_compared_is_defined_in_words() -> None:
    assert set(DEFINITIONS) == set(known_metrics())


def test_the_page_says_of_a_pair_what_its_table_says(clear: Comparison) -> None:
    from medseg.report.html.arrays import sentence

    remarks = [note for row in comparison_tables(clear)[1].rows for cell in row for note in cell.footnotes]
    for pair in clear.pairs:
        said = sentence(pair, "Dice", clear.settings)
        if pair.winner:
            assert said.startswith(f"{pair.winner} outperforms ")
            continue
        (remark,) = [note for note in remarks if note.startswith(f"{pair.first} against {pair.second}: ")]
        reasons = remark.partition(": ")[2]
        assert said.endswith(f"{reasons[0].upper()}{reasons[1:]}")
    assert not all(pair.winner for pair in clear.pairs)
