"""What the plots share: a sheet with room for title, flags and caption, colours that all readers can tell apart, files.

Lengths are inches from the top, so that rows keep their height whatever is written above and below them.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medseg.report.canvas import FLAG, new_figure, save_figure
from medseg.whole import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#b58900", "#3a9bd9", "#444444")
"""After Okabe and Ito (2008), the light ones darkened for white paper; markers repeat what the colour says."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)), (0, (3, 1)), (0, (8, 2)), (0, (2, 2)))
SALT = "medseg"
"""Seed of the names inside an SVG, which are random otherwise."""
SMALL, NORMAL, LARGE = 8.0, 9.0, 11.0
"""Font sizes in points."""
LINE = 0.155
"""Height of a small line in inches."""
LETTERS = 16.5
"""Small letters that fit into an inch."""
FEET = 0.55
"""Inches for the labels of the horizontal axis of a small plot."""
PANELS_WIDE = 3
"""Small plots beside each other."""


@dataclass(frozen=True)
class Drawing:
    """A plot on disk.

    Attributes:
        png: for documents.
        svg: for pages and print.
        alt: what the plot shows, in words and numbers, for whoever cannot see it.
        title: one line.
    """

    png: Path
    svg: Path
    alt: str
    title: str


@dataclass(frozen=True)
class Sheet:
    """A figure whose middle is free.

    Attributes:
        figure: with title, flags and caption in place.
        width: of all, in inches.
        height: of all.
        top: where the free part begins, counted from the top.
        body: its height.
        title: the title.
    """

    figure: "Figure"
    width: float
    height: float
    top: float
    body: float
    title: str

    def axes(self, *, left: float, right: float, top: float = 0.0, height: float | None = None) -> "Axes":
        """Return axes in the free part.

        Args:
            left: inches between the sheet's left edge and the axes.
            right: inches between the axes and the right edge.
            top: inches below the beginning of the free part.
            height: of the axes; None is all that is left.
        """
        tall = self.body - top if height is None else height
        bottom = self.height - self.top - top - tall
        wide = self.width - left - right
        return self.figure.add_axes(
            (left / self.width, bottom / self.height, wide / self.width, tall / self.height)
        )  # fmt: skip


def new_sheet(
    width: float, body: float, *, title: str, caption: str = "", flags: Sequence[str] = (), below: float = 0.5
) -> Sheet:
    """Return a sheet whose height follows from what is written on it.

    Args:
        width: in inches.
        body: height of the free part.
        title: at the top, broken into lines.
        caption: at the bottom, broken into lines, none left out.
        flags: printed in red above the title, for instance ``("SYNTHETIC", "LEAKY SPLIT")``.
        below: inches for the labels of the horizontal axis.
    """
    heads = textwrap.wrap(title, int(width * LETTERS * 0.6)) or [""]
    lines = textwrap.wrap(caption, int(width * LETTERS))
    first = 0.08 + (0.2 if flags else 0.0)
    top = first + 0.21 * len(heads) + 0.14
    height = top + body + below + LINE * len(lines) + 0.08
    figure = new_figure(width, height)
    if flags:
        text = "  ".join(flags)
        figure.text(0.99, 1 - 0.08 / height, text, fontsize=NORMAL, weight="bold", color=FLAG, ha="right", va="top")
    for number, head in enumerate(heads):
        figure.text(0.08 / width, 1 - (first + 0.21 * number) / height, head, fontsize=LARGE, weight="bold", va="top")
    for number, line in enumerate(lines):
        low = (0.06 + LINE * (len(lines) - 1 - number)) / height
        figure.text(0.08 / width, low, line, fontsize=SMALL, color="0.25", va="bottom")
    return Sheet(figure, width, height, top, body, title)


def panels(
    sheet: Sheet, count: int, *, left: float = 0.7, gap: float = 0.35, height: float, head: float = 0.32
) -> list["Axes"]:
    """Return axes for small plots, left to right, then down.

    Args:
        sheet: its free part is as high as :func:`panels_height` says.
        count: number of plots.
        left: inches for the labels of the left axes.
        gap: inches between plots, also at the right.
        height: of one plot, without its title and labels.
        head: inches for its title.
    """
    wide = columns(count)
    each = (sheet.width - left - gap * wide) / wide
    made = []
    for number in range(count):
        row, column = divmod(number, wide)
        start = left + column * (each + gap)
        made.append(
            sheet.axes(
                left=start, right=sheet.width - start - each, top=head + row * (height + head + FEET), height=height
            )
        )
    return made


def columns(count: int) -> int:
    """Return how many of so many small plots stand beside each other."""
    return count if count <= PANELS_WIDE else 2 if count == PANELS_WIDE + 1 else PANELS_WIDE


def panels_height(count: int, height: float, *, head: float = 0.32) -> float:
    """Return the free part that so many small plots need."""
    rows = -(-count // columns(count))
    return rows * (head + height) + (rows - 1) * FEET


def share_left(plots: Sequence["Axes"]) -> None:
    """Take the numbers off the vertical axes of small plots that have a neighbour at their left, on common limits."""
    for number, axes in enumerate(plots):
        if number % columns(len(plots)):
            axes.tick_params(labelleft=False)


def log_ticks(axes: "Axes", *, count: int) -> None:
    """Make the horizontal axis logarithmic with plain numbers, 1, 2 and 5 in every decade where there is room."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=count))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def bare(axes: "Axes", *, grid: Literal["x", "y", "both"]) -> None:
    """Take away what carries no information and draw a faint grid."""
    axes.grid(axis=grid, color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)


def look(number: int) -> tuple[str, str]:
    """Return colour and marker of the method with this number; their pair repeats after 49."""
    return COLORS[number % len(COLORS)], MARKERS[(number + number // len(COLORS)) % len(MARKERS)]


def short(name: str, letters: int) -> str:
    """Return a name that fits: cut in the middle, for its ends tell it from the others."""
    if len(name) <= letters:
        return name
    head = (letters - 1) // 2
    return f"{name[:head]}…{name[len(name) - (letters - 1 - head) :]}"


def finish(sheet: Sheet, stem: Path, *, alt: str) -> Drawing:
    """Write ``STEM.png`` and ``STEM.svg``; nothing in them says when.

    Args:
        sheet: drawn upon.
        stem: path of both files without its ending.
        alt: what the plot shows.
    """
    import matplotlib as mpl

    stem = Path(stem)
    svg = stem.with_name(f"{stem.name}.svg")
    png = save_figure(sheet.figure, stem.with_name(f"{stem.name}.png"), caption="", flags=())
    with mpl.rc_context({"svg.hashsalt": SALT, "svg.fonttype": "path"}), whole_file(svg) as partial:
        sheet.figure.savefig(partial, format="svg", metadata={"Date": None, "Creator": None})
    return Drawing(png, svg, alt, sheet.title)
