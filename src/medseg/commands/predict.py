"""``medseg predict``: the masks that a finished run predicts for a folder of images."""

import logging
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.progress import track

from medseg import runs
from medseg.commands.configuration import choices, freeze, run_hydra
from medseg.errors import ConfigError, DataError

log = logging.getLogger(__name__)
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg predict`` with Hydra overrides."""
    run_hydra("predict", predict, arguments)


def predict(composed: DictConfig) -> Path:
    """Write ``<output>/<image name>.png`` for every image of ``input`` and return the output folder."""
    from hydra.utils import instantiate

    from medseg.data.files import read_image
    from medseg.evaluation.predict import predict_image

    config = freeze(composed, choices(composed))
    run = runs.load_run(config.run, trusted=tuple(config.trusted_targets))
    if hasattr(run.net, "prompt") and not config.unmarked:
        raise ConfigError(
            f"{run.folder}: {run.record['choices']['net']} is interactive, a person has to mark the object; "
            "unmarked=true predicts without marks, below what its scores say."
        )
    source, target = Path(config.input), Path(config.output)
    images = sorted(path for path in source.glob("*") if path.suffix.lower() in IMAGES) if source.is_dir() else []
    if not images:
        raise DataError(
            f"{source}: no image there ({', '.join(sorted(IMAGES))}); give a folder with images as input=..."
        )
    target.mkdir(parents=True, exist_ok=True)
    data = instantiate(run.config["data"])
    net = run.net.to(config.device)
    for path in track(images, description="predicting", transient=True):
        image = read_image(path, channels=data.card.in_channels)
        data.write_labels(target / f"{path.stem}.png", predict_image(net, image, data))
    log.info("%d masks written to %s", len(images), target)
    return target
