"""``medseg data preview``: a contact sheet of training samples as the network gets them, plain and augmented."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from medseg.commands.configuration import run_hydra
from medseg.commands.datasets.check import opened
from medseg.data.datamodule import SegmentationData
from medseg.data.inspection.thumbnails import sample_pictures
from medseg.types import Sample

if TYPE_CHECKING:
    from medseg.report.overlays import Panel

EPOCHS = 3  # beside the plain sample: a contact sheet has four columns


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg data preview`` with Hydra overrides."""
    run_hydra("data", preview, arguments)


def preview(composed: DictConfig) -> Path:
    """Draw training samples with their masks and return the picture.

    One row a case and channel: the sample without augmentation, then the same place of the training set in three
    epochs. Views that draw patches or slices show other parts, or other cases, in each; the titles name the case.
    """
    from medseg.evaluation.pictures import flags
    from medseg.report.overlays import contact_sheet

    config, data, folder = opened(composed)
    data.prepare_data()
    panels = list(_panels(data, config.samples))
    caption = f"{data.card.name}: plain, then augment={config.choices.augment}; view={config.choices.view}"
    path = contact_sheet(panels, folder / "preview.png", caption=caption, flags=flags(data))
    print(path)
    return path


def _panels(data: SegmentationData, count: int) -> Iterator["Panel"]:
    plain: Any = data.dataset("train")
    augmented: Any = data.dataset("train", augment=True)
    number = min(len(plain), len(augmented))
    step = max(1, number // max(1, count))
    for index in range(0, number, step)[:count]:
        samples = [(plain[(0, index)], "plain")]
        samples += [(augmented[(epoch, index)], f"epoch {epoch}") for epoch in range(EPOCHS)]
        shown = [_shown(sample, title, data) for sample, title in samples]
        for channel in zip(*shown, strict=True):
            yield from channel


def _shown(sample: Sample, title: str, data: SegmentationData) -> list["Panel"]:
    """Return one panel a channel; three unnamed channels of a picture are red, green and blue."""
    from medseg.report.overlays import Panel

    card = data.card
    colour = card.in_channels == 3 and card.spatial_dims == 2 and not card.channels
    pictures = sample_pictures(sample["image"].numpy(), sample["mask"].numpy(), colour=colour)
    names = [""] if len(pictures) == 1 else [f", {name}" for name in card.channels or map(str, range(len(pictures)))]
    return [
        Panel(f"{sample['case']}, {title}{name}", image, mask, mask)
        for (image, mask), name in zip(pictures, names, strict=True)
    ]
