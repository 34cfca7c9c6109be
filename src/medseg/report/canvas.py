"""What all pictures share: size and colours, caption and warning flags, a file that is there whole or not at all."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.whole import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150
FLAG = "#c0162c"
LINES = ("#1f5fa8", "#d1602b", "#3d8c40", "#7a4fa3", "#8a6d3b", "#c23b7a")


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of so many inches."""
    from matplotlib.figure import Figure  # not pyplot, which would keep every figure alive

    return Figure(figsize=(width, height), dpi=DPI, facecolor="white")


def save_figure(figure: "Figure", path: Path, *, caption: str, flags: Sequence[str]) -> Path:
    """Write caption and flags, then the file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    width, height = figure.get_size_inches()
    lines = textwrap.wrap(caption, int(width * 14.5))[:2]
    figure.text(0.01, 0.05 / height, "\n".join(lines), fontsize=8, color="0.25", va="bottom")
    figure.text(0.99, 1 - 0.05 / height, "  ".join(flags), fontsize=9, weight="bold", color=FLAG, ha="right", va="top")
    path = Path(path)
    FigureCanvasAgg(figure)
    with whole_file(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})
    return path
