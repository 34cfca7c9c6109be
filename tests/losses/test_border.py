"""The U-Net's border weights against the figures of its formula and a slow, literal computation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg.errors import ConfigError
from medseg.losses.border import BorderCrossEntropy, BorderMap, border_term
from medseg.losses.combine import WeightedSum, applied, training_loss
from medseg.losses.overlap import Dice, dice
from medseg.losses.pixelwise import CrossEntropy, cross_entropy
from medseg.losses.truth import Truth
from medseg.types import IGNORE, DeepOutput


@pytest.mark.parametrize(("gap", "weight"), [(2, 9.2312), (5, 6.0653), (10, 1.3534), (20, 0.0034)])
def test_the_gap_between_two_objects(gap: int, weight: float) -> None:
    labels = np.zeros((9, 80), np.uint8)
    labels[:, 10:20] = 1
    labels[:, 19 + gap : 40 + gap] = 1  # d1 + d2 = gap on every pixel between
    between = border_term(labels, w0=10, sigma=5)[4, 20 : 19 + gap]
    assert between == pytest.approx(np.full(gap - 1, weight), abs=5e-5)
    assert BorderMap()(labels)[4, 20] == pytest.approx(1 + weight, abs=5e-5)


def test_the_term_is_on_background_only_and_needs_two_objects() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[2:6, 2:6] = 1
    assert (BorderMap()(labels) == 1).all()
    labels[2:6, 8:12] = 1
    weights = BorderMap()(labels)
    assert (weights[labels == 1] == 1).all()
    assert weights[3, 6] > 8
    assert (BorderMap()(np.zeros((4, 4), np.uint8)) == 1).all()
    assert (BorderMap()(np.ones((4, 4), np.uint8)) == 1).all()


def test_ignored_pixels_weigh_nothing_and_are_no_objects() -> None:
    labels = np.zeros((10, 20), np.uint8)
    labels[:, 2:4], labels[:, 8:10] = 1, IGNORE
    weights = BorderMap()(labels)
    assert (weights[labels == IGNORE] == 0).all() and (weights[labels != IGNORE] == 1).all()
    assert (BorderMap()(np.full((3, 3), IGNORE, np.uint8)) == 0).all()


def test_touching_classes_are_two_objects() -> None:
    labels = np.zeros((9, 9), np.uint8)
    labels[4, 3], labels[4, 4] = 1, 2
    # The pixel right of class 2: distances 1 and 2.
    assert BorderMap()(labels)[4, 5] == pytest.approx(1 + 10 * math.exp(-9 / 50), abs=1e-5)


@given(st.integers(0, 2**16), st.sampled_from([(24, 31), (7, 12, 13)]), st.floats(0.5, 4))
@settings(max_examples=25, deadline=None)
def test_the_term_equals_the_literal_computation(seed: int, size: tuple[int, ...], sigma: float) -> None:
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal(size), 1.2)
    labels = np.digitize(smooth, np.quantile(smooth, [0.75, 0.9])).astype(np.uint8)
    distances = []
    for label in (1, 2):
        objects, count = ndimage.label(labels == label, structure=np.ones((3,) * len(size)))
        distances += [ndimage.distance_transform_edt(objects != number) for number in range(1, count + 1)]
    found = border_term(labels, w0=10, sigma=sigma)
    if len(distances) < 2:
        assert (found == 0).all()
        return
    first, second = np.sort(np.stack(distances), axis=0)[:2]
    assert np.abs(found - 10 * np.exp(-((first + second) ** 2) / (2 * sigma**2))).max() < 1e-5


def test_balanced_classes_weigh_alike() -> None:
    labels = np.zeros((10, 10), np.uint8)
    labels[0], labels[1, :5], labels[9] = 1, 2, IGNORE
    weights = BorderMap(w0=0, balanced=True)(labels)
    sums = [weights[labels == label].sum() for label in (0, 1, 2)]
    assert sums == pytest.approx([30.0] * 3, rel=1e-5)
    assert weights[labels != IGNORE].mean() == pytest.approx(1.0, abs=1e-6)
    given_weights = BorderMap(w0=0, class_weights=[0.5, 2, 3])(labels)
    assert [given_weights[labels == label][0] for label in (0, 1, 2)] == [0.5, 2, 3]


def test_recipes_differ_with_every_setting() -> None:
    maps = [BorderMap(), BorderMap(w0=5), BorderMap(sigma=4), BorderMap(balanced=True), BorderMap(class_weights=[1, 2])]
    assert len({each.recipe for each in maps}) == len(maps)
    assert BorderMap(w0=10).recipe == BorderMap(w0=10.0).recipe


def test_the_loss_is_the_weighted_mean() -> None:
    torch.manual_seed(0)
    mask = torch.zeros(1, 12, 12, dtype=torch.int64)
    mask[:, 2:5, 2:5], mask[:, 2:5, 7:10] = 1, 1
    logits = torch.randn(1, 2, 12, 12)
    weights = torch.from_numpy(BorderMap()(mask[0].numpy().astype(np.uint8)))[None]
    each = torch.nn.functional.cross_entropy(logits, mask, reduction="none")
    expected = float((each * weights).sum() / weights.sum())
    loss = BorderCrossEntropy()
    assert loss(logits, mask, weights) == pytest.approx(expected, abs=1e-6)
    assert loss(logits, mask) == pytest.approx(expected, abs=1e-6)


def test_weights_reach_the_terms_that_want_them_and_no_others() -> None:
    torch.manual_seed(0)
    logits, mask, weight = torch.randn(1, 2, 6, 6), torch.randint(0, 2, (1, 6, 6)), torch.rand(1, 6, 6)
    border = BorderCrossEntropy()
    both = WeightedSum({"border": border, "dice": Dice()}, {"dice": 2.0})
    assert both.weight_map is border.weight_map
    expected = cross_entropy(logits, mask, pixels=weight) + 2 * dice(logits, mask)
    assert training_loss(logits, Truth(mask, weight), both) == pytest.approx(float(expected), abs=1e-6)
    assert training_loss([logits, logits], Truth(mask, weight), both) == pytest.approx(float(expected), abs=1e-6)
    assert training_loss(DeepOutput([logits], [1.0]), Truth(mask, weight), both) == pytest.approx(
        float(expected), abs=1e-6
    )
    plain = CrossEntropy()
    assert getattr(plain, "weight_map", None) is None
    assert applied(plain, logits, Truth(mask, weight)) == pytest.approx(float(cross_entropy(logits, mask)), abs=1e-6)


def test_two_different_maps_in_one_sum_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^loss\.terms want different pixel weights"):
        WeightedSum({"a": BorderCrossEntropy(), "b": BorderCrossEntropy(sigma=3)})
    WeightedSum({"a": BorderCrossEntropy(), "b": BorderCrossEntropy()})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": 0}, r"^loss\.w0=10\.0, loss\.sigma=0"),
        ({"w0": -1}, r"^loss\.w0=-1"),
        ({"balanced": True, "class_weights": [1, 1]}, r"^loss\.balanced and loss\.class_weights exclude"),
        ({"class_weights": [1, -1]}, r"^loss\.class_weights=\[1\.0, -1\.0\]: no weight"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BorderCrossEntropy(**settings)
