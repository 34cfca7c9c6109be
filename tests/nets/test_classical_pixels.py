"""Pixel classifiers: the filter bank, the sampling, and classifiers that live on as plain arrays."""

import numpy as np
import pytest
import torch

from medseg.errors import ConfigError, DataError
from medseg.nets.classical.features import PER_CHANNEL, FilterBank, sampled
from medseg.nets.classical.forest import RandomForest, forest_shares
from medseg.nets.classical.neighbours import NearestNeighbours
from medseg.nets.classical.pixels import standardiser
from medseg.nets.classical.svm import LinearSVM

SYSTEMS = {
    RandomForest: {"trees": 12, "leaf": 1},
    NearestNeighbours: {"neighbours": 3},
    LinearSVM: {"cost": 10.0},
}


def built(system: type, **arguments: object) -> torch.nn.Module:
    return system(**{"in_channels": 1, "num_classes": 2, **SYSTEMS[system], "balance": 0.0, **arguments})


def toy(classes: int = 2, size: tuple[int, int] = (48, 52)) -> tuple[np.ndarray, np.ndarray]:
    """Blocks whose greys differ by far more than their noise: every filter is told apart at once."""
    mask = np.zeros(size, np.uint8)
    mask[8:40, 6:24] = 1
    if classes > 2:
        mask[8:40, 30:48] = 2
    image = np.array([0.0, -4.0, 4.0])[mask] + 0.1 * np.random.default_rng(0).standard_normal(size)
    return image.astype(np.float32)[..., None], mask


def labels_of(net: torch.nn.Module, image: np.ndarray) -> np.ndarray:
    return net(torch.from_numpy(np.ascontiguousarray(image)).movedim(-1, 0)[None]).argmax(1)[0].numpy()


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("classes", [2, 3])
def test_a_separable_picture_is_learnt_without_a_mistake(system: type, classes: int) -> None:
    image, mask = toy(classes)
    net = built(system, num_classes=classes, samples=2000, most=20000)
    net.fit([image], [mask])
    assert (labels_of(net, image) == mask).all()


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_answer_does_not_depend_on_how_the_image_is_cut(system: type) -> None:
    image, mask = toy(size=(90, 160))
    image = image + 2 * np.random.default_rng(1).standard_normal(image.shape).astype(np.float32)
    net = built(system, samples=200)
    net.fit([image], [mask])
    whole, margin = labels_of(net, image), net.bank.margin
    assert 0 < whole.mean() < 1
    left, right = labels_of(net, image[:, : 80 + margin])[:, :80], labels_of(net, image[:, 80 - margin :])[:, margin:]
    assert np.array_equal(np.concatenate([left, right], axis=1), whole)


def test_the_forest_of_arrays_is_scikit_learns() -> None:
    image, mask = toy(3)
    noisy = image + 3 * np.random.default_rng(2).standard_normal(image.shape).astype(np.float32)
    net = built(RandomForest, num_classes=3, leaf=2)
    net.fit([noisy], [mask])
    pixels = net.bank(noisy).reshape(PER_CHANNEL, -1).T
    forest = net.grown(*net._drawn)
    shares = forest_shares(pixels, {name: net.known(name) for name in net.ARRAYS})
    np.testing.assert_allclose(shares, forest.predict_proba(pixels), atol=1e-6)


@pytest.mark.parametrize("low", [np.float32(1000), np.nextafter(np.float32(1000), np.float32(2000))])
def test_a_threshold_between_two_float32_sends_neither_the_wrong_way(low: np.float32) -> None:
    """Their middle is no float32: rounded to the nearest it is the upper one for one of the two."""
    high = np.nextafter(low, np.float32(2000))
    pixels = np.array([[low], [high]] * 20, np.float32)
    net = built(RandomForest)
    shares = forest_shares(pixels, net.train_on(pixels, np.array([0, 1] * 20)))
    assert (shares.argmax(axis=1) == [0, 1] * 20).all()


def test_features_in_another_order_have_their_importances_in_that_order() -> None:
    pixels = np.random.default_rng(3).standard_normal((400, 6)).astype(np.float32)
    labels = (pixels[:, 2] + 0.5 * pixels[:, 4] > 0).astype(int)
    order = np.array([3, 2, 5, 0, 1, 4])
    net = built(RandomForest, trees=80)
    plain = net.grown(pixels, labels).feature_importances_
    moved = net.grown(np.ascontiguousarray(pixels[:, order]), labels).feature_importances_
    assert plain.argmax() == 2
    # Which features a tree looks at is drawn by place, so importances agree up to that draw.
    np.testing.assert_allclose(moved, plain[order], atol=0.05)


def test_one_neighbour_says_again_what_it_was_taught() -> None:
    rng = np.random.default_rng(4)
    pixels, labels = rng.standard_normal((300, 12)).astype(np.float32), rng.integers(0, 3, 300)
    net = built(NearestNeighbours, num_classes=3, neighbours=1)
    net.remember(**net.train_on(pixels, labels))
    assert np.array_equal(net.scores_of(pixels).argmax(axis=1), labels)


def test_the_planes_are_scikit_learns() -> None:
    from sklearn.svm import LinearSVC

    rng = np.random.default_rng(5)
    pixels = rng.standard_normal((300, 12)) * 7 + 3
    for classes in (2, 3):
        labels = np.digitize(pixels[:, 0] + rng.normal(0, 4, 300), [3.0, 8.0][: classes - 1])
        net = built(LinearSVM, num_classes=classes)
        net.remember(**net.train_on(pixels, labels))
        scaled = (pixels - pixels.mean(0)) / pixels.std(0)
        wanted = LinearSVC(C=10.0, dual=False, max_iter=2000, random_state=0).fit(scaled, labels).predict(scaled)
        assert np.array_equal(net.scores_of(pixels).argmax(axis=1), wanted)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_balance_moves_the_answer_towards_the_frequent_class(system: type) -> None:
    image, mask = toy()
    noisy = image + 6 * np.random.default_rng(6).standard_normal(image.shape).astype(np.float32)
    rare = np.where(np.random.default_rng(7).random(mask.shape) < 0.25, mask, 0).astype(np.uint8)
    net = built(system, samples=150, **({"neighbours": 25} if system is NearestNeighbours else {}))
    net.fit([noisy], [rare])
    shares = []
    for balance in (0.0, 0.5, 1.0):
        net.adopt("balance", balance)
        shares.append(labels_of(net, noisy).mean())
    assert shares[0] > shares[1] >= shares[2]


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_class_without_a_training_pixel_is_never_answered(system: type) -> None:
    image, mask = toy()
    net = built(system, num_classes=4, balance=1.0)
    net.fit([image], [mask])
    assert set(np.unique(labels_of(net, image))) <= {0, 1}


@pytest.mark.parametrize("system", SYSTEMS)
def test_pixels_without_a_label_teach_nothing(system: type) -> None:
    image, mask = toy()
    holes = mask.copy()
    holes[:, 40:] = 255
    one, other = built(system), built(system)
    one.fit([image], [holes])
    other.fit([image], [holes])
    pixels, labels = one._drawn
    assert set(labels) == {0, 1}
    assert len(pixels) == min(500, (holes == 0).sum()) + min(500, (holes == 1).sum())
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), other.buffers(), strict=True)), "the same seed"


def test_the_filters_are_what_their_names_say() -> None:
    rows, columns = np.indices((41, 45), dtype=np.float64)
    slope = FilterBank()((3 * rows + 4 * columns)[..., None].astype(np.float32))[:, 20, 22]
    grey = 3 * 20 + 4 * 22
    np.testing.assert_allclose(slope[:4], grey, rtol=1e-3)  # a plane stays under every Gaussian inside
    np.testing.assert_allclose(slope[5], 5.0, rtol=1e-2)  # 3, 4, 5
    np.testing.assert_allclose(slope[6:8], 0, atol=1e-4 * grey)  # the kernels end after four deviations
    bowl = FilterBank()(((rows - 20) ** 2 + 3 * (columns - 22) ** 2)[..., None].astype(np.float32))[:, 20, 22]
    np.testing.assert_allclose(bowl[6:8], [6, 2], rtol=2e-2)
    noise = np.random.default_rng(8).standard_normal((41, 45))
    features = FilterBank()(noise[..., None].astype(np.float32))[:, 20, 22]
    for place, half in ((8, 2), (10, 5)):
        window = noise[20 - half : 21 + half, 22 - half : 23 + half]
        np.testing.assert_allclose(features[place : place + 2], [window.mean(), window.std()], rtol=1e-4)


def test_the_number_of_filters_and_their_reach() -> None:
    image = np.random.default_rng(9).standard_normal((120, 120, 3)).astype(np.float32)
    assert FilterBank()(image).shape == (FilterBank().size(3), 120, 120) == (36, 120, 120)
    assert FilterBank(coordinates=True)(image).shape[0] == FilterBank(coordinates=True).size(3) == 38
    bank = FilterBank()
    changed = image.copy()
    changed[60, 60] += 100
    moved = np.argwhere((bank(changed) != bank(image)).any(axis=0))
    assert np.abs(moved - 60).max() == bank.margin


def test_sampling_takes_as_many_of_each_class_and_all_of_a_rare_one() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[:2, :2], mask[10:, :] = 1, 255
    where = np.arange(400, dtype=np.float32).reshape(1, 20, 20)
    pixels, labels = sampled(where, mask, per_class=50, classes=3, draw=np.random.default_rng(0))
    assert np.bincount(labels).tolist() == [50, 4]
    assert len(np.unique(pixels)) == 54
    assert np.array_equal(mask.ravel()[pixels[:, 0].astype(int)], labels)


def test_faults_are_named() -> None:
    image, mask = toy()
    with pytest.raises(DataError, match=r"1 training masks have only one class; a pixel classifier needs two"):
        built(RandomForest).fit([image], [np.zeros_like(mask)])
    with pytest.raises(ConfigError, match=r"net\.trees=0"):
        built(RandomForest, trees=0)
    with pytest.raises(ConfigError, match=r"net\.neighbours=0 asks nobody"):
        built(NearestNeighbours, neighbours=0)
    with pytest.raises(ConfigError, match=r"net\.cost=0\.0 must be above 0"):
        built(LinearSVM, cost=0.0)
    with pytest.raises(ConfigError, match=r"net\.samples=0 draws no pixel"):
        sampled(np.zeros((1, 2, 2)), mask[:2, :2], per_class=0, classes=2, draw=np.random.default_rng(0))
    mean, deviation = standardiser(np.full((5, 2), 3.0))
    assert deviation.tolist() == [1, 1]
