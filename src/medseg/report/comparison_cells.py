"""The numbers and headings of a comparison: means with intervals, p-values, counts; what does not exist is a dash."""

import math

from medseg import scores
from medseg.report.tables import Cell
from medseg.stats.comparison import Comparison
from medseg.stats.crossed import CrossedInterval

DASH = "–"


def mean_cell(interval: CrossedInterval, form: str, *, source: str) -> Cell:
    """Return a mean with its bootstrap interval.

    Args:
        interval: mean and bounds.
        form: how each is printed, for instance ``{:.4f}``.
        source: where they come from.
    """
    mean, low, high = (_text(value, form) for value in (interval.mean, interval.low, interval.high))
    bounds = (_finite(interval.low), _finite(interval.high))
    return Cell(f"{mean} [{low}, {high}]", _finite(interval.mean), *bounds, source=source)


def bounds_cell(interval: CrossedInterval, form: str, *, source: str) -> Cell:
    """Return Student's interval without its mean; arguments as in :func:`mean_cell`."""
    low, high = interval.t_low, interval.t_high
    text = f"[{_text(low, form)}, {_text(high, form)}]"
    return Cell(text, _finite(interval.mean), _finite(low), _finite(high), source=source)


def number_cell(value: float, digits: int, source: str) -> Cell:
    """Return a number with so many digits after the point."""
    if not math.isfinite(value):
        return Cell(DASH, source=f"{source}: not estimable")
    return Cell(_text(value, f"{{:.{digits}f}}"), float(value), source=source)


def count_cell(value: int, source: str) -> Cell:
    """Return a whole number."""
    return Cell(str(value), float(value), source=source)


def p_cell(value: float, source: str) -> Cell:
    """Return a p-value."""
    if not math.isfinite(value):
        return Cell(DASH, source=f"{source}: not estimable")
    return Cell(p_text(value), float(value), source=source)


def p_text(value: float) -> str:
    """Return a p-value with four digits, small ones as a bound."""
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def heading(comparison: Comparison, what: str) -> str:
    """Return a table's title with what no heading may leave out."""
    flags = comparison.evidence.flags
    return f"{what}, {comparison.evidence.metric}" + (f" ({', '.join(flags)})" if flags else "")


def flag_facts(comparison: Comparison) -> list[str]:
    """Return the notes that belong below every table."""
    flags = comparison.evidence.flags
    return [note for note in comparison.evidence.notes if any(note.startswith(flag) for flag in flags)]


def digits(comparison: Comparison) -> int:
    """Return how many digits of the metric are printed after the point."""
    return 2 if comparison.evidence.metric in scores.DISTANCES else 4


def form_of(comparison: Comparison, *, sign: str = "") -> str:
    """Return how a value of the metric is printed, as Python formats it."""
    return f"{{:{sign}.{digits(comparison)}f}}"


def percent(share: float) -> str:
    """Return a share as printed, for instance ``95 %``."""
    return f"{100 * share:g} %"


def _text(value: float, form: str) -> str:
    return form.format(value).replace("-", "−") if math.isfinite(value) else DASH


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
