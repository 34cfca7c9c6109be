"""Plots: what they compute against other arithmetic, what they write, and that no text covers another."""

import itertools
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medseg.errors import ScoreError
from medseg.report.plots import forest as forests
from medseg.report.plots import sheet as sheets
from medseg.report.plots.bland_altman import Sizes, agreement, bland_altman
from medseg.report.plots.bland_altman import number as signed
from medseg.report.plots.calibration import calibration, pooled_ece
from medseg.report.plots.costs import Costly, accuracy_cost, frontier
from medseg.report.plots.critical_difference import critical_difference
from medseg.report.plots.forest import Difference, forest
from medseg.report.plots.learning import learning_curves, mean_curve
from medseg.report.plots.methods import method_boxes
from medseg.report.plots.seeds import pooled_seed_sd, seed_gap
from medseg.report.plots.sheet import Drawing
from medseg.report.plots.size_dice import SizedScores, running_median, size_dice

NAMES = ("U-Net", "U-Net with a very long name, loss=dice_ce, widths", "Attention U-Net", "Threshold <script>")
FLAGS = ("SYNTHETIC", "LEAKY SPLIT")
RNG = np.random.default_rng(7)
VALUES = np.clip(RNG.beta(8, 2, 20) + RNG.normal(0, 0.05, (4, 20)), 0, 1)
REFERENCE = RNG.lognormal(6, 1, 40)
PATIENTS = [f"p{number // 2}" for number in range(40)]
BINS = np.array([[1000, 40.0, 30], [0, 0, 0], [100, 55, 60], [400, 380, 390]])


def draw_methods(stem: Path) -> Drawing:
    return method_boxes(VALUES, NAMES, stem, metric="Dice", flags=FLAGS)


def draw_ranks(stem: Path) -> Drawing:
    ranks = dict(zip(NAMES, (1.6, 2.1, 2.4, 3.9), strict=True))
    return critical_difference(ranks, stem, difference=0.9, patients=20, flags=FLAGS)


def draw_agreement(stem: Path) -> Drawing:
    sizes = {name: Sizes(PATIENTS, REFERENCE, REFERENCE * (1 + 0.1 * k)) for k, name in enumerate(NAMES)}
    return bland_altman(sizes, stem, unit="mm2", flags=FLAGS)


def draw_calibration(stem: Path) -> Drawing:
    return calibration(dict.fromkeys(NAMES[:2], BINS), stem, per_case={NAMES[0]: 0.031}, flags=FLAGS)


def draw_sizes(stem: Path) -> Drawing:
    scores = np.clip(0.5 + 0.05 * np.log(REFERENCE), 0, 1)
    return size_dice({NAMES[0]: SizedScores(REFERENCE, scores, 3)}, stem, unit="pixels", flags=FLAGS)


def draw_curves(stem: Path) -> Drawing:
    curves = {
        name: [{e: 0.9 - 0.5 / (e + k + s + 1) for e in range(6)} for s in (0, 1)] for k, name in enumerate(NAMES)
    }
    return learning_curves(curves, stem, metric="validation Dice", flags=FLAGS)


def draw_costs(stem: Path) -> Drawing:
    points = [Costly(name, 12.0 + k, 0.8 + 0.001 * k, 0.78, 0.82) for k, name in enumerate(NAMES)]
    return accuracy_cost(points, stem, cost="minutes to fit", metric="Dice", flags=FLAGS)


def draw_forest(stem: Path) -> Drawing:
    verdicts = itertools.cycle([("no evidence of a difference", False), (f"{NAMES[1]} outperforms", True)])
    pairs = [
        Difference(one, other, 0.01, -0.01, 0.03, verdict, claim=claim)
        for (one, other), (verdict, claim) in zip(itertools.combinations(NAMES, 2), verdicts, strict=False)
    ]
    return forest(pairs, stem, metric="Dice", rope=0.01, flags=FLAGS)


def draw_seeds(stem: Path) -> Drawing:
    means = {name: [0.8 + 0.01 * k, 0.805 + 0.01 * k, 0.81] for k, name in enumerate(NAMES)}
    return seed_gap(means, stem, metric="Dice", flags=FLAGS)


DRAWERS = (
    *(draw_methods, draw_ranks, draw_agreement, draw_calibration, draw_sizes),
    *(draw_curves, draw_costs, draw_forest, draw_seeds),
)
Drawer = Callable[[Path], Drawing]


@pytest.mark.parametrize("drawer", DRAWERS, ids=lambda drawer: drawer.__name__)
def test_a_plot_is_whole_and_no_text_covers_another(
    drawer: Drawer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    save = sheets.save_figure
    monkeypatch.setattr(sheets, "save_figure", lambda figure, *a, **k: (seen.append(figure), save(figure, *a, **k))[1])
    drawing = drawer(tmp_path / "plot")
    with Image.open(drawing.png) as picture:
        assert picture.width >= 600
        assert drawing.png.stat().st_size < 500_000
    root = ET.parse(drawing.svg).getroot()
    assert root.tag.endswith("svg")
    assert b"<dc:date>" not in drawing.svg.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plot.png", "plot.svg"]
    texts = drawn_texts(seen[0])
    assert "  ".join(FLAGS) in [text for text, _ in texts]
    assert overlapping(seen[0], texts) == []


def drawn_texts(figure: Any) -> list[tuple[str, Any]]:
    """Return every text that is drawn, with its box; ticks beyond the ends of an axis are there, but not drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    found: list[tuple[str, Any]] = []
    draw = Text.draw

    def noted(text: Any, renderer: Any) -> None:
        if text.get_visible() and text.get_text().strip():
            found.append((text.get_text(), text.get_window_extent(renderer)))
        draw(text, renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", noted)
        FigureCanvasAgg(figure).draw()
    return found


def overlapping(figure: Any, texts: list[tuple[str, Any]]) -> list[tuple[str, str]]:
    """Return pairs of texts whose boxes share more than a pixel, and texts that leave the figure."""
    width, height = figure.canvas.get_width_height()
    found = [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(texts, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
    ]
    outside = [(name, "edge") for name, b in texts if b.x0 < -1 or b.y0 < -1 or b.x1 > width + 1 or b.y1 > height + 1]
    return found + outside


@pytest.mark.slow
@pytest.mark.parametrize("drawer", DRAWERS, ids=lambda drawer: drawer.__name__)
def test_the_same_data_give_the_same_bytes(drawer: Drawer, tmp_path: Path) -> None:
    one, other = drawer(tmp_path / "a" / "plot"), drawer(tmp_path / "b" / "plot")
    assert one.png.read_bytes() == other.png.read_bytes()
    assert one.svg.read_bytes() == other.svg.read_bytes()


def test_svg_names_are_the_same_each_time(tmp_path: Path) -> None:
    one, other = draw_ranks(tmp_path / "a"), draw_ranks(tmp_path / "b")
    assert one.svg.read_bytes() == other.svg.read_bytes()


def test_bias_and_limits_are_those_of_the_differences() -> None:
    prediction = REFERENCE * 1.1 + 3
    found = agreement(Sizes(PATIENTS, REFERENCE, prediction))
    differences = pd.Series(prediction - REFERENCE)
    assert found.bias == pytest.approx(differences.mean())
    assert found.high - found.bias == pytest.approx(1.96 * differences.std())
    assert found.bias - found.low == pytest.approx(1.96 * differences.std())
    assert (found.n_cases, found.n_patients) == (40, 20)


def test_one_case_has_a_bias_and_no_limits(tmp_path: Path) -> None:
    sizes = Sizes(["p"], [100.0], [90.0])
    assert np.isnan(agreement(sizes).low)
    assert "limits" not in bland_altman({"U-Net": sizes}, tmp_path / "plot", unit="pixels").alt


@pytest.mark.parametrize(("value", "text"), [(1234.6, "+1235"), (-0.01234, "-0.0123"), (12.34, "+12.3"), (0, "0")])
def test_numbers_keep_three_digits(value: float, text: str) -> None:
    assert signed(value) == text


def test_ece_is_the_weighted_distance_from_the_diagonal() -> None:
    filled = BINS[BINS[:, 0] > 0]
    weights = filled[:, 0] / filled[:, 0].sum()
    distance = np.abs(filled[:, 2] / filled[:, 0] - filled[:, 1] / filled[:, 0])
    assert pooled_ece(BINS) == pytest.approx(float((weights * distance).sum()))
    assert np.isnan(pooled_ece(np.zeros((15, 3))))


@given(st.integers(5, 60))
def test_the_running_median_is_that_of_pandas(count: int) -> None:
    rng = np.random.default_rng(count)
    size, score = rng.uniform(1, 100, count), rng.uniform(0, 1, count)
    window = max(5, count // 5) | 1
    table = pd.DataFrame({"size": size, "score": score}).sort_values("size").rolling(window).median().dropna()
    sizes, scores = running_median(size, score)
    np.testing.assert_allclose(sizes, table["size"])
    np.testing.assert_allclose(scores, table["score"])


def test_too_few_cases_have_no_running_median() -> None:
    assert len(running_median([1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4])[0]) == 0


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=8))
def test_the_frontier_is_what_no_other_dominates(points: list[tuple[int, int]]) -> None:
    methods = [Costly(str(place), float(cost), score / 6) for place, (cost, score) in enumerate(points)]
    expected = {
        str(place)
        for place, (cost, score) in enumerate(points)
        if not any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)
    }
    assert set(frontier(methods)) == expected


def test_the_spread_of_seeds_is_pooled_over_methods() -> None:
    groups = {"a": [0.8, 0.82, 0.81], "b": [0.5, 0.54], "single": [0.9]}
    squares = sum(np.var(values, ddof=0) * len(values) for values in groups.values())
    assert pooled_seed_sd(groups) == pytest.approx(np.sqrt(squares / 3))
    assert np.isnan(pooled_seed_sd({"a": [0.8], "b": [0.7]}))


def test_mean_curves_end_where_the_shortest_ends() -> None:
    epochs, means = mean_curve([{0: 0.2, 1: 0.4, 2: float("nan")}, {0: 0.4, 1: 0.6, 2: 0.9}])
    assert epochs.tolist() == [0, 1]
    np.testing.assert_allclose(means, [0.3, 0.5])


def test_methods_closer_than_the_critical_difference_share_a_bar(tmp_path: Path) -> None:
    """The example of Demsar 2006, figure 1a: ranks 3.143, 2.000, 2.893, 1.964 and CD 1.25 (Nemenyi, 14 sets)."""
    ranks = {"C4.5": 3.143, "C4.5+m": 2.000, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964}
    alt = critical_difference(ranks, tmp_path / "cd", difference=1.25, patients=14).alt
    assert "C4.5+m+cf and C4.5+m and C4.5+cf and C4.5" in alt
    alt = critical_difference(ranks, tmp_path / "cd", difference=0.9, patients=14).alt
    assert "Not separated: C4.5+m+cf and C4.5+m; C4.5+m and C4.5+cf; C4.5+cf and C4.5." in alt


def test_the_forest_keeps_the_largest_of_many_differences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forests, "MOST", 2)
    pairs = [Difference(f"a{k}", "b", k / 100, 0, 0.1, "no evidence of a difference") for k in (3, 1, 2)]
    assert [pair.first for pair in forests._chosen(pairs)] == ["a3", "a2"]
    assert "a1 against b" in forest(pairs, tmp_path / "plot", metric="Dice").alt  # in words all of them


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda stem: method_boxes(np.full((1, 3), np.nan), ["a"], stem, metric="Dice"), "without a defined Dice"),
        (lambda stem: method_boxes(np.ones((2, 3)), ["a"], stem, metric="Dice"), "give one row a method"),
        (lambda stem: critical_difference({"a": 1.0}, stem, difference=None, patients=3), "two methods or more"),
        (lambda stem: bland_altman({}, stem, unit="mm2"), "no method"),
        (lambda stem: bland_altman({"a": Sizes([], [], [])}, stem, unit="mm2"), "at least one"),
        (lambda stem: calibration({}, stem), "no reliability table"),
        (lambda stem: calibration({"a": [[1, 0.5, 2]]}, stem), "score the run again"),
        (lambda stem: size_dice({"a": SizedScores([0.0], [1.0])}, stem, unit="mm2"), "above zero"),
        (lambda stem: learning_curves({"a": [{0: float("nan")}]}, stem, metric="Dice"), "finish an epoch"),
        (lambda stem: accuracy_cost([Costly("a", 0.0, 0.5)], stem, cost="s", metric="Dice"), "cost above zero"),
        (lambda stem: forest([], stem, metric="Dice"), "at least two"),
        (lambda stem: seed_gap({"a": []}, stem, metric="Dice"), "without a finished seed"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call: Callable[[Path], Drawing], message: str, tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match=message):
        call(tmp_path / "plot")
    assert list(tmp_path.iterdir()) == []
