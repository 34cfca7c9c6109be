"""The worst cases of a run as pictures with truth and prediction: the part of ``medseg strata`` that needs the data."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medseg import runs
from medseg.errors import RunError
from medseg.targets import check_targets

if TYPE_CHECKING:
    import pandas as pd


def draw_worst(
    folder: Path, run: Path, worst: "pd.DataFrame", path: Path, remarks: Sequence[str], trusted: Sequence[str]
) -> Path:
    """Draw each listed case once, worst first.

    Args:
        folder: with ``predictions/``.
        run: folder of the run, whose config names the dataset.
        worst: of ``medseg.stats.taxonomy.worst_cases``.
        path: the PNG.
        remarks: printed in red at the top.
        trusted: packages beyond the allow list that the config may name.

    Raises:
        RunError: the dataset is not the one the run was made with, or a prediction is missing.
        DataError: a file of the dataset cannot be read.
    """
    from medseg.data.cases import by_id
    from medseg.data.predictions import prediction_path
    from medseg.evaluation.pictures import _panel
    from medseg.report.overlays import overlay_grid

    config, record = runs.load_config(run), runs.read_record(run)
    check_targets(config, trusted)
    data = runs.Run(run, config, record, None).data()  # type: ignore[arg-type]  # the weights are not needed
    cases = by_id([case for side in data.split.sides for case in data.cases(side)])
    panels = []
    for row in worst.drop_duplicates("case").to_dict("records"):
        name = str(row["case"])
        title = f"{name}: {row['label']}, Dice {row['dice']:.3f}"
        if not prediction_path(folder / "predictions", name, spatial_dims=data.card.spatial_dims).is_file():
            raise RunError(f"{folder}: no prediction of case '{name}' is kept; repeat `medseg evaluate`.")
        panels.append(_panel(data, cases[name], title, data.load_prediction(folder / "predictions", name)))
    return overlay_grid(panels, path, caption=f"Worst cases of {record['name']}", flags=remarks)
