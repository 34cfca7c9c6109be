"""What the libraries below do that one would not expect, each with what the project does instead.

When one of these fails, a library has changed its mind: read its notes, then drop the precaution or adapt it.
"""

import logging
import random
import warnings

import numpy as np
import pytest
import torch


def test_torchmetrics_takes_index_maps_for_one_hot_unless_told():
    """Live metrics are our own counts; torchmetrics serves as an oracle, always with ``input_format="index"``."""
    from torchmetrics.functional.segmentation import dice_score

    truth = torch.tensor([[[0, 0, 1, 1], [0, 1, 1, 0], [2, 2, 0, 0], [2, 0, 0, 1]]])
    prediction = torch.tensor([[[0, 1, 1, 0], [0, 1, 1, 1], [2, 0, 0, 0], [2, 2, 1, 1]]])
    tp = [int(((truth == k) & (prediction == k)).sum()) for k in range(3)]
    size = [int((truth == k).sum() + (prediction == k).sum()) for k in range(3)]
    expected = np.mean([2 * t / s for t, s in zip(tp, size, strict=True)])
    settings = {"num_classes": 3, "average": "macro", "aggregation_level": "samplewise"}
    told = dice_score(prediction, truth, input_format="index", **settings)
    assert told.item() == pytest.approx(expected)
    untold = dice_score(prediction, truth, **settings)  # accepted without a word, and wrong
    assert untold.shape != told.shape or untold.item() != pytest.approx(expected)


def test_the_dice_of_smp_does_not_punish_false_positives_on_empty_masks():
    """Why ``medseg.losses.overlap`` has a Dice of its own: here loss and gradient are 0 whatever is predicted."""
    from segmentation_models_pytorch.losses import DiceLoss

    empty = torch.zeros(2, 1, 8, 8)
    logits = torch.full((2, 1, 8, 8), 9.0, requires_grad=True)  # all nodule, where there is none
    loss = DiceLoss(mode="binary")(logits, empty)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().max().item() == 0


def test_albumentations_does_not_listen_to_global_seeds():
    """Why an augmentation is given its state case by case: nothing else makes two runs draw the same."""
    import albumentations

    def drawn(compose, count=8):
        image = np.arange(64, dtype=np.uint8).reshape(8, 8)
        return np.stack([compose(image=image)["image"] for _ in range(count)])

    def seeded_globally():
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        return albumentations.Compose([albumentations.RandomBrightnessContrast(p=1)])

    assert not np.array_equal(drawn(seeded_globally()), drawn(seeded_globally()))
    first, second = seeded_globally(), seeded_globally()
    first.set_random_seed(3)
    second.set_random_seed(3)
    assert np.array_equal(drawn(first), drawn(second))


def test_albumentations_only_warns_about_an_argument_it_does_not_know():
    """The suite turns the warning into an error, see ``filterwarnings`` in pyproject.toml."""
    import albumentations

    with pytest.raises(UserWarning, match=r"Argument\(s\) 'fill_valeu' are not valid"):
        albumentations.PadIfNeeded(8, 8, fill_valeu=0)


def test_mlflow_gives_all_seeded_runs_the_same_name():
    """Why every run is named by what it is: MLflow draws its names from ``random``, which training has seeded."""
    names = pytest.importorskip("mlflow.utils.name_utils")
    drawn = []
    for _ in range(2):
        random.seed(0)
        drawn.append(names._generate_random_name())
    assert drawn[0] == drawn[1]

    from medseg.runs import run_name

    config = {"choices": {"net": "unet", "data": "phantom", "split": "ratio"}, "name": None}
    assert run_name({**config, "seed": 0}) != run_name({**config, "seed": 1})


def test_hydra_cannot_build_from_a_config_made_readonly_before_it_was_resolved():
    """Why ``freeze`` resolves first."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    def config():
        return OmegaConf.create({"card": {"classes": 2}, "net": {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": "${card.classes}"}, "method": {"_target_": "torch.nn.Sequential", "_args_": ["${net}"]}})  # fmt: skip  # noqa: E501

    early = config()
    OmegaConf.set_readonly(early, True)
    with pytest.raises((InstantiationException, OmegaConfBaseException), match=r"read-only|readonly|read only"):
        instantiate(early.method)

    late = config()
    OmegaConf.resolve(late)
    OmegaConf.set_readonly(late, True)
    assert instantiate(late.method)[0].out_features == 2


def test_lightning_speaks_once_and_to_our_log(caplog):
    """Lightning hangs a handler on its own logger when it is imported; under Hydra each line would come twice."""
    import lightning.pytorch

    from medseg.commands.isolation import quiet_lightning

    assert lightning.pytorch.__name__ == "lightning.pytorch"
    quiet_lightning()
    quiet_lightning()
    speaker = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    with caplog.at_level(logging.INFO):
        speaker.info("a line")
        speaker.info("Tip: buy something")
    assert [record.getMessage() for record in caplog.records] == ["a line"]
    above, handlers = speaker, []
    while above is not None:
        handlers += above.handlers if above is not logging.getLogger() else []
        above = above.parent if above.propagate else None
    assert handlers == []


def test_a_number_without_a_point_is_text_to_yaml_and_a_number_to_omegaconf():
    """OmegaConf reads ``1e-3`` as a number; PyYAML alone reads a text. Study files are read by PyYAML: write 0.001."""
    import yaml
    from omegaconf import OmegaConf

    assert OmegaConf.create("lr: 1e-3").lr == 0.001
    assert yaml.safe_load("lr: 1e-3")["lr"] == "1e-3"


def test_metrics_built_from_a_config_need_plain_containers():
    """Why nodes whose class checks types carry ``_convert_: all``."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    node = {"_target_": "torchmetrics.MetricCollection", "metrics": {"mean": {"_target_": "torchmetrics.MeanMetric"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InstantiationException, match="Unknown input to MetricCollection"):
            instantiate(node)
        assert list(instantiate({**node, "_convert_": "all"})) == ["mean"]
