"""``medseg predict``: the label maps that a finished run predicts for a folder of images."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from rich.progress import track

from medseg import runs
from medseg.commands.configuration import choices, freeze, run_hydra
from medseg.errors import ConfigError, DataError
from medseg.types import offers

if TYPE_CHECKING:
    import numpy as np

    from medseg.data.cases import Case
    from medseg.data.datamodule import SegmentationData
    from medseg.data.volumes.grid import Grid

log = logging.getLogger(__name__)
FORMATS = ("mask", "dicom_seg")


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg predict`` with Hydra overrides."""
    run_hydra("predict", predict, arguments)


def predict(composed: DictConfig) -> Path:
    """Write one label map for every image of ``input`` and return the output folder.

    Pictures become ``<output>/<id>.png``, volumes ``<id>.nii.gz`` in the geometry of their source, or ``<id>.dcm`` with
    ``format=dicom_seg``.
    """
    from hydra.utils import instantiate

    from medseg.data.sources.unlabelled import find_images
    from medseg.evaluation.refined import Refinement, read_refinement, refined_predictor

    config = freeze(composed, choices(composed))
    if config.format not in FORMATS:
        raise ConfigError(f"format={config.format}: choose one of {', '.join(FORMATS)}.")
    run = runs.load_run(config.run, trusted=tuple(config.trusted_targets))
    if offers(run.net, "prompt") and not config.unmarked:
        raise ConfigError(
            f"{run.folder}: {run.record['choices']['net']} is interactive, a person has to mark the object; "
            "unmarked=true predicts without marks, below what its scores say."
        )
    source, target = Path(config.input), Path(config.output)
    data = instantiate(run.config["data"])
    channels = data.card.in_channels
    cases = find_images(source, channels=channels, spatial_dims=data.card.spatial_dims)
    cases = data.missing.select(cases, channels=data.card.channels, name=str(source))
    _check_format(config.format, cases, data)
    target.mkdir(parents=True, exist_ok=True)
    refinement = Refinement() if config.refinement is None else read_refinement(Path(config.refinement))
    predictor = refined_predictor(run.net.to(config.device), data, refinement)
    for case in track(cases, description="predicting", transient=True):
        _predict_case(predictor, case, data, target, config.format)
    log.info("%d label maps written to %s", len(cases), target)
    return target


def _check_format(form: str, cases: Sequence["Case"], data: "SegmentationData") -> None:
    """Refuse a DICOM segmentation of what is no series, before the first image is predicted."""
    if form != "dicom_seg":
        return
    for case in cases:
        first = next(path for path in case.images if path is not None)
        if not data.is_volume or not first.is_dir():
            raise DataError(f"{first}: format=dicom_seg needs a folder with a DICOM series; use format=mask.")


def _predict_case(
    predictor: "Callable[..., np.ndarray]", case: "Case", data: "SegmentationData", target: Path, form: str
) -> None:
    """Predict one case and write its label map."""
    from medseg.data.files import read_pictures
    from medseg.data.missing import available_channels
    from medseg.data.predictions import save_prediction

    channels = data.card.in_channels
    grid: Grid | None = None
    if data.is_volume:
        from medseg.data.volumes.cases import read_volume_case

        volume = read_volume_case(case, channels=channels, labels=data.labels)
        image, grid = volume.image, volume.grid
    else:
        image = read_pictures(case, channels=channels)
    spacing, available = None if grid is None else grid.spacing, available_channels(case, channels=channels)
    labels = predictor(image, spacing=spacing, available=available, case_id=case.id)
    if grid is None or form == "mask":
        save_prediction(target, case, labels, declared=data.labels)
        return
    from medseg.data.volumes.dicom import write_dicom_seg

    reference = next(path for path in case.images if path is not None)
    write_dicom_seg(target / f"{case.id}.dcm", labels, grid, reference=reference, names=data.card.classes)
