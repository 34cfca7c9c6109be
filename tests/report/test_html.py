"""The page: structure read back by a parser, text that stays text, numbers of the estimate by hand, small pictures."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from page_reader import noise, read
from PIL import Image

from medseg.errors import RunError
from medseg.report.gallery import NARROWEST, downscaled, gallery
from medseg.report.html.blocks import (
    Bullets,
    Details,
    Facts,
    Figure,
    Link,
    Links,
    Page,
    Paragraph,
    Section,
    TableBlock,
)
from medseg.report.html.differences import config_differences
from medseg.report.html.energy import Power, Spent, cost_table, kilowatt_hours
from medseg.report.html.render import render
from medseg.report.html.text import is_safe
from medseg.report.tables import Cell, Table

EVIL = "<script>alert('x')</script> & \"quoted\""


def a_table(rows: Sequence[tuple[Cell, ...]] | None = None) -> Table:
    made = rows or (
        (Cell(EVIL), Cell("0.90", 0.9, footnotes=("Why <b>.",))),
        (Cell("b", link="../runs/b c"), Cell("–")),
    )
    columns = (Cell("Method"), Cell("Dice", footnotes=(EVIL,)))
    return Table("one", f"Table {EVIL}", columns, tuple(made), (f"Caption {EVIL}.",))


def picture_bytes(width: int = 8) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, 5), "red").save(stream, "PNG")
    return stream.getvalue()


def a_page() -> Page:
    inner = (TableBlock(a_table()), Paragraph(EVIL))
    return Page(
        f"Study {EVIL}",
        ("SYNTHETIC",),
        (
            Section("first", EVIL, (Paragraph(EVIL, strong=True), Bullets((EVIL, "two")), TableBlock(a_table()))),
            Section("second", "More", (Facts(((EVIL, EVIL),)), Details(EVIL, inner))),
            Section("third", "Pictures", (Figure(picture_bytes(), "image/png", EVIL, EVIL, 300),)),
            Section("fourth", "Links", (Links((Link(EVIL, "javascript:alert(1)"), Link("card", "runs/a/card.md"))),)),
        ),
    )


def test_a_page_is_balanced_and_needs_nothing_else() -> None:
    reader = read(render(a_page()))
    assert "default-src 'none'" in str([found for tag, found in reader.tags if tag == "meta"])
    assert [tag for tag, _ in reader.tags].count("script") == 1


def test_text_stays_text_wherever_it_stands() -> None:
    text = render(a_page())
    reader = read(text)
    assert "<script>alert" not in text
    assert text.count("<script>") == 1
    assert reader.text.count(EVIL) >= 12
    assert EVIL in reader.alts


def test_links_do_no_harm() -> None:
    links = read(render(a_page())).links
    assert "runs/a/card.md" in links
    assert "../runs/b%20c" in links
    assert not any("javascript" in link for link in links)


@pytest.mark.parametrize(
    ("address", "safe"),
    [
        ("https://example.org/a", True),
        ("http://127.0.0.1:5000/#/experiments/1", True),
        ("../runs/a b", True),
        ("#tables", True),
        ("runs/A-unet", True),
        ("javascript:alert(1)", False),
        (" javascript:alert(1)", False),
        ("java\tscript:alert(1)", False),
        ("JavaScript://%0aalert(1)", False),
        ("data:text/html,x", False),
        ("file:///etc/passwd", False),
        ("/etc/passwd", False),
        ("//example.org", False),
        ("\\\\server\\share", False),
    ],
)
def test_only_such_addresses_become_links(address: str, safe: bool) -> None:
    assert is_safe(address) is safe


def test_heads_can_be_sorted_by_keyboard_and_cells_carry_their_number() -> None:
    reader = read(render(a_page()))
    heads = [found for tag, found in reader.tags if tag == "th" and found.get("scope") == "col"]
    assert len(heads) == 4
    assert {found["aria-sort"] for found in heads} == {"none"}
    assert [tag for tag, _ in reader.tags].count("button") == 4
    values = [found["data-value"] for tag, found in reader.tags if tag == "td" and "data-value" in found]
    assert values == ["0.9", "0.9"]


def test_a_number_that_is_none_is_not_sorted_by() -> None:
    table = a_table(
        [(Cell("a"), Cell("undefined", math.nan)), (Cell("b"), Cell("∞", math.inf)), (Cell("c"), Cell("1", 1))]
    )
    text = render(Page("p", (), (Section("s", "s", (TableBlock(table),)),)))
    assert text.count("data-value=") == 1


def test_muted_rows_look_muted() -> None:
    page = Page("p", (), (Section("s", "s", (TableBlock(a_table(), frozenset({1}), frozenset({0})),)),))
    rows = [found.get("class") for tag, found in read(render(page)).tags if tag == "tr"]
    assert rows == [None, "marked", "muted"]


def test_the_same_page_gives_the_same_text() -> None:
    assert render(a_page()) == render(a_page())


def test_a_page_has_no_two_sections_of_one_name() -> None:
    section = Section("a", "A", ())
    with pytest.raises(AssertionError, match="not unique"):
        Page("p", (), (section, section))
    with pytest.raises(AssertionError, match="no anchor"):
        Section("A b", "A", ())


def test_only_settings_that_differ_are_shown() -> None:
    first = {"net": "unet", "optimizer.lr": 0.001, "net.widths": [8, 16], "seed": 0}
    table = config_differences({"one": first, "two": {**first, "seed": 1, "loss.gamma": 2.0}})
    assert table is not None
    assert [[cell.text for cell in row] for row in table.rows] == [["loss.gamma", "absent", "2.0"], ["seed", "0", "1"]]
    assert table.caption == ("2 settings differ, 3 are the same in all 2 runs.",)
    assert config_differences({"one": first, "two": dict(first)}) is None


def test_a_text_and_a_number_of_the_same_look_are_one_setting() -> None:
    assert config_differences({"one": {"a": "1"}, "two": {"a": 1}}) is None


def test_energy_is_the_formula_by_hand() -> None:
    """An hour on four threads with 8 GB: (4 x 12 W + 8 x 0.3725 W) x 1.67 = 85.1 Wh."""
    spent = Spent("a", 3600.0, "cpu", threads=4, memory_mb=8000.0)
    assert kilowatt_hours(spent, Power()) == pytest.approx((48 + 2.98) * 1.67 / 1000)
    assert kilowatt_hours(Spent("a", 7200.0, "cuda", processes=2), Power()) == pytest.approx(2 * 2 * 0.2 * 1.67)


def test_costs_are_summed_and_said_to_be_an_estimate() -> None:
    runs = [Spent("a", 600.0, "cpu"), Spent("b", 1200.0, "cuda")]
    table = cost_table(runs, Power(grid_grams=100.0, grid_source="a wind farm"))
    minutes, energy, carbon = ([row[place].value for row in table.rows] for place in (3, 4, 5))
    assert minutes == pytest.approx([10, 20, 30])
    assert energy[2] == pytest.approx(energy[0] + energy[1])
    assert carbon == pytest.approx([100 * value for value in energy])
    said = " ".join(table.caption)
    assert "estimates, not measurements" in said
    assert "100 g CO2e a kilowatt-hour (a wind farm)" in said


def test_pictures_shrink_to_their_budget_and_no_further_than_one_can_see(tmp_path: Path) -> None:
    path = noise(tmp_path / "overlays.png")
    small = downscaled(path, budget=150_000)
    assert len(small.content) <= 150_000
    assert small.width < 1000
    assert abs(small.height / small.width - 0.5) < 0.01
    tiny = downscaled(path, budget=1)
    assert NARROWEST <= tiny.width < NARROWEST / 0.8
    assert downscaled(path, budget=150_000) == small


def test_a_gallery_shares_its_budget_and_names_what_is_missing(tmp_path: Path) -> None:
    paths = {"a": noise(tmp_path / "a.png"), "b": noise(tmp_path / "b.png"), "c": tmp_path / "c.png"}
    found, absent = gallery(paths, budget=400_000)
    assert list(found) == ["a", "b"]
    assert absent == ["c"]
    assert sum(len(picture.content) for picture in found.values()) <= 400_000


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(RunError, match="a.png: not readable as a picture"):
        downscaled(tmp_path / "a.png", budget=1000)
