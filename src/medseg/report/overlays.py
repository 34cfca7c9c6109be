"""Images with their truth and prediction: chosen cases of a run, the cases of a dataset."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import ScoreError
from medseg.report.canvas import LINES, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRUTH, PREDICTION = "#35c9ff", "#ffb000"
COLUMNS = ("image", "truth", "prediction", "contours")


@dataclass(frozen=True)
class Panel:
    """One row of an overlay grid.

    Attributes:
        title: label of the row, broken at colons and commas.
        image: (H, W) or (H, W, 3) uint8.
        truth: (H, W) label map.
        prediction: (H, W) label map.
    """

    title: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray


def overlay_grid(panels: Sequence[Panel], path: Path, *, caption: str, flags: Sequence[str] = ()) -> Path:
    """Draw cases below each other, image | truth | prediction | both contours, and return the path.

    The columns follow figure 3 of the 2022 preprint on thyroid nodules; the fourth is ours.

    Args:
        panels: from worst to best.
        path: the PNG.
        caption: stands below the grid.
        flags: printed in red at the top, for instance ``("SYNTHETIC", "LEAKY SPLIT")``.

    Raises:
        ScoreError: no panel, or a panel whose maps differ in size from its image.
    """
    if not panels:
        raise ScoreError(f"{path}: no case to draw; the score table holds none with a defined Dice.")
    heights = [_row_height(panel) for panel in panels]
    width, top, bottom = 1.25 + 1.75 * len(COLUMNS), 0.5, 0.6
    figure = new_figure(width, sum(heights) + top + bottom)
    total = sum(heights) + top + bottom
    grid = figure.add_gridspec(
        len(panels), len(COLUMNS), height_ratios=heights, wspace=0.03, hspace=0.05,
        left=1.25 / width, right=0.995, top=1 - top / total, bottom=bottom / total,
    )  # fmt: skip
    classes = max(2, *(1 + int(max(_labels(panel.truth).max(), _labels(panel.prediction).max())) for panel in panels))
    for row, panel in enumerate(panels):
        axes = [figure.add_subplot(grid[row, column]) for column in range(len(COLUMNS))]
        _draw_panel(axes, panel, classes)
        if row == 0:
            for ax, name in zip(axes, COLUMNS, strict=True):
                ax.set_title(name, fontsize=10)
    figure.text(0.01, 0.30 / total, "contours:", fontsize=8.5)
    figure.text(0.01 + 0.65 / width, 0.30 / total, "truth", fontsize=8.5, color="#0a7fb5", weight="bold")
    figure.text(0.01 + 1.05 / width, 0.30 / total, "prediction", fontsize=8.5, color="#b37a00", weight="bold")
    return save_figure(figure, path, caption=caption, flags=flags)


def contact_sheet(panels: Sequence[Panel], path: Path, *, caption: str, flags: Sequence[str] = ()) -> Path:
    """Draw images side by side with the contour of their truth, and return the path.

    Args:
        panels: one a case.
        path: the PNG.
        caption: stands below.
        flags: printed in red at the top.

    Raises:
        ScoreError: no panel.
    """
    if not panels:
        raise ScoreError(f"{path}: no case to draw.")
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(2.3 * columns, 2.3 * rows + 0.6)
    for ax in figure.subplots(rows, columns, squeeze=False).flat:
        ax.set_axis_off()
    for ax, panel in zip(figure.axes, panels, strict=False):
        ax.imshow(panel.image, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
        _draw_contours(ax, _labels(panel.truth), TRUTH, "solid")
        ax.set_title(panel.title, fontsize=7.5)
    figure.subplots_adjust(
        left=0.01, right=0.99, top=1 - 0.45 / (2.3 * rows + 0.6), bottom=0.06, wspace=0.04, hspace=0.12
    )
    return save_figure(figure, path, caption=caption, flags=flags)


def _row_height(panel: Panel) -> float:
    sizes = {panel.image.shape[:2], panel.truth.shape, panel.prediction.shape}
    if len(sizes) != 1:
        raise ScoreError(f"'{panel.title}': image, truth and prediction differ in size {sorted(sizes)}; use one grid.")
    height, width = panel.truth.shape
    return float(np.clip(1.75 * height / width, 0.9, 2.6))


def _labels(mask: np.ndarray) -> np.ndarray:
    """Return the label map with ignored pixels as background."""
    return np.where(mask == 255, 0, mask)


def _draw_panel(axes: Sequence["Axes"], panel: Panel, classes: int) -> None:
    from matplotlib.colors import ListedColormap

    truth, prediction = _labels(panel.truth), _labels(panel.prediction)
    colors = ListedColormap(["black", "white", *(LINES[label % len(LINES)] for label in range(classes - 2))])
    for ax in (axes[0], axes[3]):
        ax.imshow(panel.image, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    for ax, mask in ((axes[1], truth), (axes[2], prediction)):
        ax.imshow(mask, cmap=colors, vmin=-0.5, vmax=classes - 0.5, interpolation="nearest")
    for mask, color, style in ((truth, TRUTH, "solid"), (prediction, PREDICTION, "dashed")):
        _draw_contours(axes[3], mask, color, style)
    for ax in axes:
        ax.set_xticks([])
        ax.set_yticks([])
    title = "\n".join(part for line in re.split(r"\n|(?:[:,] )", panel.title) for part in textwrap.wrap(line, 19))
    axes[0].text(-0.04, 0.5, title, transform=axes[0].transAxes, ha="right", va="center", fontsize=8.5)


def _draw_contours(ax: "Axes", mask: np.ndarray, color: str, style: str) -> None:
    for label in np.unique(mask[mask > 0]):
        if (mask != label).any():
            ax.contour(mask == label, [0.5], colors=color, linewidths=1.3, linestyles=style)
