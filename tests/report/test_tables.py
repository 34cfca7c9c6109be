"""The writers: whole texts, escaping, labels that must not get lost, bytes that do not change."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fake_runs import STUDY, built, fake_cell, fake_plan, fake_run, golden_plan
from medseg.commands.report import write_tables
from medseg.commands.study_runs import study_runs
from medseg.report.cells import write_plan
from medseg.report.tables import LATEX_HEAD, Cell, Table, latex, latex_text, long_text, markdown, plain
from medseg.stats import aggregate
from medseg.stats.bootstrap import Interval
from medseg.studies.file import find_study, read_study

HERE = Path(__file__).parent


@pytest.fixture
def fixed_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the bootstrap by a known width: its own numbers are tested where it lives."""

    def interval(values: np.ndarray, groups: np.ndarray, *, seed: int) -> Interval:
        mean, patients = float(values.mean()), len(set(groups))
        bounds = (mean - 0.02, mean + 0.01, mean - 0.03, mean + 0.03)
        return Interval(mean, *bounds, len(values), patients, "BCa", patients >= 25)

    monkeypatch.setattr(aggregate, "mean_interval", interval)


@pytest.mark.usefixtures("fixed_interval")
def test_markdown_and_latex_are_the_golden_text(tmp_path: Path) -> None:
    tables = built(golden_plan(tmp_path), tmp_path)
    text = "\n".join(map(markdown, tables))
    fragment = LATEX_HEAD + "\n".join(latex(table, label=f"tab:{table.name.lower()}") for table in tables)
    assert text == (HERE / "golden" / "table1.md").read_text(encoding="utf-8")
    assert fragment == (HERE / "golden" / "table1.tex").read_text(encoding="utf-8")


def test_leaky_and_synthetic_stand_in_every_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.setattr("matplotlib.axes.Axes.text", lambda self, x, y, text, **_: drawn.append(text))
    files, _ = write_tables(study_runs(read_study(STUDY), golden_plan(tmp_path), tmp_path))
    for kind in ("md", "tex", "csv"):
        text = files[kind].read_text(encoding="utf-8")
        assert "Ours, LEAKY" in text
        assert "LEAKY split twins_leaky".replace("_", "\\_" if kind == "tex" else "_") in text
        assert "SYNTHETIC" in text
    remarks = " ".join(drawn).replace("\n", " ")
    assert any(text.startswith("Ours, LEAKY") for text in drawn)
    assert "LEAKY split twins_leaky" in remarks
    assert "SYNTHETIC" in remarks
    real = fake_plan([fake_cell("unet", split="ratio")])
    fake_run(tmp_path / "real", real.cells[0], synthetic=False)
    assert "SYNTHETIC" not in markdown(built(real, tmp_path / "real")[0])


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    study, plan = read_study(STUDY), golden_plan(tmp_path)
    first, _ = write_tables(study_runs(study, plan, tmp_path))
    before = {kind: path.read_bytes() for kind, path in first.items()}
    second, _ = write_tables(study_runs(study, plan, tmp_path))
    assert sorted(before) == ["csv", "md", "png", "tex"]
    assert {kind: path.read_bytes() for kind, path in second.items()} == before


def test_the_long_list_holds_every_number_with_its_source_and_reads_back(tmp_path: Path) -> None:
    tables = built(golden_plan(tmp_path), tmp_path)
    (tmp_path / "table1.csv").write_text(long_text(tables), encoding="utf-8")
    back = pd.read_csv(tmp_path / "table1.csv")
    assert back["source"].notna().all()
    cells = [cell for table in tables for cells in table.rows for cell in cells]
    assert back["value"].notna().sum() == sum(cell.value is not None for cell in cells)
    printed = back[(back["panel"] == "B") & (back["column"] == "Published")].set_index("row")["value"]
    assert printed["b_IoU"] == 95.16
    with_interval = back[back["low"].notna()]
    assert ((with_interval["low"] <= with_interval["value"]) & (with_interval["value"] <= with_interval["high"])).all()


def test_text_is_escaped_for_both_formats() -> None:
    assert latex_text("50 % of a_b & {c} #1 $x ~^\\ <") == (
        r"50 \% of a\_b \& \{c\} \#1 \$x \textasciitilde{}\textasciicircum{}\textbackslash{} \textless{}"
    )
    cell = Cell("a|b*", bold=True, link="x y#1", footnotes=("one",))
    table = Table(
        "T", "Title", (Cell("n"), Cell("v")), ((Cell("r"), cell), (Cell("[s]"), Cell("2", value=2.0))), ("Fact.",)
    )
    assert "| r | **[a\\|b\\*](x%20y#1)**<sup>1</sup> |" in markdown(table)
    assert r"r & \textbf{\href{x y\#1}{a\textbar{}b*}}\textsuperscript{1} \\" in latex(table, label="t")
    assert "\n{[}s] & 2 " in latex(table, label="t")
    assert plain(table, cell) == "a|b* (1)"


def test_equal_footnotes_share_a_number_in_reading_order() -> None:
    cells = (Cell("a", footnotes=("second", "first")), Cell("b", footnotes=("first",)))
    table = Table("T", "Title", (Cell("x", footnotes=("second",)), Cell("y")), (cells,))
    assert table.footnotes == ["second", "first"]
    assert [table.marks(cell) for cell in cells] == ["1,2", "2"]


def test_the_latex_is_balanced(tmp_path: Path) -> None:
    text = "\n".join(latex(table, label="t") for table in built(golden_plan(tmp_path), tmp_path))
    bare = text.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")
    for name in ("table", "tabular", "minipage"):
        assert bare.count(rf"\begin{{{name}}}") == bare.count(rf"\end{{{name}}}") == 2
    assert all(ord(letter) < 128 for letter in text)


def test_reporting_imports_no_torch(tmp_path: Path) -> None:
    plan = golden_plan(tmp_path)
    write_plan(tmp_path / "table1" / "cells.json", plan)
    program = (
        "import sys; from medseg.commands.report import main; "
        f"main(['study={STUDY.as_posix()}', 'paths.outputs={tmp_path.as_posix()}', 'tracking=csv']); "
        "assert 'torch' not in sys.modules and 'mlflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Panel B" in done.stdout
    assert {path.name for path in (tmp_path / "table1").iterdir()} >= {
        f"table1.{kind}" for kind in ("md", "tex", "csv", "png")
    }


def test_the_summary_is_sent_once_for_the_same_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medseg.commands import report

    sent: list[dict] = []
    monkeypatch.setattr("medseg.mirror.summary_run", lambda *_, tags, note: sent.append(tags) or "id")
    monkeypatch.setattr(report, "instantiate", lambda _: None)
    monkeypatch.setattr(report, "draw", lambda _, path, *, heading: path.write_text(heading))
    plan, study = golden_plan(tmp_path), read_study(find_study(str(STUDY), tmp_path))
    for _ in range(2):
        files, _ = write_tables(study_runs(study, plan, tmp_path))
        report.send_summary(study, plan, files, SimpleNamespace(tracking=None))  # type: ignore[arg-type]
    assert sent == [{"data": "phantom", "preset": "quick", "synthetic": True}]
    files, _ = write_tables(study_runs(study, replace(plan, cells=plan.cells[:1]), tmp_path))
    report.send_summary(study, plan, files, SimpleNamespace(tracking=None))  # type: ignore[arg-type]
    assert len(sent) == 2
