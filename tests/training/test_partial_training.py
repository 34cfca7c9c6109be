"""Two structures learnt from cases that annotate one each; and what refuses such cases."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from fake_partial import CLASSES, draw_both, write_partial_dataset
from medseg.commands.fitting import check_annotated
from medseg.data.datamodule import SegmentationData
from medseg.errors import ConfigError
from medseg.evaluation.postprocess.contract import labels_of
from medseg.evaluation.probabilities import Scorer, predicted
from medseg.evaluation.score import reliability_side, score_side
from medseg.journal import Journal, read_journal
from medseg.nets.unet import UNet
from medseg.scores import CALIBRATION, COUNTS, DISTANCES, OVERLAPS, SHARES
from medseg.stats.aggregate import headline
from medseg.tracking import CsvTracker
from medseg.training.callbacks import Record
from medseg.training.fitted import FittedModule
from medseg.training.module import SegmentationModule
from medseg.types import DataCard
from tiny import make_data, make_module, make_trainer


def partial_data(folder: Path, *, column: bool = True, patients: int = 24, **changes: object) -> SegmentationData:
    write_partial_dataset(folder / "set", patients=patients, column=column)
    card = DataCard("partial", 1, 3, CLASSES)
    return make_data(folder, card=card, labels={0: 0, 1: 1, 2: 2}, **changes)


def fitted(folder: Path, *, column: bool) -> tuple[SegmentationModule, SegmentationData]:
    data = partial_data(folder, column=column)
    torch.manual_seed(0)
    module = make_module(UNet(in_channels=1, num_classes=3, widths=[4, 8]), num_classes=3)
    row = Record(Journal(folder / "metrics.jsonl"), CsvTracker())
    make_trainer(folder, 24, check_val_every_n_epoch=24, callbacks=[row]).fit(module, data)
    return module, data


def dice_of_both(module: SegmentationModule, data: SegmentationData) -> list[float]:
    """Return the mean Dice of each structure against all that was drawn, over the validation and test cases."""
    module.eval()
    found: list[list[float]] = [[], []]
    for side in ("val", "test"):
        for number, case in enumerate(data.cases(side)):
            image = data.dataset(side)[number]["image"][None]
            with torch.no_grad():
                labels = module(image)[0].argmax(0).numpy()
            _, drawn = draw_both(int(case.id[1:]))
            truth = data.preprocess.do(np.zeros((*drawn.shape, 1), np.uint8), drawn)[1]
            for label in (1, 2):
                one, other = labels == label, truth == label
                found[label - 1].append(2 * (one & other).sum() / (one.sum() + other.sum()))
    return [float(np.mean(values)) for values in found]


@pytest.mark.slow
def test_both_structures_are_learnt_from_cases_that_annotate_one_each(tmp_path: Path) -> None:
    said, unsaid = (fitted(tmp_path / str(column), column=column) for column in (True, False))
    assert min(dice_of_both(*said)) > 0.85
    assert min(dice_of_both(*unsaid)) < 0.5
    assert read_journal(tmp_path / "True" / "metrics.jsonl")[-1]["metrics"]["val/dice"] > 0.85


def test_a_partial_training_validates_and_tests_what_is_annotated(tmp_path: Path) -> None:
    data = partial_data(tmp_path, patients=8)
    module = make_module(UNet(in_channels=1, num_classes=3, widths=[4, 8]), num_classes=3)
    trainer = make_trainer(tmp_path, 1, precision="bf16-mixed")
    trainer.fit(module, data)
    metrics = read_journal(tmp_path / "metrics.jsonl")[0]["metrics"]
    assert all(np.isfinite(metrics[name]) for name in ("train/loss", "val/loss", "val/dice"))
    table = score_side(trainer, module, data, "test", predictions=None)
    annotated = {case.id: case.attributes["annotated"] for case in data.cases("test")}
    assert set(annotated.values()) == {"gland", "nodule"}
    unsaid = np.array([annotated[row.case] != row.class_name for row in table.itertuples()])
    assert unsaid.sum() == len(annotated)
    assert (table.loc[unsaid, list(COUNTS)] == 0).all(axis=None)
    assert table.loc[unsaid, [*OVERLAPS, *DISTANCES, *SHARES, *CALIBRATION]].isna().all(axis=None)
    assert (table.loc[~unsaid, list(COUNTS)].sum(axis=1) == 40 * 48).all()
    assert table.loc[~unsaid, ["dice", *CALIBRATION]].notna().all(axis=None)
    found = headline(table)
    assert found["n_undefined"] == found["n_left_out_dice"] == len(annotated)
    assert found["dice"] == pytest.approx(table.loc[~unsaid, "dice"].mean())
    bins = reliability_side(module, data, "test")
    assert bins is not None
    sums = bins.groupby(["case", "class_index"], sort=False)["n"].sum().to_numpy()
    assert ((sums == 0) == unsaid).all() and (sums[~unsaid] == 40 * 48).all()


def test_the_scorer_of_stored_probabilities_gives_the_same_table(tmp_path: Path) -> None:
    data = partial_data(tmp_path, patients=8)
    module = make_module(UNet(in_channels=1, num_classes=3, widths=[4, 8]), num_classes=3)
    trainer = make_trainer(tmp_path, 1)
    expected = score_side(trainer, module, data, "test", predictions=None)
    scorer = Scorer(data, "test")
    for item in predicted(module, data, "test"):
        scorer.add(item, item.plain, labels_of(item.plain))
    pd.testing.assert_frame_equal(scorer.tables()[0], expected)


class OwnLosses(nn.Module):
    """A network that makes its losses of the masks itself, as Mask R-CNN does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.layer(image)

    def losses(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        raise AssertionError("a step was made")


class Learner(nn.Module):
    """A classical system."""

    def fit(self, images: list[np.ndarray], masks: list[np.ndarray]) -> None:
        raise AssertionError("it was fitted")

    def forward(self, image: Tensor) -> Tensor:
        return image.repeat(1, 3, 1, 1)


@pytest.mark.parametrize(("net", "kind"), [(OwnLosses, SegmentationModule), (Learner, FittedModule)])
def test_what_needs_every_class_is_refused_at_the_start(
    tmp_path: Path, net: type[nn.Module], kind: type[SegmentationModule]
) -> None:
    plain = make_module(num_classes=3)
    module = kind(net(), plain.loss, plain.optimizer, plain.scheduler, num_classes=3)
    with pytest.raises(
        ConfigError, match=rf"^net={net.__name__} takes .* data=partial annotate .*such as net=unet"
    ) as e:
        check_annotated(partial_data(tmp_path, patients=8), module)
    assert "\n" not in str(e.value)


def test_what_needs_every_class_still_learns_where_every_class_is_annotated(tmp_path: Path) -> None:
    plain = make_module(num_classes=3)
    module = SegmentationModule(OwnLosses(), plain.loss, plain.optimizer, plain.scheduler, num_classes=3)
    with pytest.raises(AssertionError, match="a step was made"):
        make_trainer(tmp_path, 1).fit(module, partial_data(tmp_path, patients=8, column=False))
