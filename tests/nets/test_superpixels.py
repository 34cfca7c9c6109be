"""Superpixels and the forest that classifies them: one class each, never better than their outlines."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg.errors import ConfigError, DataError
from medseg.nets.classical.basics import case_dice
from medseg.nets.classical.features import PER_CHANNEL, FilterBank
from medseg.nets.classical.superpixels import SlicForest, described, majority, superpixels


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def forest(**arguments: object) -> SlicForest:
    given_ = {"in_channels": 1, "num_classes": 2, "trees": 12, "leaf": 1, "balance": 0.0, "segments": 150, **arguments}
    return SlicForest(**given_)


def toy(classes: int = 2, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Blocks whose greys differ by far more than their noise."""
    mask = np.zeros((48, 52), np.uint8)
    mask[8:40, 6:24] = 1
    if classes > 2:
        mask[8:40, 30:48] = 2
    grey = np.array([0.0, -4.0, 4.0])[mask][..., None]
    noise = 0.05 * np.random.default_rng(0).standard_normal((*mask.shape, channels))
    return (grey + noise).astype(np.float32), mask


def blurred_noise(seed: int, channels: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((40, 44, channels))
    return ndimage.gaussian_filter(noise, (2, 2, 0)).astype(np.float32)


def labels_of(net: SlicForest, image: np.ndarray) -> np.ndarray:
    return net(torch.from_numpy(np.ascontiguousarray(image)).movedim(-1, 0)[None]).argmax(1)[0].numpy()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_superpixels_are_numbered_connected_and_about_as_many_as_asked(channels: int) -> None:
    numbered = superpixels(blurred_noise(1, channels), segments=60, compactness=0.1)
    assert numbered.shape == (40, 44)
    assert np.array_equal(np.unique(numbered), np.arange(numbered.max() + 1))
    assert 30 <= numbered.max() + 1 <= 120
    assert all(ndimage.label(numbered == number)[1] == 1 for number in range(numbered.max() + 1))


def test_three_channels_are_no_colours() -> None:
    """A grey image in three equal channels has the superpixels of grey, which it would not have by way of Lab."""
    grey = blurred_noise(2)
    alone = superpixels(grey, segments=60, compactness=0.1)
    # The distance of three equal channels is that of one times sqrt(3).
    assert np.array_equal(alone, superpixels(grey.repeat(3, -1), segments=60, compactness=0.1 * 3**0.5))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_separable_picture_is_learnt_without_a_mistake(classes: int, channels: int) -> None:
    image, mask = toy(classes, channels)
    net = forest(num_classes=classes, in_channels=channels, smoothing=0.0, samples=500)
    net.fit([image], [mask])
    assert np.array_equal(labels_of(net, image), mask)


@given(seed=st.integers(0, 1000))
@settings(max_examples=8, deadline=None, derandomize=True)
def test_every_superpixel_gets_one_class_and_one_probability(seed: int) -> None:
    image = blurred_noise(seed)
    net = forest(segments=60, num_classes=3)
    net.fit([image], [np.digitize(image[..., 0], [-0.1, 0.1]).astype(np.uint8)])
    logits = net(torch.from_numpy(image).movedim(-1, 0)[None])[0].detach().numpy()
    numbered, _ = net.split(image)
    for number in range(numbered.max() + 1):
        inside = logits[:, numbered == number]
        assert (inside == inside[:, :1]).all()
    np.testing.assert_allclose(np.exp(logits).sum(0), 1, atol=1e-4)  # balance 0 adds nothing
    assert len(np.unique(logits[1])) > 1


@pytest.mark.parametrize("channels", [1, 3])
def test_a_constant_image_is_answered(channels: int) -> None:
    image, mask = toy(channels=channels)
    net = forest(in_channels=channels)
    net.fit([image, np.full_like(image, 3.0)], [mask, mask])
    assert labels_of(net, np.full_like(image, 3.0)).shape == mask.shape
    assert labels_of(net, np.zeros((1, 1, channels), np.float32)).shape == (1, 1)
    numbered, row = net.split(np.full_like(image, 3.0))
    assert (row[0, :, PER_CHANNEL * channels : -1] == 0).all(), "nothing deviates"


def test_with_the_superpixels_true_classes_the_answer_reaches_their_bound() -> None:
    """A forest that is always right gives what no labelling of these superpixels can beat, which is not the truth."""
    image = blurred_noise(3)
    mask = (ndimage.gaussian_filter(image[..., 0] + 0.1 * blurred_noise(4)[..., 0], 1) > 0.05).astype(np.uint8)
    net = forest(segments=60)
    net.fit([image], [mask])
    numbered, _ = net.split(image)
    right, hits, chosen = np.zeros_like(mask), 0, 0
    for number in range(numbered.max() + 1):
        share = mask[numbered == number]
        if share.sum() > len(share) / 2:
            right[numbered == number] = 1
            hits, chosen = hits + int(share.sum()), chosen + len(share)
    bound = 2 * hits / (chosen + int(mask.sum()))
    truth = majority(mask, numbered, classes=2)
    net.scores_of = lambda pixels: np.log(np.maximum(np.eye(2)[truth], 1e-6))
    found = labels_of(net, image)
    assert np.array_equal(found, right)
    assert case_dice(found, mask, [1]) == pytest.approx(bound)
    assert 0.5 < bound < 1


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_no_other_labelling_of_superpixels_errs_in_fewer_pixels_than_the_majority(seed: int) -> None:
    draw = np.random.default_rng(seed)
    numbered, mask = draw.integers(0, 9, (12, 10)), draw.choice([0, 1, 2, 255], (12, 10)).astype(np.uint8)
    numbered.ravel()[:9] = np.arange(9)
    known = mask != 255
    best = majority(mask, numbered, classes=3)
    fewest = ((best[numbered] != mask) & known).sum()
    for _ in range(30):
        other = draw.integers(0, 3, 9)
        assert ((other[numbered] != mask) & known).sum() >= fewest


def test_unlabelled_pixels_do_not_vote_and_a_superpixel_of_them_teaches_nothing() -> None:
    numbered = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2]])
    mask = np.array([[255, 255, 255, 1], [255] * 4, [0, 0, 1, 1]], np.uint8)
    assert majority(mask, numbered, classes=2).tolist() == [1, 255, 0]
    image, truth = toy()
    holes = truth.copy()
    holes[:, 30:] = 255
    net = forest(samples=500)
    net.fit([image], [holes])
    numbered, _ = net.split(image)
    labelled = {number for number in range(numbered.max() + 1) if (holes[numbered == number] != 255).any()}
    assert set(net._drawn[1]) == {0, 1}
    assert len(net._drawn[0]) == len(labelled) < numbered.max() + 1


def test_a_superpixel_is_described_by_mean_deviation_and_size() -> None:
    image = blurred_noise(5, 2)
    numbered = superpixels(image, segments=40, compactness=0.1)
    pixels = FilterBank()(image)
    found = described(pixels, numbered)
    count = numbered.max() + 1
    assert found.shape == (count, 4 * PER_CHANNEL + 1)
    assert found.dtype == np.float32
    for number in (0, 7, count - 1):
        own = pixels[:, numbered == number].astype(np.float64)
        np.testing.assert_allclose(found[number, : len(pixels)], own.mean(1), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[number, len(pixels) : -1], own.std(1), rtol=1e-5, atol=1e-6)
        assert found[number, -1] == pytest.approx(own.shape[1] * count / numbered.size)


def test_coordinates_tell_where_a_superpixel_lies() -> None:
    image = blurred_noise(6)
    net = forest(coordinates=True)
    numbered, row = net.split(image)
    rows, columns = np.nonzero(numbered == 5)
    features = PER_CHANNEL + 2
    middle = [(rows.mean() + 0.5) / 40, (columns.mean() + 0.5) / 44]
    np.testing.assert_allclose(row[0, 5, features - 2 : features], middle, rtol=1e-5)
    assert row.shape[-1] == 2 * features + 1 == forest().split(image)[1].shape[-1] + 4


def test_the_balance_moves_the_answer_towards_the_frequent_class() -> None:
    image = blurred_noise(7)
    noisy = image[..., 0] + 0.3 * blurred_noise(8)[..., 0] > 0.15
    net = forest(segments=400, samples=20, leaf=3)
    net.fit([image] * 3, [noisy.astype(np.uint8)] * 3)
    shares = []
    for balance in (0.0, 1.0, 3.0):
        net.adopt("balance", balance)
        shares.append(labels_of(net, image).mean())
    assert shares[0] > shares[1] > shares[2]


def test_faults_are_named() -> None:
    image, mask = toy()
    small = np.zeros_like(mask)
    small[20, 20] = 1  # one pixel never is the majority of a superpixel of dozens
    with pytest.raises(DataError, match=r"1 training images have only one class by majority.*net\.segments=150"):
        forest(smoothing=5.0).fit([np.zeros_like(image)], [small])
    for wrong in ({"segments": 0}, {"compactness": 0.0}, {"smoothing": -1.0}):
        with pytest.raises(ConfigError, match=rf"net\.{next(iter(wrong))}={next(iter(wrong.values()))}"):
            forest(**wrong)
    with pytest.raises(ConfigError, match=r"net\.trees=0"):
        forest(trees=0)
